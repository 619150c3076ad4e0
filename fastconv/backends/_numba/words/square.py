"""Words for squares and rectangles of pixels: a tile for each row, a vector for each pixel.

==============================  ====================================================
square(p, y, x, lanes, n, k)    n tiles of k rows: p[i*y + r*x : ... + lanes]
store_square(ts, p, y, x)       p[i*y + r*x : ... + lanes] = row r of tile i
turned(ts)                      tile r has the rows r of the given ones
==============================  ====================================================

They are values too, and `turned`, which transposes, only renames their vectors. Arithmetic on
tiles works down the columns of a square; after `turned`, along its rows.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .pointer import literal, word
from .tile import Tile, load_vector, store_vector, vectors_of

__all__ = ["square", "store_square", "turned"]


@word
def square(
    typing: Any, source: Any, down: Any, across: Any, lanes: Any, tiles: Any, rows: Any
) -> Any:
    """`tiles` tiles of `rows` rows of one vector: source[i*down + r*across : ... + lanes]."""
    n, k = literal(tiles), literal(rows)
    kind = Tile(source.dtype, literal(lanes), k, 1)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        loaded = []
        for i in range(n):
            places = [place(builder, args[0], (args[1], i), (args[2], r)) for r in range(k)]
            row = [load_vector(builder, kind, pointer) for pointer in places]
            loaded.append(cgutils.pack_array(builder, row))
        return cgutils.pack_array(builder, loaded)

    result = types.UniTuple(kind, n)
    return result(source, types.intp, types.intp, lanes, tiles, rows), generate


@word
def store_square(typing: Any, tiles: Any, target: Any, down: Any, across: Any) -> Any:
    """target[i*down + r*across : ... + lanes] = tiles[i][r], for tiles of one vector."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for i in range(tiles.count):
            for r, value in enumerate(vectors_of(builder, builder.extract_value(args[0], i))):
                pointer = place(builder, args[1], (args[2], i), (args[3], r))
                store_vector(builder, tiles.dtype, value, pointer)
        return context.get_dummy_value()

    return types.none(tiles, target, types.intp, types.intp), generate


def place(builder: Any, pointer: Any, *steps: tuple[Any, int]) -> Any:
    """The pointer moved by so many of each step."""
    for step, count in steps:
        pointer = builder.gep(pointer, [builder.mul(step, ir.Constant(step.type, count))])
    return pointer


@word
def turned(typing: Any, tiles: Any) -> Any:
    """Transpose tiles of one vector: tile r of the result has row r of each."""
    given = tiles.dtype
    kind = Tile(given.dtype, given.lanes, tiles.count, 1)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = [vectors_of(builder, builder.extract_value(args[0], i)) for i in range(tiles.count)]
        columns = [cgutils.pack_array(builder, column) for column in zip(*rows, strict=True)]
        return cgutils.pack_array(builder, columns)

    return types.UniTuple(kind, given.rows)(tiles), generate
