"""The kernel table, kernel by kernel, against the loops of `naive`.

`call_kernel` makes the calls: with read-only inputs and outputs full of garbage, in the
backend's memory layout, at odd addresses, between guards.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv
from fastconv import config, selection
from fastconv.geometry import window_geometry
from fastconv.testing import call_kernel

from . import naive
from .compare import assert_close, in_case
from .geometries import (
    CHANNELS,
    FEW_CHANNELS,
    SEEDS,
    THREADS,
    geometries,
    moved,
    numbers,
    whole_numbers,
)

pytestmark = pytest.mark.usefixtures("fine_grained")

SIZES = st.sampled_from([1, 2, 3, 7, 8, 15, 16, 17, 33, 50, 64])
SIGNS = [0.0, -0.0, 1.5, -1.5, 1e-30, -1e-30, np.inf, -np.inf, np.nan]


def on_threads(name: str, threads: int):
    """The table, on this number of threads."""
    fastconv.set_num_threads(threads)
    return selection.active(name)


def window(g):
    return g.fh, g.fw, *moved(g)


# ---- columns --------------------------------------------------------------------------


@given(geometries(FEW_CHANNELS, one_stride=False), SEEDS, THREADS)
def test_im2col(backend, dtype, g, seed, threads):
    x = numbers(seed, dtype)(*g.input_shape)
    out = call_kernel(on_threads(backend, threads), "im2col", x=x, geometry=g)
    np.testing.assert_array_equal(out["col"], naive.im2col(x, *window(g)))


@given(geometries(FEW_CHANNELS, one_stride=False), SEEDS, THREADS)
def test_col2im(backend, dtype, g, seed, threads):
    col = numbers(seed, dtype)(*g.column_shape)
    out = call_kernel(on_threads(backend, threads), "col2im", col=col, geometry=g)
    assert_close(out["x"], naive.col2im(col, g.input_shape, *window(g)), dtype=dtype)


# ---- convolution ----------------------------------------------------------------------


@settings(max_examples=100)
@given(geometries(), CHANNELS, SEEDS, THREADS)
def test_conv2d_forward(backend, dtype, g, filters, seed, threads):
    draw = numbers(seed, dtype)
    x, weight, bias = draw(*g.input_shape), draw(filters, g.c, g.fh, g.fw), draw(filters)
    out = call_kernel(
        on_threads(backend, threads), "conv2d_forward", x=x, weight=weight, bias=bias, geometry=g
    )
    assert_close(out["out"], naive.conv2d(x, weight, bias, *moved(g)), dtype=dtype)


@settings(max_examples=100)
@given(geometries(), CHANNELS, SEEDS, THREADS, st.booleans())
def test_conv2d_backward(backend, dtype, g, filters, seed, threads, input_gradient):
    draw = numbers(seed, dtype)
    x, weight = draw(*g.input_shape), draw(filters, g.c, g.fh, g.fw)
    dout = draw(*g.output_shape(filters))
    inputs = {"dout": dout, "x": x, "weight": weight, "geometry": g}
    if not input_gradient:
        inputs["dx"] = None
    out = call_kernel(on_threads(backend, threads), "conv2d_backward", **inputs)
    dx, dweight, dbias = naive.conv2d_gradients(dout, x, weight, *moved(g))
    assert ("dx" in out) == input_gradient
    if input_gradient:
        assert_close(out["dx"], dx, dtype=dtype)
    assert_close(out["dweight"], dweight, dtype=dtype)
    # With few terms of both signs the sum may be small; its error is relative to its terms.
    assert_close(out["dbias"], dbias, dtype=dtype, scale=np.abs(dout).max(initial=0) or None)


COUNTS = (1, 3, 8, 15, 16, 17, 32, 33, 48, 64)


@pytest.mark.parametrize("channels", COUNTS)
def test_conv2d_of_every_pair_of_channel_counts(table, dtype, channels):
    for filters in COUNTS:
        with in_case(f"{filters} filters"):
            check_conv2d_of(table, dtype, channels, filters)


def check_conv2d_of(table, dtype, channels, filters):
    draw = numbers(channels * 100 + filters, dtype)
    g = window_geometry("test", (2, channels, 5, 4), 3, 3, 1, 1)
    x, weight, bias = draw(*g.input_shape), draw(filters, channels, 3, 3), draw(filters)
    dout = draw(*g.output_shape(filters))
    out = call_kernel(table, "conv2d_forward", x=x, weight=weight, bias=bias, geometry=g)
    assert_close(out["out"], naive.conv2d(x, weight, bias, 1, 1), dtype=dtype)
    out = call_kernel(table, "conv2d_backward", dout=dout, x=x, weight=weight, geometry=g)
    expected = naive.conv2d_gradients(dout, x, weight, 1, 1)
    for name, gradient in zip(("dx", "dweight", "dbias"), expected, strict=True):
        assert_close(out[name], gradient, dtype=dtype)


@cache
def many_channels(images, side, stride, pad):
    """A convolution of whole numbers and its gradients by hand, the same for every backend."""
    draw = whole_numbers(side, np.dtype(np.float64))
    g = window_geometry("test", (images, 280, 23, 5), side, side, stride, pad)
    x, weight, dout = draw(*g.input_shape), draw(270, g.c, side, side), draw(*g.output_shape(270))
    return g, x, weight, dout, naive.conv2d_gradients(dout, x, weight, stride, pad)


@pytest.mark.parametrize(
    ("images", "side", "stride", "pad"),
    [(2, 1, 1, 0), (2, 1, 2, 0), (2, 1, 1, 1), (2, 3, 2, 1), (2, 3, 1, 1), (6, 3, 1, 1)],
)
def test_conv2d_gradients_of_many_channels(backend, dtype, images, side, stride, pad):
    """More than one block of channels and filters, and several bands of rows: exact sums."""
    config.set_conv_algorithm("winograd2")  # exact, where it applies
    g, *arrays, expected = many_channels(images, side, stride, pad)
    x, weight, dout = (array.astype(dtype) for array in arrays)
    for threads in (1, 2):
        out = call_kernel(
            on_threads(backend, threads),
            "conv2d_backward",
            dout=dout,
            x=x,
            weight=weight,
            geometry=g,
        )
        for name, gradient in zip(("dx", "dweight", "dbias"), expected, strict=True):
            np.testing.assert_array_equal(out[name], gradient)


@pytest.mark.parametrize(
    ("side", "height", "filters", "stride", "pad"),
    [(7, 10, 66, 1, 0), (7, 7, 66, 1, 0), (5, 12, 20, 1, 1), (5, 11, 66, 2, 0), (3, 5, 20, 1, 2)],
)
def test_conv2d_input_gradients_at_the_edges(backend, dtype, side, height, filters, stride, pad):
    """Rows of an image that meet some of a filter's rows alone: few or many weights, whole sums."""
    config.set_conv_algorithm("direct")
    draw = whole_numbers(side * height, np.dtype(dtype))
    g = window_geometry("test", (2, 33, height, 9), side, side, stride, pad)
    x, weight = draw(*g.input_shape), draw(filters, g.c, side, side)
    dout = draw(*g.output_shape(filters))
    # Each tap by itself: where its pixel of the image is, comes its share.
    whole = np.zeros((2, 33, height + 2 * pad, 9 + 2 * pad))
    for j in range(side):
        for i in range(side):
            rows = slice(j, j + g.oh * stride, stride)
            columns = slice(i, i + g.ow * stride, stride)
            whole[:, :, rows, columns] += np.einsum("nfyx,fc->ncyx", dout, weight[:, :, j, i])
    expected = whole[:, :, pad : pad + height, pad : pad + 9]
    for threads in (1, 2):
        table = on_threads(backend, threads)
        out = call_kernel(table, "conv2d_backward", dout=dout, x=x, weight=weight, geometry=g)
        np.testing.assert_array_equal(out["dx"], expected)


