"""The executor: the same numbers as layer by layer, in memory that is used again."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastconv
from fastconv import DeepConvNet, config, selection
from fastconv.errors import StateError
from fastconv.layers import Affine, Convolution, Dropout, Layer, Pooling, Relu
from fastconv.network import Network
from fastconv.network.executor import Executor
from fastconv.network.fusion import fuse

from .compare import assert_close


class Doubled(Relu):
    """A user's own layer."""

    def forward(self, x):
        return 2 * super().forward(x)

    def backward(self, dout):
        return super().backward(2 * dout)


class Same(Layer):
    """Hands on what it is given, without a copy."""

    def forward(self, x):
        return x

    def backward(self, dout):
        return dout


def conv(rng, dtype, filters, channels, size=3, stride=1, pad=1):
    weight = rng.standard_normal((filters, channels, size, size)) / size
    return Convolution(
        weight.astype(dtype), rng.standard_normal(filters).astype(dtype), stride, pad
    )


def stacks(rng, dtype):
    """Lists of layers for images (3, 10, 9), by what is special about them."""

    def c(*numbers, **options):
        return conv(rng, dtype, *numbers, **options)

    return {
        "pooled blocks": [c(8, 3), Relu(), Pooling(2, 2, 2), c(16, 8), Relu(), Pooling(2, 2, 2)],
        "blocks without pooling": [c(8, 3), Relu(), c(9, 8, size=5, pad=2), Relu(), c(4, 9)],
        "other pooling": [c(8, 3), Relu(), Pooling(3, 3, 2, 1), c(16, 8), Relu()],
        "no biases": [
            *(Convolution(c(8, 3).W, pad=1), Relu(), Convolution(c(8, 8).W), Relu()),
            *(Pooling(2, 2, 2), Affine(rng.standard_normal((96, 5)).astype(dtype))),
        ],
        "no ReLU": [c(8, 3), Pooling(2, 2, 2), c(8, 8, stride=2), Relu()],
        "a layer of the user's": [c(8, 3), Doubled(), Pooling(2, 2, 2), c(8, 8), Relu()],
        "layers that copy nothing": [
            c(8, 3),
            Relu(),
            Same(),
            c(8, 8),
            Relu(),
            Same(),
            c(8, 8),
            Relu(),
        ],
        "dropout and affine": [
            *(c(8, 3), Relu(), Pooling(2, 2, 2), Dropout(0.5)),
            Affine(rng.standard_normal((160, 5)).astype(dtype), np.zeros(5, dtype)),
        ],
    }


STACKS = sorted(stacks(np.random.default_rng(0), np.float64))


def by_hand(layers, x, dout):
    """(output, gradient of the input) of the book's own two loops over the layers."""
    for layer in layers:
        x = layer.forward(x, True) if isinstance(layer, Dropout) else layer.forward(x)
    for layer in reversed(layers):
        dout = layer.backward(dout)
    return x, dout


@pytest.mark.parametrize("name", STACKS)
def test_the_executor_gives_what_the_layers_give(backend, dtype, rng, name):
    layers = stacks(rng, dtype)[name]
    for layer in layers:
        layer.backend = backend
    again = copy.deepcopy(layers)
    executor = Executor()
    for batch in (5, 2, 5):
        x = rng.standard_normal((batch, 3, 10, 9)).astype(dtype)
        np.random.seed(1)
        got = executor.forward(layers, x, True)
        dout = rng.standard_normal(got.shape).astype(dtype)
        executor.backward(dout)
        np.random.seed(1)
        expected, _ = by_hand(again, x, dout)
        assert_close(got, expected, dtype=dtype)
        for layer, other in zip(layers, again, strict=True):
            for parameter in layer.parameter_names:
                gradient = getattr(other, "d" + parameter)
                assert_close(getattr(layer, "d" + parameter), gradient, dtype=dtype)


@pytest.mark.parametrize("name", STACKS)
def test_evaluation_gives_what_the_layers_give(backend, dtype, rng, name):
    layers = stacks(rng, dtype)[name]
    for layer in layers:
        layer.backend = backend
    x = rng.standard_normal((4, 3, 10, 9)).astype(dtype)
    got = Executor().forward(layers, x, False)
    for layer in layers:
        x = layer.forward(x, False) if isinstance(layer, Dropout) else layer.forward(x)
    assert_close(got, x, dtype=dtype)


def groups(layers):
    """How many layers each group has."""
    return [len(group.layers) for group in fuse(layers, train_flg=True)]


def test_what_becomes_a_block(rng, backend):
    cases = stacks(rng, np.float32)
    for layers in cases.values():
        for layer in layers:
            layer.backend = backend
    assert groups(cases["pooled blocks"]) == [3, 3]
    assert groups(cases["blocks without pooling"]) == [2, 2, 1]
    assert groups(cases["other pooling"]) == [2, 1, 2]
    assert groups(cases["no ReLU"]) == [1, 1, 2]
    assert groups(cases["a layer of the user's"]) == [1, 1, 1, 2]


