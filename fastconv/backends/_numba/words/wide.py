"""The kernels' words for sums of many terms: tiles of doubles, and products of tiles.

==============================  ====================================================
zeros(p, lanes, K)              one row of K vectors of p's element type, 0
wide(p, lanes)                  one vector of p's elements, as doubles
add_wide(t, p)                  p[0 : lanes] += t, one vector, as doubles
a * b                           elementwise
==============================  ====================================================

Tiles: see `tile`. Here a vector of doubles has as many lanes as one of p's elements, and may fill
several registers; LLVM sees to that.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import infer_global
from numba.extending import lower_builtin

from .pointer import literal, word
from .tile import Tile, TileArithmetic, elementwise, load_vector, store_vector, vector

__all__ = ["add_wide", "wide", "zeros"]

infer_global(operator.mul)(TileArithmetic)
lower_builtin(operator.mul, Tile, Tile)(elementwise("fmul"))


@word
def zeros(typing: Any, like: Any, lanes: Any, vectors: Any) -> Any:
    """One row of zeros, of the element type of the pointer `like`."""
    kind = Tile(like.dtype, literal(lanes), 1, literal(vectors))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(kind), None)

    return kind(like, lanes, vectors), generate


@word
def wide(typing: Any, source: Any, lanes: Any) -> Any:
    """One vector of source[0 : lanes], as doubles."""
    kind = Tile(types.float64, literal(lanes), 1, 1)
    given = Tile(source.dtype, kind.lanes, 1, 1)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = load_vector(builder, given, args[0])
        if given.dtype != kind.dtype:
            value = builder.fpext(value, vector(kind))
        return cgutils.pack_array(builder, [value])

    return kind(source, lanes), generate


@word
def add_wide(typing: Any, t: Any, target: Any) -> Any:
    """target[0 : lanes] += t, of one vector, where target's elements are doubles."""
    kind = Tile(types.float64, t.lanes, 1, 1)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = builder.extract_value(args[0], 0)
        if t.dtype != kind.dtype:
            value = builder.fpext(value, vector(kind))
        total = builder.fadd(load_vector(builder, kind, args[1]), value)
        store_vector(builder, kind, total, args[1])
        return context.get_dummy_value()

    return types.none(t, target), generate
