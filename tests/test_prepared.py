"""Prepared networks against the networks that they were made of.

What a network predicts is compared with the oracle elsewhere; here it is the expectation, bit for
bit, since a program makes the same calls.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest

import fastconv
from fastconv import config, selection
from fastconv.backends.calls import WRITES, Call, call_each, move
from fastconv.errors import ArgumentError, DTypeError, ShapeError
from fastconv.layers import (
    AdaptiveAveragePooling,
    Affine,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Branches,
    Chain,
    Convolution,
    Dropout,
    Elu,
    Gelu,
    GlobalAveragePooling,
    Layer,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Relu,
    Shortcut,
    Sigmoid,
    Silu,
    Subsampling,
    Tanh,
)
from fastconv.layers.tree import leaves
from fastconv.models import make_model
from fastconv.models.ensemble import Ensemble
from fastconv.network import Network
from fastconv.network.fusion import KNOWN
from fastconv.network.program import Program
from fastconv.network.views import View

from .took import fine_grain

SHAPE = (3, 4, 10, 10)


@pytest.fixture(autouse=True)
def threads():
    """Two, for the least work."""
    with fine_grain():
        fastconv.set_num_threads(2)
        yield


def conv(rng, dtype, filters, channels, side, **window):
    weight = rng.standard_normal((filters, channels, side, side)).astype(dtype)
    return Convolution(weight, rng.standard_normal(filters).astype(dtype), **window)


def norm2d(rng, dtype, channels):
    gamma, beta, mean = rng.standard_normal((3, channels)).astype(dtype)
    variance = rng.uniform(0.5, 2, channels).astype(dtype)
    return BatchNormalization2d(gamma, beta, running_mean=mean, running_var=variance)


def norm(rng, dtype, features):
    gamma, beta, mean = rng.standard_normal((3, features)).astype(dtype)
    variance = rng.uniform(0.5, 2, features).astype(dtype)
    return BatchNormalization(gamma, beta, running_mean=mean, running_var=variance)


def affine(rng, dtype, features, units):
    weight = rng.standard_normal((features, units)).astype(dtype) / features
    return Affine(weight, rng.standard_normal(units).astype(dtype))


def rows(rng, dtype):
    """Rows of layers for images of `SHAPE`: each that is known, and each way of the kernels."""
    return {
        "blocks": [
            conv(rng, dtype, 16, 4, 3, pad=1),
            Relu(),
            conv(rng, dtype, 20, 16, 3, pad=1),
            Relu(),
            Pooling(2, 2, 2),
            conv(rng, dtype, 8, 20, 5, pad=2, stride=2),
            affine(rng, dtype, 72, 30),
            Relu(),
            Dropout(0.3),
            affine(rng, dtype, 30, 7),
            Dropout(0.5, inverted=True),
        ],
        "windows": [
            conv(rng, dtype, 6, 4, 1),
            Pooling(3, 3, 2, 1),
            LocalResponseNormalization(3),
            AveragePooling(2, 2, 1, 1),
            Subsampling(2, 9),
            AdaptiveAveragePooling(2, 3),
            Pooling(2, 3, 1),
            Sigmoid(),
        ],
        "activations": [Elu(), Gelu(), LeakyRelu(), Silu(), Tanh(), Sigmoid(), Relu()],
        "groups": [
            conv(rng, dtype, 4, 1, 3, pad=1, groups=4),
            conv(rng, dtype, 6, 2, 3, groups=2),
            conv(rng, dtype, 5, 6, 3, pad=2, dilation=2),
            GlobalAveragePooling(),
            norm(rng, dtype, 5),
        ],
        "ways": [
            Shortcut([Chain([conv(rng, dtype, 4, 4, 3, pad=1), norm2d(rng, dtype, 4)])]),
            Relu(),
            Branches(
                [
                    Chain([conv(rng, dtype, 3, 4, 1), Relu()]),
                    Chain([norm2d(rng, dtype, 4), Relu()]),
                    Pooling(3, 3, 1, 1),
                ]
            ),
            norm2d(rng, dtype, 11),
            norm(rng, dtype, 1100),
            conv(rng, dtype, 2, 11, 3),
            affine(rng, dtype, 128, 6),
            Shortcut([affine(rng, dtype, 6, 6)]),
        ],
    }


def test_the_rows_have_every_layer_that_is_known(rng):
    there = {type(leaf) for row in rows(rng, "float32").values() for _, leaf in leaves(row)}
    assert there == KNOWN


@pytest.mark.parametrize("row", rows(np.random.default_rng(0), "float32"))
def test_it_predicts_what_the_network_predicts(backend, dtype, rng, row):
    network = Network(rows(rng, dtype)[row], dtype, backend)
    prepared = network.prepare(SHAPE)
    assert all(part.startswith(backend) for part in prepared.parts)
    for n in (3, 1, 3, 2):
        x = rng.standard_normal((n, *SHAPE[1:])).astype(dtype)
        found = prepared.predict(x)
        np.testing.assert_array_equal(found, network.predict(x))
        assert found.dtype == dtype
        assert not np.shares_memory(found, prepared.predict(x))


@pytest.mark.parametrize("algorithm", ["direct", "winograd2", "winograd2x4", "winograd4"])
def test_every_algorithm(dtype, rng, algorithm):
    """Of Cython; Numba's are in test_programs."""
    backend = "cython"
    if not (status := selection.registry().status(backend)):
        pytest.skip(status.reason)
    config.set_conv_algorithm(algorithm)
    layers = [conv(rng, dtype, 20, 4, 3, pad=1), Relu(), conv(rng, dtype, 17, 20, 3), Relu()]
    network = Network([*layers, conv(rng, dtype, 3, 17, 3, pad=2)], dtype, backend)
    prepared = network.prepare(SHAPE)
    for _ in range(2):
        x = np.maximum(rng.standard_normal(SHAPE), 0).astype(dtype)
        x[:, :, :5] = 0  # windows of zeros are the bias
        np.testing.assert_array_equal(prepared.predict(x), network.predict(x))


