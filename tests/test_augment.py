"""Warps, smoothing and tone: the kernels and their front door, on every backend."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import ops, selection
from fastconv.errors import ArgumentError, DTypeError, ShapeError
from fastconv.testing import call_kernel

from . import naive_augment as naive
from .awkward import MEMORY, VALUES, images, in_memory, unchanged
from .compare import assert_close
from .geometries import SEEDS, THREADS

pytestmark = pytest.mark.usefixtures("fine_grained")

SHAPES = st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 20), st.integers(1, 20))
TAPS = st.sampled_from([1, 3, 5, 9, 25])


def moved(across, down):
    """The matrix of a shift."""
    return np.array([[1.0, 0, across], [0, 1, down]])


IDENTITY = moved(0, 0)


def matrices(rng, n, dtype=np.float64):
    """Maps that turn, stretch and move by a few pixels."""
    return (IDENTITY + rng.standard_normal((n, 2, 3)) * [0.2, 0.2, 2]).astype(dtype)


def boxes_in(rng, n, h, w):
    """Boxes of any size, also empty ones."""
    rows, columns = (np.sort(rng.integers(0, size + 1, (n, 2))) for size in (h, w))
    return np.stack([rows[:, 0], columns[:, 0], rows[:, 1], columns[:, 1]], axis=1)


# ---- against the loops ----------------------------------------------------------------


@given(SHAPES, SEEDS, THREADS, st.booleans())
def test_warp(backend, dtype, shape, seed, threads, with_field):
    rng = np.random.default_rng(seed)
    n, _, h, w = shape
    x, matrix = rng.standard_normal(shape).astype(dtype), matrices(rng, n, dtype)
    field = (2 * rng.standard_normal((n, 2, h, w))).astype(dtype) if with_field else None
    fastconv.set_num_threads(threads)
    inputs = {"x": x, "matrix": matrix, "field": field, "fill": 0.25, "threads": threads}
    out = call_kernel(selection.active(backend), "warp", **inputs)
    # A place is rounded as its largest coordinate is.
    wanted = naive.warp(x, matrix, field, 0.25)
    assert_close(out["out"], wanted, dtype=dtype, scale=3 * np.abs(x).max(initial=1))


@given(SHAPES, TAPS, SEEDS, THREADS)
def test_smooth(backend, dtype, shape, count, seed, threads):
    rng = np.random.default_rng(seed)
    n, c, h, w = shape
    x, taps = rng.standard_normal((n, c, h, min(w, 9))), rng.standard_normal(count)
    fastconv.set_num_threads(threads)
    inputs = {"x": x.astype(dtype), "taps": taps.astype(dtype), "threads": threads}
    out = call_kernel(selection.active(backend), "smooth", **inputs)
    scale = np.abs(x).max(initial=1) * np.abs(taps).sum() ** 2
    assert_close(out["out"], naive.smooth(inputs["x"], inputs["taps"]), dtype=dtype, scale=scale)


@given(SHAPES, SEEDS, THREADS)
def test_tone(backend, dtype, shape, seed, threads):
    rng = np.random.default_rng(seed)
    n, _, h, w = shape
    x, gain, offset = (rng.standard_normal(s).astype(dtype) for s in (shape, n, n))
    boxes = boxes_in(rng, n, h, w)
    fastconv.set_num_threads(threads)
    inputs = {"x": x, "gain": gain, "offset": offset, "boxes": boxes, "fill": 0.5}
    out = call_kernel(selection.active(backend), "tone", **inputs, threads=threads)
    assert_close(out["out"], naive.tone(x, gain, offset, boxes, 0.5), dtype=dtype)


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (1, 3, 40, 33), (2, 2, 1, 1), (1, 1, 5, 70)])
def test_warp_is_pytorchs_grid_sample(backend, dtype, rng, shape):
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    n, _, h, w = shape
    x, matrix = rng.standard_normal(shape).astype(dtype), matrices(rng, n)
    field = 3 * rng.standard_normal((n, 2, h, w))
    v, u = np.indices((h, w))
    places = np.einsum("nij,jhw->nihw", matrix, np.stack([u, v, np.ones_like(u)])) + field
    # PyTorch's -1 and 1 are the image's edges: half a pixel beyond the outer pixels' centres.
    grid = (2 * places + 1) / np.array([w, h])[:, None, None] - 1
    wanted = torch.nn.functional.grid_sample(
        torch.from_numpy(x.astype(float)),
        torch.from_numpy(grid.transpose(0, 2, 3, 1)),
        padding_mode="zeros",
        align_corners=False,
    )
    out = ops.warp(x, matrix, field, backend=backend)
    assert_close(out, wanted.numpy(), dtype=dtype, scale=4 * np.abs(x).max())


# ---- whole places are copied ----------------------------------------------------------


def odd_pixels(rng, dtype, shape=(2, 3, 9, 12)):
    """Numbers of every kind, also those that arithmetic would change."""
    x = rng.standard_normal(shape)
    for value in (-0.0, np.nan, np.inf, -np.inf, 5e-324, 1e-45):
        x[rng.random(shape) < 0.1] = value
    return x.astype(dtype)


@pytest.mark.parametrize("with_field", [False, True])
@pytest.mark.parametrize(("across", "down"), [(0, 0), (2, 0), (0, -3), (-4, 5), (11, 8), (12, 9)])
def test_a_shift_by_whole_pixels_copies_bit_for_bit(backend, dtype, rng, across, down, with_field):
    x = odd_pixels(rng, dtype)
    n, _, h, w = x.shape
    matrix = np.tile(moved(across, down), (n, 1, 1))
    field = None
    if with_field:
        matrix = np.tile(moved(across - 1, down - 2), (n, 1, 1))
        field = np.stack([np.full((n, h, w), 1.0), np.full((n, h, w), 2.0)], axis=1)
    out = ops.warp(x, matrix, field, -0.5, backend)
    wide = np.pad(x, [(0, 0), (0, 0), (9, 9), (12, 12)], constant_values=dtype.type(-0.5))
    wanted = wide[:, :, 9 + down : 9 + down + h, 12 + across : 12 + across + w]
    assert out.tobytes() == wanted.tobytes()


def test_mirror_images_and_quarter_turns_copy_bit_for_bit(backend, dtype, rng):
    x = odd_pixels(rng, dtype, (4, 2, 9, 9))
    matrix = [
        [[-1, 0, 8], [0, 1, 0]],
        [[1, 0, 0], [0, -1, 8]],
        [[0, 1, 0], [1, 0, 0]],
        [[0, -1, 8], [1, 0, 0]],
    ]
    out = ops.warp(x, matrix, backend=backend)
    wanted = [
        x[0, :, :, ::-1],
        x[1, :, ::-1],
        x[2].transpose(0, 2, 1),
        np.rot90(x[3], 1, (1, 2)),
    ]
    for got, exact in zip(out, wanted, strict=True):
        assert got.tobytes() == exact.tobytes()


# ---- odd values -----------------------------------------------------------------------


def test_a_broken_pixel_reaches_where_it_has_a_weight_and_no_further(backend, dtype, rng):
    x = rng.standard_normal((1, 1, 8, 8)).astype(dtype)
    x[0, 0, 3, 4] = np.nan
    out = ops.warp(x, [moved(0.5, 0)], backend=backend)[0, 0]
    assert np.argwhere(np.isnan(out)).tolist() == [[3, 3], [3, 4]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38])
@pytest.mark.parametrize("entry", [*np.ndindex(2, 3)])
def test_wild_places_are_outside(backend, dtype, rng, value, entry):
    """Whatever a place is, the kernel reads only the image's memory."""
    x, matrix = rng.standard_normal((1, 2, 6, 5)).astype(dtype), IDENTITY.copy()
    matrix[entry] = value
    out = ops.warp(x, [matrix], fill=7, backend=backend)
    # At row or column 0 a large factor has no effect; elsewhere it leads far away.
    factor = (*np.indices((6, 5))[::-1], np.ones((6, 5)))[entry[1]]
    untouched = (factor == 0) & np.isfinite(value)
    np.testing.assert_array_equal(out, np.where(untouched, x, 7))


