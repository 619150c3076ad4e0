"""Average pooling, and max pooling in ceil mode: against loops, and PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastconv
from fastconv import ops
from fastconv.geometry import WindowGeometry, window_geometry
from fastconv.layers import (
    AdaptiveAveragePooling,
    AveragePooling,
    Convolution,
    GlobalAveragePooling,
    Pooling,
    Relu,
)
from fastconv.network.executor import Executor

from . import naive, naive_images
from .awkward import MEMORY, in_memory, unchanged
from .compare import assert_close
from .geometries import FEW_CHANNELS, SEEDS, THREADS, geometries, moved, numbers

pytestmark = pytest.mark.usefixtures("fine_grained")


@st.composite
def ceiled(draw: st.DrawFn) -> WindowGeometry:
    """Windows, some of which hang over the padded image."""
    g = draw(geometries(FEW_CHANNELS, pooling=True))
    return window_geometry("test", g.input_shape, g.fh, g.fw, *moved(g), ceil_mode=True)


def window(g: WindowGeometry):
    return g.fh, g.fw, *moved(g)


def half_a_window(g: WindowGeometry) -> tuple[int, int]:
    """Padding as PyTorch takes it: the same at both ends, and half a window at most."""
    top, left, bottom, right = g.pads
    assume(g.n and (top, left) == (bottom, right) and 2 * top <= g.fh and 2 * left <= g.fw)
    return top, left


# ---- max pooling in ceil mode -----------------------------------------------------------


@given(ceiled(), SEEDS, THREADS)
def test_max_pooling_in_ceil_mode(backend, dtype, g, seed, threads):
    fastconv.set_num_threads(threads)
    draw = numbers(seed, dtype)
    x = draw(*g.input_shape)
    x[draw(*x.shape) > 1.5] = np.nan
    layer = Pooling(*window(g), backend, ceil_mode=True)
    expected, winner = naive.maxpool2d(x, *window(g), ceil=True)
    np.testing.assert_array_equal(layer.forward(x), expected)
    np.testing.assert_array_equal(layer.arg_max, winner.transpose(0, 2, 3, 1).ravel())
    dout = draw(*expected.shape)
    dx = naive.maxpool2d_gradient(dout, winner, x.shape, g.fw, *moved(g))
    assert_close(layer.backward(dout), dx, dtype=dtype)


@pytest.mark.parametrize("window", [(2, 2, 2, 0), (3, 3, 3, 0), (3, 3, 2, 0), (2, 2, 3, 1)])
@pytest.mark.parametrize("side", [4, 5, 6, 7])
@pytest.mark.parametrize("low", [-5, -np.inf])
def test_what_overhangs_never_wins(backend, dtype, window, side, low):
    """Nor in windows with kernels of their own: those that tile an image, except for the last."""
    x = np.full((2, 9, side, side), low, dtype)
    layer = Pooling(*window, backend, ceil_mode=True)
    expected, winner = naive.maxpool2d(x, *window, ceil=True)
    np.testing.assert_array_equal(layer.forward(x), expected)
    dx = naive.maxpool2d_gradient(np.ones_like(expected), winner, x.shape, *window[1:])
    np.testing.assert_array_equal(layer.backward(np.ones_like(expected)), dx)


def test_ceil_mode_is_off_by_default_and_for_older_layers(backend):
    x = np.arange(25.0).reshape(1, 1, 5, 5)
    layer = Pooling(2, 2, 2, backend=backend)
    assert layer.forward(x).shape == (1, 1, 2, 2)
    del layer.__dict__["ceil_mode"]
    assert layer.forward(x).shape == (1, 1, 2, 2)
    layer.ceil_mode = True
    assert layer.forward(x)[0, 0].tolist() == [[6, 8, 9], [16, 18, 19], [21, 23, 24]]


def test_a_window_never_begins_behind_the_image(backend):
    """It would hold only padding."""
    x = np.arange(4.0).reshape(1, 1, 2, 2)
    out = Pooling(2, 2, 3, 1, backend, ceil_mode=True).forward(x)
    assert out.tolist() == [[[[0]]]]


def test_a_plan_runs_pooling_in_ceil_mode_by_itself(backend, rng):
    """A fused block of convolution, ReLU and pooling would leave the last odd row out."""
    weight = rng.standard_normal((4, 3, 3, 3))
    layers = [Convolution(weight, np.zeros(4), 1, 1), Relu(), Pooling(2, 2, 2, ceil_mode=True)]
    for layer in layers:
        layer.backend = backend
    x = rng.standard_normal((2, 3, 5, 7))
    out = Executor().forward(layers, x, train_flg=False)
    rectified = np.maximum(naive.conv2d(x, weight, np.zeros(4), 1, 1), 0)
    assert_close(out, naive.maxpool2d(rectified, 2, 2, 2, ceil=True)[0])


# ---- average pooling --------------------------------------------------------------------


@given(geometries(FEW_CHANNELS, pooling=True), SEEDS, THREADS, st.booleans(), st.booleans())
def test_average_pooling(backend, dtype, g, seed, threads, ceil, count_padding):
    fastconv.set_num_threads(threads)
    draw = numbers(seed, dtype)
    x = draw(*g.input_shape)
    layer = AveragePooling(*window(g), ceil, count_padding, backend)
    out = layer.forward(x)
    oh, ow = naive.windows_of(x.shape, *window(g), ceil)
    terms = list(naive_images.average_terms(x.shape, *window(g), ceil, count_padding))
    assert_close(out, naive_images.avgpool2d(x, terms, oh, ow), dtype=dtype, scale=1)
    dout = draw(*out.shape)
    dx = naive_images.avgpool2d_gradient(dout, terms, x.shape)
    assert_close(layer.backward(dout), dx, dtype=dtype, scale=1)


@given(geometries(FEW_CHANNELS), SEEDS, THREADS, st.integers(1, 8), st.integers(1, 8))
def test_adaptive_average_pooling(backend, dtype, g, seed, threads, oh, ow):
    """To fewer windows than pixels, to as many, and to more."""
    fastconv.set_num_threads(threads)
    draw = numbers(seed, dtype)
    x, dout = draw(*g.input_shape), draw(g.n, g.c, oh, ow)
    layer = AdaptiveAveragePooling(oh, ow, backend)
    terms = list(naive_images.adaptive_terms(x.shape, oh, ow))
    out = layer.forward(x)
    assert_close(out, naive_images.avgpool2d(x, terms, oh, ow), dtype=dtype, scale=1)
    dx = naive_images.avgpool2d_gradient(dout, terms, x.shape)
    assert_close(layer.backward(dout), dx, dtype=dtype, scale=1)


@pytest.mark.parametrize("shape", [(2, 130, 7, 7), (1, 3, 90, 70), (0, 5, 3, 3)])
def test_global_average_pooling(backend, dtype, rng, shape):
    x = (rng.standard_normal(shape) + 100).astype(dtype)
    layer = GlobalAveragePooling(backend)
    out = layer.forward(x)
    # Within a few roundings, however many pixels are summed.
    tolerance = 20 * np.finfo(dtype).eps
    expected = x.astype(np.float64).mean(axis=(2, 3), keepdims=True)
    assert_close(out, expected, dtype=dtype, tolerance=tolerance)
    dout = rng.standard_normal(out.shape).astype(dtype)
    dx = np.broadcast_to(dout, shape) / (shape[2] * shape[3])
    assert_close(layer.backward(dout), dx, dtype=dtype, tolerance=tolerance)


def test_nan_and_infinity_stay_in_their_windows(backend, dtype):
    x = np.ones((1, 17, 6, 6), dtype)
    x[0, 3, 0, 0], x[0, 4, 5, 5] = np.nan, -np.inf
    expected = np.ones((1, 17, 3, 3))
    expected[0, 3, 0, 0], expected[0, 4, 2, 2] = np.nan, -np.inf
    layer = AveragePooling(2, 2, 2, backend=backend)
    np.testing.assert_array_equal(layer.forward(x), expected)
    np.testing.assert_array_equal(
        layer.backward(expected)[0, 3:5], np.kron(expected[0, 3:5], np.ones((2, 2))) / 4
    )


@pytest.mark.parametrize("memory", MEMORY)
def test_average_pooling_in_any_memory(backend, dtype, rng, memory):
    x = in_memory(memory, rng.standard_normal((2, 3, 6, 5)).astype(dtype))
    dout = in_memory(memory, rng.standard_normal((2, 3, 5, 4)).astype(dtype))
    with unchanged(x, dout):
        out, context = ops.avgpool2d_forward(x, 2, 2, backend=backend)
        dx = ops.avgpool2d_backward(dout, context)
    terms = list(naive_images.average_terms(x.shape, 2, 2))
    assert_close(out, naive_images.avgpool2d(x, terms, 5, 4), dtype=dtype)
    assert_close(dx, naive_images.avgpool2d_gradient(dout, terms, x.shape), dtype=dtype)


# ---- PyTorch ----------------------------------------------------------------------------


def compare(theirs, ours, x, dout_of):
    """Compare forward and backward of a PyTorch function and a layer."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    out = theirs(torch.nn.functional)(leaf)
    dout = dout_of(*out.shape)
    out.backward(torch.tensor(dout, dtype=torch.float64))
    assert_close(ours.forward(x), out.detach().numpy(), dtype=x.dtype, scale=1)
    assert_close(ours.backward(dout), leaf.grad.numpy(), dtype=x.dtype, scale=1)


