"""On whole numbers every backend gives exactly the same results, whatever the order of its sums.

The numbers are so small that float32 holds each sum exactly. So the expectation is
exact too: it comes from the loops of `naive`.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastconv import ops

from . import naive
from .geometries import CHANNELS, FEW_CHANNELS, SEEDS, geometries, moved, whole_numbers


@given(geometries(one_stride=False), CHANNELS, SEEDS)
def test_conv2d(backend, dtype, g, filters, seed):
    draw = whole_numbers(seed, dtype)
    x, weight, bias = draw(*g.input_shape), draw(filters, g.c, g.fh, g.fw), draw(filters)
    dout = draw(*g.output_shape(filters))
    out, context = ops.conv2d_forward(x, weight, bias, *moved(g), backend)
    np.testing.assert_array_equal(out, naive.conv2d(x, weight, bias, *moved(g)))
    got = ops.conv2d_backward(dout, weight, context)
    expected = naive.conv2d_gradients(dout, x, weight, *moved(g))
    for result, exact in zip(got, expected, strict=True):
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, exact)


@given(geometries(FEW_CHANNELS, one_stride=False), SEEDS)
def test_columns(backend, dtype, g, seed):
    draw = whole_numbers(seed, dtype)
    window = (g.fh, g.fw, *moved(g))
    x, col = draw(*g.input_shape), draw(*g.column_shape)
    np.testing.assert_array_equal(ops.im2col(x, *window, backend), naive.im2col(x, *window))
    folded = ops.col2im(col, g.input_shape, *window, backend)
    np.testing.assert_array_equal(folded, naive.col2im(col, g.input_shape, *window))


@given(geometries(FEW_CHANNELS, pooling=True), SEEDS)
def test_maxpool2d(backend, dtype, g, seed):
    draw = whole_numbers(seed, dtype)
    window = (g.fh, g.fw, *moved(g))
    x, dout = draw(*g.input_shape), draw(*g.output_shape(g.c))
    out, context = ops.maxpool2d_forward(x, *window, backend)
    expected, winner = naive.maxpool2d(x, *window)
    np.testing.assert_array_equal(out, expected)
    dx = naive.maxpool2d_gradient(dout, winner, g.input_shape, g.fw, *moved(g))
    np.testing.assert_array_equal(ops.maxpool2d_backward(dout, context), dx)


@given(st.integers(0, 9), CHANNELS, CHANNELS, SEEDS)
def test_affine(backend, dtype, n, d, m, seed):
    draw = whole_numbers(seed, dtype)
    x, weight, bias, dout = draw(n, d), draw(d, m), draw(m), draw(n, m)
    out, context = ops.affine_forward(x, weight, bias, backend)
    np.testing.assert_array_equal(out, naive.affine(x, weight, bias))
    got = ops.affine_backward(dout, weight, context)
    for result, exact in zip(got, naive.affine_gradients(dout, x, weight), strict=True):
        np.testing.assert_array_equal(result, exact)
