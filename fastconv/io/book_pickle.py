"""The book's ``.pkl`` files of weights, read without ever running code.

A pickle is a program that builds objects and calls what it names. Nothing here runs that program:
`pickletools` splits it into instructions, and the reader below follows the few that a dict of NumPy
arrays needs. It knows the names that NumPy gives in pickles as words, and looks none of them up; it
refuses any other name or instruction. An array is made only if the file has enough bytes for it.

A pickle may use an object any number of times, so a small file could ask for much work and memory.
`_Budget` limits both in proportion to the size of the file.
"""

from __future__ import annotations

import codecs
import io
import math
import pickletools
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataCorrupt, UnsafePickle
from .whole import read_whole

__all__ = ["load_book_pickle"]

# NumPy 2 renamed numpy.core to numpy._core.
_ADMITTED = {
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "_codecs.encode": "encode",
    "__builtin__.dict": "dict",
    "builtins.dict": "dict",
    "__builtin__.bytes": "bytes",
    "builtins.bytes": "bytes",
    "numpy.core.multiarray._reconstruct": "_reconstruct",
    "numpy._core.multiarray._reconstruct": "_reconstruct",
    "numpy.core.numeric._frombuffer": "_frombuffer",
    "numpy._core.numeric._frombuffer": "_frombuffer",
}

# Instructions that refer to objects outside the file.
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

_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}

_FOREIGN_ESCAPE = re.compile(rb"\\(?!x[0-9a-f]{2}|['\"nrt])")

WORK = 8
"""Bytes copied and parts looked at per byte of a file: each byte of an array costs three, and one
more for each further name of the array."""

DEEPEST = 10_000
"""Largest stack: picklers add 1000 names and arrays to a dict at a time."""

HIGHEST_PLACE = 2**32
"""Largest index of the memo; a dict with larger keys could be made to take quadratic time."""


class _Budget:
    """Limits the cost of reading a file: arrays of no more bytes than it, proportional work."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.bytes = size
        self.work = WORK * size

    def make(self, size: int) -> None:
        """Count an array of this many bytes."""
        self.bytes -= size
        if self.bytes < 0:
            raise DataCorrupt(f"makes more bytes of arrays than the {self.size} bytes of the file")
        self.pay(size)

    def pay(self, amount: int) -> None:
        """Count bytes that are copied, or parts that are looked at."""
        self.work -= amount
        if self.work < 0:
            raise DataCorrupt("uses the same data over and over, which a dict of arrays never does")


class _Word:
    """One of the admitted names."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class _NumberType:
    """A pickled numpy.dtype of plain numbers."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any) -> None:
        # NumPy writes codes such as f8; it would parse other texts as a language.
        if not isinstance(code, str) or not re.fullmatch(r"[fiub][0-9]{1,2}", code):
            raise UnsafePickle(f"dtype {_short(code)}: only arrays of plain numbers are admitted")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any, budget: _Budget) -> None:
        # (version, byte order, subarray, names, fields, ...): numbers have none of the others.
        plain = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None,) * 3
        if not plain or state[1] not in ("<", ">", "=", "|"):
            raise UnsafePickle("dtype with fields: only arrays of plain numbers are admitted")
        self.dtype = self.dtype.newbyteorder(state[1])


class _PickledArray:
    """A pickled array, which is made once its bytes have been read."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: NDArray[Any] | None = None

    def set_state(self, state: Any, budget: _Budget) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise UnsafePickle("array with an unexpected state")
        _version, shape, dtype, fortran, data = state
        self.fill(budget, data, dtype, shape, "F" if fortran else "C")

    def fill(
        self, budget: _Budget, data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None
    ) -> None:
        """Make the array; order K, of NumPy 2.3, is C order with the axes rearranged."""
        if not isinstance(dtype, _NumberType) or not isinstance(data, bytes | bytearray | str):
            raise UnsafePickle("array of something other than numbers")
        # NumPy's own limits; beyond them, even their product would take long.
        if (
            not isinstance(shape, tuple)
            or len(shape) > 64
            or not all(type(n) is int and 0 <= n < 2**63 for n in shape)
        ):
            raise DataCorrupt(f"array whose shape is {_short(shape)}")
        expected = math.prod(shape) * dtype.dtype.itemsize
        if len(data) != expected:
            raise DataCorrupt(f"array of shape {shape} has {len(data)} bytes, expected {expected}")
        budget.make(expected)
        if isinstance(data, str):  # Python 2 pickled bytes as text
            budget.pay(expected)
            data = data.encode("latin1")
        flat = np.frombuffer(data, dtype.dtype)
        array = flat.reshape(shape, order="F" if order == "F" else "C")
        if axes is not None:
            plain = isinstance(axes, tuple) and len(axes) == len(shape)
            if not plain or not all(type(axis) is int for axis in axes):
                raise DataCorrupt(f"array of shape {shape} with the axes {_short(axes)}")
            array = array.transpose(axes)
        self.array = array.astype(dtype.dtype.newbyteorder("="), order="C")