def test_layers_on_several_backends_are_no_block(rng):
    layers = [conv(rng, np.float32, 4, 3), Relu(), Pooling(2, 2, 2)]
    assert groups(layers) == [3]
    layers[2].backend = "numpy"
    assert groups(layers) == [2, 1]
    layers[1].backend = "numpy"
    assert groups(layers) == [1, 1, 1]


def test_a_replaced_forward_is_called(rng):
    layers = [conv(rng, np.float32, 4, 3), Relu()]
    seen = []
    original = layers[1].forward
    layers[1].forward = lambda x: (seen.append(x.shape), original(x))[1]
    Executor().forward(layers, np.zeros((1, 3, 5, 5), np.float32), True)
    assert seen == [(1, 4, 5, 5)]


def test_a_backward_of_a_users_own_gets_what_it_takes(rng, backend):
    """Layers of fastconv's are told whether the input's gradient is wanted; a user's are not."""

    class OwnConvolution(Convolution):
        def backward(self, dout):
            return super().backward(dout)

    class OwnAffine(Affine):
        def backward(self, dout):
            return super().backward(dout)

    filters, weight = rng.normal(size=(2, 1, 3, 3)), rng.normal(size=(32, 3))

    def gradients(convolution, affine):
        layers = [convolution(filters, np.zeros(2), 1, 1), Relu(), affine(weight, np.zeros(3))]
        return Network(layers, backend=backend).gradient(x, np.array([0, 1]))

    x = rng.normal(size=(2, 1, 4, 4))
    expected, got = gradients(Convolution, Affine), gradients(OwnConvolution, OwnAffine)
    for name, gradient in expected.items():
        assert_close(got[name], gradient, dtype=np.float64)


def test_inside_a_block_no_layer_has_a_forward_to_go_back_from(backend, rng):
    network = DeepConvNet(backend=backend, seed=0)
    x, t = rng.random((2, 1, 28, 28)), np.array([1, 2])
    network.layers[0].forward(x.astype(np.float32))
    network.gradient(x, t)
    for layer in network.layers[:3]:
        with pytest.raises(StateError, match="backward was called before forward"):
            layer.backward(np.zeros((2, 16, 28, 28), np.float32))
    assert network.layers[0].x is None
    assert network.layers[1].mask is None


def test_results_are_the_caller_s_to_keep(backend, rng):
    network = Network([conv(rng, np.float32, 4, 3), Relu(), Pooling(2, 2, 2)], backend=backend)
    first = network.predict(rng.random((2, 3, 6, 6)))
    before = first.copy()
    network.predict(rng.random((2, 3, 6, 6)))
    np.testing.assert_array_equal(first, before)


def test_a_step_allocates_no_images_once_it_has_run(backend, rng):
    if backend == "numpy":
        pytest.skip("the reference is written to be read: NumPy allocates each result")
    network = DeepConvNet(backend=backend, seed=0)
    x, t = rng.random((200, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 200)
    images = 200 * 16 * 28 * 28 * 4  # bytes of the first convolution's output
    for _ in range(4):  # the third of these may be recorded
        network.gradient(x, t)
    tracemalloc.start()
    try:
        network.gradient(x, t)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < images / 2, f"{peak} bytes"


def test_several_threads_predict_at_once(backend, rng):
    network = DeepConvNet(backend=backend, seed=0)
    batches = [rng.random((size, 1, 28, 28)) for size in (3, 1, 4, 2) * 4]
    expected = [network.predict(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(network.predict, batches), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_a_network_that_has_run_can_be_copied(rng, copied):
    network = DeepConvNet(seed=0)
    x, t = rng.random((2, 1, 28, 28)), np.array([1, 2])
    network.gradient(x, t)
    other = copied(network)
    np.testing.assert_array_equal(network.predict(x), other.predict(x))


def test_a_step_reads_the_environment_a_few_times_only(rng, monkeypatch):
    network, x, t = DeepConvNet(seed=0), rng.random((2, 1, 28, 28)), np.array([1, 2])
    asked = []
    original = config.get_num_threads
    monkeypatch.setattr(config, "get_num_threads", lambda: (asked.append(1), original())[1])
    network.gradient(x, t)
    assert 0 < len(asked) < 10


def test_a_backend_chosen_inside_of_a_step_counts_there(rng):
    seen = []

    class Elsewhere(Relu):
        def forward(self, x):
            with fastconv.use_backend("numpy"):
                seen.append(selection.active(None).name)
                return super().forward(x)

    network = Network([conv(rng, np.float32, 4, 3), Elsewhere(), conv(rng, np.float32, 4, 4)])
    network.predict(rng.random((1, 3, 6, 6)))
    assert seen == ["numpy"]
