"""Winograd's transforms for 3x3 filters: tiles of m x m outputs from patches of m+2 pixels squared.

    patch d:   V = Bt d B      filter g:   U = G g Gt      tile:   y = At (U * V, summed) A

m is 2 or 4; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015). Each is a
line transform down the columns, then along the rows, of vectors whose lanes are channels. With
m = 2 the points are 0, 1, -1 and infinity, and the factors 1, 1/2 and 1/4 only, so that small
whole numbers stay exact. With m = 4 they are 0, +-sqrt(1/2), +-sqrt(2) and infinity: with 1 and 2
in their place the largest error is four times as large.

A square of vectors is a value: LLVM decides which of them stay in registers.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

import math
from functools import cache
from typing import Any

from .pointer import helper
from .square import square, store_square, turned
from .tile import best_of_four, every, muladd, plus, relu, scaled

__all__ = [
    "POINTS",
    "output_lines",
    "pooled_lines",
    "relu_lines",
    "transform_filter",
    "transform_input",
]


ROOT, HALF_ROOT = math.sqrt(2), math.sqrt(0.5)

POINTS = HALF_ROOT, ROOT
"""Points for m = 4, of filters and outputs here."""


# ---- lines ------------------------------------------------------------------------------------


@helper
def input_line_2(d0, d1, d2, d3):
    """Bt times the 4 values of a line."""
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


def input_pairs_4(near: float, far: float) -> Any:
    """Pairs of rows of Bt times the 6 values of a line: of 0 and infinity, +-near and +-far."""
    near2, far2 = near * near, far * far
    product, total = near2 * far2, near2 + far2

    @helper
    def ends(d0, d1, d2, d3, d4, d5):
        return (
            muladd(product, d0, muladd(-total, d2, d4)),
            muladd(product, d1, muladd(-total, d3, d5)),
        )

    @helper
    def nears(d0, d1, d2, d3, d4, d5):
        even, odd = muladd(-far2, d2, d4), muladd(-far2, d1, d3)
        return muladd(near, odd, even), muladd(-near, odd, even)

    @helper
    def fars(d0, d1, d2, d3, d4, d5):
        even, odd = muladd(-near2, d2, d4), muladd(-near2, d1, d3)
        return muladd(far, odd, even), muladd(-far, odd, even)

    return ends, nears, fars


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
def transform_input(m: int, lanes: int, points: tuple[float, float] = (1, 2)) -> Any:
    """V of one vector of channels: frequency (fy, fx) goes to to[(fy*(m+2) + fx)*step].

    `points` are those of m = 4, and their negatives, besides 0 and infinity.
    """
    n = m + 2
    ends, nears, fars = input_pairs_4(*points)

    @helper
    def small(patch, row, pixel, to, step):
        columns = input_line_2(*square(patch, row, pixel, lanes, n))
        store_square(turned(input_line_2(*turned(columns))), to, n * step, step)

    @helper
    def put(line, to, step):
        d = turned((line,))
        first, last = ends(*d)
        near, minus_near = nears(*d)
        far, minus_far = fars(*d)
        row = turned((first, near, minus_near, far, minus_far, last))
        store_square(row, to, n * step, step)

    @helper
    def large(patch, row, pixel, to, step):
        # Two rows of V at a time: reading a pixel again is cheaper than storing a vector twice.
        first, last = ends(*square(patch, row, pixel, lanes, n))
        put(first, to, step)
        put(last, to + 5 * n * step, step)
        near, minus_near = nears(*square(patch, row, pixel, lanes, n))
        put(near, to + n * step, step)
        put(minus_near, to + 2 * n * step, step)
        far, minus_far = fars(*square(patch, row, pixel, lanes, n))
        put(far, to + 3 * n * step, step)
        put(minus_far, to + 4 * n * step, step)

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
    n, line, with_bias = m + 2, OUTPUT_LINE[m], PLUS_LINES[m]

    @helper
    def words(products, step, bias):
        columns = line(*square(products, n * step, step, lanes, n))
        return with_bias(bias, *turned(line(*turned(columns))))

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
