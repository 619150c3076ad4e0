"""Batch normalisation per channel: statistics over all pixels of all images.

    statistics:  for pixels, in parallel:  sums += x - first;  squares += (x - first)**2
    apply:       for pixels, in parallel:  out = (x - centre)*scale + shift [+ residual] [ReLU]
    backward:    for pixels, in parallel:  sums += g;  products += g*(x - mean)
                 for pixels, in parallel:  dx = slope*(g - level - (x - mean)*tilt)

Memory is channels-last, so channels fill the vectors. A pixel of few channels would leave lanes
empty, so the loops go over rows of whole pixels, about WIDTH columns or more, with tables that
repeat a channel's values for each pixel of a row. Only the last row may be shorter. Columns that
do not fill a vector go one by one, through the same code.

All this is bound by memory. Statistics read x once, less the first pixel: that is a sample of the
same numbers, so that the squares are never large against the variance. Sums are doubles, one for
each column and part; TOGETHER rows go at a time, and share the cost of reading and writing the
sums. In backward, what TOGETHER rows add to a column is summed in a register, in the dtype of the
images, and then added to the column's sum.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from typing import Any

from .launch.build import Kernel
from .words.pointer import clear, helper, share
from .words.record import takes
from .words.tile import fill, relu, store, tile, where_positive
from .words.wide import add_wide, wide, zeros

__all__ = ["apply", "gradient_sums", "input_gradient", "moments", "row_width"]

WIDTH = 256
TOGETHER = 8


def row_width(channels: int) -> int:
    """Columns of a row: whole pixels."""
    return channels * max(1, WIDTH // channels)


# ---- statistics -----------------------------------------------------------------------------


def add_moments(rows: int, lanes: int) -> Any:
    """Add `rows` rows of x to one vector of columns."""

    @helper
    def words(x, width, first, sums, squares):
        start = tile(first, lanes, 1, 1)
        total, square = tile(sums, lanes, 1, 1), tile(squares, lanes, 1, 1)
        for r in range(rows):
            value = wide(x + r * width, lanes) - start
            total = total + value
            square = square + value * value
        store(total, sums, (0,))
        store(square, squares, (0,))

    return words


ROWS = "pixels channels width"


@takes(real="x", float64="first sums", integers=ROWS)
def moments(real: int, lanes: int) -> Kernel:
    """Over my pixels of x [pixel][channel]: sums of x - first, and of its squares."""
    many, single = add_moments(TOGETHER, lanes), add_moments(1, lanes)
    many_tail, single_tail = add_moments(TOGETHER, 1), add_moments(1, 1)

    def kernel(a, part, parts):
        width, first = a.width, a.first
        sums, squares = a.sums + 2 * part * width, a.sums + (2 * part + 1) * width
        clear(sums, 2 * width)
        begin, end = share(a.pixels, part, parts)
        begin, end = begin * a.channels, end * a.channels
        together = begin + (end - begin) // (TOGETHER * width) * TOGETHER * width
        whole = width // lanes * lanes
        for i in range(begin, together, TOGETHER * width):
            x = a.x + i
            for c in range(0, whole, lanes):
                many(x + c, width, first + c, sums + c, squares + c)
            for c in range(whole, width):
                many_tail(x + c, width, first + c, sums + c, squares + c)
        for i in range(together, end, width):
            x, columns = a.x + i, min(width, end - i)
            whole = columns // lanes * lanes
            for c in range(0, whole, lanes):
                single(x + c, width, first + c, sums + c, squares + c)
            for c in range(whole, columns):
                single_tail(x + c, width, first + c, sums + c, squares + c)

    return kernel


# ---- normalised, scaled, shifted --------------------------------------------------------------


def apply_vector(lanes: int, added: bool, rectified: bool) -> Any:
    """One vector of columns of one row."""

    @helper
    def words(x, residual, centre, scale, shift, out):
        value = tile(x, lanes, 1, 1) - tile(centre, lanes, 1, 1)
        value = value * tile(scale, lanes, 1, 1) + tile(shift, lanes, 1, 1)
        if added:
            value = value + tile(residual, lanes, 1, 1)
        if rectified:
            value = relu(value)
        store(value, out, (0,))

    return words


@takes(real="x residual out centre scale shift", integers=ROWS)
def apply(real: int, lanes: int, added: int, rectified: int) -> Kernel:
    """out [pixel][channel] = (x - centre)*scale + shift, plus residual, through ReLU."""
    vector = apply_vector(lanes, added > 0, rectified > 0)
    single = apply_vector(1, added > 0, rectified > 0)

    def kernel(a, part, parts):
        centre, scale, shift = a.centre, a.scale, a.shift
        begin, end = share(a.pixels, part, parts)
        begin, end = begin * a.channels, end * a.channels
        for i in range(begin, end, a.width):
            columns = min(a.width, end - i)
            whole = columns // lanes * lanes
            x, more, to = a.x + i, a.residual + i, a.out + i
            for c in range(0, whole, lanes):
                vector(x + c, more + c, centre + c, scale + c, shift + c, to + c)
            for c in range(whole, columns):
                single(x + c, more + c, centre + c, scale + c, shift + c, to + c)

    return kernel


# ---- backward -------------------------------------------------------------------------------


def add_gradients(rows: int, lanes: int, gated: bool, kept: bool) -> Any:
    """Add `rows` rows to one vector of columns."""

    @helper
    def words(dout, gate, x, to, width, mean, sums, products):
        centre, nothing = tile(mean, lanes, 1, 1), zeros(mean, lanes, 1)
        total = product = nothing
        for r in range(rows):
            g = tile(dout + r * width, lanes, 1, 1)
            if gated:
                g = where_positive(tile(gate + r * width, lanes, 1, 1), g, nothing)
            if kept:
                store(g, to + r * width, (0,))
            total = total + g
            product = product + g * (tile(x + r * width, lanes, 1, 1) - centre)
        add_wide(total, sums)
        add_wide(product, products)

    return words


@takes(real="dout gate x kept mean", float64="sums", integers=ROWS)
def gradient_sums(real: int, lanes: int, gated: int, kept: int) -> Kernel:
    """Over my pixels: sums of g, and of g*(x - mean); writes g itself where it is `kept`."""
    flags = gated > 0, kept > 0
    many, single = add_gradients(TOGETHER, lanes, *flags), add_gradients(1, lanes, *flags)
    many_tail, single_tail = add_gradients(TOGETHER, 1, *flags), add_gradients(1, 1, *flags)

    def kernel(a, part, parts):
        width, mean = a.width, a.mean
        sums, products = a.sums + 2 * part * width, a.sums + (2 * part + 1) * width
        clear(sums, 2 * width)
        begin, end = share(a.pixels, part, parts)
        begin, end = begin * a.channels, end * a.channels
        together = begin + (end - begin) // (TOGETHER * width) * TOGETHER * width
        whole = width // lanes * lanes
        for i in range(begin, together, TOGETHER * width):
            d, o, v, k = a.dout + i, a.gate + i, a.x + i, a.kept + i
            for c in range(0, whole, lanes):
                many(d + c, o + c, v + c, k + c, width, mean + c, sums + c, products + c)
            for c in range(whole, width):
                many_tail(d + c, o + c, v + c, k + c, width, mean + c, sums + c, products + c)
        for i in range(together, end, width):
            columns = min(width, end - i)
            whole = columns // lanes * lanes
            d, o, v, k = a.dout + i, a.gate + i, a.x + i, a.kept + i
            for c in range(0, whole, lanes):
                single(d + c, o + c, v + c, k + c, width, mean + c, sums + c, products + c)
            for c in range(whole, columns):
                single_tail(d + c, o + c, v + c, k + c, width, mean + c, sums + c, products + c)

    return kernel


def input_gradient_vector(lanes: int, gated: bool) -> Any:
    """One vector of columns of one row."""

    @helper
    def words(dout, gate, x, mean, slope, level, tilt, dx):
        g = tile(dout, lanes, 1, 1)
        if gated:
            g = where_positive(tile(gate, lanes, 1, 1), g, fill(dout, 0, lanes))
        centred = tile(x, lanes, 1, 1) - tile(mean, lanes, 1, 1)
        rest = g - tile(level, lanes, 1, 1) - centred * tile(tilt, lanes, 1, 1)
        store(rest * tile(slope, lanes, 1, 1), dx, (0,))

    return words


@takes(real="dout gate x dx mean slope level tilt", integers=ROWS)
def input_gradient(real: int, lanes: int, gated: int) -> Kernel:
    """dx [pixel][channel] = slope*(g - level - (x - mean)*tilt)."""
    vector = input_gradient_vector(lanes, gated > 0)
    single = input_gradient_vector(1, gated > 0)

    def kernel(a, part, parts):
        mean, slope, level, tilt = a.mean, a.slope, a.level, a.tilt
        begin, end = share(a.pixels, part, parts)
        begin, end = begin * a.channels, end * a.channels
        for i in range(begin, end, a.width):
            columns = min(a.width, end - i)
            whole = columns // lanes * lanes
            d, o, v, to = a.dout + i, a.gate + i, a.x + i, a.dx + i
            for c in range(0, whole, lanes):
                vector(d + c, o + c, v + c, mean + c, slope + c, level + c, tilt + c, to + c)
            for c in range(whole, columns):
                single(d + c, o + c, v + c, mean + c, slope + c, level + c, tilt + c, to + c)

    return kernel