def test_wild_fields_are_outside(backend, dtype, rng):
    x = rng.standard_normal((1, 2, 4, 6)).astype(dtype)
    field = np.zeros((1, 2, 4, 6))
    field[0, 0, :, :3] = [np.nan, np.inf, -1e30]
    field[0, 1, :2, 3] = np.nan, -np.inf
    out = ops.warp(x, [IDENTITY], field, 7, backend)
    wild = (~np.isfinite(field) | (np.abs(field) > 99)).any(axis=1, keepdims=True)
    np.testing.assert_array_equal(out, np.where(wild, 7, x))


@pytest.mark.parametrize("kind", VALUES)
def test_odd_values(backend, dtype, rng, kind):
    x = images(kind, rng, dtype)
    n, _, h, w = x.shape
    zeros, boxes = np.zeros(n), boxes_in(rng, n, h, w)
    np.testing.assert_array_equal(ops.warp(x, np.tile(IDENTITY, (n, 1, 1)), backend=backend), x)
    np.testing.assert_array_equal(ops.smooth(x, [1.0], backend), x)
    out = ops.tone(x, zeros + 2, zeros, boxes, 3, backend)
    np.testing.assert_array_equal(out, naive.tone(x, zeros + 2, zeros, boxes, 3))
    assert out.dtype == dtype


