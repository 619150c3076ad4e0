"""`ops` takes any memory, odd values and any dtype, and leaves inputs alone."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import ops
from fastconv.errors import ArgumentError, DTypeError, ShapeError
from fastconv.ops.arrays import compute_in

from . import naive
from .awkward import MEMORY, VALUES, images, in_memory, unchanged
from .compare import assert_close

UNWRITABLE = ("read-only", "broadcast first axis")
NARROW = [np.float16, np.int64, np.uint8, np.bool_]


@pytest.fixture(params=MEMORY)
def memory(request):
    """Puts an array's values into an odd kind of memory."""
    return lambda array: in_memory(request.param, array)


@pytest.fixture(params=VALUES)
def x(request, rng, dtype):
    """Images with odd values or an odd shape."""
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
    # Broadcast memory would make all rows equal, without any variance.
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
        # With constant rows of dout the gradient is only rounding noise.
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
    """Parameters are changed in place, even in odd memory."""
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
    """Without any variance epsilon keeps the result finite: it is beta."""
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
    # A gradient of another dtype is converted to that of the forward pass.
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


# ---- defaults, limits, messages -------------------------------------------------------


def test_windows_move_by_one_without_padding_unless_told(backend, rng):
    x, weight = rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((4, 3, 2, 3))
    zeros = np.zeros(4)
    col = ops.im2col(x, 2, 3, backend=backend)
    np.testing.assert_array_equal(col, naive.im2col(x, 2, 3))
    folded = ops.col2im(col, x.shape, 2, 3, backend=backend)
    assert_close(folded, naive.col2im(col, x.shape, 2, 3))
    expected = naive.conv2d(x, weight, zeros)
    assert_close(ops.conv2d_forward(x, weight, None, backend=backend)[0], expected)
    out, context = ops.conv2d_grouped_forward(x, weight, None, backend=backend)
    assert_close(out, expected)
    assert context.groups == 1 and context.geometry.dilation == 1 and context.plain
    assert_close(ops.maxpool2d_forward(x, 2, 3, backend=backend)[0], naive.maxpool2d(x, 2, 3)[0])
    out, context = ops.conv2d_block_forward(x, weight, zeros, backend=backend)
    assert_close(out, np.maximum(expected, 0))
    assert not context.pool


def test_which_convolutions_are_plain(backend):
    x, weight = np.ones((1, 2, 5, 5)), np.ones((2, 1, 2, 2))
    _, grouped = ops.conv2d_grouped_forward(x, weight, None, groups=2, backend=backend)
    _, dilated = ops.conv2d_grouped_forward(
        x, np.ones((2, 2, 2, 2)), None, dilation=2, backend=backend
    )
    assert not grouped.plain and not dilated.plain
    assert (grouped.groups, dilated.geometry.dilation) == (2, 2)


