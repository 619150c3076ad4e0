"""Hypothesis strategies for windows on images, and the channel counts that matter."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from fastconv.geometry import WindowGeometry, window_geometry

# Just below and above one vector (8 or 16 lanes) and blocks of vectors, and odd numbers.
CHANNELS = st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 64, 65])
FEW_CHANNELS = st.sampled_from([1, 2, 3, 8, 17, 33])
SEEDS = st.integers(0, 2**16)
THREADS = st.sampled_from([1, 2])


@st.composite
def geometries(
    draw: st.DrawFn,
    channels: st.SearchStrategy[int] = CHANNELS,
    pooling: bool = False,
    one_stride: bool = True,
) -> WindowGeometry:
    """Windows of 1-7 x 1-7, stride 1-4, pad 0-3 on each side, on images that are not square.

    Without `one_stride`, and in pooling, there are two.
    """
    fh, fw, down = draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.integers(1, 4))
    across = draw(st.integers(1, 4)) if pooling or not one_stride else down
    pad = draw(paddings(min(3, fh - 1) if pooling else 3, min(3, fw - 1) if pooling else 3))
    h = draw(st.integers(max(1, fh - sum(pad[0])), fh + 6))
    w = draw(st.integers(max(1, fw - sum(pad[1])), fw + 16))
    n, c = draw(st.integers(0, 3)), draw(channels)
    return window_geometry("test", (n, c, h, w), fh, fw, (down, across), pad)


def paddings(most_rows: int, most_columns: int) -> st.SearchStrategy[tuple[tuple[int, int], ...]]:
    """((top, bottom), (left, right)), often the same on all sides."""
    rows, columns = st.integers(0, most_rows), st.integers(0, most_columns)
    alike = st.integers(0, min(most_rows, most_columns)).map(lambda pad: ((pad, pad), (pad, pad)))
    return st.one_of(alike, st.tuples(st.tuples(rows, rows), st.tuples(columns, columns)))


def moved(g: WindowGeometry) -> tuple[tuple[int, int], tuple[tuple[int, int], tuple[int, int]]]:
    """Stride and pad of a geometry, as operations, layers and `naive` take them."""
    top, left, bottom, right = g.pads
    return g.strides, ((top, bottom), (left, right))


def numbers(seed: int, dtype: np.dtype):
    """A function of a shape that draws normal numbers."""
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.standard_normal(shape).astype(dtype)


def whole_numbers(seed: int, dtype: np.dtype):
    """A function of a shape that draws small whole numbers: sums are exact in any order."""
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.integers(-3, 4, shape).astype(dtype)
