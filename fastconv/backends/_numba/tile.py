"""The kernels' words for arithmetic, and the only file that knows vectors.

A **tile** is R rows of K vectors, held by value: an immutable Numba type whose data
model is an LLVM array of vectors, so that LLVM keeps it in registers from the first
word to the last.

==============================  ====================================================
tile(p, lanes, R, K)            t[r] = p[0 : K*lanes]
fill(p, x, lanes)               one vector of x, of p's element type
rank1(t, x, at, i, w)           t[r] += x[at[r] + i] * w[0 : K*lanes]
plus(t, p)                      t[r] += p[0 : K*lanes]
store(t, p, at)                 p[at[r] : ... + K*lanes] = t[r]
store_part(t, p, at, n)         p[at[r] : ... + n] = t[r, 0 : n]
add(t, p, step)                 p[r*step : ... + K*lanes] += t[r]
where_better, where_equal, where_positive    selection of elements by comparison
==============================  ====================================================

What shapes a tile (lanes, R, K) are compile-time constants.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from .pointer import I32, element, literal, word

__all__ = [
    "add",
    "fill",
    "plus",
    "rank1",
    "store",
    "store_part",
    "tile",
    "where_better",
    "where_equal",
    "where_positive",
]


# ---- the type -------------------------------------------------------------------------------


class Tile(types.Type):
    """`rows` rows of `vectors` vectors of `lanes` elements."""

    def __init__(self, dtype: Any, lanes: int, rows: int, vectors: int) -> None:
        self.dtype, self.lanes, self.rows, self.vectors = dtype, lanes, rows, vectors
        super().__init__(f"Tile({dtype}, {lanes}, {rows}, {vectors})")


def vector(kind: Tile) -> Any:
    """LLVM's type of one vector of a tile."""
    return ir.VectorType(element(kind.dtype), kind.lanes)


@register_model(Tile)
class TileModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Tile) -> None:
        super().__init__(manager, kind, ir.ArrayType(vector(kind), kind.rows * kind.vectors))


# ---- what the code generators share -----------------------------------------------------