@pytest.mark.parametrize(("window", "dtype"), [((16, 16), np.uint8), ((1, 257), np.int32)])
def test_the_place_that_won_takes_a_byte_where_it_can(backend, rng, window, dtype):
    x = rng.standard_normal((1, 2, 17, 260))
    out, context = ops.maxpool2d_forward(x, *window, 16, backend=backend)
    expected, winner = naive.maxpool2d(x, *window, 16)
    assert context.winner.dtype == dtype
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(context.winner, winner)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (
            lambda x: ops.conv2d_grouped_forward(x, np.ones((3, 2, 1, 1)), None, groups=2),
            ShapeError,
            r"conv2d: 3 filters .* 2 groups \(weight \(3, 2, 1, 1\)\)",
        ),
        (
            lambda x: ops.conv2d_grouped_forward(x, np.ones((4, 3, 1, 1)), None, groups=2),
            ShapeError,
            r"conv2d: input has 4 channels, weight expects 3 in each of 2 groups \(input \(2, 4,",
        ),
        (
            lambda x: ops.conv2d_forward(x, np.ones((4, 3, 1, 1)), None),
            ShapeError,
            r"conv2d: input has 4 channels, weight expects 3 \(input .* weight \(4, 3, 1, 1\)\)",
        ),
        (
            lambda x: ops.conv2d_forward(x, np.ones((4, 4, 1, 0)), None),
            ShapeError,
            r"conv2d: weight must be .* no axis empty, got shape \(4, 4, 1, 0\)",
        ),
        (
            lambda x: ops.maxpool2d_forward(x, 2, 3, 1, 2),
            ShapeError,
            r"maxpool2d: pad 2 must be smaller than the window \(2 x 3\)",
        ),
        (
            lambda x: ops.avgpool2d_forward(x, 3, 2, 1, 2),
            ShapeError,
            r"avgpool2d: pad 2 must be smaller than the window \(3 x 2\)",
        ),
        (
            lambda x: ops.maxpool2d_forward(x[:, :0], 2, 2),
            ShapeError,
            r"maxpool2d: input has no channels \(input \(2, 0, 5, 5\)\)",
        ),
        (
            lambda x: ops.col2im(x[0, 0], (2, -1, 3, 3), 2, 2),
            ArgumentError,
            "col2im: an axis of input_shape must be at least 0, got -1",
        ),
        (
            lambda x: ops.col2im(x[0, 0], (2, 1, 3, 3), 2, 2),
            ShapeError,
            r"col2im: col has shape \(5, 5\), expected \(8, 4\)",
        ),
        (
            lambda x: ops.affine_forward(x[0, 0], np.ones((5, 0)), None),
            ShapeError,
            r"affine: weight must be \(D, M\) with no axis empty, got \(5, 0\)",
        ),
        (
            lambda x: ops.masked("mine backward", x, np.ones(3, bool)),
            ShapeError,
            r"mine backward: dout has shape \(2, 4, 5, 5\), expected \(3,\)",
        ),
        (
            lambda x: ops.masked("mine", x, np.ones(3, bool)),
            ShapeError,
            r"mine: input has shape \(2, 4, 5, 5\), expected \(3,\)",
        ),
        (
            lambda x: ops.masked("mine", x.astype(complex), x > 0),
            DTypeError,
            "mine: expected real .*complex128",
        ),
        (
            lambda x: ops.batchnorm_train(x[0, 0, :, :0], [], [], 1e-6),
            ShapeError,
            r"batchnorm: input must be \(N, D\) with D at least 1, got shape \(5, 0\)",
        ),
        (
            lambda x: ops.adam_update(x, x, x.copy(), x[0], 0.1, 0.9, 0.99, 1e-7),
            ShapeError,
            r"adam: v has shape \(4, 5, 5\), expected the parameter's \(2, 4, 5, 5\)",
        ),
        (
            lambda x: ops.adam_update(x, x, x[0], x.copy(), 0.1, 0.9, 0.99, 1e-7),
            ShapeError,
            r"adam: m has shape \(4, 5, 5\), expected the parameter's \(2, 4, 5, 5\)",
        ),
    ],
)
def test_refused_arguments(call, error, told):
    with pytest.raises(error, match=f"^{told}"):
        call(np.ones((2, 4, 5, 5)))


def test_a_window_has_at_most_31_bits_of_places():
    """A winner has only 31 bits; the error comes before anything of such an image is read."""
    x = np.broadcast_to(np.float32(0), (1, 1, 65536, 65536))
    with pytest.raises(ShapeError, match=r"maxpool2d: .* 2147483647 places, got 65536 x 65535$"):
        ops.maxpool2d_forward(x, 65536, 65535)


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True), (False, False)])
def test_gradients_not_asked_for_are_none(backend, rng, wanted):
    x, weight = rng.standard_normal((2, 3, 5, 5)), rng.standard_normal((4, 3, 3, 3))
    out, context = ops.conv2d_forward(x, weight, None, backend=backend)
    dout = rng.standard_normal(out.shape)
    expected = naive.conv2d_gradients(dout, x, weight)
    block, gate = ops.conv2d_block_forward(x, weight, None, backend=backend)
    through = naive.conv2d_gradients(np.where(block > 0, dout, 0), x, weight)
    for got, wants in (
        (ops.conv2d_backward(dout, weight, context, *wanted), expected),
        (ops.conv2d_block_backward(dout, weight, gate, *wanted), through),
    ):
        for gradient, value, asked in zip(
            got, wants, (wanted[0], wanted[1], wanted[1]), strict=True
        ):
            if asked:
                assert_close(gradient, value)
            else:
                assert gradient is None
    dx, *others = ops.conv2d_grouped_backward(dout, weight, context, wanted[0])
    assert (dx is not None) == wanted[0]
    for gradient, value in zip(others, expected[1:], strict=True):
        assert_close(gradient, value)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (4, 3, 2, 2)])
