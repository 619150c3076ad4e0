"""Channels side by side, sums, and every n-th pixel: by hand, in any layout."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastconv import ops
from fastconv.errors import ArgumentError, DTypeError, ShapeError

from .awkward import MEMORY, in_memory, unchanged


def counted(*shape, dtype=np.float64):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def in_layout(array, table):
    """Whether images are in the layout of a backend's kernels."""
    if table.layout == "channels_last":
        array = array.transpose(0, 2, 3, 1)
    return array.flags.c_contiguous


# ---- side by side -----------------------------------------------------------------------


@pytest.mark.parametrize("rest", [(), (3,), (3, 4), (2, 3, 4)])
def test_arrays_are_joined_along_their_second_axis(backend, rest):
    parts = [counted(2, c, *rest) + 100 * c for c in (3, 1, 0, 2)]
    with unchanged(*parts):
        joined = ops.concatenate(parts, backend)
    assert joined.shape == (2, 6, *rest)
    for first, part in ((0, parts[0]), (3, parts[1]), (4, parts[3])):
        np.testing.assert_array_equal(joined[:, first : first + part.shape[1]], part)
    np.testing.assert_array_equal(ops.concatenate(parts[:1], backend), parts[0])


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [("f4 f4", "f4"), ("f4 f8", "f8"), ("f2 f2", "f4"), ("u1 f4", "f4"), ("i8 f4", "f8")],
)
def test_the_dtype_of_what_is_joined(backend, table, dtypes, expected):
    parts = [counted(2, 2, 3, 3, dtype=dtype) for dtype in dtypes.split()]
    joined = ops.concatenate(parts, backend)
    assert joined.dtype == np.dtype(expected)
    assert in_layout(joined, table)
    assert ops.concatenate([part[:, :, 0, 0] for part in parts], backend).dtype == joined.dtype


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 3, 4, 4), (2, 3, 4, 5)],
        [(2, 3, 4, 4), (2, 3, 5, 4)],
        [(2, 3, 4, 4), (1, 3, 4, 4)],
        [(2, 3), (2, 3, 1)],
        [(2,), (2,)],
        [(2, 1), (2,)],
    ],
)
def test_arrays_that_do_not_fit_side_by_side(shapes):
    told = "concatenate: .*: " + re.escape(", ".join(map(str, shapes))) + "$"
    with pytest.raises(ShapeError, match=told):
        ops.concatenate([np.ones(shape) for shape in shapes])


def test_nothing_to_join():
    with pytest.raises(ShapeError, match="concatenate: expected at least one array, got none"):
        ops.concatenate([])
    with pytest.raises(DTypeError, match=r"concatenate: .*complex128"):
        ops.concatenate([np.ones((2, 2), complex)])


# ---- sums -------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", MEMORY)
def test_sums_of_images(backend, table, dtype, memory):
    x, y = counted(2, 3, 4, 5, dtype=dtype), np.full((2, 3, 4, 5), 0.5, dtype)
    y[1] = -7
    one, other = in_memory(memory, x), in_memory(memory, y)
    with unchanged(one, other):
        total = ops.add(one, other, backend)
    np.testing.assert_array_equal(total, np.asarray(one) + np.asarray(other))
    assert total.dtype == dtype and in_layout(total, table)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 4), (2, 3, 4, 5, 2)])
def test_sums_of_other_arrays(backend, shape):
    x = counted(*shape, dtype=np.float16)
    total = ops.add(x, x + 1, backend)
    assert total.dtype == np.float32
    np.testing.assert_array_equal(total, 2.0 * x.astype(float) + 1)


def test_sums_of_no_images(backend):
    assert ops.add(np.ones((0, 3, 4, 5)), np.ones((0, 3, 4, 5)), backend).shape == (0, 3, 4, 5)


def test_sums_of_other_shapes():
    with pytest.raises(ShapeError, match=r"add: second.* \(2, 3, 4, 1\), expected \(2, 3, 4, 4\)"):
        ops.add(np.ones((2, 3, 4, 4)), np.ones((2, 3, 4, 1)))


