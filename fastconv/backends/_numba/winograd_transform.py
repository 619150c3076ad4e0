"""Winograd's transforms for 3x3 filters: my x mx outputs from patches of my+2 by mx+2 pixels.

    patch d:   V = Bt d B      filter g:   U = G g Gt      tile:   y = At (U * V, summed) A

my and mx are 2 or 4; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015).
Each is a line transform down the columns, then along the rows, of vectors whose lanes are
channels. With m = 2 the points are 0, 1, -1 and infinity, and the factors 1, 1/2 and 1/4 only, so
that small whole numbers stay exact. With m = 4 they are 0, +-sqrt(1/2), +-sqrt(2) and infinity:
with 1 and 2 in their place the largest error of 4 x 4 is four times as large. Errors of 2 x 4 are
in between, with 3/4 of the products of 2 x 2.

m = 2:

    Bt =  1   0  -1   0     G =   1     0     0      At =  1   1   1   0
          0   1   1   0          1/2   1/2   1/2           0   1  -1  -1
          0  -1   1   0          1/2  -1/2   1/2
          0   1   0  -1           0     0     1

m = 4, r = sqrt(2), h = sqrt(1/2):

    Bt =  1   0  -5/2   0    1   0     G =   1     0     0      At =  1   1    1    1    1   0
          0  -r   -2    h    1   0         -2/3  -r/3  -1/3           0   h   -h    r   -r   0
          0   r   -2   -h    1   0         -2/3   r/3  -1/3           0  1/2  1/2   2    2   0
          0  -h  -1/2   r    1   0          1/6   r/6   1/3           0  h/2 -h/2  2r  -2r   1
          0   h  -1/2  -r    1   0          1/6  -r/6   1/3
          0   1    0  -5/2   0   1           0     0     1

A square of vectors is a value: LLVM decides which of them stay in registers.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

import math
from functools import cache
from typing import Any

from .words.pointer import helper
from .words.square import square, store_square, turned
from .words.tile import best_of_four, every, muladd, plus, relu, scaled

__all__ = [
    "HALF_ROOT",
    "ROOT",
    "output_lines",
    "pooled_lines",
    "relu_lines",
    "transform_filter",
    "transform_input",
]


ROOT, HALF_ROOT = math.sqrt(2), math.sqrt(0.5)


# ---- lines ------------------------------------------------------------------------------------


@helper
def input_line_2(d0, d1, d2, d3):
    """Bt times the 4 values of a line."""
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


@helper
def ends(d0, d1, d2, d3, d4, d5):
    """The rows of Bt for 0 and infinity, times the 6 values of a line."""
    return muladd(-2.5, d2, d0 + d4), muladd(-2.5, d3, d1 + d5)


@helper
def nears(d0, d1, d2, d3, d4, d5):
    """The rows of Bt for +-sqrt(1/2)."""
    even, odd = muladd(-2, d2, d4), muladd(-2, d1, d3)
    return muladd(HALF_ROOT, odd, even), muladd(-HALF_ROOT, odd, even)


@helper
def fars(d0, d1, d2, d3, d4, d5):
    """The rows of Bt for +-sqrt(2)."""
    even, odd = muladd(-0.5, d2, d4), muladd(-0.5, d1, d3)
    return muladd(ROOT, odd, even), muladd(-ROOT, odd, even)


@helper
def filter_line_2(g0, g1, g2):
    """G times the 3 values of a line."""
    even, odd = scaled(0.5, g0 + g2), scaled(0.5, g1)
    return g0, even + odd, even - odd, g2


@helper
def filter_line_4(g0, g1, g2):
    """G times the 3 values of a line."""
    even, odd = scaled(-1 / 3, g0 + g0 + g2), scaled(-ROOT / 3, g1)
    even2, odd2 = scaled(1 / 6, g0 + (g2 + g2)), scaled(ROOT / 6, g1)
    return g0, even + odd, even - odd, even2 + odd2, even2 - odd2, g2


@helper
def output_line_2(s0, s1, s2, s3):
    """At times the 4 values of a line."""
    return s0 + (s1 + s2), (s1 - s2) - s3


@helper
def output_line_4(s0, s1, s2, s3, s4, s5):
    """At times the 6 values of a line."""
    even, odd, even2, odd2 = s1 + s2, scaled(HALF_ROOT, s1 - s2), s3 + s4, s3 - s4
    third = muladd(2, even2, scaled(0.5, even))
    last = muladd(2 * ROOT, odd2, muladd(0.5, odd, s5))
    return s0 + even + even2, muladd(ROOT, odd2, odd), third, last


@helper
def plus_lines_2(bias, y0, y1):
    return plus(y0, bias), plus(y1, bias)


@helper
def plus_lines_4(bias, y0, y1, y2, y3):
    return plus(y0, bias), plus(y1, bias), plus(y2, bias), plus(y3, bias)


PLUS_LINES = {2: plus_lines_2, 4: plus_lines_4}
FILTER_LINE = {2: filter_line_2, 4: filter_line_4}
OUTPUT_LINE = {2: output_line_2, 4: output_line_4}


# ---- squares ----------------------------------------------------------------------------------


@cache  # compiled once, for all kernels
def transform_input(my: int, mx: int, lanes: int) -> Any:
    """V of one vector of channels: frequency (fy, fx) goes to to[(fy*(mx+2) + fx)*step]."""
    n, k = my + 2, mx + 2

    @helper
    def small(patch, row, pixel, to, step):
        columns = input_line_2(*square(patch, row, pixel, lanes, n, k))
        store_square(turned(input_line_2(*turned(columns))), to, k * step, step)

    @helper
    def put(line, to, step):
        d = turned((line,))
        first, last = ends(*d)
        near, minus_near = nears(*d)
        far, minus_far = fars(*d)
        row = turned((first, near, minus_near, far, minus_far, last))
        store_square(row, to, k * step, step)

    # Two rows of V at a time: reading a pixel again is cheaper than storing a vector twice.

    @helper
    def wide(patch, row, pixel, to, step):
        d0, d1, d2, d3 = square(patch, row, pixel, lanes, n, k)
        put(d0 - d2, to, step)
        put(d1 - d3, to + 3 * k * step, step)
        d0, d1, d2, d3 = square(patch, row, pixel, lanes, n, k)
        put(d1 + d2, to + k * step, step)
        put(d2 - d1, to + 2 * k * step, step)

    @helper
    def large(patch, row, pixel, to, step):
        first, last = ends(*square(patch, row, pixel, lanes, n, k))
        put(first, to, step)
        put(last, to + 5 * k * step, step)
        near, minus_near = nears(*square(patch, row, pixel, lanes, n, k))
        put(near, to + k * step, step)
        put(minus_near, to + 2 * k * step, step)
        far, minus_far = fars(*square(patch, row, pixel, lanes, n, k))
        put(far, to + 3 * k * step, step)
        put(minus_far, to + 4 * k * step, step)

    return {(2, 2): small, (2, 4): wide, (4, 4): large}[my, mx]


@cache  # compiled once, for all kernels
def transform_filter(my: int, mx: int, lanes: int) -> Any:
    """U of one vector of columns, from taps[(ky*3 + kx)*tap]; to as in `transform_input`."""
    k, down, along = mx + 2, FILTER_LINE[my], FILTER_LINE[mx]

    @helper
    def words(taps, tap, to, step):
        columns = down(*square(taps, 3 * tap, tap, lanes, 3, 3))
        store_square(turned(along(*turned(columns))), to, k * step, step)

    return words


@cache  # compiled once, for all kernels
def output_lines(my: int, mx: int, lanes: int) -> Any:
    """The outputs of one vector of channels, from products[f*step], as my tiles of mx rows."""
    n, k, with_bias = my + 2, mx + 2, PLUS_LINES[my]
    down, along = OUTPUT_LINE[my], OUTPUT_LINE[mx]

    @helper
    def words(products, step, bias):
        columns = down(*square(products, k * step, step, lanes, n, k))
        return with_bias(bias, *turned(along(*turned(columns))))

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
    """The largest value after ReLU of each window on two lines, and where it was."""
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
"""ReLU of the outputs of a tile, by my."""

pooled_lines = {2: pooled_lines_2, 4: pooled_lines_4}
"""The maxima of windows of 2x2 of a tile after ReLU, and where they were, by my."""
