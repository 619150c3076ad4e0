"""Weight gradient through ReLU and 2x2 max pooling, from the winners alone. Filters are 3 x 3.

    for image, or band of windows of one:
        for filter:  list the windows that pass a gradient: where the winner is, and dout
        for block of channels:
            put what the windows see of these channels into a frame
            for filter:
                t = 0
                for entry of the list:  t[fy, fx] += dout * frame[winner + (fy, fx)]
                sums[filter][block] += t

At most one of a window's four output gradients is not zero, so this takes a quarter of the
multiply-adds, and skips nothing but zeros.

The register tile: the 9 taps of a filter, by K vectors of channels. An entry broadcasts one
gradient for 9*K multiply-adds, whose other factors come straight from memory, one load each.
The hardware can load that much only from the first cache: hence bands, and frames that hold one
block of channels, where the taps of a row are side by side. K is 2 with 32 registers, 1 with 16.
Channels missing in the last block are zeros in the frame.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from typing import Any

from .launch.build import Kernel
from .words.pointer import clear, copy, helper, share
from .words.record import takes
from .words.tile import add, plus, store, tile, window

__all__ = ["PLACES", "accumulate_sparse"]

CLOSED = 4
"""Winner of a window that passes no gradient."""

PLACES = CLOSED + 1
"""How many values a winner may have."""


def framed(lanes: int, vectors: int) -> Any:
    """Words that put one block of an image's channels into a frame of zeros."""
    width = lanes * vectors

    @helper
    def words(to, image, height, image_width, channels, there, top, left, rows, columns):
        """Pixels from (top, left) of the image on; `there` of its channels, zeros after them."""
        first = min(max(-left, 0), columns)
        last = max(min(image_width - left, columns), first)
        for y in range(top, top + rows):
            if y < 0 or y >= height:
                clear(to, columns * width)
            else:
                clear(to, first * width)
                pixel = image + (y * image_width + left) * channels
                if there == width:
                    for i in range(first, last):
                        t = tile(pixel + i * channels, lanes, 1, vectors)
                        store(t, to + i * width, (0,))
                else:
                    for i in range(first, last):
                        copy(to + i * width, pixel + i * channels, there)
                        clear(to + (i * width + there), width - there)
                clear(to + last * width, (columns - last) * width)
            to = to + columns * width

    return words


def list_sum(lanes: int) -> Any:
    """Words for the sum of a list; `lanes` elements after it are overwritten."""

    @helper
    def words(values, count, zeros):
        t = tile(zeros, lanes, 1, 1)
        store(t, values + count, (0,))
        for k in range(0, count, lanes):
            t = plus(t, values + k)
        store(t, values + count, (0,))
        total = values[count]
        for lane in range(1, lanes):
            total += values[count + lane]
        return total

    return words


@takes(
    real="x frames dout gradients zeros sums",
    uint8="winner",
    int32="places counts",
    integers="images channels height width stride top left filters down across"
    " groups band together",
)
def accumulate_sparse(real: int, lanes: int, vectors: int) -> Kernel:
    """sums[group][filter][block][fy][fx][width], then [filter] of dout alone, by group of images.

    The parts form groups: a group takes some of the images, each of its parts some filters. A
    frame holds what `band` rows of windows see.
    """
    width = lanes * vectors
    put, sum_up = framed(lanes, vectors), list_sum(lanes)

    def kernel(a, part, parts):
        channels, filters, stride = a.channels, a.filters, a.stride
        down, across, band, together = a.down, a.across, a.band, a.together
        members = parts // a.groups
        group, member = part // members, part % members
        if group >= a.groups:
            return
        # A window of the pooling sees the windows of its four outputs; the next is 2 strides on.
        columns = 2 * stride * across - stride + 3
        row_step = columns * width
        frame_size = (2 * stride * band - stride + 3) * row_step
        blocks = (channels + width - 1) // width
        room = together * band * across + lanes
        frames = a.frames + part * together * frame_size
        gradients = a.gradients + part * room * filters
        places = a.places + part * room * filters
        counts = a.counts + part * (filters + PLACES)
        shift = counts + filters
        for place in range(PLACES):
            shift[place] = stride * ((place >> 1) * row_step + (place & 1) * width)
        sums = a.sums + group * filters * (blocks * 9 * width + 1)
        total = sums + filters * blocks * 9 * width
        first, last = share(filters, member, members)
        clear(sums + first * blocks * 9 * width, (last - first) * blocks * 9 * width)
        clear(total + first, last - first)
        first_image, last_image = share(a.images, group, a.groups)
        for image in range(first_image, last_image, together):
            count = min(together, last_image - image)
            for v in range(0, down, band):
                rows = min(band, down - v)
                for f in range(first, last):
                    n = f * room
                    for i in range(count):
                        at = ((image + i) * down + v) * across * filters + f
                        for row in range(rows):
                            to = i * frame_size + 2 * row * stride * row_step
                            for _ in range(across):
                                # Without a branch, which could not be predicted.
                                place = a.winner[at]
                                places[n] = to + shift[place]
                                gradients[n] = a.dout[at]
                                n += 1 - place // CLOSED
                                at += filters
                                to += 2 * stride * width
                    counts[f] = n - f * room
                    total[f] += sum_up(gradients + f * room, counts[f], a.zeros)
                for c in range(0, channels, width):
                    for i in range(count):
                        put(
                            frames + i * frame_size,
                            a.x + (image + i) * a.height * a.width * channels + c,
                            *(a.height, a.width, channels, min(width, channels - c)),
                            *(2 * v * stride - a.top, -a.left),
                            *(2 * stride * rows - stride + 3, columns),
                        )
                    for f in range(first, last):
                        t = tile(a.zeros, lanes, 9, vectors)
                        for k in range(f * room, f * room + counts[f]):
                            t = window(t, frames + places[k], row_step, gradients[k])
                        add(t, sums + (f * blocks * 9 * width + c * 9), width)

    return kernel
