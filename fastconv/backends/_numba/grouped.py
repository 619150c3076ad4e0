"""Grouped convolution with any stride and dilation: one product for each place of the window.

    for band of rows of the target, in parallel:
        for group:
            s = the source rows that the band reads, t = start: this group's channels alone
            for row of the band:  for ky that reaches it:  for kx, or for all kx at once:
                t(pixels that the taps reach) += s(their pixels, c) * weight(taps, c)
            target = t

The channels of one group are far apart from pixel to pixel, at steps that hit few sets of the
first cache; copied together they stay in it. The tables of `window_tables` say which pixels a
tap reaches, and what it reads; the input gradient has the same loops and other tables. Where the
taps of a filter row read neighbouring pixels they are one product, over source rows with zeros
around them; else each is clipped to what it reaches. The weight gradient reverses the product,

    sums(taps, c) += s(pixels, c) * dout(pixels)

with separate sums for each thread, since all bands add to the same ones. The register tile is
that of `product`; pixels that do not fill it go half a tile at a time, then one by one.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from typing import Any

from .launch.build import Kernel
from .product import add_rows
from .words.pointer import ELEMENTS, clear, copy, helper, share, steps
from .words.record import takes
from .words.tile import add, rank1, store, tile

__all__ = ["grouped", "grouped_sums", "look_for_others"]


def pixel_copier(lanes: int) -> Any:
    """Copy `count` channels of each pixel; the steps are from pixel to pixel."""

    @helper
    def copy_pixels(source, source_step, pixels, count, target, target_step):
        whole = count // lanes * lanes
        for u in range(pixels):
            x, to = source + u * source_step, target + u * target_step
            for c in range(0, whole, lanes):
                store(tile(x + c, lanes, 1, 1), to + c, (0,))
            for c in range(whole, count):
                to[c] = x[c]

    return copy_pixels


def row_framer(lanes: int) -> Any:
    """The source rows of a band, the channels of one group, in frames: see `window_tables`."""
    copy_pixels = pixel_copier(lanes)

    @helper
    def frame_rows(image, count, source_w, source_c, depth, left, frame, s):
        first = min(frame, max(0, left))
        end = max(first, min(frame, left + source_w))
        for y in range(count):
            to = s + y * frame * depth
            clear(to, first * depth)
            copy_pixels(
                *(image + (y * source_w + first - left) * source_c, source_c, end - first, depth),
                *(to + first * depth, depth),
            )
            clear(to + end * depth, (frame - end) * depth)

    return frame_rows


def add_product(lanes: int, rows: int, vectors: int) -> Any:
    """target[r] += sum over i of x[r*x_r + i*x_i] * w[i*w_i : ... + vectors*lanes]."""

    @helper
    def words(x, x_r, x_i, count, w, w_i, zeros, target, step):
        t = tile(zeros, lanes, rows, vectors)
        at = steps(x_r, rows)
        for i in range(count):
            t = rank1(t, x, at, i * x_i, w + i * w_i)
        add(t, target, step)

    return words


def add_products(lanes: int, rows: int, vectors: int) -> Any:
    """`add_product` for any number of rows, cut into tiles, and `columns` that fill these."""
    half = max(1, rows // 2)
    whole_tile, half_tile, one_row = (add_product(lanes, r, vectors) for r in (rows, half, 1))

    @helper
    def words(x, x_r, x_i, count, w, w_i, zeros, target, step, height, columns):
        tiled = height // rows * rows
        halved = tiled + (height - tiled) // half * half
        for j in range(0, columns, lanes * vectors):
            to = target + j
            for r in range(0, tiled, rows):
                whole_tile(x + r * x_r, x_r, x_i, count, w + j, w_i, zeros, to + r * step, step)
            for r in range(tiled, halved, half):
                half_tile(x + r * x_r, x_r, x_i, count, w + j, w_i, zeros, to + r * step, step)
            for r in range(halved, height):
                one_row(x + r * x_r, x_r, x_i, count, w + j, w_i, zeros, to + r * step, step)

    return words


TABLES = "row_table column_table bands"
SOURCE = "images count groups fh fw width source_c source_w source_size source_step source_pixels"
FRAMES = "joined left frame"


@takes(
    real="source taps start zeros scratch target",
    int64=TABLES,
    integers=f"{SOURCE} target_c target_w target_size target_step target_pixels {FRAMES}",
)
def grouped(real: int, lanes: int, rows: int, vectors: int) -> Kernel:
    """target [image][row][column][c] from source, and taps [group][tap][c][width]."""
    add_taps, copy_pixels = add_products(lanes, rows, vectors), pixel_copier(lanes)
    frame_rows = row_framer(lanes)

    def kernel(a, part, parts):
        count, groups, fh, fw, width = a.count, a.groups, a.fh, a.fw, a.width
        source_c, source_w, target_c, target_w = a.source_c, a.source_w, a.target_c, a.target_w
        depth, columns, x_step = source_c // groups, target_c // groups, a.source_step
        s = a.scratch + part * (a.source_pixels * depth + a.target_pixels * width)
        t = s + a.source_pixels * depth
        first, last = share(a.images * count, part, parts)
        for unit in range(first, last):
            band = a.bands + 4 * (unit % count)
            image = a.source + (unit // count * a.source_size + band[2] * source_w * source_c)
            goes = a.target + (unit // count * a.target_size + band[0] * target_w * target_c)
            pixels = (band[1] - band[0]) * target_w
            for group in range(groups):
                read, mine = band[3] - band[2], image + group * depth
                frame_rows(mine, read, source_w, source_c, depth, a.left, a.frame, s)
                for u in range(pixels):
                    copy(t + u * width, a.start + group * width, width)
                for v in range(band[0], band[1]):
                    for ky in range(fh):
                        y = a.row_table[v * fh + ky]
                        if y >= 0:
                            for kx in range(fw):
                                across = a.column_table + 3 * kx
                                place = (y - band[2]) * a.frame + across[1]
                                to = (v - band[0]) * target_w + across[0]
                                tap = ((group * fh + ky) * fw + kx) * a.joined
                                add_taps(
                                    *(s + place * depth, x_step * depth, 1, a.joined * depth),
                                    *(a.taps + tap * depth * width, width, a.zeros),
                                    *(t + to * width, a.target_step * width, across[2], width),
                                )
                copy_pixels(t, width, pixels, columns, goes + group * columns, target_c)

    return kernel


@takes(real="values", int64="flag", integers="count")
def look_for_others(real: int) -> Kernel:
    """Set the flag to 0 if a value is NaN or infinite."""
    number: Any = ELEMENTS[real]

    def kernel(a, part, parts):
        first, last = share(a.count, part, parts)
        others = 0
        for i in range(first, last):
            others |= a.values[i] - a.values[i] != number(0)
        if others != 0:
            a.flag[0] = 0

    return kernel


@takes(
    real="dout x zeros scratch sums totals",
    int64=TABLES,
    integers=f"{SOURCE} dout_c dout_w dout_size dout_pixels {FRAMES}",
)
def grouped_sums(real: int, lanes: int, rows: int, vectors: int) -> Kernel:
    """sums [part][group][tap][c][width] and totals [part][group][width]."""
    add_taps, copy_pixels = add_products(lanes, rows, vectors), pixel_copier(lanes)
    frame_rows = row_framer(lanes)
    add_to_total = add_rows(lanes, 1)

    def kernel(a, part, parts):
        count, groups, fh, fw, width = a.count, a.groups, a.fh, a.fw, a.width
        source_c, source_w, dout_c, dout_w = a.source_c, a.source_w, a.dout_c, a.dout_w
        depth, columns, x_step = source_c // groups, dout_c // groups, a.source_step
        s = a.scratch + part * (a.source_pixels * depth + a.dout_pixels * width)
        t = s + a.source_pixels * depth
        clear(t, a.dout_pixels * width)
        rows_of_sums = a.joined * depth
        volume = fh * fw * rows_of_sums * width
        sums = a.sums + part * groups * volume
        totals = a.totals + part * groups * width
        clear(sums, groups * volume)
        clear(totals, groups * width)
        first, last = share(a.images * count, part, parts)
        for unit in range(first, last):
            band = a.bands + 4 * (unit % count)
            image = a.x + (unit // count * a.source_size + band[2] * source_w * source_c)
            comes = a.dout + (unit // count * a.dout_size + band[0] * dout_w * dout_c)
            pixels = (band[1] - band[0]) * dout_w
            for group in range(groups):
                read, mine = band[3] - band[2], image + group * depth
                frame_rows(mine, read, source_w, source_c, depth, a.left, a.frame, s)
                copy_pixels(comes + group * columns, dout_c, pixels, columns, t, width)
                for f in range(0, width, lanes):
                    add_to_total(totals + (group * width + f), t + f, width, pixels, a.zeros)
                for v in range(band[0], band[1]):
                    for ky in range(fh):
                        y = a.row_table[v * fh + ky]
                        if y >= 0:
                            for kx in range(fw):
                                across = a.column_table + 3 * kx
                                place = (y - band[2]) * a.frame + across[1]
                                at = (v - band[0]) * dout_w + across[0]
                                tap = (ky * fw + kx) * rows_of_sums * width
                                add_taps(
                                    *(s + place * depth, 1, x_step * depth, across[2]),
                                    *(t + at * width, width, a.zeros),
                                    *(sums + (group * volume + tap), width, rows_of_sums, width),
                                )

    return kernel
