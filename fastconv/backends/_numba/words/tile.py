"""The kernels' words for arithmetic: only they and the words beside them handle vectors.

A **tile** is R rows of K vectors, held by value: an immutable Numba type whose data
model is an LLVM array of vectors, so that LLVM keeps it in registers from the first
word to the last.

==============================  ====================================================
tile(p, lanes, R, K)            t[r] = p[0 : K*lanes]
fill(p, x, lanes)               one vector of x, of p's element type
rank1(t, x, at, i, w)           t[r] += x[at[r] + i] * w[0 : K*lanes]
window(t, p, step, a)           t[3*i + j] += a * p[i*step + j*K*lanes : ... + K*lanes]
plus(t, p)                      t[r] += p[0 : K*lanes]
store(t, p, at)                 p[at[r] : ... + K*lanes] = t[r]
store_part(t, p, at, n)         p[at[r] : ... + n] = t[r, 0 : n]
add(t, p, step)                 p[r*step : ... + K*lanes] += t[r]
a + b, a - b                    elementwise
scaled(s, a), muladd(s, a, b)   s*a and s*a + b, for a number s
relu(t), every(t, first, step)  0 where t <= 0; rows first, first + step, ...
best_of_four(a, b, c, d)        the largest, and which it is: one byte an element
where_better, where_equal, where_positive    selection of elements by comparison
all_zero(t)                     whether all elements are 0 or -0
==============================  ====================================================

A tile's shape (lanes, R, K) is compile-time constant. Squares of tiles: see `square`.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from .pointer import I32, element, literal, word

__all__ = [
    "add",
    "all_zero",
    "best_of_four",
    "every",
    "fill",
    "muladd",
    "plus",
    "rank1",
    "relu",
    "scaled",
    "store",
    "store_part",
    "tile",
    "where_better",
    "where_equal",
    "where_positive",
    "window",
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
    """Vector number `index` from `pointer` on, which is aligned only for an element."""
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


def multiply_add(builder: Any, kind: Tile) -> Any:
    """LLVM's function of three vectors: a*b + c."""
    # fmuladd, not fma: where the hardware has none, fma becomes a library call.
    name = f"llvm.fmuladd.v{kind.lanes}f{kind.dtype.bitwidth}"
    signature_ = ir.FunctionType(vector(kind), [vector(kind)] * 3)
    return cgutils.get_or_insert_function(builder.module, signature_, name)


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
        rows = []
        for r in range(t.rows):
            row = builder.gep(x_at, [builder.extract_value(places, r)])
            pixel = splat(builder, t, builder.load(builder.gep(row, [index])))
            for v in range(t.vectors):
                total = builder.extract_value(sums, r * t.vectors + v)
                rows.append(builder.call(multiply_add(builder, t), [pixel, weights[v], total]))
        return cgutils.pack_array(builder, rows)

    return t(t, x, at, types.intp, w), generate


@word
def window(typing: Any, t: Any, source: Any, step: Any, factor: Any) -> Any:
    """t[3*i + j] += factor * source[i*step + j*K*lanes : ... + K*lanes], i and j below 3."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        sums, source_at, row_step, value = args
        many = splat(builder, t, value)
        totals: list[Any] = []
        for i in range(3):
            row = builder.gep(source_at, [builder.mul(row_step, ir.Constant(row_step.type, i))])
            for v in range(3 * t.vectors):
                pixel = load_vector(builder, t, row, v)
                total = builder.extract_value(sums, len(totals))
                totals.append(builder.call(multiply_add(builder, t), [many, pixel, total]))
        return cgutils.pack_array(builder, totals)

    return t(t, source, types.intp, t.dtype), generate


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


# ---- elementwise ------------------------------------------------------------------------------


@infer_global(operator.add)
@infer_global(operator.sub)
class TileArithmetic(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], Tile) and args[0] == args[1]:
            return signature(args[0], *args)
        return None


def elementwise(operation: str) -> Any:
    """An operator's code: LLVM's `operation` on each vector of two tiles."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pairs = zip(*(vectors_of(builder, arg) for arg in args), strict=True)
        return cgutils.pack_array(builder, [getattr(builder, operation)(*pair) for pair in pairs])

    return generate


lower_builtin(operator.add, Tile, Tile)(elementwise("fadd"))
lower_builtin(operator.sub, Tile, Tile)(elementwise("fsub"))


