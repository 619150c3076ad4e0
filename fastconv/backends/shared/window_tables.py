"""Tables of windows: which pixel each tap falls on, forward and for the input gradient.

Kernels that walk by them need not know strides, padding and dilation, and skip padding.

The **source** of a kernel is what it reads, its **target** what it writes: forward the input
and the output, for the input gradient the output's gradient and the input's. A **tap** is a place
(fy, fx) of the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...geometry import WindowGeometry

__all__ = ["Runs", "Tables", "bands", "runs", "tables"]

Table = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tables:
    """Which source place each tap of a target place reads.

    Attributes
    ----------
    rows : array (target rows, FH)
        The source row, or -1 where there is none.
    columns : array (FW, 3), or (1, 3)
        For each fx: first target column, first column of the frame, how many. One entry
        stands for all fx where they read neighbouring pixels.
    target_step, source_step : int
        How far apart these columns are.
    joined : int
        How many fx an entry of `columns` stands for.
    left, frame : int
        A source row is read out of a frame of `frame` columns, with its column 0 at `left`
        (cut off if that is negative) and zeros around it, which only joined taps read.
    """

    rows: Table
    columns: Table
    target_step: int
    source_step: int
    joined: int
    left: int
    frame: int


@dataclass(frozen=True, eq=False)
class Runs:
    """Which source place each tap reads, by runs of target places that the same taps reach.

    Attributes
    ----------
    rows, columns : array (runs, 5)
        First target place, how many places, the first tap's first source place, first tap,
        how many taps, perhaps 0. Rows are listed one by one.
    target_step, source_step : int
        How far apart the places of a run are.
    tap_step, tap_source : int
        How far apart its taps are, and what they read in the source.
    """

    rows: Table
    columns: Table
    target_step: int
    source_step: int
    tap_step: int
    tap_source: int


def reached(g: WindowGeometry) -> tuple[Table, Table]:
    """(OH, FH) and (OW, FW): the row and the column that a place of a window falls on, or -1."""

    def along(size: int, windows: int, places: int, stride: int, pad: int) -> Table:
        at = np.add.outer(np.arange(windows) * stride - pad, np.arange(places) * g.dilation)
        return np.where((at >= 0) & (at < size), at, -1)

    return (
        along(g.h, g.oh, g.fh, g.strides[0], g.pads.top),
        along(g.w, g.ow, g.fw, g.strides[1], g.pads.left),
    )


def turned(at: Table, size: int) -> Table:
    """(size, places): the window whose place falls on a pixel, or -1, from `reached`'s `at`."""
    window, place = np.nonzero(at >= 0)
    back = np.full((size, at.shape[1]), -1)
    back[at[window, place], place] = window
    return back


@lru_cache(maxsize=256)
def tables(g: WindowGeometry, gradient: bool) -> Tables:
    """Tables of the forward pass, or of the input gradient."""
    (rows, columns), stride = reached(g), g.strides[1]
    if gradient:
        rows = turned(rows, g.h)
    if g.dilation == 1 and (stride == 1 or not gradient):
        count = g.w if gradient else g.ow
        left = g.fw - 1 - g.pads.left if gradient else g.pads.left
        frame = (count - 1) * stride + g.fw
        joined = np.array([[0, 0, count]], np.int64)
        return Tables(rows, joined, 1, stride, g.fw, left, frame)
    found = np.zeros((g.fw, 3), np.int64)
    for fx in range(g.fw):
        windows = np.flatnonzero(columns[:, fx] >= 0)
        if len(windows):
            found[fx] = windows[0], columns[windows[0], fx], len(windows)
    if gradient:
        found = np.ascontiguousarray(found[:, [1, 0, 2]])
        return Tables(rows, found, stride, 1, 1, 0, g.ow)
    return Tables(rows, found, 1, stride, 1, 0, g.w)


@lru_cache(maxsize=256)
def bands(t: Tables, height: int) -> Table:
    """Bands of at most `height` target rows: first row, end, first source row, end."""
    found = []
    for top in range(0, len(t.rows), height):
        band = t.rows[top : top + height]
        read = band[band >= 0]
        first, end = (read.min(), read.max() + 1) if len(read) else (0, 0)
        found.append((top, top + len(band), first, end))
    return np.array(found, np.int64)


def stretches(at: Table, step: int) -> Table:
    """Rows of `at` (target places, taps) as (runs, 5); places of a run are `step` apart."""
    found: list[list[int]] = []
    for remainder in range(step):
        before = None
        for place in range(remainder, len(at), step):
            taps = np.flatnonzero(at[place] >= 0)
            if before is not None and np.array_equal(taps, before):
                found[-1][1] += 1
            else:
                first = int(taps[0]) if len(taps) else 0
                source = int(at[place, first]) if len(taps) else 0
                found.append([place, 1, source, first, len(taps)])
            before = taps
    return np.array(found, np.int64)


@lru_cache(maxsize=256)
def runs(g: WindowGeometry, gradient: bool) -> Runs:
    """Runs of the forward pass, or of the input gradient."""
    (rows, columns), stride = reached(g), g.strides[1]
    if not gradient:
        return Runs(stretches(rows, len(rows)), stretches(columns, 1), 1, stride, 1, g.dilation)
    common = int(np.gcd(stride, g.dilation))
    return Runs(
        stretches(turned(rows, g.h), g.h),
        stretches(turned(columns, g.w), min(stride, g.w)),
        *(min(stride, g.w), 1),
        *(stride // common, -(g.dilation // common)),
    )