@given(geometries(FEW_CHANNELS, pooling=True), SEEDS, st.booleans(), st.booleans())
def test_average_pooling_as_pytorch(backend, dtype, g, seed, ceil, count_padding):
    draw = numbers(seed, dtype)
    arguments = (g.fh, g.fw), g.strides, half_a_window(g), ceil, count_padding
    ours = AveragePooling(*window(g), ceil, count_padding, backend)
    compare(lambda f: lambda x: f.avg_pool2d(x, *arguments), ours, draw(*g.input_shape), draw)


@given(geometries(FEW_CHANNELS), SEEDS, st.integers(1, 8), st.integers(1, 8))
def test_adaptive_average_pooling_as_pytorch(backend, dtype, g, seed, oh, ow):
    assume(g.n)
    draw = numbers(seed, dtype)
    ours = AdaptiveAveragePooling(oh, ow, backend)
    theirs = lambda f: lambda x: f.adaptive_avg_pool2d(x, (oh, ow))  # noqa: E731
    compare(theirs, ours, draw(*g.input_shape), draw)


@given(geometries(FEW_CHANNELS, pooling=True), SEEDS)
def test_max_pooling_in_ceil_mode_as_pytorch(backend, dtype, g, seed):
    draw = numbers(seed, dtype)
    arguments = (g.fh, g.fw), g.strides, half_a_window(g), 1, True
    ours = Pooling(*window(g), backend, ceil_mode=True)
    compare(lambda f: lambda x: f.max_pool2d(x, *arguments), ours, draw(*g.input_shape), draw)
