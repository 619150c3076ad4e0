"""The kernels' words for runs of a few values, and for memory that no cache should keep.

==============================  ====================================================
lay(p, q, at, n, lanes)         p[r*n : ... + n] = q[at[r] : ... + n] for `lanes` such runs
keep(t, n)                      t[r, 0 : n], zeros after
address(p)                      in elements, not in bytes
store_past_caches(t, p)         p[0 : lanes] = t, and no cache keeps it
end_past_caches()               other threads see what was stored past the caches
==============================  ====================================================

Tiles: see `tile`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .pointer import I32, literal, word
from .tile import Tile, load_vector, store_vector, vector, vectors_of

__all__ = ["address", "end_past_caches", "keep", "lay", "store_past_caches"]


# ---- runs -----------------------------------------------------------------------------------


@word
def lay(typing: Any, target: Any, base: Any, at: Any, width: Any, lanes: Any) -> Any:
    """`lanes` runs of `width` elements from base[at[r]] on, laid down one after the other.

    Each is loaded shifted to its place in a whole vector, over what does not belong to the runs
    before it: up to a vector before and after a run is read, too.
    """
    kind, count = Tile(target.dtype, literal(lanes), 1, 1), literal(width)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        to, source, table = args[:3]

        def run(r: int, shift: int) -> Any:
            place = builder.load(builder.gep(table, [I32(r)]))
            moved = builder.add(place, ir.Constant(place.type, shift))
            return load_vector(builder, kind, builder.gep(source, [moved]))

        for here in range(0, count * kind.lanes, kind.lanes):
            r = here // count
            laid = run(r, here % count)
            for first in range((r + 1) * count - here, kind.lanes, count):
                before = [int(lane < first) for lane in range(kind.lanes)]
                mask = ir.Constant(ir.VectorType(ir.IntType(1), kind.lanes), before)
                laid = builder.select(mask, laid, run((here + first) // count, -first))
            store_vector(builder, kind, laid, to, here // kind.lanes)
        return context.get_dummy_value()

    return types.none(target, base, at, width, lanes), generate


@word
def keep(typing: Any, t: Any, count: Any) -> Any:
    """The first `count` columns of t, zeros after them."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        places = ir.VectorType(I32, t.lanes)
        nothing = ir.Constant(vector(t), [0.0] * t.lanes)
        first = builder.insert_element(
            ir.Constant(places, ir.Undefined), builder.trunc(args[1], I32), I32(0)
        )
        limit = builder.shuffle_vector(first, first, ir.Constant(places, [0] * t.lanes))
        kept = []
        for i, value in enumerate(vectors_of(builder, args[0])):
            columns = range(i % t.vectors * t.lanes, (i % t.vectors + 1) * t.lanes)
            there = builder.icmp_signed("<", ir.Constant(places, list(columns)), limit)
            kept.append(builder.select(there, value, nothing))
        return cgutils.pack_array(builder, kept)

    return t(t, types.intp), generate


# ---- past the caches ------------------------------------------------------------------------


@word
def address(typing: Any, pointer: Any) -> Any:
    """The pointer's address, counted in elements."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.ptrtoint(args[0], context.get_value_type(types.intp))
        return builder.udiv(place, ir.Constant(place.type, pointer.dtype.bitwidth // 8))

    return types.intp(pointer), generate


@word
def store_past_caches(typing: Any, t: Any, target: Any) -> Any:
    """target[0 : lanes] = t, of one vector, where target is aligned for a whole vector.

    No cache keeps it; see `end_past_caches`.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.bitcast(args[1], vector(t).as_pointer())
        value = builder.extract_value(args[0], 0)
        stored = builder.store(value, place, align=t.lanes * t.dtype.bitwidth // 8)
        stored.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
        return context.get_dummy_value()

    return types.none(t, target), generate


@word
def end_past_caches(typing: Any) -> Any:
    """After this, other threads see what was stored past the caches."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), generate