def test_masks_of_any_shape(backend, dtype, rng, shape):
    """A mask replaces even a NaN; the axes keep their order in memory."""
    x = rng.standard_normal(shape).astype(dtype).T
    mask = rng.random(shape).T > 0.5
    x[~mask] = np.nan
    out = ops.masked("mine", x, mask, backend)
    np.testing.assert_array_equal(out, np.where(mask, x, 0))
    assert out.dtype == dtype and out.strides == x.strides
    np.testing.assert_array_equal(
        ops.masked("mine", np.ascontiguousarray(x), mask, backend), np.where(mask, x, 0)
    )


@pytest.mark.parametrize("gamma", [2.0, np.array([1.0, 2.0, 3.0])])
def test_batch_normalisation_by_one_number_or_many(backend, rng, gamma):
    x, dout = rng.standard_normal((2, 6, 3))
    each = np.broadcast_to(gamma, 3)
    out, mean, variance, context = ops.batchnorm_train(x, gamma, 0.5, 1e-3, backend)
    expected, _, *statistics = naive.batchnorm_train(x, each, np.full(3, 0.5), 1e-3)
    assert_close(out, expected)
    assert_close(mean, statistics[0])
    assert_close(variance, statistics[1])
    for got, gradient in zip(
        ops.batchnorm_backward(dout, gamma, context),
        naive.batchnorm_gradients(dout, x, each, 1e-3),
        strict=True,
    ):
        assert_close(got, gradient)
    inferred = ops.batchnorm_infer(x, gamma, 0.5, 0.25, 4.0, 1e-3, backend)
    wanted = naive.batchnorm_infer(
        x, each, np.full(3, 0.5), np.full(3, 0.25), np.full(3, 4.0), 1e-3
    )
    assert_close(inferred, wanted)
    with pytest.raises(ShapeError, match=r"batchnorm backward: gamma has shape \(2,\), expected"):
        ops.batchnorm_backward(dout, np.ones(2), context)
    with pytest.raises(DTypeError, match=r"batchnorm backward: .* complex128"):
        ops.batchnorm_backward(dout, np.ones(3, complex), context)
    with pytest.raises(ShapeError, match=r"batchnorm backward: dout has shape \(5, 3\), expected"):
        ops.batchnorm_backward(dout[:5], gamma, context)


def test_batch_normalisation_of_no_rows_has_statistics_of_nothing(backend, dtype):
    ones = np.ones(3, dtype)
    out, mean, variance, _ = ops.batchnorm_train(ones[:0, None] * ones, ones, ones, 1e-6, backend)
    assert out.shape == (0, 3) and out.dtype == mean.dtype == variance.dtype == dtype
    np.testing.assert_array_equal((mean, variance), np.zeros((2, 3)))