def _short(value: Any) -> str:
    """`value` for a message; of a container only the type, since it may contain itself."""
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


def _instructions(data: bytes) -> Iterator[tuple[str, Any]]:
    """Split a pickle into the names of its instructions and their arguments."""
    file = io.BytesIO(data)
    while code := file.read(1):
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise DataCorrupt(f"has 0x{code.hex()} at {file.tell() - 1}, which is no instruction")
        argument: Any = None
        if opcode.name == "STRING":
            argument = _quoted(file.readline())
        elif opcode.name == "GLOBAL":
            argument = [file.readline().decode("latin1").removesuffix("\n") for _ in range(2)]
        elif opcode.arg is not None and opcode.name not in _REACHING:
            argument = opcode.arg.reader(file)
        yield opcode.name, argument
        if opcode.name == "STOP":
            return
    raise DataCorrupt("ends in the middle")


def _quoted(line: bytes) -> str:
    """Read a quoted text of Python 2 from its line; `pickletools` reads only ASCII."""
    text = line.strip()
    if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
        raise DataCorrupt(f"has {_short(line)}, expected a text between quotes")
    # The decoder accepts escapes that Python 2 does not write, with a warning.
    if _FOREIGN_ESCAPE.search(text[1:-1].replace(rb"\\", b"")):
        raise DataCorrupt(f"has {_short(line)}, which no Python has written")
    return codecs.escape_decode(text[1:-1])[0].decode("latin1")