# ---- every n-th pixel ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("stride", "channels", "first"),
    [(1, 2, 0), (2, 2, 0), (2, 5, 1), (3, 6, 2), (2, 3, 0), (9, 4, 1)],
)
def test_pixels_between_channels_of_zeros(backend, table, dtype, stride, channels, first):
    x = counted(2, 2, 5, 4, dtype=dtype) + 1
    with unchanged(x):
        taken = ops.subsample(x, stride, channels, backend)
    oh, ow = len(range(0, 5, stride)), len(range(0, 4, stride))
    expected = np.zeros((2, channels, oh, ow))
    for c in range(2):
        for i in range(oh):
            for j in range(ow):
                expected[:, first + c, i, j] = x[:, c, i * stride, j * stride]
    np.testing.assert_array_equal(taken, expected)
    assert taken.dtype == dtype and in_layout(taken, table)

    # The gradient is that of a sum of products with the same numbers.
    dout = counted(2, channels, oh, ow, dtype=dtype) + 1
    with unchanged(dout):
        dx = ops.subsample_backward(dout, stride, x.shape, backend)
    back = np.zeros(x.shape)
    for c in range(2):
        for i in range(oh):
            for j in range(ow):
                back[:, c, i * stride, j * stride] = dout[:, first + c, i, j]
    np.testing.assert_array_equal(dx, back)
    assert dx.dtype == dtype and in_layout(dx, table)


def test_float16_and_whole_numbers_become_what_is_computed_in(backend):
    for dtype, expected in ((np.float16, np.float32), (np.int64, np.float64)):
        x = counted(1, 1, 2, 2, dtype=dtype)
        assert ops.subsample(x, 1, 1, backend).dtype == expected
        assert ops.subsample_backward(x, 1, (1, 1, 2, 2), backend).dtype == expected


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda x: ops.subsample(x, 0, 3), ArgumentError, "subsample: stride .* 1, got 0"),
        (lambda x: ops.subsample(x, 1.0, 3), ArgumentError, r"subsample: stride .* got 1\.0"),
        (lambda x: ops.subsample(x, 1, -1), ArgumentError, "subsample: channels .* 0, got -1"),
        (lambda x: ops.subsample(x, 1, "3"), ArgumentError, "subsample: channels .* got '3'"),
        (lambda x: ops.subsample(x, 1, 2), ShapeError, r"subsample: .* most 2, got \(2, 3, 5, 4\)"),
        (lambda x: ops.subsample(x[0], 1, 9), ShapeError, r"subsample: .* got \(3, 5, 4\)"),
        (
            lambda x: ops.subsample_backward(x, 0, x.shape),
            ArgumentError,
            "subsample backward: stride .* 1, got 0",
        ),
        (
            lambda x: ops.subsample_backward(x[:, :, :3, :3], 2, x.shape),
            ShapeError,
            r"subsample backward: dout has shape \(2, 3, 3, 3\), expected \(2, 3, 3, 2\)",
        ),
        (
            lambda x: ops.subsample_backward(x[:, :2], 1, x.shape),
            ShapeError,
            r"subsample backward: dout has shape \(2, 2, 5, 4\), expected \(2, 3, 5, 4\)",
        ),
        (
            lambda x: ops.subsample_backward(x[0], 1, x.shape),
            ShapeError,
            r"subsample backward: dout has shape \(3, 5, 4\), expected \(2, 3, 5, 4\)",
        ),
        (
            lambda x: ops.subsample(x.astype(complex), 1, 3),
            DTypeError,
            "subsample: .*complex128",
        ),
        (
            lambda x: ops.subsample_backward(x.astype(complex), 1, x.shape),
            DTypeError,
            "subsample backward: .*complex128",
        ),
        (lambda x: ops.add(x, x.astype("U1")), DTypeError, "add: .*<U1"),
    ],
)
def test_refused_arguments(call, error, told):
    with pytest.raises(error, match=f"^{told}"):
        call(counted(2, 3, 5, 4))


def test_no_channels(backend):
    """Padding no channels gives only zeros, and an empty gradient."""
    x = np.ones((2, 0, 4, 4))
    np.testing.assert_array_equal(ops.subsample(x, 2, 3, backend), np.zeros((2, 3, 2, 2)))
    dx = ops.subsample_backward(np.ones((2, 3, 2, 2)), 2, x.shape, backend)
    assert dx.shape == x.shape
