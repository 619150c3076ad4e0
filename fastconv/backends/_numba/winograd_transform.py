"""Winograd's transforms for 3x3 filters: tiles of m x m outputs from patches of m+2 pixels squared.

    patch d:   V = Bt d B      filter g:   U = G g Gt      tile:   y = At (U * V, summed) A

m is 2 or 4; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015). Each is a
line transform down the columns, then along the rows, of vectors whose lanes are channels. The
points are 0, 1, -1, infinity, and 2, -2 for m = 4. With m = 2 the factors are 1, 1/2 and 1/4 only,
so that small whole numbers stay exact.

A square of vectors is a value: LLVM decides which of them stay in registers.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from functools import cache
from typing import Any

from .pointer import helper
from .square import square, store_square, turned
from .tile import best_of_four, every, muladd, relu, scaled

__all__ = ["output_lines", "pooled_lines", "relu_lines", "transform_filter", "transform_input"]


# ---- lines ------------------------------------------------------------------------------------


@helper
def input_line_2(d0, d1, d2, d3):
    """Bt times the 4 values of a line."""
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


@helper
def input_ends_4(d0, d1, d2, d3, d4, d5):
    """The first and the last row of Bt times the 6 values of a line."""
    return muladd(4, d0, muladd(-5, d2, d4)), muladd(4, d1, muladd(-5, d3, d5))


@helper
def input_ones_4(d0, d1, d2, d3, d4, d5):
    """The rows of the points 1 and -1."""
    even, odd = muladd(-4, d2, d4), muladd(-4, d1, d3)
    return even + odd, even - odd


@helper
def input_twos_4(d0, d1, d2, d3, d4, d5):
    """The rows of the points 2 and -2."""
    even, odd = d4 - d2, d3 - d1
    return muladd(2, odd, even), muladd(-2, odd, even)


@helper
def input_line_4(d0, d1, d2, d3, d4, d5):
    """Bt times the 6 values of a line."""
    first, last = input_ends_4(d0, d1, d2, d3, d4, d5)
    one, minus_one = input_ones_4(d0, d1, d2, d3, d4, d5)
    two, minus_two = input_twos_4(d0, d1, d2, d3, d4, d5)
    return first, one, minus_one, two, minus_two, last


@helper
def filter_line_2(g0, g1, g2):
    """G times the 3 values of a line."""
    even, odd = scaled(0.5, g0 + g2), scaled(0.5, g1)
    return g0, even + odd, even - odd, g2


@helper
def filter_line_4(g0, g1, g2):
    """G times the 3 values of a line."""
    even, odd = scaled(-1 / 6, g0 + g2), scaled(-1 / 6, g1)
    even2, odd2 = scaled(1 / 24, muladd(4, g2, g0)), scaled(1 / 12, g1)
    return scaled(0.25, g0), even + odd, even - odd, even2 + odd2, even2 - odd2, g2


@helper
def output_line_2(s0, s1, s2, s3):
    """At times the 4 values of a line."""
    return s0 + (s1 + s2), (s1 - s2) - s3


@helper
def output_line_4(s0, s1, s2, s3, s4, s5):
    """At times the 6 values of a line."""
    even, odd, even2, odd2 = s1 + s2, s1 - s2, s3 + s4, s3 - s4
    last = muladd(8, odd2, odd) + s5
    return s0 + even + even2, muladd(2, odd2, odd), muladd(4, even2, even), last


FILTER_LINE = {2: filter_line_2, 4: filter_line_4}
OUTPUT_LINE = {2: output_line_2, 4: output_line_4}


# ---- squares ----------------------------------------------------------------------------------


@cache  # compiled once, for all kernels
def transform_input(m: int, lanes: int) -> Any:
    """V of one vector of channels: frequency (fy, fx) goes to to[(fy*(m+2) + fx)*step]."""
    n = m + 2

    @helper
    def small(patch, row, pixel, to, step):
        columns = input_line_2(*square(patch, row, pixel, lanes, n))
        store_square(turned(input_line_2(*turned(columns))), to, n * step, step)

    @helper
    def put(line, to, step):
        store_square(turned(input_line_4(*turned((line,)))), to, n * step, step)

    @helper
    def large(patch, row, pixel, to, step):
        # Two rows of V at a time: reading a pixel again is cheaper than storing a vector twice.
        first, last = input_ends_4(*square(patch, row, pixel, lanes, n))
        put(first, to, step)
        put(last, to + 5 * n * step, step)
        one, minus_one = input_ones_4(*square(patch, row, pixel, lanes, n))
        put(one, to + n * step, step)
        put(minus_one, to + 2 * n * step, step)
        two, minus_two = input_twos_4(*square(patch, row, pixel, lanes, n))
        put(two, to + 3 * n * step, step)
        put(minus_two, to + 4 * n * step, step)

    return small if m == 2 else large


@cache  # compiled once, for all kernels
def transform_filter(m: int, lanes: int) -> Any:
    """U of one vector of columns, from taps[(ky*3 + kx)*tap]; to as in `transform_input`."""
    n, line = m + 2, FILTER_LINE[m]

    @helper
    def words(taps, tap, to, step):
        columns = line(*square(taps, 3 * tap, tap, lanes, 3))
        store_square(turned(line(*turned(columns))), to, n * step, step)

    return words


@cache  # compiled once, for all kernels
def output_lines(m: int, lanes: int) -> Any:
    """The m x m outputs of one vector of channels, from products[f*step], as m tiles of m rows."""
    n, line = m + 2, OUTPUT_LINE[m]

    @helper
    def words(products, step):
        columns = line(*square(products, n * step, step, lanes, n))
        return turned(line(*turned(columns)))

    return words


# ---- what follows a convolution -----------------------------------------------------------------


@helper
def relu_lines_2(y0, y1):
    return relu(y0), relu(y1)


@helper
def relu_lines_4(y0, y1, y2, y3):
    return relu(y0), relu(y1), relu(y2), relu(y3)


@helper
def best_of_lines(y0, y1):
    """Of each window on two lines the largest after ReLU, and where it was."""
    best, place = best_of_four(every(y0, 0, 2), every(y0, 1, 2), every(y1, 0, 2), every(y1, 1, 2))
    return relu(best), place


@helper
def pooled_lines_2(y0, y1):
    best, place = best_of_lines(y0, y1)
    return (best,), (place,)


@helper
def pooled_lines_4(y0, y1, y2, y3):
    best, place = best_of_lines(y0, y1)
    best2, place2 = best_of_lines(y2, y3)
    return (best, best2), (place, place2)


relu_lines = {2: relu_lines_2, 4: relu_lines_4}
"""ReLU of the outputs of a tile, by m."""

pooled_lines = {2: pooled_lines_2, 4: pooled_lines_4}
"""The maxima of windows of 2x2 of a tile after ReLU, and where they were, by m."""
