"""The book's ``.pkl`` files of weights, read without ever running code.

A pickle is a program: it builds objects, and calls what it names. Nothing here runs
that program. `pickletools` splits the file into its instructions, and the reader
below follows the few of them that a dict of NumPy arrays needs. The names under
which NumPy pickles an array are words to it, never looked up; any other name and any
other instruction is refused. No array is made before its size was compared with the
bytes that the file has for it.
"""

from __future__ import annotations

import math
import pickletools
import re
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataCorrupt, DataNotFound, UnsafePickle

__all__ = ["load_book_pickle"]

# Before NumPy 2 the package was numpy.core, since then it is numpy._core.
_ADMITTED = {
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "_codecs.encode": "encode",
    "__builtin__.dict": "dict",
    "builtins.dict": "dict",
    "numpy.core.multiarray._reconstruct": "_reconstruct",
    "numpy._core.multiarray._reconstruct": "_reconstruct",
    "numpy.core.numeric._frombuffer": "_frombuffer",
    "numpy._core.numeric._frombuffer": "_frombuffer",
}

# Instructions that reach outside the file.
_REACHING = {
    "PERSID": "asks for an object kept elsewhere",
    "BINPERSID": "asks for an object kept elsewhere",
    "NEXT_BUFFER": "asks for a buffer kept elsewhere",
    "READONLY_BUFFER": "asks for a buffer kept elsewhere",
    "EXT1": "asks for an object by an extension code",
    "EXT2": "asks for an object by an extension code",
    "EXT4": "asks for an object by an extension code",
    "INST": "makes an instance of a class",
    "OBJ": "makes an instance of a class",
    "NEWOBJ": "makes an instance of a class",
    "NEWOBJ_EX": "makes an instance of a class",
}

LONGEST_SHARED = 64
"""Characters of a text that a file may use twice: names are short, data belongs to one array."""


class _Word:
    """One of the admitted names."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class _NumberType:
    """A pickled numpy.dtype, of plain numbers only."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any) -> None:
        # As NumPy pickles it, such as f8; other texts would have NumPy parse a language.
        if not isinstance(code, str) or not re.fullmatch(r"[fiub][0-9]{1,2}", code):
            raise UnsafePickle(f"dtype {_short(code)}: only arrays of plain numbers are admitted")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, ...): numbers have none of the rest.
        plain = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None,) * 3
        if not plain or state[1] not in ("<", ">", "=", "|"):
            raise UnsafePickle("dtype with fields: only arrays of plain numbers are admitted")
        self.dtype = self.dtype.newbyteorder(state[1])


