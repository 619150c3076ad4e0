"""The kernels' words for their arguments: records, whose fields have names.

    @takes(real="x out", uint8="mask", integers="count")
    def relu_forward(real: int) -> Kernel:
        def kernel(a, part, parts):
            ...  a.x[i] ... a.count ...

A factory declares once what its kernels take. Who runs one gives each field by its name (`pack`),
and the kernel reads it as an attribute of its first argument: a name that is wrong or missing is
an error, where the record is packed or where the kernel is compiled.

==============================  ====================================================
uint8, int32, int64, float64    pointers to elements of this type
a parameter of the factory      pointers to elements of the type that it is the code of
integers, floats, flags         values
a.x                             the field x of the record a
a + i                           the record, i records further on
==============================  ====================================================

A field takes 8 bytes. Nothing changes a record while a kernel reads it, and LLVM is told so: a
field that is read in a loop is loaded before it.
"""

from __future__ import annotations

import ctypes
import operator
import struct
from array import array
from collections.abc import Callable, Sequence
from inspect import signature as parameters_of
from typing import Any, TypeVar

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import lower_builtin, lower_getattr_generic, models, register_model

from .pointer import ELEMENTS, I32, Pointer

__all__ = ["Record", "address", "takes"]

Factory = TypeVar("Factory", bound=Callable[..., Any])

VALUES = {"integers": types.intp, "floats": types.float64, "flags": types.boolean}
"""Fields that are no pointers."""

CODES = {str(element): code for code, element in enumerate(ELEMENTS)}

DECLARED: dict[Any, dict[str, str]] = {}
"""The kind of each field, by factory."""


def takes(**kinds: str) -> Callable[[Factory], Factory]:
    """Declare what the kernels of a factory take: for each kind, names, separated by spaces."""

    def declare(factory: Factory) -> Factory:
        known = [*VALUES, *CODES, *parameters_of(factory).parameters]
        fields: dict[str, str] = {}
        for kind, names in kinds.items():
            if kind not in known:
                raise TypeError(f"{factory.__name__}: a field is one of {known}, got {kind!r}")
            for name in names.split():
                if name in fields:
                    raise TypeError(f"{factory.__name__}: two fields are called {name!r}")
                fields[name] = kind
        DECLARED[factory] = fields
        return factory

    return declare


def address(values: np.ndarray) -> int:
    """Where an array begins: its `ctypes.data`, which would take five times as long."""
    # NumPy's C macros read it from there, too: it is the first field after Python's own.
    return ctypes.c_ssize_t.from_address(id(values) + object.__basicsize__).value


class Record:
    """What the kernel `factory(*constants)` takes.

    Attributes
    ----------
    type : RecordType
        As the kernel's first argument.
    """

    def __init__(self, factory: Callable[..., Any], constants: Sequence[int]) -> None:
        codes = CODES | dict(zip(parameters_of(factory).parameters, constants, strict=True))
        fields = {
            name: VALUES[kind] if kind in VALUES else Pointer(ELEMENTS[codes[kind]])
            for name, kind in DECLARED[factory].items()
        }
        self.type = RecordType("-".join([factory.__name__, *map(str, constants)]), fields)
        self._elements = [
            (i, np.dtype(str(kind.dtype)))
            for i, kind in enumerate(fields.values())
            if isinstance(kind, Pointer)
        ]
        letters = ("d" if kind == types.float64 else "q" for kind in fields.values())
        self._pack = struct.Struct("".join(letters)).pack

    def pack(self, *groups: dict[str, Any]) -> array[int]:
        """The record in memory. A pointer is given as an array, as an address or as None."""
        given: dict[str, Any] = {}
        for group in groups:
            given |= group
        names = self.type.fields
        try:
            if sum(map(len, groups)) != len(names):
                raise KeyError
            values = list(map(given.__getitem__, names))
        except KeyError:
            got = sorted(name for group in groups for name in group)
            message = f"{self.type}: expected the fields {sorted(names)}, got {got}"
            raise TypeError(message) from None
        for i, element in self._elements:
            value = values[i]
            if value is None:
                values[i] = 0
            elif type(value) is not int:
                if value.dtype != element:
                    name = list(names)[i]
                    raise TypeError(f"{self.type}: {name} points to {element}, got {value.dtype}")
                values[i] = address(value)
        try:
            return array("q", self._pack(*values))
        except struct.error as error:
            raise TypeError(f"{self.type}: {error}") from None


class RecordType(types.Type):
    """Where a record is."""

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        self.fields = fields
        super().__init__(name)

    @property
    def key(self) -> Any:
        """What makes it equal to another type."""
        return self.name, tuple(self.fields.items())


@register_model(RecordType)
class RecordModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: RecordType) -> None:
        super().__init__(manager, kind, ir.IntType(64).as_pointer())


@infer_getattr
class RecordField(AttributeTemplate):
    key = RecordType

    def resolve(self, value: Any, attr: Any) -> Any:
        return value.fields.get(attr)


@lower_getattr_generic(RecordType)
def load_field(context: Any, builder: Any, record: RecordType, value: Any, name: str) -> Any:
    kind = record.fields[name]
    place = builder.gep(value, [I32(list(record.fields).index(name))])
    if kind != types.boolean:
        place = builder.bitcast(place, context.get_value_type(kind).as_pointer())
    loaded = builder.load(place)
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    if kind == types.boolean:
        return builder.icmp_unsigned("!=", loaded, loaded.type(0))
    return loaded


@infer_global(operator.add)
class RecordAdd(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], RecordType) and isinstance(args[1], types.Integer):
            return signature(args[0], args[0], types.intp)
        return None


@lower_builtin(operator.add, RecordType, types.intp)
def record_add(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    count = builder.mul(args[1], args[1].type(len(sig.args[0].fields)))
    return builder.gep(args[0], [count])
