"""The gradient that reaches a convolution through what follows it, without an array for it.

    for row of the window:  for pixel:  for channels, one vector at a time:
        dout, where the gate lets it pass;  0 elsewhere, and where there is no image

A gate is the output of a ReLU, which lets dout pass where it is above 0, or the winners of
2x2 windows: a pixel gets the dout of its window where it is the winner. Kernels read a
gradient many times, so the window goes to scratch, gated once. Channels that do not fill a
vector go one by one, through the same text.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from typing import Any, NamedTuple

from ..base import Array, Bytes
from .build import Kernel
from .pointer import BYTE, clear, copy, helper, numbers, pointers, share
from .tile import fill, store, tile, where_equal, where_positive

__all__ = ["OPEN", "POOL", "RELU", "Gradient", "gated_images", "gated_window"]

OPEN, RELU, POOL = range(3)
"""Kinds of gates: none; the output of a ReLU; winners of 2x2 windows."""


class Gradient(NamedTuple):
    """Gradient of a convolution's output, as what follows it hands it back.

    Attributes
    ----------
    dout : array
        (N, FN, OH, OW); behind pooling (N, FN, OH//2, OW//2).
    gate : array or None
        Of dout's shape; see `fastconv.backends.base.Backend.conv2d_block_backward`.
    kind : int
        `OPEN`, `RELU` or `POOL`.
    """

    dout: Array
    gate: Array | Bytes | None
    kind: int


def passed(lanes: int) -> Any:
    """What the gate lets pass to one pixel, for `lanes` channels; `place` is used by `POOL`."""

    @helper
    def words(to, dout, gate, winner, kind, place):
        gradient, nothing = tile(dout, lanes, 1, 1), fill(dout, 0, lanes)
        if kind == 1:
            store(where_positive(tile(gate, lanes, 1, 1), gradient, nothing), to, (0,))
        else:
            here = fill(winner, place, lanes)
            store(where_equal(tile(winner, lanes, 1, 1), here, gradient, nothing), to, (0,))

    return words


def gated_window(lanes: int) -> Any:
    """Words that put a window of one image's gradient, gated, into scratch.

    They take ``(to, depth, dout, gate, winner, kind, height, width, channels, top, left,
    rows, columns)``: rows x columns pixels of the image (height, width) from (top, left) on,
    zeros where there is no image; `depth` >= channels elements to a pixel, zeros beyond the
    channels. dout, and the gate (winner, where it is one), are those of this image; height
    and width are those of the convolution's output, also where dout is pooled.
    """
    vector_passed, one_passed = passed(lanes), passed(1)

    @helper
    def words(
        to,
        depth,
        dout,
        gate,
        winner,
        kind,
        height,
        width,
        channels,
        top,
        left,
        rows,
        columns,
    ):
        first = min(max(-left, 0), columns)
        if kind == 2:
            # A last row or column that no window covers gets no gradient.
            height, width = height // 2 * 2, width // 2 * 2
        last = max(min(width - left, columns), first)
        whole = channels // lanes * lanes
        for y in range(top, top + rows):
            if y < 0 or y >= height:
                clear(to, columns * depth)
                to = to + columns * depth
                continue
            clear(to, first * depth)
            to = to + first * depth
            if kind == 0 and depth == channels:
                source = dout + (y * width + left + first) * channels
                copy(to, source, (last - first) * channels)
                to = to + (last - first) * depth
            else:
                for x in range(left + first, left + last):
                    if kind == 2:
                        at = ((y // 2) * (width // 2) + x // 2) * channels
                    else:
                        at = (y * width + x) * channels
                    if kind == 0:
                        copy(to, dout + at, channels)
                    else:
                        place = y % 2 * 2 + x % 2
                        for c in range(0, whole, lanes):
                            i = at + c
                            vector_passed(to + c, dout + i, gate + i, winner + i, kind, place)
                        for c in range(whole, channels):
                            i = at + c
                            one_passed(to + c, dout + i, gate + i, winner + i, kind, place)
                    clear(to + channels, depth - channels)
                    to = to + depth
            clear(to, (columns - last) * depth)
            to = to + (columns - last) * depth

    return words


def gated_images(real: int, lanes: int) -> Kernel:
    """images [image][y][x][channel]: dout, gated."""
    window = gated_window(lanes)

    def kernel(block, part, parts):
        dout, gate, images = pointers(block, 0, 3, real)
        (winner,) = pointers(block, 1, 1, BYTE)
        kind, count, height, width, channels, size = numbers(block, 3, 6)
        first, last = share(count, part, parts)
        for image in range(first, last):
            i = image * size
            window(
                images + image * height * width * channels,
                *(channels, dout + i, gate + i, winner + i, kind),
                *(height, width, channels, 0, 0, height, width),
            )

    return kernel