@pytest.mark.parametrize("bias", [None, np.zeros(4)], ids=["no bias", "zeros"])
def test_affine_of_another_weight_or_gradient_at_backward(backend, rng, bias):
    x, weight = rng.standard_normal((2, 3, 2)), rng.standard_normal((6, 4))
    out, context = ops.affine_forward(x, weight, bias, backend)
    assert_close(out, naive.affine(x.reshape(2, 6), weight, np.zeros(4)))
    with pytest.raises(ShapeError, match=r"affine backward: weight has shape \(4, 6\), expected"):
        ops.affine_backward(out, weight.T, context)
    with pytest.raises(ShapeError, match=r"affine backward: dout has shape \(1, 4\), expected"):
        ops.affine_backward(out[:1], weight, context)
    dx, dweight, dbias = ops.affine_backward(out, weight, context)
    expected = naive.affine_gradients(out, x.reshape(2, 6), weight)
    assert_close(dx, expected[0].reshape(2, 3, 2))
    assert_close(dweight, expected[1])
    assert_close(dbias, expected[2])
    none, *others = ops.affine_backward(out, weight, context, input_gradient=False)
    assert none is None
    np.testing.assert_array_equal(others[0], dweight)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_a_step_of_adam_on_any_parameter(backend, rng, kind):
    """A float16 parameter is updated in float32, like its moments, and written back."""
    param, grad = rng.standard_normal((2, 3, 5)).astype(kind)
    m, v = np.abs(rng.standard_normal((2, 3, 5))).astype(np.result_type(kind, "f4"))
    state = [{"m": float(a), "v": float(b)} for a, b in zip(m.ravel(), v.ravel(), strict=True)]
    expected = [
        naive.adam_step(float(p), float(g), each, 0.1, 0.8, 0.95, 1e-7)
        for p, g, each in zip(param.ravel(), grad.ravel(), state, strict=True)
    ]
    ops.adam_update(param, grad, m, v, 0.1, 0.8, 0.95, 1e-7, backend)
    rtol = {"float16": 2e-3, "float32": 1e-5, "float64": 1e-12}[kind]
    np.testing.assert_allclose(param.ravel(), expected, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(m.ravel(), [each["m"] for each in state], rtol=1e-5)
    np.testing.assert_allclose(v.ravel(), [each["v"] for each in state], rtol=1e-5)


IN_A_DTYPE = {
    "affine": lambda x, b: ops.affine_forward(x, x[:5, :2], None, b)[0],
    "relu": lambda x, b: ops.relu_forward(x, b)[0],
    "masked": lambda x, b: ops.masked("mine", x, x > 0, b),
    "batchnorm": lambda x, b: ops.batchnorm_train(x, x[0], x[1], 1e-6, b)[0],
    "sigmoid": lambda x, b: ops.sigmoid_forward(x, b),
    "sigmoid backward": lambda x, b: ops.sigmoid_backward(x, x.astype("f8"), b),
    "tanh": lambda x, b: ops.activation_forward(x, "tanh", backend=b)[0],
    "loss": lambda x, b: ops.softmax_cross_entropy_forward(x, np.zeros(6, int), b)[1].probabilities,
    "add": lambda x, b: ops.add(x, x, b),
    "concatenate": lambda x, b: ops.concatenate([x, x], b),
    "conv2d": lambda x, b: ops.conv2d_forward(x[None, None], x[None, None, :2], None, backend=b)[0],
    "maxpool2d": lambda x, b: ops.maxpool2d_forward(x[None, None], 2, 2, backend=b)[0],
    "avgpool2d": lambda x, b: ops.avgpool2d_forward(x[None, None], 2, 2, backend=b)[0],
}


@pytest.mark.parametrize("name", IN_A_DTYPE)
def test_a_dtype_that_was_asked_for(backend, rng, name):
    """Whatever dtype the arrays have; afterwards it is theirs again."""
    x = rng.standard_normal((6, 5)).astype(np.float32)
    try:
        compute_in("float64")
        wide = IN_A_DTYPE[name](x, backend)
    finally:
        compute_in(None)
    assert wide.dtype == np.float64
    given = IN_A_DTYPE[name](x, backend)
    assert given.dtype == (np.float64 if name == "sigmoid backward" else np.float32)
    np.testing.assert_allclose(wide, given, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wide", ["x", "weight", "bias"])
def test_any_one_of_the_arrays_may_be_the_widest(backend, rng, wide):
    def given(name, *shape):
        return rng.standard_normal(shape).astype("f8" if name == wide else "f4")

    out, _ = ops.affine_forward(given("x", 2, 5), given("weight", 5, 3), given("bias", 3), backend)
    assert out.dtype == np.float64
    images, filters = given("x", 1, 2, 4, 4), given("weight", 3, 2, 2, 2)
    out, _ = ops.conv2d_forward(images, filters, given("bias", 3), backend=backend)
    assert out.dtype == np.float64