class _Reader:
    """Follows the instructions of one pickle with a stack, like the pickle machine."""

    def __init__(self, budget: _Budget) -> None:
        self.budget = budget
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.remembered = False

    def read(self, data: bytes) -> Any:
        """Return what the pickle builds."""
        for name, argument in _instructions(data):
            self.follow(name, argument)
            if len(self.stack) + len(self.marks) > DEEPEST:
                raise DataCorrupt(f"lists more than {DEEPEST} things, expected a dict of arrays")
        return self.stack.pop()

    def follow(self, name: str, argument: Any) -> None:
        """Execute one instruction."""
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
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING":
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
                self.remember(argument)
            case "MEMOIZE":
                self.remember(len(self.memo))
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL":
                self.admit(*argument)
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
                stack[-1].set_state(state, self.budget)
            case _ if name in _REACHING:
                raise UnsafePickle(f"{_REACHING[name]}; only NumPy arrays of numbers are admitted")
            case _:
                raise DataCorrupt(f"has the instruction {name}, expected only a dict of arrays")
        self.remembered = name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")

    def remember(self, place: int) -> None:
        if self.remembered or not 0 <= place < HIGHEST_PLACE:
            raise DataCorrupt(f"remembers the same thing twice, or at {_short(place)}")
        self.memo[place] = self.stack[-1]

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def tuple_of(self, items: list[Any]) -> tuple[Any, ...]:
        # An array's tuples hold shapes, and no deeper tuples: with those, a small file could take
        # hours, or overflow the stack.
        for item in items:
            if isinstance(item, tuple):
                self.budget.pay(len(item))
                if any(isinstance(part, tuple) for part in item):
                    raise DataCorrupt(
                        "has tuples in tuples in tuples, expected only a dict of arrays"
                    )
        return tuple(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise DataCorrupt(f"puts items into {_short(target)}, expected a dict of arrays")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise DataCorrupt(f"expected arrays under string names, got the name {_short(key)}")
            target[key] = value

    def admit(self, module: Any, name: Any) -> None:
        asked = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else None
        if asked not in _ADMITTED:
            shown = "a name that is no text" if asked is None else asked
            shown = shown if len(shown) <= 100 and shown.isprintable() else _short(shown)
            raise UnsafePickle(f"asks for {shown}; only NumPy arrays of numbers are admitted")
        self.stack.append(_Word(_ADMITTED[asked]))

    def call(self, function: Any, arguments: Any) -> Any:
        """Return what calling an admitted name would give."""
        called = function.text if isinstance(function, _Word) else None
        if isinstance(arguments, tuple):
            self.budget.pay(len(arguments))
        match called, arguments:
            case "dtype", (code, *_):
                return _NumberType(code)
            case "_reconstruct", (_Word(text="ndarray"), *_):
                return _PickledArray()
            case "_frombuffer", (data, dtype, shape, order, *axes) if len(axes) <= 1:
                array = _PickledArray()
                array.fill(self.budget, data, dtype, shape, order, *axes)
                return array
            case "dict", ():  # the `params` of a network
                return {}
            case "encode", (str(text), *encoding) if encoding in ([], ["latin1"]):
                # Protocols before 3 write bytes as text to encode.
                self.budget.pay(len(text))
                return text.encode("latin1")
            case "bytes", ():  # and empty bytes as a call without arguments
                return b""
        raise UnsafePickle(f"calls {_short(function)} with {_short(arguments)}")


def load_book_pickle(path: str | PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read a pickled dict of arrays, as the book's ``save_params`` writes it.

    Time and memory are proportional to the size of the file, whatever it contains.

    Parameters
    ----------
    path : path
        A ``.pkl`` file of any pickle protocol, of Python 2 too.

    Returns
    -------
    dict of str to array

    Raises
    ------
    DataNotFound
        There is no such file.
    UnsafePickle
        The file asks for something other than arrays of numbers; nothing of it was run.
    DataCorrupt
        The file is not a pickle, is truncated or damaged, holds something other than a dict of
        arrays, or would take far more memory or time than its size.
    """
    path = Path(path)
    data = read_whole(path)
    try:
        return _arrays(data)
    except UnsafePickle as error:
        reason = _changed_as_text(data)
        if reason:
            raise DataCorrupt(f"{path}: {reason}") from error
        raise UnsafePickle(f"{path}: refused: {error}") from None
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        # Bytes that are not a pickle raise any of these; DataCorrupt, from above, is a ValueError.
        reason = _changed_as_text(data) or f"not a pickle of arrays ({error})"
        raise DataCorrupt(f"{path}: {reason}") from error


def _arrays(data: bytes) -> dict[str, NDArray[Any]]:
    budget = _Budget(len(data))
    params = _Reader(budget).read(data)
    if not isinstance(params, dict) or not params:
        got = "an empty dict" if params == {} else _short(params)
        raise DataCorrupt(f"holds {got}, expected a dict of arrays")
    arrays = {}
    for key, value in params.items():
        if not isinstance(value, _PickledArray) or value.array is None:
            raise DataCorrupt(f"{_short(key)} is {_short(value)}, expected an array")
        budget.pay(value.array.nbytes)  # several names may share one array
        arrays[key] = value.array
    return arrays


def _changed_as_text(data: bytes) -> str | None:
    """Say what is wrong with a file that was written or copied as text; None of others."""
    remedy = "write it with open(path, 'wb'), and copy it as a binary file"
    if b"\n" in data and data.count(b"\n") == data.count(b"\r\n"):
        return f"damaged: every line end is CRLF, as where a pickle is treated as text: {remedy}"
    if data.startswith("\ufffd".encode()):
        return (
            f"damaged: what is no text was replaced, as where a pickle is treated as text: {remedy}"
        )
    return None