@pytest.mark.parametrize("name", ["deepconvnet", "resnet20", "googlenet"])
def test_models(backend, rng, name):
    shape = (1, 28, 28) if name == "deepconvnet" else (3, 32, 32)
    network = make_model(name, shape, 10, seed=0, dtype="float32", backend=backend)
    prepared = network.prepare((2, *shape))
    assert len(prepared.parts) == 1
    for _ in range(2):
        x = rng.random((2, *shape), dtype=np.float32)
        np.testing.assert_array_equal(prepared.predict(x), network.predict(x))


def test_whoever_calls_a_kernel_from_python_is_found(rng, monkeypatch):
    """The compiled backends run a prepared network without one."""
    for name in ("cython",):
        if not selection.registry().status(name):
            pytest.skip(selection.registry().status(name).reason)
        network = Network(rows(rng, "float32")["blocks"], "float32", name)
        prepared = network.prepare(SHAPE)
        x = rng.standard_normal(SHAPE).astype("float32")
        expected = network.predict(x)
        table = selection.registry().load(name)
        for kernel in WRITES:
            monkeypatch.setattr(table, kernel, None, raising=False)
        np.testing.assert_array_equal(prepared.predict(x), expected)


def test_layers_of_another_dtype(backend, rng):
    """Numbers are converted where the layers meet."""
    layers = [conv(rng, dtype, 6, 4 if i == 0 else 6, 3) for i, dtype in enumerate("fdf")]
    network = Network([*layers, Dropout(0.2), affine(rng, "d", 96, 3)], "float32", backend)
    prepared = network.prepare(SHAPE)
    for _ in range(2):
        x = rng.standard_normal(SHAPE).astype("float32")
        np.testing.assert_array_equal(prepared.predict(x), network.predict(x))


def test_places_in_memory_are_used_again(rng):
    """Of eleven layers of one size, no more than a few lie in memory at a time."""
    layers = [layer for _ in range(11) for layer in (conv(rng, "float32", 4, 4, 3, pad=1), Tanh())]
    program = Program(Network(layers, backend="numpy")._snapshot(), (8, 4, 32, 32), "float32")
    image = 8 * 4 * 32 * 32 * 4
    assert 2 * image <= program.block_bytes <= 3 * image + 1024


