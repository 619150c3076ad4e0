"""Arrays in NumPy's format ``.npy``: a header of text, then the numbers as they are in memory.

The header is a Python dict literal, which NumPy evaluates. Here a grammar of its own reads it:
three entries, in any order, of numbers and texts. They are compared with the bytes in the file
before an array is made. Format: numpy.org/devdocs, ``numpy.lib.format``.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataCorrupt, DataNotFound

__all__ = ["MAGIC", "Header", "open_npy", "read_array", "read_header"]

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 10_000
"""Bytes of the longest header; the same limit as NumPy's."""

PIECE = 1 << 20
"""Bytes copied at a time."""

_ENTRY = re.compile(
    rb"""\s*(["'])(?P<key>descr|fortran_order|shape)\1\s*:\s*"""
    rb"""(?P<value>(["'])[^"'\\]{1,20}\4|True|False|\([0-9L,\s]*\))\s*"""
)
_LENGTH = re.compile(rb"(0|[1-9][0-9]{0,18})L?")  # Python 2 wrote some numbers with an L
_NUMBERS_OR_TEXT = re.compile(r"[<>=|]?[biufcSU][0-9]{1,9}")


@dataclass(frozen=True)
class Header:
    """The header of an array.

    Attributes
    ----------
    dtype : dtype
        Of numbers or text, in either byte order.
    shape : tuple of int
    fortran : bool
        Whether the first axis runs fastest.
    length : int
        Bytes of the header itself.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    length: int

    @property
    def order(self) -> Literal["C", "F"]:
        """The order of the axes in memory, by NumPy's letter."""
        return "F" if self.fortran else "C"

    @property
    def nbytes(self) -> int:
        """Number of bytes after the header."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(read: Callable[[int], bytes]) -> Header:
    """Read the header of an array.

    Parameters
    ----------
    read : callable
        ``read(count)`` returns the next bytes of the file, fewer only at its end.

    Raises
    ------
    DataCorrupt
        There is no header, it is truncated, or describes something other than numbers or text.
    """
    start = read(len(MAGIC) + 2)
    if not start.startswith(MAGIC):
        raise DataCorrupt("it does not begin like an array of NumPy's")
    version = tuple(start[len(MAGIC) :])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise DataCorrupt(f"version {version} of the format, expected 1.0 to 3.0")
    width = 2 if version == (1, 0) else 4
    count = int.from_bytes(_exactly(read, width), "little")
    if count > LONGEST_HEADER:
        raise DataCorrupt(f"a header of {count} bytes, expected {LONGEST_HEADER} at most")
    entries = _entries(_exactly(read, count))
    return Header(
        _dtype(entries["descr"]),
        _shape(entries["shape"]),
        _flag(entries["fortran_order"]),
        len(start) + width + count,
    )


def _exactly(read: Callable[[int], bytes], count: int) -> bytes:
    data = read(count)
    if len(data) < count:
        raise DataCorrupt("it ends inside its header")
    return data


def _entries(text: bytes) -> dict[str, bytes]:
    """Return the values of the header's entries, as text."""
    text = text.strip()
    damaged = DataCorrupt(
        f"its header is {text[:100]!r}, expected {{'descr': TYPE, 'fortran_order': BOOL, "
        "'shape': (LENGTHS)}"
    )
    if text[:1] != b"{" or text[-1:] != b"}":
        raise damaged
    inner = text[1:-1].rstrip()
    entries: dict[str, bytes] = {}
    place = 0
    while found := _ENTRY.match(inner, place):
        key, place = found["key"].decode(), found.end()
        if key in entries:
            raise damaged
        entries[key] = found["value"]
        if place == len(inner):
            break
        if inner[place : place + 1] != b",":
            raise damaged
        place += 1
    if place != len(inner) or len(entries) != 3:
        # A type with fields is a list.
        raise damaged
    return entries


def _flag(value: bytes) -> bool:
    if value not in (b"True", b"False"):
        raise DataCorrupt(f"fortran_order is {value.decode('latin1')}, expected True or False")
    return value == b"True"


def _dtype(value: bytes) -> np.dtype[Any]:
    code = value[1:-1].decode("latin1")
    if code[-1:] == "O" or code.endswith("O8"):
        raise DataCorrupt("it holds Python objects, which would have to be unpickled")
    if value[:1] in b"'\"" and _NUMBERS_OR_TEXT.fullmatch(code):
        try:
            dtype = np.dtype(code)
        except (TypeError, ValueError):
            pass
        else:
            if dtype.itemsize:
                return dtype
    raise DataCorrupt(f"it holds values of type {code!r}, expected numbers or text")


def _shape(value: bytes) -> tuple[int, ...]:
    parts = [part.strip() for part in value[1:-1].split(b",")]
    if parts[-1] == b"":  # (3,) is a tuple, and so is ()
        parts.pop()
    elif len(parts) == 1:  # (3) is none
        parts = [b"?"]
    if value[:1] != b"(" or not all(_LENGTH.fullmatch(part) for part in parts):
        raise DataCorrupt(f"its shape is {value[:60].decode('latin1')}, expected lengths")
    return tuple(int(part.rstrip(b"L")) for part in parts)


def read_array(read: Callable[[int], bytes], header: Header) -> NDArray[Any]:
    """Read the numbers after a header; the caller makes sure that there is enough memory.

    Raises
    ------
    DataCorrupt
        No array can have the shape, or there are fewer numbers.
    """
    try:
        array = np.empty(header.shape, header.dtype, order=header.order)
        flat = memoryview(array.ravel("K").view(np.uint8))
    except ValueError as error:
        raise DataCorrupt(f"an array of shape {header.shape}: {error}") from None
    done = 0
    while done < len(flat):
        piece = read(min(PIECE, len(flat) - done))
        if not piece:
            raise DataCorrupt(f"it ends after {done} of {len(flat)} bytes of numbers")
        flat[done : done + len(piece)] = piece
        done += len(piece)
    _expect_unicode(array)
    return array


def _expect_unicode(array: NDArray[Any]) -> None:
    """Raise `DataCorrupt` if an array of texts has an invalid character."""
    if array.dtype.kind == "U" and array.size:
        points = array.ravel("K").view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if (most := points.max()) > sys.maxunicode:
            raise DataCorrupt(f"it holds text with the code point {most}")


def open_npy(path: str | PathLike[str]) -> NDArray[Any]:
    """Return the array of a ``.npy`` file, mapped: its numbers are read when they are used.

    Raises
    ------
    DataNotFound
        There is no such file.
    DataCorrupt
        It does not hold one whole array of numbers or text.
    """
    path = Path(path)
    if not path.is_file():
        raise DataNotFound(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            header = read_header(file.read)
        size = path.stat().st_size
        if size != header.length + header.nbytes:
            raise DataCorrupt(
                f"it has {size - header.length} bytes of numbers, expected {header.nbytes} for "
                f"the shape {header.shape} of {header.dtype}"
            )
        try:
            array = np.memmap(path, header.dtype, "r", header.length, header.shape, header.order)
        except (ValueError, OverflowError) as error:
            raise DataCorrupt(f"an array of shape {header.shape}: {error}") from None
        _expect_unicode(array)
        return array
    except DataCorrupt as error:
        raise DataCorrupt(f"{path}: not a plain array ({error})") from None
