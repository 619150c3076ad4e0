"""Grouped convolution with any stride and dilation: one product for each place of the window.

    for row of the target, in parallel:
        target = start
        for group:  for tap (ky, kx) that reaches the row:
            target(pixels that the tap reaches) += source(their pixels, c) * weight(tap, c)

What is added to, a group's channels of one row, stays in the first cache. Which pixels a tap
reaches, and where it reads, are in the tables of `window_tables`; the input gradient has the
same loops and other tables. The weight gradient turns the product round,

    sums(tap, c) += x(pixels, c) * dout(pixels)

with sums of its own for each thread, since all rows add to the same. The register tile is that
of `product`; pixels that do not fill it go by half of it, and one by one.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from typing import Any

from .build import Kernel
from .pointer import LONG, clear, copy, helper, numbers, pointers, share, steps
from .product import add_rows
from .tile import add, rank1, store, tile

__all__ = ["grouped", "grouped_sums"]


def add_product(lanes: int, rows: int, vectors: int) -> Any:
    """target[r] += sum over i of x[r*x_r + i*x_i] * w[i*w_i : ... + width], some columns of it."""
    width = lanes * vectors

    @helper
    def words(x, x_r, x_i, count, w, w_i, zeros, spare, target, step, columns):
        t = tile(zeros, lanes, rows, vectors)
        at = steps(x_r, rows)
        for i in range(count):
            t = rank1(t, x, at, i * x_i, w + i * w_i)
        if columns >= width:
            add(t, target, step)
        else:
            store(t, spare, steps(width, rows))
            for r in range(rows):
                for j in range(columns):
                    target[r * step + j] = target[r * step + j] + spare[r * width + j]

    return words


def add_products(lanes: int, rows: int, vectors: int) -> Any:
    """The same for any number of rows, cut into tiles, and any number of columns."""
    width, half = lanes * vectors, max(1, rows // 2)
    whole_tile, half_tile, one_row = (add_product(lanes, r, vectors) for r in (rows, half, 1))

    @helper
    def words(x, x_r, x_i, count, w, w_i, zeros, spare, target, step, height, columns):
        tiled = height // rows * rows
        halved = tiled + (height - tiled) // half * half
        for j in range(0, columns, width):
            left = columns - j
            for r in range(0, tiled, rows):
                whole_tile(
                    *(x + r * x_r, x_r, x_i, count, w + j, w_i, zeros, spare),
                    *(target + (r * step + j), step, left),
                )
            for r in range(tiled, halved, half):
                half_tile(
                    *(x + r * x_r, x_r, x_i, count, w + j, w_i, zeros, spare),
                    *(target + (r * step + j), step, left),
                )
            for r in range(halved, height):
                one_row(
                    *(x + r * x_r, x_r, x_i, count, w + j, w_i, zeros, spare),
                    *(target + (r * step + j), step, left),
                )

    return words


def grouped(real: int, lanes: int, rows: int, vectors: int) -> Kernel:
    """target [image][row][column][c] from source, and taps [group][tap][c][width]."""
    add_tap = add_products(lanes, rows, vectors)

    def kernel(block, part, parts):
        source, taps, start, zeros, spare, target = pointers(block, 0, 6, real)
        row_table, column_table = pointers(block, 6, 2, LONG)
        images, height, columns, groups, fh, fw, width = numbers(block, 8, 7)
        source_c, source_row, source_size, target_c = numbers(block, 15, 4)
        source_step, target_step = numbers(block, 19, 2)
        depth, wide = source_c // groups, target_c // groups
        spare = spare + part * rows * lanes * vectors
        first, last = share(images * height, part, parts)
        for row in range(first, last):
            image = source + row // height * source_size
            to = target + row * columns * target_c
            for u in range(columns):
                copy(to + u * target_c, start, target_c)
            for group in range(groups):
                for ky in range(fh):
                    y = row_table[row % height * fh + ky]
                    if y >= 0:
                        for kx in range(fw):
                            across = column_table + 3 * kx
                            add_tap(
                                image + (y * source_row + across[1] * source_c + group * depth),
                                *(source_step * source_c, 1, depth),
                                *(taps + ((group * fh + ky) * fw + kx) * depth * width, width),
                                *(zeros, spare, to + (across[0] * target_c + group * wide)),
                                *(target_step * target_c, across[2], wide),
                            )

    return kernel


def grouped_sums(real: int, lanes: int, rows: int, vectors: int) -> Kernel:
    """sums [part][group][tap][c][filter] and totals [part][filter]; filters fill vectors."""
    add_tap, add_to_total = add_products(lanes, rows, vectors), add_rows(lanes, 1)

    def kernel(block, part, parts):
        dout, x, zeros, spare, sums, totals = pointers(block, 0, 6, real)
        row_table, column_table = pointers(block, 6, 2, LONG)
        images, height, columns, groups, fh, fw = numbers(block, 8, 6)
        source_c, source_row, source_size, filters, source_step = numbers(block, 14, 5)
        depth, wide = source_c // groups, filters // groups
        spare = spare + part * rows * lanes * vectors
        volume = fh * fw * depth * filters
        sums = sums + part * volume
        total = totals + part * filters
        clear(sums, volume)
        clear(total, filters)
        first, last = share(images * height, part, parts)
        for row in range(first, last):
            image = x + row // height * source_size
            gradient = dout + row * columns * filters
            for f in range(0, filters, lanes):
                add_to_total(total + f, gradient + f, filters, columns, zeros)
            for group in range(groups):
                for ky in range(fh):
                    y = row_table[row % height * fh + ky]
                    if y >= 0:
                        for kx in range(fw):
                            across = column_table + 3 * kx
                            add_tap(
                                image + (y * source_row + across[1] * source_c + group * depth),
                                *(1, source_step * source_c, across[2]),
                                *(gradient + (across[0] * filters + group * wide), filters),
                                *(zeros, spare),
                                sums + ((group * fh + ky) * fw + kx) * depth * wide,
                                *(wide, depth, wide),
                            )

    return kernel
