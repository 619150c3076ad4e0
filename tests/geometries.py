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
    draw: st.DrawFn, channels: st.SearchStrategy[int] = CHANNELS, pooling: bool = False
) -> WindowGeometry:
    """Windows of 1-7 x 1-7, stride 1-4, pad 0-3, on images that are not square."""
    fh, fw, stride = draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.integers(1, 4))
    pad = draw(st.integers(0, min(3, fh - 1, fw - 1) if pooling else 3))
    h = draw(st.integers(max(1, fh - 2 * pad), fh + 6))
    w = draw(st.integers(max(1, fw - 2 * pad), fw + 16))
    n, c = draw(st.integers(0, 3)), draw(channels)
    return window_geometry("test", (n, c, h, w), fh, fw, stride, pad)


def numbers(seed: int, dtype: np.dtype):
    """A function of a shape that draws normal numbers."""
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.standard_normal(shape).astype(dtype)


def whole_numbers(seed: int, dtype: np.dtype):
    """A function of a shape that draws small whole numbers: sums are exact in any order."""
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.integers(-3, 4, shape).astype(dtype)
