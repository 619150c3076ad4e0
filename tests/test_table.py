"""The table is between layers and kernels: nothing bypasses it, and both sides keep to it."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from fastconv import DeepConvNet
from fastconv.backends.table import FAMILIES, KERNELS
from fastconv.info import configuration
from fastconv.layers import (
    AdaptiveAveragePooling,
    Affine,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Convolution,
    LocalResponseNormalization,
    Pooling,
    Relu,
    SoftmaxWithLoss,
    Tanh,
)
from fastconv.ops import conv2d_block_backward, conv2d_block_forward, smooth, tone, warp
from fastconv.optimizer import Adam
from fastconv.testing import signature_differences
from fastconv.util import col2im, im2col

from .awkward import MEMORY, in_memory
from .compare import assert_close
from .stand_ins import Liar, add
from .test_network import tiny


def test_signatures_are_those_of_the_table(table):
    assert signature_differences(table) == []


def test_the_projects_own_backends_are_complete(backend, table):
    """Nothing is left to the reference, and nothing is borrowed secretly."""
    assert table.providers == dict.fromkeys(KERNELS, backend)
    for kernel in KERNELS:
        assert getattr(table, kernel).__module__.startswith("fastconv.backends.")


def test_families_are_the_whole_table():
    names = [name for name in vars(fastconv.backends.table.Backend) if not name.startswith("_")]
    assert set(KERNELS) == set(names) - {"configure", "describe", "refuses"}


def test_missing_families_come_from_the_reference_visibly(registry):
    """A family is taken whole, because its kernels share what they keep."""
    some = ("relu_forward", "relu_backward", "conv2d_forward")
    (mine,) = add(registry, "mine", layout="channels_last", kernels=some)
    loaded = registry.load("mine")
    assert loaded is mine
    for family, kernels in FAMILIES.items():
        for kernel in kernels:
            assert loaded.providers[kernel] == ("mine" if family == "relu" else "numpy")
    facts = configuration()["backends"]["mine"]["completed from the reference"]
    assert "conv2d_forward" in facts and "relu" not in facts

    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((4, 1, 8, 8)), np.array([0, 1, 2, 0])
    results = []
    for name in ("mine", "numpy"):
        np.random.seed(0)
        results.append(tiny(dtype="float64", seed=0, backend=name).gradient(x, t))
    for key, expected in results[1].items():
        assert_close(results[0][key], expected)
    assert set(mine.calls) == {"relu_forward", "relu_backward"}


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_a_network_is_nothing_but_calls_of_the_table(registry, layout):
    """In this order, in the backend's layout; `check_call` looks at every array."""
    (mine,) = add(registry, "mine", layout=layout)
    network = DeepConvNet(backend="mine", seed=0)
    x, t = np.ones((2, 1, 28, 28)), np.array([3, 4])
    gradients = network.gradient(x, t)
    drop = ["relu_backward"]  # dropout uses it too, to pass a gradient through a mask
    hidden = ["affine_forward", "relu_forward", *drop, "affine_forward", *drop]
    loss = ["softmax_cross_entropy_forward", "softmax_cross_entropy_backward"]
    back = [*drop, "affine_backward", *drop, "relu_backward", "affine_backward"]
    blocks = ["conv2d_block_forward"] * 6, ["conv2d_block_backward"] * 6
    assert mine.calls == [*blocks[0], *hidden, *loss, *back, *blocks[1]]
    mine.calls.clear()
    with fastconv.use_backend("mine"):
        Adam().update(network.params, gradients)
    assert mine.calls == ["adam_update"] * 16