def test_broken_numbers_reach_what_they_reach(backend, rng):
    network = Network(rows(rng, "float32")["groups"], "float32", backend)
    prepared = network.prepare(SHAPE)
    x = rng.standard_normal(SHAPE).astype("float32")
    prepared.predict(x)
    x[0, 1, 2, 3], x[2, 0, 0, 0] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(prepared.predict(x), network.predict(x))


# ---- a snapshot -------------------------------------------------------------------------


def test_it_is_a_snapshot_until_it_is_refreshed(backend, rng):
    network = Network(rows(rng, "float32")["ways"], "float32", backend)
    prepared = network.prepare(SHAPE)
    x = rng.standard_normal(SHAPE).astype("float32")
    before = {n: network.predict(x[:n]) for n in (3, 1)}
    for value in network.params.values():
        value *= 0.5
    for n, expected in before.items():  # three were prepared before, one is only now
        np.testing.assert_array_equal(prepared.predict(x[:n]), expected)
    prepared.refresh()
    after = network.predict(x)
    assert not np.array_equal(after, before[3])
    np.testing.assert_array_equal(prepared.predict(x), after)


def test_settings_that_change_are_followed(rng):
    if not selection.registry().status("cython"):
        pytest.skip(selection.registry().status("cython").reason)
    network = make_model("deepconvnet", (1, 28, 28), 10, seed=0, dtype="float32")
    x = rng.random((32, 1, 28, 28), dtype=np.float32)
    with fastconv.use_backend("cython"):
        prepared = network.prepare(x.shape)
        default = prepared.predict(x)
        fastconv.set_math_mode("fast")
        fast = prepared.predict(x)
        assert not np.array_equal(default, fast)
        np.testing.assert_array_equal(fast, network.predict(x))
    with fastconv.use_backend("numpy"):
        np.testing.assert_array_equal(prepared.predict(x), network.predict(x))
        assert prepared.parts[0].startswith("numpy")


class Doubled(Layer):
    """A layer of the user's own."""

    def forward(self, x):
        return 2 * x

    def backward(self, dout):
        return 2 * dout


def test_a_layer_of_the_users_own_runs_in_python(backend, rng):
    layers = [conv(rng, "float32", 5, 4, 3), Doubled(), Relu(), affine(rng, "float32", 320, 3)]
    network = Network(layers, "float32", backend)
    prepared = network.prepare(SHAPE)
    assert prepared.parts[1] == "Python: Doubled" and len(prepared.parts) == 3
    for _ in range(2):
        x = rng.standard_normal(SHAPE).astype("float32")
        np.testing.assert_array_equal(prepared.predict(x), network.predict(x))


class OddRelu(Relu):
    """A derived class computes something else, and is not taken for what it derives from."""

    def forward(self, x):
        return super().forward(x) - 1


def test_a_derived_layer_runs_in_python(backend, rng):
    network = Network([conv(rng, "float32", 5, 4, 3), OddRelu()], "float32", backend)
    prepared = network.prepare(SHAPE)
    assert prepared.parts[1] == "Python: OddRelu"
    for _ in range(2):
        x = rng.standard_normal(SHAPE).astype("float32")
        np.testing.assert_array_equal(prepared.predict(x), network.predict(x))


class Failing(Doubled):
    def forward(self, x):
        if np.isnan(x).any():
            raise ValueError("no NaN, please")
        return x


def test_an_error_leaves_it_usable(backend, rng):
    network = Network([conv(rng, "float32", 5, 4, 3), Failing()], "float32", backend)
    prepared = network.prepare(SHAPE)
    x = rng.standard_normal(SHAPE).astype("float32")
    with pytest.raises(ValueError, match="no NaN, please"):
        prepared.predict(x * np.float32(np.nan))
    np.testing.assert_array_equal(prepared.predict(x), network.predict(x))


# ---- threads ----------------------------------------------------------------------------


