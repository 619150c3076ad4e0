"""Shortcuts in evaluation: a convolution adds them, and nothing else passes over the images.

Expectations come from the layers, one by one.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from fastconv import config, models, selection
from fastconv.backends.algorithms import ALGORITHMS
from fastconv.backends.table import KERNELS
from fastconv.errors import ShapeError
from fastconv.layers import BatchNormalization2d, Chain, Convolution, Relu, Shortcut
from fastconv.layers.containers import run_layer
from fastconv.models.build import Builder
from fastconv.models.resnet import bottleneck, residual
from fastconv.network import Network
from fastconv.network.executor import describe

from .compare import assert_close
from .stand_ins import add
from .took import runs_by

SUM = ("Convolution", "BatchNormalization2d", "Shortcut", "Relu")


def bottlenecks(dtype, backend=None):
    """Two bottleneck blocks, one of them with a projection, on images (5, H, W)."""
    build = Builder("test", dtype, 0)
    projection = Chain([build.conv(12, 20, 1, 2), build.norm(20)])
    layers = {
        "conv": build.conv(5, 12, 3, 1, 1, bias=True),
        "one": residual(bottleneck(build, 12, 3, 1), None),
        "two": residual(bottleneck(build, 12, 5, 2), projection),
    }
    return Network(layers, dtype, backend)


def trained(network, rng):
    """The network with statistics, scales and shifts as training leaves them: no zeros and ones."""
    for _, layer in network.named_layers():
        if isinstance(layer, BatchNormalization2d):
            c = len(layer.gamma)
            for name, low in (("gamma", 0.5), ("beta", -0.5), ("running_mean", -0.5)):
                setattr(layer, name, rng.uniform(low, low + 1, c).astype(network.dtype))
            layer.running_var = rng.uniform(0.5, 2, c).astype(network.dtype)
    return network


def by_hand(network, x):
    """What the layers give, one after the other."""
    for layer in network.layers:
        x = run_layer(layer, x, False)
    return x


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [(11, 14), (8, 8), (1, 5)])
def test_bottlenecks(backend, dtype, rng, algorithm, size):
    network = trained(bottlenecks(dtype, backend), rng)
    fastconv.set_math_mode("fast")
    config.set_conv_algorithm(algorithm)
    x = rng.standard_normal((3, 5, *size)).astype(dtype)
    kept = x.copy()
    with runs_by(selection.active(backend), algorithm):
        got = network.predict(x)
    assert_close(got, by_hand(network, x), dtype=dtype)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_resnet20(backend, rng, algorithm):
    network = trained(models.resnet20(5, dtype="float64", backend=backend, seed=0), rng)
    fastconv.set_math_mode("fast")
    config.set_conv_algorithm(algorithm)
    x = rng.standard_normal((2, 3, 19, 22))
    with runs_by(selection.active(backend), algorithm):
        got = network.predict(x)
    assert_close(got, by_hand(network, x))


def test_identities_are_not_written(backend, dtype, rng):
    """The shortcut of the first layer is the caller's own array."""
    build = Builder("test", dtype, 0)
    network = trained(Network({"a": residual(bottleneck(build, 12, 3, 1), None)}, dtype), rng)
    network.backend = backend
    x = rng.standard_normal((2, 7, 6, 12)).astype(dtype).transpose(0, 3, 1, 2)
    x.flags.writeable = False
    first = network.predict(x)
    np.testing.assert_array_equal(network.predict(x), first)
    assert not np.may_share_memory(first, x)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("normalised", [True, False])
def test_bodies_of_one_convolution(backend, dtype, rng, relu, normalised):
    build = Builder("test", dtype, 0)
    body = [build.conv(7, 7, 3, 1, 1, bias=True), *([build.norm(7)] if normalised else [])]
    layers = [Shortcut([Chain(body)]), *([Relu()] if relu else [])]
    network = trained(Network(layers, dtype, backend), rng)
    x = rng.standard_normal((2, 7, 9, 5)).astype(dtype)
    assert_close(network.predict(x), by_hand(network, x), dtype=dtype)
    (facts,) = describe(network.layers, x.shape, dtype, train_flg=False)
    norm = ["BatchNormalization2d"] if normalised else []
    assert facts.layers == ("Convolution", *norm, "Shortcut", *(["Relu"] if relu else []))


def test_describe_says_so():
    network = models.resnet20(seed=0)
    facts = [run.layers for run in describe(network.layers, (1, 3, 32, 32), np.float32, False)]
    assert facts.count(SUM) == 9
    assert not [run for run in facts if run[0] in ("BatchNormalization2d", "Relu")]
    assert sum(run[0] == "Convolution" for run in facts) == 19
    facts = [run.layers for run in describe(network.layers, (1, 3, 32, 32), np.float32, True)]
    assert facts.count(("BatchNormalization2d", "Shortcut", "Relu")) == 9
    assert SUM not in facts


def test_calls_of_the_table(registry, rng):
    """Each convolution is one call, and no other kernel touches the images."""
    (mine,) = add(registry, "mine", layout="channels_last")
    network = trained(bottlenecks("float64", "mine"), rng)
    x = rng.standard_normal((20, 5, 7, 6))  # so many that folding pays
    network.predict(x)
    plain, block = "conv2d_forward", "conv2d_block_forward"
    assert mine.calls == [plain, *[block] * 3, plain, *[block] * 3]


def test_a_backend_without_blocks(registry, rng):
    kernels = tuple(kernel for kernel in KERNELS if "block" not in kernel)
    (mine,) = add(registry, "mine", kernels=kernels)
    network = trained(bottlenecks("float64", "mine"), rng)
    x = rng.standard_normal((2, 5, 7, 6))
    assert_close(network.predict(x), by_hand(network, x))
    assert "conv2d_block_forward" not in mine.calls


def test_a_frozen_front_adds_its_shortcuts_too(backend, rng):
    network = trained(bottlenecks("float64", backend), rng)
    network.freeze("conv", "one.*")
    x = rng.standard_normal((2, 5, 7, 6))
    front = x
    for layer in network.layers[:2]:
        front = run_layer(layer, front, False)
    last = Network({"two": network.layers[2]}, "float64", backend)
    assert_close(network.predict(x, train_flg=True), last.predict(front, train_flg=True))


def test_a_shortcut_that_does_not_fit_is_told(backend):
    weight = np.ones((4, 4, 3, 3))
    network = Network([Shortcut([Convolution(weight, None)]), Relu()], "float64", backend)
    message = r"the body gives \(1, 4, 4, 4\), the shortcut \(1, 4, 6, 6\)"
    with pytest.raises(ShapeError, match=message):
        network.predict(np.zeros((1, 4, 6, 6)))