def test_a_backend_without_blocks_runs_layer_by_layer(registry):
    kernels = tuple(kernel for kernel in KERNELS if "block" not in kernel)
    (mine,) = add(registry, "mine", kernels=kernels)
    DeepConvNet(backend="mine", seed=0).gradient(np.ones((2, 1, 28, 28)), np.array([3, 4]))
    pair = ["conv2d_forward", "relu_forward"]
    assert mine.calls[:15] == [*pair, *pair, "maxpool2d_forward"] * 3
    pair = ["relu_backward", "conv2d_backward"]
    assert mine.calls[-15:] == ["maxpool2d_backward", *pair, *pair] * 3


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("memory", MEMORY)
def test_the_front_door_keeps_the_contract_for_any_memory(registry, rng, layout, memory):
    """Kernels may rely on it, so every array of every call is looked at."""
    (mine,) = add(registry, "mine", layout=layout)

    def draw(*shape):
        return in_memory(memory, rng.standard_normal(shape).astype(np.float32))

    with fastconv.use_backend("mine"):
        for layer, shape in [
            (Convolution(draw(4, 3, 3, 3), draw(4), 2, 1), (2, 3, 6, 5)),
            (Convolution(draw(6, 1, 3, 2), None, 2, 1, groups=3), (2, 3, 6, 5)),
            (Relu(), (2, 3, 6, 5)),
            (Tanh(), (2, 3, 6, 5)),
            (LocalResponseNormalization(), (2, 3, 6, 5)),
            (Pooling(2, 2, 2), (2, 3, 6, 5)),
            (Pooling(17, 16), (1, 2, 18, 17)),
            (Pooling(2, 2, 2, ceil_mode=True), (2, 3, 6, 5)),
            (AveragePooling(2, 2, 2, 1), (2, 3, 6, 5)),
            (AdaptiveAveragePooling(2, 2), (2, 3, 6, 5)),
            (Affine(draw(90, 4), draw(4)), (2, 3, 6, 5)),
            (BatchNormalization2d(draw(3), draw(3)), (2, 3, 6, 5)),
            (BatchNormalization(draw(90), draw(90)), (2, 3, 6, 5)),
        ]:
            out = layer.forward(draw(*shape))
            layer.backward(in_memory(memory, np.ones(out.shape)))
        layer.forward(draw(2, 3, 6, 5), train_flg=False)
        (loss := SoftmaxWithLoss()).forward(draw(3, 4), in_memory(memory, np.array([1, 0, 3])))
        loss.backward()
        for pool in (False, True):
            weight = draw(4, 3, 3, 3)
            out, context = conv2d_block_forward(draw(2, 3, 6, 5), weight, draw(4), 1, 1, pool)
            conv2d_block_backward(in_memory(memory, np.ones(out.shape)), weight, context)
        added = {"gradient": False, "residual": draw(2, 4, 6, 5)}
        conv2d_block_forward(draw(2, 3, 6, 5), weight, draw(4), 1, 1, **added)
        im2col(draw(2, 3, 6, 5), 2, 2)
        col2im(draw(2 * 5 * 4, 12), (2, 3, 6, 5), 2, 2)
        matrix = in_memory(memory, np.eye(2, 3)[None].repeat(2, 0))
        for field in (None, draw(2, 2, 6, 5)):
            warp(draw(2, 3, 6, 5), matrix, field)
        smooth(draw(2, 3, 6, 5), draw(3))
        boxes = in_memory(memory, np.array([[0, 1, 2, 3]] * 2))
        tone(draw(2, 3, 6, 5), draw(2), draw(2), boxes)
        if memory not in ("read-only", "broadcast first axis"):
            Adam().update({"W": draw(3, 4)}, {"W": draw(3, 4)})
            mine.calls.append("adam_update")
    assert set(mine.calls) | {"adam_update"} == set(KERNELS)


def test_no_layer_computes_past_the_table(registry):
    """With a backend that answers 7 to everything, everything is 7."""
    registry.register("liar", lambda: Liar("liar", "channels_last"))
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4))

    def sevens(*arrays):
        for array in arrays:
            np.testing.assert_array_equal(array, np.full(array.shape, 7))

    with fastconv.use_backend("liar"):
        for layer in (
            Convolution(np.ones((2, 3, 3, 3)), np.zeros(2)),
            Convolution(np.ones((3, 1, 2, 2)), np.zeros(3), dilation=2, groups=3),
            Relu(),
            Tanh(),
            LocalResponseNormalization(),
            Pooling(2, 2),
            AveragePooling(2, 2),
            Affine(np.ones((48, 2)), np.zeros(2)),
            BatchNormalization2d(np.ones(3), np.zeros(3)),
            BatchNormalization(np.ones(48), np.zeros(48)),
        ):
            out = layer.forward(x)
            sevens(out, layer.backward(out))
            sevens(*(getattr(layer, "d" + key) for key in layer.parameter_names))
        sevens(layer.forward(x, train_flg=False))
        loss = SoftmaxWithLoss()
        assert loss.forward(np.ones((2, 3)), [0, 1]) == 7
        sevens(loss.y, loss.backward())
        matrix = np.zeros((2, 2, 3))
        sevens(warp(x, matrix), smooth(x, [1]), tone(x, [1, 1], [0, 0], [[0] * 4] * 2))
        sevens(im2col(x, 2, 2), col2im(np.ones((18, 12)), (2, 3, 4, 4), 2, 2))
        params = {"W": np.ones(3)}
        Adam().update(params, {"W": np.ones(3)})
        sevens(params["W"])
