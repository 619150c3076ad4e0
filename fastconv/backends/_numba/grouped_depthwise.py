"""Depthwise convolution: each channel by itself.

    for row of the target, in parallel:
        for run of pixels that read by the same taps:  for R of them:
            for vector of channels:
                t = start;  for tap:  t[r] += source(pixel r, tap) * weight(tap)
                target = t

Channels fill the vectors and no value is shared between them, so one multiply-add needs one
load of a pixel; R pixels share the load of a weight. Memory is walked through once, in order:
with the loop over channels outside, the next pixel would be a page away. Runs come from the
tables of `window_tables`, and the same loops give the input gradient.

The weight gradient walks by the same tables, with dout of R pixels in registers,

    for vector of channels:  d = dout(R pixels);  for tap:  sum(tap) += x(pixel r, tap) * d[r]

and each part adds the sums of an image to its own total, since long sums lose digits. Channels
that do not fill a vector go one by one, through the same code.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from typing import Any

from .launch.build import Kernel
from .words.lanewise import rows_of, sum_of_rows, sum_times, times
from .words.pointer import clear, helper, share, steps
from .words.record import takes
from .words.tile import store, tile

__all__ = ["depthwise", "depthwise_sums"]

PIXELS = 4
"""R."""


def vector_of_pixels(rows: int, lanes: int, side: int) -> Any:
    """`lanes` channels of `rows` pixels; source is at the first tap.

    `side` is that of a square of taps, or 0.
    """

    @helper
    def words(source, taps, start, target, down, across, sizes):
        channels, width, lines, source_row, target_step, source_step, tap_step, tap_source = sizes
        at = steps(source_step * channels, rows)
        t = tile(start, lanes, rows, 1)
        for y in range(side or down[4]):
            for x in range(side or across[4]):
                pixel = source + tap_source * (y * source_row + x * channels)
                t = times(t, pixel, at, taps + tap_step * (y * lines + x) * width)
        store(t, target, steps(target_step * channels, rows))

    return words


def pixels_of(rows: int, lanes: int, side: int = 0) -> Any:
    """All channels of `rows` pixels."""
    whole_vector, one_channel = vector_of_pixels(rows, lanes, side), vector_of_pixels(rows, 1, side)

    @helper
    def words(source, taps, start, target, down, across, sizes):
        whole = sizes[0] // lanes * lanes
        for c in range(0, whole, lanes):
            whole_vector(source + c, taps + c, start + c, target + c, down, across, sizes)
        for c in range(whole, sizes[0]):
            one_channel(source + c, taps + c, start + c, target + c, down, across, sizes)

    return words


@takes(
    real="source taps start target",
    int64="rows columns",
    integers="images height runs source_size target_row"
    " channels width lines source_row target_step source_step tap_step tap_source",
)
def depthwise(real: int, lanes: int) -> Kernel:
    """target [image][row][column][c] from source, by runs; taps [tap][width]."""
    some_pixels, one_pixel = pixels_of(PIXELS, lanes), pixels_of(1, lanes)
    three_by_three = pixels_of(PIXELS, lanes, 3)

    def kernel(a, part, parts):
        channels, target_step, source_step = a.channels, a.target_step, a.source_step
        taken = target_step, source_step, a.tap_step, a.tap_source
        sizes = (channels, a.width, a.lines, a.source_row, *taken)
        first, last = share(a.images * a.height, part, parts)
        for row in range(first, last):
            down = a.rows + 5 * (row % a.height)
            image = a.source + (row // a.height * a.source_size + down[2] * a.source_row)
            to = a.target + row * a.target_row
            for run in range(a.runs):
                across = a.columns + 5 * run
                weight = a.taps + (down[3] * a.lines + across[3]) * a.width
                place = image + across[2] * channels
                goes = to + across[0] * channels
                tiled = across[1] // PIXELS * PIXELS
                if down[4] == 3 and across[4] == 3:
                    for u in range(0, tiled, PIXELS):
                        three_by_three(
                            *(place + u * source_step * channels, weight, a.start),
                            *(goes + u * target_step * channels, down, across, sizes),
                        )
                else:
                    for u in range(0, tiled, PIXELS):
                        some_pixels(
                            *(place + u * source_step * channels, weight, a.start),
                            *(goes + u * target_step * channels, down, across, sizes),
                        )
                for u in range(tiled, across[1]):
                    one_pixel(
                        *(place + u * source_step * channels, weight, a.start),
                        *(goes + u * target_step * channels, down, across, sizes),
                    )

    return kernel


def vector_of_sums(rows: int, lanes: int) -> Any:
    """The sums of `lanes` channels += those of `rows` pixels; x and sums are at the first tap."""

    @helper
    def words(dout, x, sums, total, down, across, sizes):
        channels, width, lines, source_row, source_step, tap_source = sizes
        d = rows_of(dout, steps(channels, rows), lanes)
        at = steps(source_step * channels, rows)
        store(sum_of_rows(tile(total, lanes, 1, 1), d), total, (0,))
        for j in range(down[4]):
            for i in range(across[4]):
                pixel = x + tap_source * (j * source_row + i * channels)
                place = sums + (j * lines + i) * width
                store(sum_times(tile(place, lanes, 1, 1), pixel, at, d), place, (0,))

    return words


def sums_of(rows: int, lanes: int) -> Any:
    """The sums of all channels += those of `rows` pixels."""
    whole_vector, one_channel = vector_of_sums(rows, lanes), vector_of_sums(rows, 1)

    @helper
    def words(dout, x, sums, total, down, across, sizes):
        whole = sizes[0] // lanes * lanes
        for c in range(0, whole, lanes):
            whole_vector(dout + c, x + c, sums + c, total + c, down, across, sizes)
        for c in range(whole, sizes[0]):
            one_channel(dout + c, x + c, sums + c, total + c, down, across, sizes)

    return words


@takes(
    real="dout x sums totals",
    int64="rows columns",
    integers="images height runs source_size dout_row volume"
    " channels width lines source_row source_step tap_source",
)
def depthwise_sums(real: int, lanes: int) -> Kernel:
    """totals [part][tap][width] and after the taps the sums of dout; `sums` are of one image."""
    some_pixels, one_pixel = sums_of(PIXELS, lanes), sums_of(1, lanes)

    def kernel(a, part, parts):
        height, volume, channels, source_step = a.height, a.volume, a.channels, a.source_step
        sizes = channels, a.width, a.lines, a.source_row, source_step, a.tap_source
        sums = a.sums + part * volume
        total = a.totals + part * volume
        clear(sums, volume)
        clear(total, volume)
        bias = sums + (volume - a.width)
        first, last = share(a.images * height, part, parts)
        for row in range(first, last):
            down = a.rows + 5 * (row % height)
            image = a.x + (row // height * a.source_size + down[2] * a.source_row)
            gradient = a.dout + row * a.dout_row
            for run in range(a.runs):
                across = a.columns + 5 * run
                to = sums + (down[3] * a.lines + across[3]) * a.width
                place = image + across[2] * channels
                comes = gradient + across[0] * channels
                tiled = across[1] // PIXELS * PIXELS
                for u in range(0, tiled, PIXELS):
                    some_pixels(
                        *(comes + u * channels, place + u * source_step * channels),
                        *(to, bias, down, across, sizes),
                    )
                for u in range(tiled, across[1]):
                    one_pixel(
                        *(comes + u * channels, place + u * source_step * channels),
                        *(to, bias, down, across, sizes),
                    )
            if row % height == height - 1 or row == last - 1:
                for i in range(volume):
                    total[i] = total[i] + sums[i]
                clear(sums, volume)

    return kernel
