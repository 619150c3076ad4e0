"""im2col and its adjoint col2im, on images in the book's layout, (N, C, H, W).

    im2col:  for row of windows:  pad its image into this thread's scratch, once
                 for a few windows:  for channel:  for row fy:  lay down the run of FW values
                 write these windows' rows of the column matrix
    col2im:  for image:  for window:  for channel:  for row fy:
                 add the run to the padded scratch;  then its inside is copied out

A run is one row of one filter, a few values long: too short for memcpy or for a vector. im2col
assembles whole vectors from neighbouring runs, whose places in scratch are in a table; col2im
adds a run as one piece of 4 or 8 values, zeros after it. Both read or write beyond runs, so
scratch has a margin around it. im2col assembles rows of the column matrix in a stage of a few
kilobytes; col2im reads an image's last windows from such a stage.

The column matrix is many times as large as the images, and these kernels are bound by its
memory. One that no cache could hold is written past the caches, which saves reading it first.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from typing import Any

from .launch.build import Kernel
from .offsets import WINDOWS
from .product import frame
from .words.pointer import clear, copy, helper, share
from .words.record import takes
from .words.stream import address, end_past_caches, keep, lay, store_past_caches
from .words.tile import add, tile

__all__ = ["SLACK", "STAGE_BYTES", "STREAM_BYTES", "col2im", "im2col"]

SLACK = 16
"""Values before and after a run that a kernel may touch; they have no meaning."""

STAGE_BYTES = 1 << 12
"""Bytes of the column matrix that are assembled before they are written."""

MANY_RUNS = 24
"""Runs of a window: enough work between two windows that overlap."""

STREAM_BYTES = 1 << 24
"""Bytes from which on a column matrix is written past the caches.

This, `STAGE_BYTES` and `MANY_RUNS` are those of _cython/columns.pxi (tests/test_twins.py).
"""


def run_layer(lanes: int, side: int) -> Any:
    """Lays runs down one after another; `side` is their length, where that is a constant."""

    @helper
    def lay_runs(target, base, at, runs, width):
        whole = runs // lanes * lanes if side else 0
        if side:
            for r in range(0, whole, lanes):
                lay(target + r * side, base, at + r, side, lanes)
        for r in range(whole, runs):
            for i in range(width):
                target[r * width + i] = base[at[r] + i]

    return lay_runs


def run_adder(piece: int) -> Any:
    """Adds a run; values after it, up to a whole piece, are read and written back."""

    @helper
    def add_run(target, source, count):
        for i in range(0, count, piece):
            add(keep(tile(source + i, piece, 1, 1), count - i), target + i, 0)

    return add_run


def past_caches(lanes: int) -> Any:
    """Copies values that are not read again soon, by vectors of `lanes`."""

    @helper
    def copy_past_caches(target, source, count):
        # Single elements until the target is aligned for a whole vector.
        ahead = min(count, -address(target) % lanes)
        copy(target, source, ahead)
        whole = ahead + (count - ahead) // lanes * lanes
        for i in range(ahead, whole, lanes):
            store_past_caches(tile(source + i, lanes, 1, 1), target + i)
        copy(target + whole, source + whole, count - whole)

    return copy_past_caches


SIZES = f"{WINDOWS} frame_height frame_width scratch_size stage_size"


@takes(real="x scratch stage col", int64="at", integers=f"{SIZES} most")
def im2col(real: int, lanes: int, side: int, past: int) -> Kernel:
    """col [image][pixel][tap] from x [image][channel][y][x]; `side` of a square filter, or 0.

    With `past`, col is stored past the caches.
    """
    lay_runs, copy_past_caches = run_layer(lanes, side), past_caches(lanes)

    def kernel(a, part, parts):
        channels, height, width, ow = a.channels, a.height, a.width, a.ow
        stride, most = a.stride_x, a.most
        fh, fw = side or a.fh, side or a.fw
        runs = channels * fh
        taps = runs * fw
        plane, frame_height, frame_width = height * width, a.frame_height, a.frame_width
        frame_plane = frame_height * frame_width
        scratch = a.scratch + (part * a.scratch_size + SLACK)
        stage, at = a.stage + part * a.stage_size, a.at + part * most * runs
        for u in range(most):
            for c in range(channels):
                for fy in range(fh):
                    at[u * runs + c * fh + fy] = u * stride + c * frame_plane + fy * frame_width
        clear(scratch, channels * frame_plane)
        first, last = share(a.images * a.oh, part, parts)
        for row in range(first, last):
            image, v = row // a.oh, row % a.oh
            if row == first or v == 0:
                for c in range(channels):
                    frame(
                        scratch + c * frame_plane,
                        a.x + (image * channels + c) * plane,
                        *(1, height, width, a.top, a.left, frame_height, frame_width),
                    )
            for start in range(0, ow, most):
                count = min(most, ow - start)
                corner = scratch + (v * a.stride_y * frame_width + start * stride)
                lay_runs(stage, corner, at, count * runs, fw)
                target = a.col + (row * ow + start) * taps
                if past:
                    copy_past_caches(target, stage, count * taps)
                else:
                    copy(target, stage, count * taps)
        if past:
            end_past_caches()

    return kernel


@takes(real="x scratch stage col", integers=SIZES)
def col2im(real: int, lanes: int, side: int) -> Kernel:
    """Each pixel of x [image][channel][y][x] sums the entries of col taken from it."""
    piece = 4 if 0 < side <= 4 else 8
    add_run = run_adder(piece)

    def kernel(a, part, parts):
        channels, height, width, oh, ow = a.channels, a.height, a.width, a.oh, a.ow
        fh, fw = side or a.fh, side or a.fw
        taps = channels * fh * fw
        size = ow * taps
        frame_height, frame_width = a.frame_height, a.frame_width
        frame_plane = frame_height * frame_width
        scratch, stage = a.scratch + part * a.scratch_size, a.stage + part * a.stage_size
        # After these rows the matrix is long enough for runs to be read past their ends.
        direct = max(0, oh - (SLACK + size - 1) // size)
        # Neighbouring windows overlap. After a small window, the next would read what is still
        # on its way to the cache, so that others come between.
        step = piece if channels * fh < MANY_RUNS else 1
        first, last = share(a.images, part, parts)
        for image in range(first, last):
            clear(scratch, channels * frame_plane)
            rows = a.col + image * oh * size
            copy(stage, rows + direct * size, (oh - direct) * size)
            for v in range(oh):
                windows = rows + v * size if v < direct else stage + (v - direct) * size
                for phase in range(step):
                    for u in range(phase, ow, step):
                        corner = scratch + (v * a.stride_y * frame_width + u * a.stride_x)
                        source = windows + u * taps
                        for c in range(channels):
                            for fy in range(fh):
                                place = c * frame_plane + fy * frame_width
                                add_run(corner + place, source, fw)
                                source = source + fw
            for c in range(channels):
                for y in range(height):
                    inside = scratch + (c * frame_plane + (y + a.top) * frame_width + a.left)
                    copy(a.x + ((image * channels + c) * height + y) * width, inside, width)

    return kernel
