"""Words for a residual: images that are added to a convolution's output while it is in registers.

==============================  ====================================================
plus_rows(t, p, at)             t[r] += p[at[r] : ... + K*lanes]
plus_parts(t, p, at, n)         t[r, 0 : n] += p[at[r] : ... + n]
plus_square(ts, p, y, x)        row r of tile i += p[i*y + r*x : ... + lanes]
==============================  ====================================================
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .pointer import clear, copy, element, helper, offsets, word
from .square import place
from .tile import load_vector, vectors_of

__all__ = ["plus_residual", "plus_residual_lines", "plus_rows"]


@word
def plus_rows(typing: Any, t: Any, source: Any, at: Any) -> Any:
    """t[r] += source[at[r] : at[r] + K*lanes]."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        sums = []
        for i, value in enumerate(vectors_of(builder, args[0])):
            r, v = divmod(i, t.vectors)
            row = builder.gep(args[1], [builder.extract_value(args[2], r)])
            sums.append(builder.fadd(value, load_vector(builder, t, row, v)))
        return cgutils.pack_array(builder, sums)

    return t(t, source, at), generate


@word
def plus_parts(typing: Any, t: Any, source: Any, at: Any, count: Any) -> Any:
    """t[r, 0 : count] += source[at[r] : at[r] + count]."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.ArrayType(element(t.dtype), t.vectors * t.lanes)
        buffer = cgutils.alloca_once(builder, kind)
        builder.store(ir.Constant(kind, None), buffer)
        start = cgutils.gep_inbounds(builder, buffer, 0, 0)
        size = ir.Constant(args[3].type, t.dtype.bitwidth // 8)
        sums = []
        for i, value in enumerate(vectors_of(builder, args[0])):
            r, v = divmod(i, t.vectors)
            if v == 0:
                row = builder.gep(args[1], [builder.extract_value(args[2], r)])
                cgutils.raw_memcpy(builder, start, row, args[3], size)
            sums.append(builder.fadd(value, load_vector(builder, t, start, v)))
        return cgutils.pack_array(builder, sums)

    return t(t, source, at, types.intp), generate


@word
def plus_square(typing: Any, tiles: Any, source: Any, down: Any, across: Any) -> Any:
    """tiles[i][r] += source[i*down + r*across : ... + lanes], for tiles of one vector."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        sums = []
        for i in range(tiles.count):
            row = []
            for r, value in enumerate(vectors_of(builder, builder.extract_value(args[0], i))):
                pointer = place(builder, args[1], (args[2], i), (args[3], r))
                row.append(builder.fadd(value, load_vector(builder, tiles.dtype, pointer)))
            sums.append(cgutils.pack_array(builder, row))
        return cgutils.pack_array(builder, sums)

    return tiles(tiles, source, types.intp, types.intp), generate


@cache  # compiled once, for all kernels
def plus_residual(rows: int, width: int) -> Any:
    """A tile plus the values at the places of a table; `left` columns are left from here on."""

    @helper
    def words(t, source, goes, left):
        if left >= width:
            return plus_rows(t, source, offsets(goes, rows))
        return plus_parts(t, source, offsets(goes, rows), left)

    return words


@cache  # compiled once, for all kernels
def plus_residual_lines(high: int, wide: int, lanes: int) -> Any:
    """`high` x `wide` pixels plus the residual, if there is one."""

    @helper
    def words(lines, source, row, pixel, rows, columns, channels, spare):
        if rows >= high and columns >= wide and channels >= lanes:
            return plus_square(lines, source, row, pixel)
        clear(spare, high * wide * lanes)
        for y in range(min(rows, high)):
            for x in range(min(columns, wide)):
                to, pixels = spare + (y * wide + x) * lanes, source + (y * row + x * pixel)
                copy(to, pixels, min(channels, lanes))
        return plus_square(lines, spare, wide * lanes, lanes)

    return words