@word
def scaled(typing: Any, s: Any, a: Any) -> Any:
    """s*a, where the number s is converted to the tile's element type."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        factor = splat(builder, a, args[0])
        products = [builder.fmul(factor, value) for value in vectors_of(builder, args[1])]
        return cgutils.pack_array(builder, products)

    return a(a.dtype, a), generate


@word
def muladd(typing: Any, s: Any, a: Any, b: Any) -> Any:
    """s*a + b, where the number s is converted to the tiles' element type."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        factor = splat(builder, a, args[0])
        pairs = zip(vectors_of(builder, args[1]), vectors_of(builder, args[2]), strict=True)
        sums = [builder.call(multiply_add(builder, a), [factor, *pair]) for pair in pairs]
        return cgutils.pack_array(builder, sums)

    return a(a.dtype, a, b), generate


# ---- comparison and selection ---------------------------------------------------------------


def better(builder: Any, a: Any, b: Any) -> Any:
    """Whether a > b, or a is NaN and b is not: a NaN beats numbers, and nothing beats a NaN."""
    return builder.and_(builder.fcmp_unordered(">", a, b), builder.fcmp_ordered("ord", b, b))


def equal(builder: Any, a: Any, b: Any) -> Any:
    return builder.icmp_unsigned("==", a, b)


def positive(builder: Any, a: Any) -> Any:
    return builder.fcmp_ordered(">", a, ir.Constant(a.type, None))


def selection(compare: Any) -> Any:
    """A word's code: lane by lane, the tile `yes` where `compare` holds, else the tile `no`."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        chosen = [
            builder.select(compare(builder, *values), yes, no)
            for *values, yes, no in zip(*(vectors_of(builder, arg) for arg in args), strict=True)
        ]
        return cgutils.pack_array(builder, chosen)

    return generate


@word
def where_better(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """The tile `yes` where a > b, or a is NaN and b is not; elsewhere the tile `no`."""
    return yes(a, b, yes, no), selection(better)


@word
def where_equal(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """The tile `yes` where a == b (integers); elsewhere the tile `no`."""
    return yes(a, b, yes, no), selection(equal)


@word
def where_positive(typing: Any, a: Any, yes: Any, no: Any) -> Any:
    """The tile `yes` where a > 0 (false for a NaN); elsewhere the tile `no`."""
    return yes(a, yes, no), selection(positive)


@word
def relu(typing: Any, t: Any) -> Any:
    """0 where t <= 0, else t; a NaN stays."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = ir.Constant(vector(t), None)
        values = [
            builder.select(builder.fcmp_ordered("<=", value, zero), zero, value)
            for value in vectors_of(builder, args[0])
        ]
        return cgutils.pack_array(builder, values)

    return t(t), generate


@word
def all_zero(typing: Any, t: Any) -> Any:
    """Whether all elements are 0 or -0; a NaN is not."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = ir.IntType(t.lanes)
        some = bits(0)
        for value in vectors_of(builder, args[0]):
            differs = builder.fcmp_unordered("!=", value, ir.Constant(vector(t), None))
            some = builder.or_(some, builder.bitcast(differs, bits))
        return builder.icmp_unsigned("==", some, bits(0))

    return types.boolean(t), generate


@word
def best_of_four(typing: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The largest of a, b, c, d, a NaN above all, and its number; 4 where it is not above 0.

    Of equal ones it is the first.
    """
    number = Tile(types.uint8, a.lanes, a.rows, a.vectors)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        best, numbers = vectors_of(builder, args[0]), []
        places = [ir.Constant(vector(number), [place] * a.lanes) for place in range(5)]
        others = [vectors_of(builder, arg) for arg in args[1:]]
        for i, largest in enumerate(best):
            place = places[0]
            for value, here in zip([other[i] for other in others], places[1:4], strict=True):
                is_better = better(builder, value, largest)
                largest = builder.select(is_better, value, largest)
                place = builder.select(is_better, here, place)
            best[i] = largest
            numbers.append(builder.select(positive(builder, largest), place, places[4]))
        pair = [cgutils.pack_array(builder, vectors) for vectors in (best, numbers)]
        return context.make_tuple(builder, sig.return_type, pair)

    return types.Tuple((a, number))(a, b, c, d), generate


# ---- rows -------------------------------------------------------------------------------------


@word
def every(typing: Any, t: Any, first: Any, step: Any) -> Any:
    """Rows first, first + step, ... of t as a tile."""
    rows = range(literal(first), t.rows, literal(step))
    kind = Tile(t.dtype, t.lanes, len(rows), t.vectors)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = vectors_of(builder, args[0])
        chosen = [value for r in rows for value in values[r * t.vectors : (r + 1) * t.vectors]]
        return cgutils.pack_array(builder, chosen)

    return kind(t, first, step), generate