@pytest.mark.parametrize(
    ("algorithm", "images", "channels", "side", "size"),
    [
        ("direct", 1, 480, 1, 14),
        ("direct", 3, 240, 1, 14),
        ("direct", 1, 200, 3, 15),
        ("winograd2", 1, 24, 3, 28),
        ("winograd2", 3, 24, 3, 21),
        ("winograd2", 1, 40, 3, 13),
    ],
)
def test_conv2d_forward_cut_for_any_number_of_threads(
    backend, dtype, algorithm, images, channels, side, size
):
    """Pieces of rows that are not all equal, and more of them for more threads: exact sums."""
    config.set_conv_algorithm(algorithm)
    draw = whole_numbers(channels, np.dtype(dtype))
    g = window_geometry("test", (images, channels, size, size), side, side, 1, side // 2)
    x, weight, bias = draw(*g.input_shape), draw(70, channels, side, side), draw(70)
    expected = naive.conv2d(x, weight, bias, 1, side // 2)
    for threads in (1, 2, 3, 5):
        out = call_kernel(
            on_threads(backend, threads),
            "conv2d_forward",
            x=x,
            weight=weight,
            bias=bias,
            geometry=g,
        )
        np.testing.assert_array_equal(out["out"], expected)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("channels", "side", "stride", "size"), [(900, 1, 1, 7), (120, 3, 1, 7), (130, 3, 2, 9)]
)
def test_what_follows_a_long_sum(backend, dtype, channels, side, stride, size, relu):
    """It is applied once, after the last part of the sum: exact sums, several tiles and lines."""
    config.set_conv_algorithm("direct")
    draw = whole_numbers(channels, np.dtype(dtype))
    g = window_geometry("test", (2, channels, size, size), side, side, stride, side // 2)
    x, weight, bias = draw(*g.input_shape), draw(37, channels, side, side), draw(37)
    residual = draw(*g.output_shape(37))
    expected = naive.conv2d(x, weight, bias, stride, side // 2) + residual
    for threads in (1, 2):
        out = call_kernel(
            on_threads(backend, threads),
            "conv2d_block_forward",
            x=x,
            weight=weight,
            bias=bias,
            residual=residual,
            geometry=g,
            relu=relu,
            pool=False,
            winner=None,
        )
        np.testing.assert_array_equal(out["out"], np.maximum(expected, 0) if relu else expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_conv2d_keeps_a_broken_pixel_to_the_windows_that_see_it(backend, dtype, rng, value):
    """Lanes that are padded with zeros, or padding, must not carry it elsewhere.

    This is for direct convolution; other algorithms spread it over a tile, see test_blocks.
    """
    config.set_conv_algorithm("direct")
    table = selection.active(backend)
    g = window_geometry("test", (2, 17, 7, 6), 3, 3, 1, 1)
    x = rng.standard_normal(g.input_shape).astype(dtype)
    x[1, 16, 0, 5] = value
    weight, bias = rng.standard_normal((18, 17, 3, 3)).astype(dtype), np.zeros(18, dtype)
    out = call_kernel(table, "conv2d_forward", x=x, weight=weight, bias=bias, geometry=g)
    expected = naive.conv2d(x, weight, bias, 1, 1)
    assert (~np.isfinite(expected)).sum() == 18 * 4
    assert_close(out["out"], expected, dtype=dtype)


# ---- max pooling ----------------------------------------------------------------------


def check_pooling(table, g, x, dout):
    out = call_kernel(table, "maxpool2d_forward", x=x, geometry=g)
    expected, winner = naive.maxpool2d(x, *window(g))
    np.testing.assert_array_equal(out["out"], expected)
    np.testing.assert_array_equal(out["winner"], winner)
    dx = call_kernel(table, "maxpool2d_backward", dout=dout, winner=out["winner"], geometry=g)
    expected = naive.maxpool2d_gradient(dout, winner, g.input_shape, g.fw, *moved(g))
    assert_close(dx["dx"], expected, dtype=x.dtype)


@given(geometries(FEW_CHANNELS, pooling=True), SEEDS, THREADS)
def test_maxpool2d(backend, dtype, g, seed, threads):
    draw = numbers(seed, dtype)
    x, dout = draw(*g.input_shape), draw(*g.output_shape(g.c))
    check_pooling(on_threads(backend, threads), g, x, dout)


@given(geometries(FEW_CHANNELS, pooling=True), SEEDS, THREADS)
def test_maxpool2d_with_ties_nan_and_infinities(backend, dtype, g, seed, threads):
    rng = np.random.default_rng(seed)
    x = rng.choice([-np.inf, -1.0, -0.0, 0.0, 2.0, np.inf, np.nan], g.input_shape).astype(dtype)
    dout = rng.standard_normal(g.output_shape(g.c)).astype(dtype)
    check_pooling(on_threads(backend, threads), g, x, dout)


def test_maxpool2d_with_more_than_256_places_in_a_window(table, dtype, rng):
    g = window_geometry("test", (2, 3, 21, 20), 17, 18, 1, 0)
    assert g.window > 256
    x = rng.standard_normal(g.input_shape).astype(dtype)
    x[0, 0, 16, 17] = 99  # wins at place 305 of the first window
    check_pooling(table, g, x, rng.standard_normal(g.output_shape(3)).astype(dtype))


# ---- fully connected ------------------------------------------------------------------


@given(st.integers(0, 20), SIZES, SIZES, SEEDS, THREADS)
def test_affine(backend, dtype, n, d, m, seed, threads):
    draw = numbers(seed, dtype)
    x, weight, bias, dout = draw(n, d), draw(d, m), draw(m), draw(n, m)
    table = on_threads(backend, threads)
    out = call_kernel(table, "affine_forward", x=x, weight=weight, bias=bias)
    assert_close(out["out"], naive.affine(x, weight, bias), dtype=dtype)
    out = call_kernel(table, "affine_backward", dout=dout, x=x, weight=weight)
    dx, dweight, dbias = naive.affine_gradients(dout, x, weight)
    assert_close(out["dx"], dx, dtype=dtype)
    assert_close(out["dweight"], dweight, dtype=dtype)
    assert_close(out["dbias"], dbias, dtype=dtype, scale=np.abs(dout).max(initial=0) or None)
    alone = call_kernel(table, "affine_backward", dout=dout, x=x, weight=weight, dx=None)
    np.testing.assert_array_equal(alone["dweight"], out["dweight"])
    np.testing.assert_array_equal(alone["dbias"], out["dbias"])


# ---- elementwise ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 9, 15, 16, 17, 100, 5000])
@pytest.mark.parametrize("threads", [1, 2])
def test_relu(backend, dtype, size, threads):
    table = on_threads(backend, threads)
    x = np.resize(SIGNS, size).astype(dtype)
    out = call_kernel(table, "relu_forward", x=x)
    expected, mask = naive.relu(x)
    np.testing.assert_array_equal(out["out"], expected)
    np.testing.assert_array_equal(out["mask"], mask)
    # Each odd value as a gradient, both where it passes and where it does not.
    for passes in (mask, 1 - mask):
        dx = call_kernel(table, "relu_backward", dout=x, mask=passes.astype(np.uint8))
        np.testing.assert_array_equal(
            dx["dx"], [v if p else 0 for v, p in zip(x, passes, strict=True)]
        )


# ---- batch normalisation --------------------------------------------------------------


@given(st.integers(1, 40), SIZES, SEEDS, THREADS)
def test_batchnorm(backend, dtype, n, d, seed, threads):
    draw = numbers(seed, dtype)
    x, gamma, beta = 3 * draw(n, d) + 1, draw(d), draw(d)
    table = on_threads(backend, threads)
    out = call_kernel(table, "batchnorm_train", x=x, gamma=gamma, beta=beta, epsilon=1e-6)
    names = ("out", "normalized", "mean", "variance")
    for name, expected in zip(names, naive.batchnorm_train(x, gamma, beta), strict=True):
        # Errors of mean and variance are relative to the numbers they are made from.
        scale = {"mean": np.abs(x).max(), "variance": np.abs(x).max() ** 2}.get(name)
        # An error in x - mean is divided by the deviation, which may be small.
        if name in ("out", "normalized") and n > 1:
            deviation = np.sqrt(naive.batchnorm_train(x, gamma, beta)[3].min() + 1e-6)
            scale = max(1.0, np.abs(x).max() / deviation)
        assert_close(out[name], expected, dtype=dtype, scale=scale)


@given(st.integers(0, 20), SIZES, SEEDS, THREADS)
def test_batchnorm_infer(backend, dtype, n, d, seed, threads):
    draw = numbers(seed, dtype)
    x, gamma, beta, mean, variance = draw(n, d), draw(d), draw(d), draw(d), draw(d) ** 2
    numbers_given = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    table = on_threads(backend, threads)
    out = call_kernel(table, "batchnorm_infer", x=x, epsilon=1e-6, **numbers_given)
    assert_close(out["out"], naive.batchnorm_infer(x, **numbers_given), dtype=dtype)


@given(st.integers(1, 40), SIZES, SEEDS, THREADS)
def test_batchnorm_backward(backend, dtype, n, d, seed, threads):
    draw = numbers(seed, dtype)
    x, dout, gamma = draw(n, d), draw(n, d), draw(d)
    _, normalized, _, variance = naive.batchnorm_train(x, gamma, np.zeros(d))
    out = call_kernel(
        on_threads(backend, threads),
        "batchnorm_backward",
        dout=dout,
        normalized=normalized.astype(dtype),
        gamma=gamma,
        variance=variance.astype(dtype),
        epsilon=1e-6,
    )
    dx, dgamma, dbeta = naive.batchnorm_gradients(dout, x, gamma)
    terms = np.abs(dout).max()
    # dx is dout less what is constant and what is proportional to x: few rows nearly cancel.
    steepest = (np.abs(gamma) / np.sqrt(variance + 1e-6)).max()
    assert_close(out["dx"], dx, dtype=dtype, scale=steepest * terms)
    assert_close(out["dgamma"], dgamma, dtype=dtype, scale=n * terms)
    assert_close(out["dbeta"], dbeta, dtype=dtype, scale=n * terms)


# ---- softmax with cross-entropy -------------------------------------------------------


SPREADS = st.sampled_from([1.0, 30.0, 1000.0])


@given(st.integers(1, 20), SIZES, SEEDS, THREADS, SPREADS, st.sampled_from([0.0, 0.1, 0.9]))
def test_softmax_cross_entropy(backend, dtype, n, m, seed, threads, spread, smoothing):
    rng = np.random.default_rng(seed)
    scores = (spread * rng.standard_normal((n, m))).astype(dtype)
    labels = rng.integers(0, m, n)
    table = on_threads(backend, threads)
    how = {"labels": labels, "smoothing": smoothing}
    out = call_kernel(table, "softmax_cross_entropy_forward", scores=scores, **how)
    expected = naive.softmax(scores)
    # exp(score - largest) has the absolute rounding error of the difference.
    scale = max(1.0, np.abs(scores).max())
    assert_close(out["probabilities"], expected, dtype=dtype, scale=scale)
    probabilities = out["probabilities"].astype(float)
    assert isinstance(out["loss"], float)
    if smoothing:
        expected = naive.smoothed_cross_entropy(scores, labels, smoothing)
        assert abs(out["loss"] - expected) <= 50 * np.finfo(dtype).eps * scale
    else:
        expected = naive.cross_entropy(probabilities, labels)
        assert math.isclose(out["loss"], expected, rel_tol=1e-12)
    out = call_kernel(
        table,
        "softmax_cross_entropy_backward",
        probabilities=out["probabilities"],
        scale=0.25,
        **how,
    )
    expected = naive.softmax_cross_entropy_gradient(probabilities, labels, 0.25, smoothing)
    # Near 0, what remains is the rounding error of the smoothed label, which is about 1.
    assert_close(out["dscores"], expected, dtype=dtype, scale=0.25 if smoothing else None)


# ---- Adam -----------------------------------------------------------------------------


@given(st.integers(0, 300), SEEDS, THREADS)
def test_adam_update(backend, dtype, size, seed, threads):
    draw = numbers(seed, dtype)
    param, grad, m, v = draw(size), draw(size), draw(size), draw(size) ** 2
    numbers_given = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7}
    out = call_kernel(
        on_threads(backend, threads),
        "adam_update",
        param=param,
        grad=grad,
        m=m,
        v=v,
        **numbers_given,
    )
    expected = {"param": [], "m": [], "v": []}
    for p, g, first, second in zip(param, grad, m, v, strict=True):
        state = {"m": float(first), "v": float(second)}
        expected["param"].append(naive.adam_step(float(p), float(g), state, **numbers_given))
        expected["m"].append(state["m"])
        expected["v"].append(state["v"])
    for name, values in expected.items():
        # A few roundings, element by element: no large value may hide the error of another.
        np.testing.assert_allclose(out[name], values, rtol=0, atol=50 * np.finfo(dtype).eps)


def test_adam_keeps_no_subnormal_moments(table, dtype):
    """Those of dead units would stay subnormal and slow for ever; NaN stays NaN."""
    smallest = float(np.finfo(dtype).smallest_normal)
    first = np.array([1.05, 1.2, -1.05, 0.25, np.nan, 0], dtype) * dtype.type(smallest)
    second = np.array([1.0005, 1.2, 0.5, 0, 1.2, np.nan], dtype) * dtype.type(smallest)
    out = call_kernel(
        table,
        "adam_update",
        param=np.ones(6, dtype),
        grad=np.zeros(6, dtype),
        m=first,
        v=second,
        lr=0.01,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-7,
    )
    # 0.9 and 0.999 of the moments, if that is a normal number.
    np.testing.assert_allclose(
        out["m"], [0, 1.08 * smallest, 0, 0, np.nan, 0], rtol=8 * np.finfo(dtype).eps
    )
    np.testing.assert_allclose(
        out["v"], [0, 1.1988 * smallest, 0, 0, 1.1988 * smallest, np.nan], rtol=8e-4
    )
    np.testing.assert_array_equal(out["param"], [1, 1, 1, 1, np.nan, np.nan])
