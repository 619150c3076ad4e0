"""Average pooling, forward and backward: weighted sums over ranges of rows and columns.

    for row i of the result, in parallel:  for column j:  for block of K vectors of channels:
        t = 0
        for y in range(i):
            part = 0;  for x in range(j):  part += inner(x) * source(y, x, block)
            t += inner(y) * part
        result(i, j, block) = t * outer(i) * outer(j)

Memory is channels-last, so channels fill the vectors. A block is a cache line or two: the pixels
of a window may all fall into one set of the first cache, and would not stay there to be read
again. Channels that do not fill a block go one by one, through the same code. A separate sum for
each row keeps large windows accurate.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from typing import Any

from .launch.build import Kernel
from .words.pointer import helper, share
from .words.record import takes
from .words.tile import muladd, scaled, store, tile
from .words.wide import zeros

__all__ = ["window_sums"]


def window_sum(lanes: int, vectors: int) -> Any:
    """One place of the result, for one block of channels."""

    @helper
    def words(source, down, across, inner_rows, inner_columns, outer, row_step, step, result):
        nothing = zeros(result, lanes, vectors)
        total = nothing
        for y in range(down[0], down[1]):
            part = nothing
            for x in range(across[0], across[1]):
                pixel = tile(source + (y * row_step + x * step), lanes, 1, vectors)
                part = muladd(inner_columns[x], pixel, part)
            total = muladd(inner_rows[y], part, total)
        store(scaled(outer, total), result, (0,))

    return words


@takes(
    real="source result inner_rows outer_rows inner_columns outer_columns",
    int64="rows columns",
    integers="images channels height width oh ow",
)
def window_sums(real: int, lanes: int) -> Kernel:
    """result [image][i][j][channel] from source [image][y][x][channel]."""
    block_sum, single_sum = window_sum(lanes, 2), window_sum(1, 1)

    def kernel(a, part, parts):
        channels, row_step = a.channels, a.width * a.channels
        whole = channels // (2 * lanes) * (2 * lanes)
        first, last = share(a.images * a.oh, part, parts)
        for row in range(first, last):
            image, i = row // a.oh, row % a.oh
            down = (a.rows[2 * i], a.rows[2 * i + 1])
            for j in range(a.ow):
                across = (a.columns[2 * j], a.columns[2 * j + 1])
                sizes = a.outer_rows[i] * a.outer_columns[j], row_step, channels
                s = a.source + image * a.height * row_step
                r = a.result + (row * a.ow + j) * channels
                for c in range(0, whole, 2 * lanes):
                    block_sum(s + c, down, across, a.inner_rows, a.inner_columns, *sizes, r + c)
                for c in range(whole, channels):
                    single_sum(s + c, down, across, a.inner_rows, a.inner_columns, *sizes, r + c)

    return kernel