@pytest.mark.parametrize("memory", MEMORY)
def test_any_memory(backend, dtype, rng, memory):
    def draw(*shape):
        return in_memory(memory, rng.standard_normal(shape).astype(dtype))

    x, field, matrix = draw(3, 2, 6, 5), draw(3, 2, 6, 5), in_memory(memory, matrices(rng, 3))
    taps, gain, offset = draw(5), draw(3), draw(3)
    boxes = in_memory(memory, boxes_in(rng, 3, 6, 5))
    with unchanged(x, field, matrix, taps, gain, offset, boxes):
        warped = ops.warp(x, matrix, field, 0.5, backend)
        smoothed = ops.smooth(x, taps, backend)
        toned = ops.tone(x, gain, offset, boxes, 0.5, backend)
    matrix = np.asarray(matrix, dtype)
    assert_close(warped, naive.warp(x, matrix, field, 0.5), dtype=dtype, scale=10)
    assert_close(smoothed, naive.smooth(x, taps), dtype=dtype)
    assert_close(toned, naive.tone(x, gain, offset, boxes, 0.5), dtype=dtype)


@pytest.mark.parametrize("narrow", [np.float16, np.int64, np.uint8, np.bool_])
def test_float16_computes_in_float32_and_integers_in_float64(backend, rng, narrow):
    x = rng.integers(0, 2, (1, 2, 4, 4)).astype(narrow)
    expected = np.float32 if narrow is np.float16 else np.float64
    assert ops.warp(x, [IDENTITY], backend=backend).dtype == expected
    assert ops.smooth(x, np.ones(3, narrow), backend).dtype == expected
    assert ops.tone(x, [1], [0], [[0, 0, 0, 0]], backend=backend).dtype == expected


def test_the_same_bit_for_bit_on_any_number_of_threads(backend, dtype, rng):
    """Also on more threads than images; the work is enough for several."""
    x, matrix = rng.standard_normal((5, 3, 60, 70)).astype(dtype), matrices(rng, 5)
    field, taps = rng.standard_normal((5, 2, 60, 70)), rng.standard_normal(7)
    boxes = boxes_in(rng, 5, 60, 70)
    results = []
    for threads in (1, 2, 3, 7):
        fastconv.set_num_threads(threads)
        warped = ops.warp(x, matrix, field, backend=backend)
        smoothed = ops.smooth(x, taps, backend)
        toned = ops.tone(x, matrix[:, 0, 0], matrix[:, 1, 1], boxes, backend=backend)
        results.append((warped.tobytes(), smoothed.tobytes(), toned.tobytes()))
    assert results == [results[0]] * 4


