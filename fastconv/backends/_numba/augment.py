"""Augmentation: warps with bilinear interpolation, smoothing of random fields, tone and boxes.

    warp:    for image:  copy it into scratch, within a frame of `fill`
                 for pixel:  its place;  for channel:  two neighbours above, two below, blended
    smooth:  for plane:  for row:  for vector:  for tap:  sum, into scratch
                 for row:  for vector:  for tap:  sum
    tone:    for image:  gain*x + offset, then the box

Places outside the image are clipped to the frame, so that nothing branches on where a place is,
and no place, however wild, leads out of scratch. The four neighbours of a place are loaded one by
one, since the places of adjacent pixels may be anywhere. Smoothing keeps its sum, one vector, in
a register over all taps; scratch is wide enough for whole vectors.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from typing import Any

from .launch.build import Kernel
from .words.pointer import ELEMENTS, clear, copy, helper, share
from .words.record import takes
from .words.tile import fill, muladd, store, store_part, tile

__all__ = ["FRAME", "WARP_WORK", "smooth", "tone", "warp"]

IN_FRONT = 1
"""Rows and columns of the frame before the image: the place -1."""

FRAME = 3
"""Rows and columns of the frame in all: the places W and W + 1 too, whose weight is 0."""

WARP_WORK = 8
"""What a pixel of a warp costs, in values to touch, as in _cython/augment.pxi."""


@helper
def clamped(place, low, size):
    """The place clipped to low..size, NaN to low."""
    if place > size:
        return size
    return place if place > low else low


@helper
def whole(place):
    """The largest whole number that is not above the place."""
    number = int(place)
    return number - 1 if number > place else number


@helper
def between(s, t, part):
    """s + part*(t - s), but s where `part` is 0: there a NaN in t does not count."""
    return s if part == 0 else s + part * (t - s)


@takes(
    real="x matrix field out scratch",
    floats="fill",
    integers="images channels height width scratch_size",
)
def warp(real: int, with_field: int) -> Kernel:
    """out [image][channel][v][u]: x at the places of matrix [image][2][3] and field."""
    number: Any = ELEMENTS[real]

    def kernel(a, part, parts):
        channels, height, width = a.channels, a.height, a.width
        first, last = share(a.images, part, parts)
        step, size = width + FRAME, height * width
        plane = (height + FRAME) * step
        low, high, bottom = number(-1), number(width), number(height)
        framed = a.scratch + part * a.scratch_size
        for i in range(a.scratch_size):
            framed[i] = number(a.fill)
        for image in range(first, last):
            m = a.matrix + image * 6
            for c in range(channels):
                for v in range(height):
                    target = framed + c * plane + (v + IN_FRONT) * step + IN_FRONT
                    copy(target, a.x + ((image * channels + c) * height + v) * width, width)
            for v in range(height):
                row_p = m[1] * number(v) + m[2]
                row_q = m[4] * number(v) + m[5]
                o = a.out + (image * channels * height + v) * width
                for u in range(width):
                    p = m[0] * number(u) + row_p
                    q = m[3] * number(u) + row_q
                    if with_field:
                        d = a.field + (2 * image * height + v) * width + u
                        p += d[0]
                        q += d[size]
                    p, q = clamped(p, low, high), clamped(q, low, bottom)
                    column, row = whole(p), whole(q)
                    right, down = p - number(column), q - number(row)
                    corner = framed + (row + IN_FRONT) * step + column + IN_FRONT
                    for c in range(channels):
                        here = corner + c * plane
                        above = between(here[0], here[1], right)
                        below = between(here[step], here[step + 1], right)
                        o[c * size + u] = between(above, below, down)

    return kernel


@takes(real="x taps out scratch", integers="planes height width count line scratch_size")
def smooth(real: int, lanes: int) -> Kernel:
    """out [plane][v][u]: x correlated with the taps along rows, then columns."""

    def kernel(a, part, parts):
        height, width, count, line, taps = a.height, a.width, a.count, a.line, a.taps
        first, last = share(a.planes, part, parts)
        radius = count // 2
        rows = a.scratch + part * a.scratch_size
        row = rows + (height + count - 1) * line
        clear(rows, a.scratch_size)
        for plane in range(first, last):
            for v in range(height):
                copy(row + radius, a.x + (plane * height + v) * width, width)
                for u in range(0, width, lanes):
                    total = fill(row, 0, lanes)
                    for k in range(count):
                        total = muladd(taps[k], tile(row + (u + k), lanes, 1, 1), total)
                    store(total, rows + ((radius + v) * line + u), (0,))
            for v in range(height):
                for u in range(0, width, lanes):
                    total = fill(row, 0, lanes)
                    for k in range(count):
                        below = tile(rows + ((v + k) * line + u), lanes, 1, 1)
                        total = muladd(taps[k], below, total)
                    o = a.out + ((plane * height + v) * width + u)
                    if width - u >= lanes:
                        store(total, o, (0,))
                    else:
                        store_part(total, o, (0,), width - u)

    return kernel


@takes(
    real="x gain offset out",
    int64="boxes",
    floats="fill",
    integers="images channels height width",
)
def tone(real: int) -> Kernel:
    """out [image][channel][v][u] = gain*x + offset, but the fill value inside the boxes."""
    number: Any = ELEMENTS[real]

    def kernel(a, part, parts):
        size = a.channels * a.height * a.width
        first, last = share(a.images, part, parts)
        for image in range(first, last):
            factor, more = a.gain[image], a.offset[image]
            for i in range(image * size, (image + 1) * size):
                a.out[i] = factor * a.x[i] + more
            box = a.boxes + image * 4
            for c in range(a.channels):
                for v in range(box[0], box[2]):
                    for u in range(box[1], box[3]):
                        row = (image * a.channels + c) * a.height + v
                        a.out[row * a.width + u] = number(a.fill)

    return kernel