class _PickledArray:
    """A pickled array; without an array until its bytes have come."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: NDArray[Any] | None = None

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise UnsafePickle("array with an unexpected state")
        _version, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> None:
        """Make the array; order K, of NumPy 2.3, is C order with the axes rearranged."""
        if not isinstance(dtype, _NumberType) or not isinstance(data, bytes | bytearray):
            raise UnsafePickle("array of something else than numbers")
        # NumPy's own limits; beyond them, even the product of the numbers is a long job.
        if (
            not isinstance(shape, tuple)
            or len(shape) > 64
            or not all(type(n) is int and 0 <= n < 2**63 for n in shape)
        ):
            raise DataCorrupt(f"array whose shape is {_short(shape)}")
        expected = math.prod(shape) * dtype.dtype.itemsize
        if len(data) != expected:
            raise DataCorrupt(f"array of shape {shape} has {len(data)} bytes, expected {expected}")
        flat = np.frombuffer(data, dtype.dtype)
        array = flat.reshape(shape, order="F" if order == "F" else "C")
        if axes is not None:
            array = array.transpose(axes)
        self.array = array.astype(dtype.dtype.newbyteorder("="), order="C")


def _short(value: Any) -> str:
    """`value` for a message; of a container only its type, for it may be without end."""
    if isinstance(value, str | bytes | int | None):
        text = repr(value)
        return text if len(text) <= 40 else text[:37] + "..."
    if isinstance(value, tuple) and not any(isinstance(part, tuple | dict) for part in value):
        return f"({', '.join(_short(part) for part in value[:8])})"
    if isinstance(value, _PickledArray):
        return "an array without data" if value.array is None else "an array"
    if isinstance(value, _NumberType):
        return f"the dtype {value.dtype}"
    return value.text if isinstance(value, _Word) else f"a {type(value).__name__}"


class _Reader:
    """Follows the instructions of one pickle, on a stack as the pickle machine has."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def read(self, data: bytes) -> Any:
        """Return what the pickle builds."""
        for opcode, argument, _ in pickletools.genops(data):
            self.follow(opcode.name, argument)
        return self.stack.pop()

    def follow(self, name: str, argument: Any) -> None:
        """Do what one instruction says."""
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4":
                stack.append(argument)
            case "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                stack.append(argument)
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(name[-1])
                stack.append(self.tuple_of([stack.pop() for _ in range(size)][::-1]))
            case "MARK":
                self.marks.append(len(stack))
            case "TUPLE":
                stack.append(self.tuple_of(self.since_mark()))
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = self.since_mark()
                stack.append({})
                self.set_items(items)
            case "SETITEM":
                self.set_items([stack.pop(), stack.pop()][::-1])
            case "SETITEMS":
                self.set_items(self.since_mark())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.shared(argument))
            case "GLOBAL":
                self.admit(*argument.split(" ", 1))
            case "STACK_GLOBAL":
                last = stack.pop()
                self.admit(stack.pop(), last)
            case "REDUCE":
                arguments = stack.pop()
                stack.append(self.call(stack.pop(), arguments))
            case "BUILD":
                state = stack.pop()
                if not isinstance(stack[-1], _NumberType | _PickledArray):
                    raise UnsafePickle(f"gives state to {_short(stack[-1])}, which has none")
                stack[-1].set_state(state)
            case _ if name in _REACHING:
                raise UnsafePickle(f"{_REACHING[name]}; only NumPy arrays of numbers are admitted")
            case _:
                raise DataCorrupt(f"has the instruction {name}, expected only a dict of arrays")

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def tuple_of(self, items: list[Any]) -> tuple[Any, ...]:
        # Those of an array hold shapes and no deeper ones. Deeper ones can make a small
        # file take hours, or all of the stack.
        for item in items:
            if isinstance(item, tuple) and any(isinstance(part, tuple) for part in item):
                raise DataCorrupt("has tuples in tuples in tuples, expected only a dict of arrays")
        return tuple(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise DataCorrupt(f"puts items into {_short(target)}, expected a dict of arrays")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise DataCorrupt(f"expected arrays under string names, got the name {_short(key)}")
            target[key] = value

    def shared(self, number: int) -> Any:
        # One text as the data of many arrays would make a small file fill all memory.
        value = self.memo[number]
        if isinstance(value, str | bytes | bytearray) and len(value) > LONGEST_SHARED:
            raise DataCorrupt(f"uses {len(value)} bytes of data more than once")
        return value

    def admit(self, module: Any, name: Any) -> None:
        asked = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else None
        if asked not in _ADMITTED:
            raise UnsafePickle(
                f"asks for {asked or 'a name that is no text'}; "
                "only NumPy arrays of numbers are admitted"
            )
        self.stack.append(_Word(_ADMITTED[asked]))

    def call(self, function: Any, arguments: Any) -> Any:
        """What an admitted name would give, made here."""
        called = function.text if isinstance(function, _Word) else None
        match called, arguments:
            case "dtype", (code, *_):
                return _NumberType(code)
            case "_reconstruct", (_Word(text="ndarray"), *_):
                return _PickledArray()
            case "_frombuffer", (data, dtype, shape, order, *axes) if len(axes) <= 1:
                array = _PickledArray()
                array.fill(data, dtype, shape, order, *axes)
                return array
            case "dict", ():  # the `params` of a network
                return {}
            case "encode", (str(text), *encoding) if encoding in ([], ["latin1"]):
                # How protocols before 3 write bytes: as text, to be encoded.
                return text.encode("latin1")
        raise UnsafePickle(f"calls {_short(function)} with {_short(arguments)}")


def load_book_pickle(path: str | PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read a pickled dict of arrays, as the book's ``save_params`` writes it.

    Parameters
    ----------
    path : path
        A ``.pkl`` file of any pickle protocol.

    Returns
    -------
    dict of str to array

    Raises
    ------
    DataNotFound
        There is no such file.
    UnsafePickle
        The file asks for anything but arrays of numbers; nothing of it was run.
    DataCorrupt
        The file is no pickle, is cut short, or holds something else than a dict of arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise DataNotFound(f"{path}: no such file")
    try:
        params = _Reader().read(path.read_bytes())
    except UnsafePickle as error:
        raise UnsafePickle(f"{path}: refused: {error}") from None
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        # What reading bytes that are not a pickle comes to, and DataCorrupt of above.
        raise DataCorrupt(f"{path}: not a pickle of arrays ({error})") from error
    if not isinstance(params, dict) or not params:
        got = "an empty dict" if params == {} else _short(params)
        raise DataCorrupt(f"{path}: holds {got}, expected a dict of arrays")
    arrays = {}
    for key, value in params.items():
        if not isinstance(value, _PickledArray) or value.array is None:
            raise DataCorrupt(f"{path}: {_short(key)} is {_short(value)}, expected an array")
        arrays[key] = value.array
    return arrays
