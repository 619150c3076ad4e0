"""im2col and its adjoint, through the tables of offsets of the direct convolution.

    for image:  pad its channels into this thread's scratch
        for pixel:  for tap:  col[pixel][tap] = scratch[at[pixel] + along[tap]]

There is no arithmetic to keep in registers, so no tile: a row of the column matrix is
written in order, and read through the taps' table, which stays in the cache; padding has
made every tap a plain load, without a branch. The adjoint adds where im2col reads.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from .build import Kernel
from .pointer import LONG, clear, copy, numbers, pointers
from .product import frame, share

__all__ = ["col2im", "im2col"]


def im2col(real: int) -> Kernel:
    """col [image][pixel][tap] from x [image][channel][y][x]."""

    def kernel(block, part, parts):
        x, scratch, col = pointers(block, 0, 3, real)
        at, along = pointers(block, 3, 2, LONG)
        images, channels, height, width, pad, pixels, taps = numbers(block, 5, 7)
        plane, frame_height, frame_width = height * width, height + 2 * pad, width + 2 * pad
        frame_plane = frame_height * frame_width
        scratch = scratch + part * channels * frame_plane
        clear(scratch, channels * frame_plane)
        first, last = share(images * pixels, part, parts)
        for image in range(first // pixels, (last + pixels - 1) // pixels):
            for c in range(channels):
                frame(
                    scratch + c * frame_plane,
                    x + (image * channels + c) * plane,
                    *(1, height, width, pad, pad, frame_height, frame_width),
                )
            for row in range(max(first, image * pixels), min(last, (image + 1) * pixels)):
                source = scratch + at[row - image * pixels]
                target = col + row * taps
                for k in range(taps):
                    target[k] = source[along[k]]

    return kernel


def col2im(real: int) -> Kernel:
    """x [image][channel][y][x]: the sum of the entries of col that im2col takes from there."""

    def kernel(block, part, parts):
        x, scratch, col = pointers(block, 0, 3, real)
        at, along = pointers(block, 3, 2, LONG)
        images, channels, height, width, pad, pixels, taps = numbers(block, 5, 7)
        frame_height, frame_width = height + 2 * pad, width + 2 * pad
        size = channels * frame_height * frame_width
        scratch = scratch + part * size
        first, last = share(images, part, parts)
        for image in range(first, last):
            clear(scratch, size)
            for pixel in range(pixels):
                target = scratch + at[pixel]
                source = col + (image * pixels + pixel) * taps
                for k in range(taps):
                    target[along[k]] += source[k]
            for c in range(channels):
                for y in range(height):
                    inside = scratch + ((c * frame_height + y + pad) * frame_width + pad)
                    copy(x + ((image * channels + c) * height + y) * width, inside, width)

    return kernel