def test_many_threads_share_one(backend, rng):
    network = Network(rows(rng, "float32")["blocks"], "float32", backend)
    prepared = network.prepare(SHAPE)
    images = rng.standard_normal((6, *SHAPE)).astype("float32")
    expected = [network.predict(x) for x in images]
    wrong: list[int] = []

    def predict(number):
        for _ in range(8):
            if not np.array_equal(prepared.predict(images[number]), expected[number]):
                wrong.append(number)

    workers = [threading.Thread(target=predict, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_another_thread_may_predict_while_one_prepares(rng):
    """Its calls are not written down, and its results are its own."""
    network = Network(rows(rng, "float32")["ways"], "float32", "numpy")
    x = rng.standard_normal(SHAPE).astype("float32")
    expected, stop, wrong = network.predict(x), threading.Event(), []

    def predict():
        while not stop.is_set():
            if not np.array_equal(network.predict(x), expected):
                wrong.append(1)

    other = threading.Thread(target=predict)
    other.start()
    try:
        for _ in range(10):
            prepared = network.prepare(SHAPE)
            np.testing.assert_array_equal(prepared.predict(x), expected)
            assert prepared.parts == (f"numpy: {len(prepared_calls(network))} calls",)
    finally:
        stop.set()
        other.join()
    assert not wrong


def prepared_calls(network):
    """How many calls the program has, told while no other thread computes."""
    (part,) = Network(network.layers, "float32", "numpy").prepare(SHAPE).parts
    return range(int(part.split()[1]))


# ---- what goes in and comes out ------------------------------------------------------------


@pytest.fixture
def prepared(rng):
    return Network(rows(rng, "float32")["blocks"], "float32", "numpy").prepare(SHAPE)


@pytest.mark.parametrize("shape", [(4, 4, 10, 10), (3, 4, 10, 9), (3, 400), (4, 10, 10)])
def test_another_shape_is_refused(prepared, shape):
    with pytest.raises(
        ShapeError, match=r"prepared for inputs of shape \(1 to 3, 4, 10, 10\), got"
    ):
        prepared.predict(np.zeros(shape))


def test_what_is_no_number_is_refused(prepared):
    with pytest.raises(DTypeError, match="expected real numbers"):
        prepared.predict(np.zeros(SHAPE, complex))


@pytest.mark.parametrize("shape", [5, (), (3,), (0, 4, 10, 10), (3, 4, 10.5, 10), "big"])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(ArgumentError, match="prepare"):
        Network([Relu()]).prepare(shape)


def test_it_does_not_train(prepared):
    with pytest.raises(ArgumentError, match="does not train"):
        prepared.predict(np.zeros(SHAPE), train_flg=True)


def test_nothing_gives_nothing(prepared):
    assert prepared.predict(np.zeros((0, 4, 10, 10))).shape == (0, 7)


def test_probabilities_and_accuracy(prepared, rng):
    x = rng.standard_normal((7, *SHAPE[1:]))
    scores = np.concatenate([prepared.predict(x[i : i + 3]) for i in (0, 3, 6)])
    shares = np.exp(scores[:3]) / np.exp(scores[:3]).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(prepared.predict_proba(x[:3]), shares, rtol=1e-5)
    t = scores.argmax(axis=1)
    t[2] = (t[2] + 1) % 7
    assert prepared.accuracy(x, t) == pytest.approx(6 / 7)
    assert prepared.accuracy(x, t, batch_size=100) == pytest.approx(6 / 7)


def test_few_batch_sizes_are_kept(prepared):
    network = Network([Relu()], "float32", "numpy")
    prepared = network.prepare((50, 2))
    for n in range(1, 50):
        prepared.predict(np.zeros((n, 2)))
    assert len(prepared._programs) == 8


def test_an_ensemble_is_prepared(backend, rng):
    fastconv.set_num_threads(1)  # little data is done the short way there, which has no other
    members = [
        make_model("lenet", (1, 28, 28), 10, seed=seed, dtype="float32", backend=backend)
        for seed in (0, 1)
    ]
    ensemble = Ensemble(members, (View(), View(down=1)))
    prepared = ensemble.prepare((4, 1, 28, 28))
    x = rng.random((4, 1, 28, 28), dtype=np.float32)
    np.testing.assert_array_equal(prepared.probabilities(x), ensemble.probabilities(x))
    with pytest.raises(ArgumentError, match="make_model"):
        prepared.save("never.npz")


# ---- calls ----------------------------------------------------------------------------------


def test_move_and_call_each(rng):
    source, out = rng.standard_normal((3, 4)), np.empty((3, 4))
    move(source, 1, out)
    np.testing.assert_array_equal(out, source)
    call_each([Call(None, "move", {"source": source.T, "factor": 3, "out": out.T})]).run()
    np.testing.assert_array_equal(out, 3 * source)