# ---- bad input ------------------------------------------------------------------------

X = np.ones((2, 1, 4, 5))
M = np.tile(IDENTITY, (2, 1, 1))
NO_BOX = np.zeros((2, 4), int)


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (ShapeError, lambda: ops.warp(X[0], M), r"warp: input must be images .* \(1, 4, 5\)"),
        (ShapeError, lambda: ops.warp(X[:, :0], M), r"warp: .* at least one channel .* \(2, 0, 4"),
        (ShapeError, lambda: ops.smooth(X[..., :0], [1]), r"smooth: .* pixel, .* \(2, 1, 4, 0\)"),
        (ShapeError, lambda: ops.warp(X, M[:1]), r"warp: matrix has shape \(1, 2, 3\), expected"),
        (ShapeError, lambda: ops.warp(X, M, X), r"field has shape .* expected \(2, 2, 4, 5\)"),
        (ArgumentError, lambda: ops.warp(X, M, fill="white"), "fill must be a number, got 'white'"),
        (ShapeError, lambda: ops.smooth(X, [1, 2]), r"smooth: taps must be \(K,\) with K odd"),
        (ShapeError, lambda: ops.smooth(X, [[1]]), r"taps must be .* got shape \(1, 1\)"),
        (ShapeError, lambda: ops.tone(X, [1], [0, 0], NO_BOX), r"gain has shape \(1,\), expected"),
        (ShapeError, lambda: ops.tone(X, [1, 1], [0], NO_BOX), r"offset has shape \(1,\)"),
        (ShapeError, lambda: ops.tone(X, [1, 1], [0, 0], [0, 0]), r"boxes has shape \(2,\)"),
        (
            ArgumentError,
            lambda: ops.tone(X, [1, 1], [0, 0], NO_BOX + 0.5),
            "tone: boxes must be whole numbers, got dtype float64",
        ),
        (DTypeError, lambda: ops.warp(X.astype(complex), M), "warp: expected real numbers"),
        (DTypeError, lambda: ops.warp(X, M.astype(object)), "warp: expected real numbers"),
        (DTypeError, lambda: ops.smooth(X, ["a"]), "smooth: expected real numbers"),
        (DTypeError, lambda: ops.tone(X, [1j, 1j], [0, 0], NO_BOX), "tone: expected real numbers"),
    ],
)
def test_bad_input(error, call, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("box", [[-1, 0, 1, 1], [0, 0, 5, 1], [0, 0, 1, 6], [2, 0, 1, 1]])
def test_boxes_that_leave_the_image_are_refused(box):
    """No kernel would notice before it had written outside."""
    with pytest.raises(ArgumentError, match=r"tone: box \[.*\] .* not within an image of 4 x 5"):
        ops.tone(X, [1, 1], [0, 0], [[0, 0, 4, 5], box])


def test_what_is_outside_and_in_boxes_is_zero_unless_told(backend, dtype):
    x, one = np.ones((1, 1, 2, 3), dtype), np.ones(1)
    assert ops.warp(x, moved(1, 0)[None], backend=backend).tolist() == [[[[1, 1, 0]] * 2]]
    box = np.array([[0, 1, 2, 2]])
    assert ops.tone(x, one, one, box, backend=backend).tolist() == [[[[2, 0, 2]] * 2]]


@pytest.mark.parametrize("fill", ["0", None, [1.0]])
def test_a_fill_that_is_no_number(fill):
    x, one = np.ones((1, 1, 2, 2)), np.ones(1)
    with pytest.raises(ArgumentError, match=r"^warp: fill must be a number, got "):
        ops.warp(x, IDENTITY[None], fill=fill)
    with pytest.raises(ArgumentError, match=r"^tone: fill must be a number, got "):
        ops.tone(x, one, one, np.zeros((1, 4), int), fill=fill)