def load_vector(builder: Any, kind: Tile, pointer: Any, index: int = 0) -> Any:
    """Vector number `index` from `pointer` on, which is aligned as an element is."""
    place = builder.gep(pointer, [I32(index * kind.lanes)])
    place = builder.bitcast(place, vector(kind).as_pointer())
    return builder.load(place, align=kind.dtype.bitwidth // 8)


def store_vector(builder: Any, kind: Tile, value: Any, pointer: Any, index: int = 0) -> None:
    """Counterpart of `load_vector`."""
    place = builder.gep(pointer, [I32(index * kind.lanes)])
    place = builder.bitcast(place, vector(kind).as_pointer())
    builder.store(value, place, align=kind.dtype.bitwidth // 8)


def splat(builder: Any, kind: Tile, value: Any) -> Any:
    """A vector with `value` in every lane."""
    nothing = ir.Constant(vector(kind), ir.Undefined)
    first = builder.insert_element(nothing, value, I32(0))
    lanes = ir.Constant(ir.VectorType(I32, kind.lanes), [0] * kind.lanes)
    return builder.shuffle_vector(first, nothing, lanes)


def vectors_of(builder: Any, value: Any) -> list[Any]:
    """Return the vectors of a tile's value, row by row."""
    return [builder.extract_value(value, i) for i in range(value.type.count)]


# ---- tiles --------------------------------------------------------------------------------


@word
def tile(typing: Any, source: Any, lanes: Any, rows: Any, vectors: Any) -> Any:
    """A tile whose rows are all source[0 : vectors*lanes]."""
    kind = Tile(source.dtype, literal(lanes), literal(rows), literal(vectors))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row = [load_vector(builder, kind, args[0], v) for v in range(kind.vectors)]
        return cgutils.pack_array(builder, row * kind.rows)

    return kind(source, lanes, rows, vectors), generate


@word
def fill(typing: Any, like: Any, value: Any, lanes: Any) -> Any:
    """One vector of `value`, converted to the element type of the pointer `like`."""
    kind = Tile(like.dtype, literal(lanes), 1, 1)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return cgutils.pack_array(builder, [splat(builder, kind, args[1])])

    return kind(like, like.dtype, lanes), generate


@word
def rank1(typing: Any, t: Any, x: Any, at: Any, i: Any, w: Any) -> Any:
    """t[r] += x[at[r] + i] * w[0 : K*lanes]: an outer product is added to the tile."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        sums, x_at, places, index, w_at = args
        weights = [load_vector(builder, t, w_at, v) for v in range(t.vectors)]
        # fmuladd, not fma: where the hardware has none, fma becomes a library call.
        name = f"llvm.fmuladd.v{t.lanes}f{t.dtype.bitwidth}"
        kind = ir.FunctionType(vector(t), [vector(t)] * 3)
        multiply_add = cgutils.get_or_insert_function(builder.module, kind, name)
        rows = []
        for r in range(t.rows):
            row = builder.gep(x_at, [builder.extract_value(places, r)])
            pixel = splat(builder, t, builder.load(builder.gep(row, [index])))
            for v in range(t.vectors):
                total = builder.extract_value(sums, r * t.vectors + v)
                rows.append(builder.call(multiply_add, [pixel, weights[v], total]))
        return cgutils.pack_array(builder, rows)

    return t(t, x, at, types.intp, w), generate


@word
def plus(typing: Any, t: Any, source: Any) -> Any:
    """t[r] += source[0 : K*lanes]."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row = [load_vector(builder, t, args[1], v) for v in range(t.vectors)]
        sums = [
            builder.fadd(value, row[i % t.vectors])
            for i, value in enumerate(vectors_of(builder, args[0]))
        ]
        return cgutils.pack_array(builder, sums)

    return t(t, source), generate


@word
def store(typing: Any, t: Any, target: Any, at: Any) -> Any:
    """target[at[r] : at[r] + K*lanes] = t[r]."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for i, value in enumerate(vectors_of(builder, args[0])):
            r, v = divmod(i, t.vectors)
            row = builder.gep(args[1], [builder.extract_value(args[2], r)])
            store_vector(builder, t, value, row, v)
        return context.get_dummy_value()

    return types.none(t, target, at), generate


@word
def store_part(typing: Any, t: Any, target: Any, at: Any, count: Any) -> Any:
    """target[at[r] : at[r] + count] = t[r, 0 : count]."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.ArrayType(element(t.dtype), t.vectors * t.lanes)
        buffer = cgutils.alloca_once(builder, kind)
        start = cgutils.gep_inbounds(builder, buffer, 0, 0)
        size = ir.Constant(args[3].type, t.dtype.bitwidth // 8)
        values = vectors_of(builder, args[0])
        for r in range(t.rows):
            for v in range(t.vectors):
                store_vector(builder, t, values[r * t.vectors + v], start, v)
            row = builder.gep(args[1], [builder.extract_value(args[2], r)])
            cgutils.raw_memcpy(builder, row, start, args[3], size)
        return context.get_dummy_value()

    return types.none(t, target, at, types.intp), generate


@word
def add(typing: Any, t: Any, target: Any, step: Any) -> Any:
    """target[r*step : r*step + K*lanes] += t[r]."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for i, value in enumerate(vectors_of(builder, args[0])):
            r, v = divmod(i, t.vectors)
            row = builder.gep(args[1], [builder.mul(args[2], ir.Constant(args[2].type, r))])
            total = builder.fadd(load_vector(builder, t, row, v), value)
            store_vector(builder, t, total, row, v)
        return context.get_dummy_value()

    return types.none(t, target, types.intp), generate


# ---- comparison and selection ---------------------------------------------------------------


def selection(compare: Any) -> Any:
    """A word's code: lane by lane the third tile where `compare` holds of the first two."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b, yes, no = (vectors_of(builder, arg) for arg in args)
        chosen = [
            builder.select(compare(builder, a[i], b[i]), yes[i], no[i]) for i in range(len(a))
        ]
        return cgutils.pack_array(builder, chosen)

    return generate


@selection
def is_better(builder: Any, a: Any, b: Any) -> Any:
    # Unordered or greater, and b no NaN: a NaN beats every number, and nothing beats a NaN.
    return builder.and_(builder.fcmp_unordered(">", a, b), builder.fcmp_ordered("ord", b, b))


@selection
def is_equal(builder: Any, a: Any, b: Any) -> Any:
    return builder.icmp_unsigned("==", a, b)


@word
def where_better(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """The tile `yes` where a > b, or a is NaN and b is not; elsewhere the tile `no`."""
    return yes(a, b, yes, no), is_better


@word
def where_equal(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """The tile `yes` where a == b (integers); elsewhere the tile `no`."""
    return yes(a, b, yes, no), is_equal


@word
def where_positive(typing: Any, a: Any, yes: Any, no: Any) -> Any:
    """The tile `yes` where a > 0 (false for a NaN); elsewhere the tile `no`."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values, passed, stopped = (vectors_of(builder, arg) for arg in args)
        zero = ir.Constant(vector(a), None)
        chosen = [
            builder.select(builder.fcmp_ordered(">", value, zero), passed[i], stopped[i])
            for i, value in enumerate(values)
        ]
        return cgutils.pack_array(builder, chosen)

    return yes(a, yes, no), generate
