"""Words for channels that stay in their lanes: each is multiplied by the other's same lane.

==============================  ====================================================
rows_of(p, at, lanes)           t[r] = p[at[r] : ... + lanes]
times(t, x, at, w)              t[r] += x[at[r] : ... + lanes] * w[0 : lanes]
sum_times(t, x, at, d)          t[0] += sum over r of x[at[r] : ... + lanes] * d[r]
sum_of_rows(t, d)               t[0] += sum over r of d[r]
==============================  ====================================================

All tiles have one vector, and as many rows as `at` has entries.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils

from .pointer import literal, word
from .tile import Tile, load_vector, multiply_add, vectors_of

__all__ = ["rows_of", "sum_of_rows", "sum_times", "times"]


def pixels(builder: Any, kind: Tile, source: Any, places: Any, count: int) -> list[Any]:
    """Vectors at `count` places of the source."""
    at = [builder.extract_value(places, r) for r in range(count)]
    return [load_vector(builder, kind, builder.gep(source, [place])) for place in at]


@word
def rows_of(typing: Any, source: Any, at: Any, lanes: Any) -> Any:
    """t[r] = source[at[r] : ... + lanes]."""
    kind = Tile(source.dtype, literal(lanes), at.count, 1)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vectors = pixels(builder, kind, args[0], args[1], kind.rows)
        return cgutils.pack_array(builder, vectors)

    return kind(source, at, lanes), generate


@word
def times(typing: Any, t: Any, x: Any, at: Any, w: Any) -> Any:
    """t[r] += x[at[r] : ... + lanes] * w[0 : lanes]."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        weight = load_vector(builder, t, args[3])
        factors = pixels(builder, t, args[1], args[2], t.rows)
        pairs = zip(factors, vectors_of(builder, args[0]), strict=True)
        fused = multiply_add(builder, t)
        return cgutils.pack_array(builder, [builder.call(fused, [p, weight, s]) for p, s in pairs])

    return t(t, x, at, w), generate


@word
def sum_times(typing: Any, t: Any, x: Any, at: Any, d: Any) -> Any:
    """t[0] += sum over r of x[at[r] : ... + lanes] * d[r]."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (total,) = vectors_of(builder, args[0])
        factors = pixels(builder, t, args[1], args[2], d.rows)
        for pixel, value in zip(factors, vectors_of(builder, args[3]), strict=True):
            total = builder.call(multiply_add(builder, t), [pixel, value, total])
        return cgutils.pack_array(builder, [total])

    return t(t, x, at, d), generate


@word
def sum_of_rows(typing: Any, t: Any, d: Any) -> Any:
    """t[0] += sum over r of d[r]."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (total,) = vectors_of(builder, args[0])
        for value in vectors_of(builder, args[1]):
            total = builder.fadd(total, value)
        return cgutils.pack_array(builder, [total])

    return t(t, d), generate
