"""The kernels' words for memory: access through pointers; and for the work of a part.

A **pointer** is an address with an element type, indexed and moved in elements. Nothing is
checked, nothing wraps around: kernels work on what the contract of the table promises.

==============================  ====================================================
p[i], p[i] = x, p + i           element i; the pointer moved by i elements
copy(p, q, n), clear(p, n)      memcpy and memset of n elements
fetch(p, n)                     prefetch the next n bytes
settle()                        later loads read memory, not values kept in registers
offsets(p, R)                   (p[0], ..., p[R - 1])
steps(step, R)                  (0, step, ..., (R - 1)*step)
share(n, part, parts)           this part's share of n things
next_unit(p, part, parts)       a unit of this part, or one left by others; see `deal`
invoke(kernel, ...)             calls the kernel at an address
use_threads(n)                  the calling thread's parallel loops run on so many threads
==============================  ====================================================

Element types and counts are compile-time constants: the small ints that a kernel's factory
was called with.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_jitable, register_model

__all__ = [
    "BYTE",
    "DOUBLE",
    "ELEMENTS",
    "FLOAT",
    "INT",
    "LINE",
    "LONG",
    "clear",
    "copy",
    "fetch",
    "helper",
    "invoke",
    "next_unit",
    "offsets",
    "settle",
    "share",
    "steps",
    "use_threads",
]

BYTE, INT, LONG, FLOAT, DOUBLE = range(5)
ELEMENTS = (types.uint8, types.int32, types.int64, types.float32, types.float64)
"""Element types by their code."""

LINE = 64
"""Bytes of a cache line, and of the longest vector: packed operands begin at one."""

LINE_OF_LONGS = LINE // 8

I32 = ir.IntType(32)

word: Any = intrinsic(prefer_literal=True)
helper: Any = register_jitable(forceinline=True, no_cfunc_wrapper=True)
"""Makes a function that kernels call; unlike `njit` it does not start LLVM on import.

Nothing else calls it, so that Numba need not compile a C function around it.
"""


def element(dtype: Any) -> Any:
    """LLVM's type of one element."""
    if isinstance(dtype, types.Float):
        return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
    return ir.IntType(dtype.bitwidth)


def literal(value: Any) -> int:
    """A compile-time constant."""
    return value.literal_value


# ---- pointers ---------------------------------------------------------------------------


class Pointer(types.Type):
    """Address of elements of one type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(f"Pointer({dtype})")


@register_model(Pointer)
class PointerModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Pointer) -> None:
        super().__init__(manager, kind, element(kind.dtype).as_pointer())


def is_indexed_pointer(args: Any) -> bool:
    return isinstance(args[0], Pointer) and isinstance(args[1], types.Integer)


@infer_global(operator.getitem)
class PointerGet(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if is_indexed_pointer(args):
            return signature(args[0].dtype, args[0], types.intp)
        return None


@infer_global(operator.setitem)
class PointerSet(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if is_indexed_pointer(args):
            return signature(types.none, args[0], types.intp, args[0].dtype)
        return None


@infer_global(operator.add)
class PointerAdd(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if is_indexed_pointer(args):
            return signature(args[0], args[0], types.intp)
        return None


@lower_builtin(operator.getitem, Pointer, types.intp)
def pointer_get(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(builder.gep(args[0], [args[1]]))


@lower_builtin(operator.setitem, Pointer, types.intp, types.Any)
def pointer_set(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    builder.store(args[2], builder.gep(args[0], [args[1]]))
    return context.get_dummy_value()


@lower_builtin(operator.add, Pointer, types.intp)
def pointer_add(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.gep(args[0], [args[1]])


@word
def copy(typing: Any, target: Any, source: Any, count: Any) -> Any:
    """memcpy: target[0 : count] = source[0 : count]."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = ir.Constant(args[2].type, target.dtype.bitwidth // 8)
        cgutils.raw_memcpy(builder, args[0], args[1], args[2], size)
        return context.get_dummy_value()

    return types.none(target, source, types.intp), generate


@word
def clear(typing: Any, target: Any, count: Any) -> Any:
    """memset: target[0 : count] = 0."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = builder.mul(args[1], ir.Constant(args[1].type, target.dtype.bitwidth // 8))
        cgutils.memset(builder, args[0], size, 0)
        return context.get_dummy_value()

    return types.none(target, types.intp), generate


@word
def fetch_line(typing: Any, source: Any, offset: Any) -> Any:
    """Prefetch the cache line at `offset` bytes from the pointer."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        start = builder.bitcast(args[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [start.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # To be read, as data, and kept in the second cache.
        builder.call(function, [builder.gep(start, [args[1]]), I32(0), I32(2), I32(1)])
        return context.get_dummy_value()

    return types.none(source, types.intp), generate


@word
def settle(typing: Any) -> Any:
    """Later loads read memory, not what registers keep of it; this emits no instruction."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.fence("seq_cst", "singlethread")
        return context.get_dummy_value()

    return types.none(), generate


# ---- kernels and their work ----------------------------------------------------------------


@word
def invoke(typing: Any, kernel: Any, record: Any, part: Any, parts: Any) -> Any:
    """Call the kernel at the address `kernel`."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args[1:]])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.none(*[types.intp] * 4), generate


@word
def use_threads(typing: Any, count: Any) -> Any:
    """As `numba.set_num_threads`, whose compiled form contains an address of this process."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "set_num_threads")
        builder.call(function, [builder.trunc(args[0], I32)])
        return context.get_dummy_value()

    return types.none(types.intp), generate


@word
def offsets(typing: Any, table: Any, rows: Any) -> Any:
    """The first entries of a table as a tuple."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        places = [builder.gep(args[0], [I32(r)]) for r in range(literal(rows))]
        return cgutils.pack_array(builder, [builder.load(place) for place in places])

    return types.UniTuple(types.intp, literal(rows))(table, rows), generate


@word
def steps(typing: Any, step: Any, rows: Any) -> Any:
    """(0, step, ..., (rows - 1)*step)."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        counts = [ir.Constant(args[0].type, r) for r in range(literal(rows))]
        return cgutils.pack_array(builder, [builder.mul(args[0], count) for count in counts])

    return types.UniTuple(types.intp, literal(rows))(types.intp, rows), generate


@helper
def share(total, part, parts):  # type: ignore[no-untyped-def]
    """First and last (excluded) of this part's share of `total`."""
    return total * part // parts, total * (part + 1) // parts


@word
def take(typing: Any, target: Any) -> Any:
    """Return target[0] and add 1 to it, atomically."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        one = ir.Constant(args[0].type.pointee, 1)
        return builder.atomic_rmw("add", args[0], one, "monotonic")

    return types.int64(target), generate


@helper
def next_unit(shares, part, parts):  # type: ignore[no-untyped-def]
    """A unit of this part's share, or else of another's, or -1 when all are taken."""
    for i in range(parts):
        one = shares + (part + i) % parts * LINE_OF_LONGS
        unit = take(one)
        if unit < one[1]:
            return unit
    return -1


@helper
def fetch(source, count):  # type: ignore[no-untyped-def]
    """Prefetch `count` bytes."""
    for offset in range(0, count, LINE):
        fetch_line(source, offset)
