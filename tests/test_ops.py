"""The front door to the kernels: any memory, any odd value, any dtype, inputs left alone."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import ops

from . import naive
from .awkward import MEMORY, VALUES, images, in_memory, unchanged
from .compare import assert_close

UNWRITABLE = ("read-only", "broadcast first axis")
NARROW = [np.float16, np.int64, np.uint8, np.bool_]


@pytest.fixture(params=MEMORY)
def memory(request):
    """Turns an array into one of the same values in memory of an odd kind."""
    return lambda array: in_memory(request.param, array)


@pytest.fixture(params=VALUES)
def x(request, rng, dtype):
    """Images of odd values or shape."""
    return images(request.param, rng, dtype)


def test_memory_is_as_odd_as_its_name(dtype):
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(dtype)
    made = {kind: in_memory(kind, array) for kind in MEMORY}
    for kind, odd in made.items():
        expected = array[[0, 0]] if kind == "broadcast first axis" else array
        np.testing.assert_array_equal(odd, expected)
        assert not np.shares_memory(odd, array) or kind == "broadcast first axis"
    assert made["fortran"].flags.f_contiguous
    assert not made["strided"].flags.c_contiguous
    assert all(stride < 0 for stride in made["negative strides"].strides)
    assert made["channels last"].transpose(0, 2, 3, 1).flags.c_contiguous
    assert not made["read-only"].flags.writeable
    assert not made["byte-swapped"].dtype.isnative
    assert not made["unaligned"].flags.aligned
    assert made["broadcast first axis"].strides[0] == 0


# ---- odd memory -----------------------------------------------------------------------


def test_conv2d_in_any_memory(backend, dtype, rng, memory):
    x = memory(rng.standard_normal((2, 3, 6, 5)).astype(dtype))
    weight = memory(rng.standard_normal((4, 3, 3, 2)).astype(dtype))
    bias = memory(rng.standard_normal(4).astype(dtype))
    dout = memory(rng.standard_normal((2, 4, 3, 3)).astype(dtype))
    with unchanged(x, weight, bias, dout):
        out, context = ops.conv2d_forward(x, weight, bias, 2, 1, backend)
        gradients = ops.conv2d_backward(dout, weight, context)
    assert_close(out, naive.conv2d(x, weight, bias, 2, 1), dtype=dtype)
    expected = naive.conv2d_gradients(dout, x, weight, 2, 1)
    for got, gradient in zip(gradients, expected, strict=True):
        assert_close(got, gradient, dtype=dtype)


def test_maxpool2d_in_any_memory(backend, dtype, rng, memory):
    x = memory(rng.standard_normal((2, 3, 6, 5)).astype(dtype))
    dout = memory(rng.standard_normal((2, 3, 5, 4)).astype(dtype))
    with unchanged(x, dout):
        out, context = ops.maxpool2d_forward(x, 2, 2, 1, 0, backend)
        dx = ops.maxpool2d_backward(dout, context)
    expected, winner = naive.maxpool2d(x, 2, 2)
    assert_close(out, expected, dtype=dtype, tolerance=0)
    assert_close(dx, naive.maxpool2d_gradient(dout, winner, x.shape, 2), dtype=dtype)


def test_columns_in_any_memory(backend, dtype, rng, memory):
    x = memory(rng.standard_normal((2, 3, 6, 5)).astype(dtype))
    col = memory(rng.standard_normal((2 * 6 * 4, 3 * 3 * 4)).astype(dtype))
    with unchanged(x, col):
        unfolded = ops.im2col(x, 3, 4, 1, 1, backend)
        folded = ops.col2im(col, (2, 3, 6, 5), 3, 4, 1, 1, backend)
    assert_close(unfolded, naive.im2col(x, 3, 4, 1, 1), dtype=dtype, tolerance=0)
    assert_close(folded, naive.col2im(col, (2, 3, 6, 5), 3, 4, 1, 1), dtype=dtype)


@pytest.mark.parametrize("shape", [(5, 12), (5, 3, 2, 2)])
def test_affine_in_any_memory(backend, dtype, rng, memory, shape):
    x = memory(rng.standard_normal(shape).astype(dtype))
    weight = memory(rng.standard_normal((12, 7)).astype(dtype))
    bias = memory(rng.standard_normal(7).astype(dtype))
    dout = memory(rng.standard_normal((5, 7)).astype(dtype))
    with unchanged(x, weight, bias, dout):
        out, context = ops.affine_forward(x, weight, bias, backend)
        dx, dweight, dbias = ops.affine_backward(dout, weight, context)
    rows = np.array(x).reshape(5, 12)
    assert_close(out, naive.affine(rows, weight, bias), dtype=dtype)
    expected = naive.affine_gradients(dout, rows, weight)
    assert_close(dx, expected[0].reshape(shape), dtype=dtype)
    assert_close(dweight, expected[1], dtype=dtype)
    assert_close(dbias, expected[2], dtype=dtype)


@pytest.mark.parametrize("shape", [(40,), (5, 7), (2, 3, 6, 5), (2, 1, 3, 1, 2)])
def test_relu_in_any_memory(backend, dtype, rng, memory, shape):
    x = memory(rng.standard_normal(shape).astype(dtype))
    dout = memory(rng.standard_normal(shape).astype(dtype))
    with unchanged(x, dout):
        out, context = ops.relu_forward(x, backend)
        dx = ops.relu_backward(dout, context)
    expected, mask = naive.relu(x)
    assert_close(out, expected, dtype=dtype, tolerance=0)
    assert_close(dx, np.where(mask, dout, 0), dtype=dtype, tolerance=0)


def test_batchnorm_in_any_memory(backend, dtype, rng, memory):
    x, dout = (memory(rng.standard_normal((6, 5)).astype(dtype)) for _ in range(2))
    # Not all of one value, as the broadcast memory would make them: that has no variance.
    x = x if x.strides[0] else rng.standard_normal((6, 5)).astype(dtype)
    gamma, beta, mean, variance = (
        memory(rng.random(5).astype(dtype) + dtype.type(0.5)) for _ in range(4)
    )
    with unchanged(x, dout, gamma, beta, mean, variance):
        out, batch_mean, batch_variance, context = ops.batchnorm_train(
            x, gamma, beta, 1e-6, backend
        )
        gradients = ops.batchnorm_backward(dout, gamma, context)
        inferred = ops.batchnorm_infer(x, gamma, beta, mean, variance, 1e-6, backend)
    expected = naive.batchnorm_train(x, gamma, beta)
    assert_close(out, expected[0], dtype=dtype)
    assert_close(batch_mean, expected[2], dtype=dtype)
    assert_close(batch_variance, expected[3], dtype=dtype)
    assert_close(inferred, naive.batchnorm_infer(x, gamma, beta, mean, variance), dtype=dtype)
    for got, gradient in zip(gradients, naive.batchnorm_gradients(dout, x, gamma), strict=True):
        # Constant rows of dout leave no gradient but rounding.
        assert_close(got, gradient, dtype=dtype, scale=10 * np.abs(np.asarray(dout)).max())


def test_softmax_cross_entropy_in_any_memory(backend, dtype, rng, memory):
    scores = memory(rng.standard_normal((6, 5)).astype(dtype))
    labels = memory(np.array([4, 0, 2, 2, 1, 3]))
    with unchanged(scores, labels):
        loss, context = ops.softmax_cross_entropy_forward(scores, labels, backend)
        gradient = ops.softmax_cross_entropy_backward(context)
    expected = naive.softmax(scores)
    assert_close(np.asarray(loss), naive.cross_entropy(expected, labels), tolerance=1e-6)
    assert_close(
        gradient, naive.softmax_cross_entropy_gradient(expected, labels, 1 / 6), dtype=dtype
    )


@pytest.mark.parametrize("kind", [kind for kind in MEMORY if kind not in UNWRITABLE])
def test_adam_update_in_any_memory(backend, dtype, rng, kind):
    """Parameters are changed where they are, also where their memory is odd."""
    values = [rng.standard_normal((3, 4)).astype(dtype) for _ in range(4)]
    values[3] **= 2
    param, grad, m, v = (in_memory(kind, array) for array in values)
    with unchanged(grad):
        ops.adam_update(param, grad, m, v, 0.01, 0.9, 0.999, 1e-7, backend)
    for index in np.ndindex(3, 4):
        p, g, first, second = (float(array[index]) for array in values)
        state = {"m": first, "v": second}
        new = naive.adam_step(p, g, state, 0.01, 0.9, 0.999, 1e-7)
        tolerance = 20 * np.finfo(dtype).eps
        assert_close(float(param[index]), new, tolerance=tolerance, scale=2)
        assert_close(float(m[index]), state["m"], tolerance=tolerance, scale=2)
        assert_close(float(v[index]), state["v"], tolerance=tolerance, scale=2)


# ---- odd values -----------------------------------------------------------------------


def test_conv2d_of_odd_values(backend, dtype, rng, x):
    weight = rng.standard_normal((4, x.shape[1], 3, 3)).astype(dtype)
    bias = rng.standard_normal(4).astype(dtype)
    with np.errstate(invalid="ignore"):  # infinities of both signs meet
        out, _ = ops.conv2d_forward(x, weight, bias, 1, 1, backend)
        expected = naive.conv2d(x, weight, bias, 1, 1)
    assert_close(out, expected, dtype=dtype)


def test_maxpool2d_of_odd_values(backend, dtype, rng, x):
    size = min(2, x.shape[2])
    out, context = ops.maxpool2d_forward(x, size, size, size, 0, backend)
    expected, winner = naive.maxpool2d(x, size, size, size)
    np.testing.assert_array_equal(out, expected)
    dout = rng.standard_normal(out.shape).astype(dtype)
    dx = ops.maxpool2d_backward(dout, context)
    assert_close(dx, naive.maxpool2d_gradient(dout, winner, x.shape, size, size), dtype=dtype)


def test_columns_of_odd_values(backend, x):
    window = (min(3, x.shape[2]), 1, 1, 0)
    col = ops.im2col(x, *window, backend)
    np.testing.assert_array_equal(col, naive.im2col(x, *window))
    with np.errstate(invalid="ignore"):
        folded = ops.col2im(col, x.shape, *window, backend)
        assert_close(folded, naive.col2im(col, x.shape, *window), dtype=x.dtype)


def test_affine_of_odd_values(backend, dtype, rng, x):
    rows = x.reshape(len(x), int(np.prod(x.shape[1:])))
    weight = rng.standard_normal((rows.shape[1], 3)).astype(dtype)
    with np.errstate(invalid="ignore"):
        out, context = ops.affine_forward(x, weight, np.zeros(3, dtype), backend)
        assert_close(out, naive.affine(rows, weight, np.zeros(3)), dtype=dtype)
        dout = rng.standard_normal((len(x), 3)).astype(dtype)
        dx, dweight, _ = ops.affine_backward(dout, weight, context)
        expected = naive.affine_gradients(dout, rows, weight)
    assert_close(dx, expected[0].reshape(x.shape), dtype=dtype)
    assert_close(dweight, expected[1], dtype=dtype)


def test_relu_of_odd_values(backend, dtype, rng, x):
    out, context = ops.relu_forward(x, backend)
    expected, mask = naive.relu(x)
    np.testing.assert_array_equal(out, expected)
    dx = ops.relu_backward(x, context)
    np.testing.assert_array_equal(dx, np.where(mask, x, 0))


def test_batchnorm_of_no_rows(backend, dtype):
    x, ones = np.empty((0, 4), dtype), np.ones(4, dtype)
    out, _, _, context = ops.batchnorm_train(x, ones, ones, 1e-6, backend)
    dx, dgamma, dbeta = ops.batchnorm_backward(x, ones, context)
    inferred = ops.batchnorm_infer(x, ones, ones, ones, ones, 1e-6, backend)
    assert out.shape == dx.shape == inferred.shape == (0, 4)
    assert not dgamma.any() and not dbeta.any()


def test_batchnorm_of_one_row_and_of_equal_rows(backend, dtype):
    """No variance at all: epsilon keeps the result finite, and it is beta."""
    gamma, beta = np.array([2, 3], dtype), np.array([5, -1], dtype)
    for rows in (1, 4):
        x = np.tile(np.array([[0.5, -8]], dtype), (rows, 1))
        out, mean, variance, context = ops.batchnorm_train(x, gamma, beta, 1e-6, backend)
        np.testing.assert_array_equal(out, np.tile(beta, (rows, 1)))
        np.testing.assert_array_equal(mean, [0.5, -8])
        np.testing.assert_array_equal(variance, [0, 0])
        dx, _, _ = ops.batchnorm_backward(np.ones_like(x), gamma, context)
        np.testing.assert_array_equal(dx, np.zeros_like(x))


def test_softmax_cross_entropy_of_no_rows(backend, dtype):
    loss, context = ops.softmax_cross_entropy_forward(np.empty((0, 4), dtype), [], backend)
    assert loss == 0
    assert ops.softmax_cross_entropy_backward(context).shape == (0, 4)


# ---- dtypes ---------------------------------------------------------------------------


@pytest.mark.parametrize("narrow", NARROW)
def test_float16_computes_in_float32_and_integers_in_float64(backend, rng, narrow):
    x = rng.integers(0, 2, (1, 2, 4, 4)).astype(narrow)
    weight, bias = rng.integers(0, 2, (3, 2, 3, 3)).astype(narrow), np.zeros(3, narrow)
    expected = np.float32 if narrow is np.float16 else np.float64
    out, context = ops.conv2d_forward(x, weight, bias, 1, 0, backend)
    assert_close(out, naive.conv2d(x, weight, bias), dtype=expected, tolerance=0)
    assert ops.conv2d_backward(out, weight, context)[1].dtype == expected
    assert ops.maxpool2d_forward(x, 2, 2, backend=backend)[0].dtype == expected
    assert ops.relu_forward(x, backend)[0].dtype == expected
    assert ops.im2col(x, 2, 2, backend=backend).dtype == expected


def test_mixed_dtypes_follow_numpy(backend, rng):
    x = rng.standard_normal((2, 5)).astype(np.float32)
    weight, bias = rng.standard_normal((5, 3)), np.zeros(3)
    out, context = ops.affine_forward(x, weight, bias, backend)
    assert_close(out, naive.affine(x, weight, bias), dtype=np.float64)
    # A gradient of another dtype is brought to that of the forward pass.
    dx, dweight, _ = ops.affine_backward(np.ones((2, 3), np.float32), weight, context)
    assert dx.dtype == dweight.dtype == np.float64


def test_results_stay_in_the_layout_of_the_kernels(backend, table, dtype):
    """So a chain of convolution, ReLU and pooling copies nothing in between."""

    def in_layout(array):
        if table.layout == "channels_last":
            array = array.transpose(0, 2, 3, 1)
        return array.flags.c_contiguous

    x = np.ones((2, 3, 6, 6), dtype)
    out, conv = ops.conv2d_forward(
        x, np.ones((4, 3, 3, 3), dtype), np.zeros(4, dtype), 1, 1, backend
    )
    rectified, relu = ops.relu_forward(out, backend)
    pooled, pool = ops.maxpool2d_forward(rectified, 2, 2, 2, 0, backend)
    assert in_layout(out) and in_layout(rectified) and in_layout(pooled)
    dx = ops.relu_backward(ops.maxpool2d_backward(pooled, pool), relu)
    assert in_layout(dx)
    assert in_layout(ops.conv2d_backward(dx, np.ones((4, 3, 3, 3), dtype), conv)[0])
