"""A reader of HDF5 files, as far as Keras writes them; in Python, so that damage is harmless.

HDF5's own library loops or crashes on some damaged files. This reads its first format, which the
library still writes unless told otherwise: groups that are B-trees of names, arrays of floats in
one piece, attributes that are texts. Whatever else is in a file is refused when it is asked for.

Bytes may be read twice as often as there are any, so that time and memory follow the file's size.
Numbers with names are those of the format's specification, version 3.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import DataCorrupt
from ..layers.base import Array

__all__ = ["Hdf5Item", "open_hdf5"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"

DATASPACE, DATATYPE, EXTERNAL, LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION, SYMBOLS = (
    *(0x01, 0x03, 0x07, 0x08, 0x0B, 0x0C, 0x10, 0x11),
)
"""Kinds of messages in the header of an object."""

FLOAT, STRING, OPAQUE, VARIABLE = 1, 3, 5, 9
"""Classes of datatypes."""

FLOATS = {2: (15, 10, 5, 10, 15), 4: (31, 23, 8, 23, 127), 8: (63, 52, 11, 52, 1023)}
"""By their bytes, IEEE's: place of the sign and exponent, sizes of exponent and mantissa, bias."""

LONGEST = 1000
"""Bytes of a name or a text."""

MOST_AXES = 32


@dataclass(frozen=True)
class Hdf5Item:
    """A group or an array in a file.

    Attributes
    ----------
    file : the file
    name : str
        Its path, for messages.
    address : int
        Of its header.
    """

    file: _File
    name: str
    address: int

    @cached_property
    def _messages(self) -> list[tuple[int, int, bytes]]:
        return list(self.file.messages(self.address))

    def _message(self, kind: int) -> bytes:
        for found, flags, body in self._messages:
            if found == kind:
                if flags & 2:
                    raise DataCorrupt(f"{self.name} shares a part of its header")
                return body
        raise DataCorrupt(f"{self.name} is not what is expected there: it has no message {kind}")

    def children(self) -> dict[str, Hdf5Item]:
        """What is in a group, by name.

        Raises
        ------
        DataCorrupt
            It is an array, or damaged, or has links to elsewhere.
        """
        if not self._has(SYMBOLS):
            raise DataCorrupt(f"{self.name} is not a group")
        tree, heap = _unpacked("<QQ", self._message(SYMBOLS))
        found: dict[str, Hdf5Item] = {}
        for name, address in self.file.entries(self.name, tree, heap):
            if name in found:
                raise DataCorrupt(f"{self.name} has {name!r} twice")
            found[name] = Hdf5Item(self.file, f"{self.name}/{name}", address)
        return found

    def _has(self, kind: int) -> bool:
        return any(found == kind for found, _, _ in self._messages)

    def array(self) -> Array:
        """An array of floats; of bfloat16, which NumPy lacks, as ``V2``.

        Raises
        ------
        DataCorrupt
            It is a group, or damaged, packed, elsewhere, or of other values.
        """
        if not self._has(LAYOUT):
            raise DataCorrupt(f"{self.name} is not an array")
        shape, dtype = _shape(self._message(DATASPACE)), _dtype(self.name, self._message(DATATYPE))
        version, layout = _unpacked("<BB", body := self._message(LAYOUT))
        if (version, layout) != (3, 1) or self._has(FILTERS) or self._has(EXTERNAL):
            raise DataCorrupt(f"{self.name} does not lie in the file in one piece, as Keras writes")
        address, size = _unpacked("<QQ", body[2:])
        count = 1
        for length in shape:
            count *= length
        if size != count * dtype.itemsize:
            raise DataCorrupt(
                f"{self.name} has {size} bytes, expected {count * dtype.itemsize} for the shape "
                f"{shape} of {dtype}"
            )
        numbers = np.frombuffer(self.file.read(address, size) if size else b"", dtype)
        return numbers.reshape(shape).astype(dtype.newbyteorder("="))

    def text(self, name: str) -> str | None:
        """The attribute of this name, a text; None if there is none.

        Raises
        ------
        DataCorrupt
            It is not a text, too long, or damaged.
        """
        for kind, flags, body in self._messages:
            if kind == ATTRIBUTE:
                found, datatype, space, value = _attribute(self.name, body)
                if found == name and not flags & 2:
                    return self._read_text(name, datatype, space, value)
        return None

    def _read_text(self, name: str, datatype: bytes, space: bytes, value: bytes) -> str:
        head, bits, size = _unpacked("<B3sI", datatype)
        if _shape(space) == () and head & 15 == VARIABLE and bits[0] & 15 == 1:
            length, address, index = _unpacked("<IQI", value)
            if length <= LONGEST:
                value = self.file.heap(address).get(index, b"")
                if len(value) == length:
                    return value.decode("utf-8", "replace")
        elif _shape(space) == () and head & 15 == STRING and size <= min(LONGEST, len(value)):
            return value[:size].rstrip(b"\0").decode("utf-8", "replace")
        raise DataCorrupt(f"{self.name}: its {name} is not a text of up to {LONGEST} bytes")


def open_hdf5(data: bytes) -> Hdf5Item:
    """The outermost group of a file.

    Raises
    ------
    DataCorrupt
        Not HDF5, or a later format of it.
    """
    if not data.startswith(SIGNATURE):
        raise DataCorrupt("not HDF5: it begins with other bytes")
    if data[8:9] != b"\0" or data[13:15] != b"\x08\x08":
        raise DataCorrupt("an HDF5 file of another format than h5py writes by default")
    file = _File(data)
    base, *_, root = _unpacked("<QQQQQQ", file.read(24, 48))
    if base:
        raise DataCorrupt("HDF5 that begins inside of another file")
    return Hdf5Item(file, "", root)


class _File:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = 2 * len(data)
        self.heaps: dict[int, dict[int, bytes]] = {}

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the file."""
        self.left -= size
        if address + size > len(self.data) or self.left < 0:
            raise DataCorrupt("it is cut short, or its parts lie across each other")
        return self.data[address : address + size]

    def messages(self, address: int) -> Iterator[tuple[int, int, bytes]]:
        """Kind, flags and content of each message in an object's header."""
        version, count, _, size = _unpacked("<BxHII", self.read(address, 12))
        if version != 1:
            raise DataCorrupt("a header of another format than h5py writes by default")
        blocks = [(address + 16, size)]
        while blocks and count:
            block = self.read(*blocks.pop(0))
            place = 0
            while place + 8 <= len(block) and count:
                kind, size, flags = _unpacked("<HHB", block[place:])
                body = block[place + 8 : place + 8 + size]
                if len(body) != size:
                    raise DataCorrupt("a message in a header is cut short")
                if kind == CONTINUATION:
                    blocks.append(_unpacked("<QQ", body))
                yield kind, flags, body
                place, count = place + 8 + size, count - 1

    def entries(self, group: str, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        """Names and headers in a group."""
        mark, size, _, start = _unpacked("<4s4xQQQ", self.read(heap, 32))
        if mark != b"HEAP":
            raise DataCorrupt(f"{group} has no names")
        names = self.read(start, size)
        nodes = [tree]
        while nodes:
            address = nodes.pop()
            mark, kind, _, count = _unpacked("<4sBBH", self.read(address, 8))
            if mark == b"TREE" and kind == 0:
                keys = self.read(address + 24, 16 * count)
                nodes += struct.unpack(f"<{2 * count}Q", keys)[::-2]
            elif mark == b"SNOD":
                for entry in struct.iter_unpack("<QQI20x", self.read(address + 8, 40 * count)):
                    offset, header, cached = entry
                    end = names.find(b"\0", offset, offset + LONGEST)
                    if end < 0:
                        raise DataCorrupt(f"{group} has a name that does not end")
                    name = names[offset:end].decode("utf-8", "replace")
                    if cached == 2:
                        raise DataCorrupt(f"{group}/{name} is a link, which Keras does not write")
                    yield name, header
            else:
                raise DataCorrupt(f"{group} is damaged")

    def heap(self, address: int) -> dict[int, bytes]:
        """The texts that lie together at an address, by number."""
        if address not in self.heaps:
            mark, size = _unpacked("<4s4xQ", self.read(address, 16))
            if mark != b"GCOL" or size < 16:
                raise DataCorrupt("a text is not where it should be")
            block, place, found = self.read(address + 16, size - 16), 0, {}
            while place + 16 <= len(block):
                index, length = _unpacked("<H6xQ", block[place:])
                if index == 0:  # what is free
                    break
                found[index] = block[place + 16 : place + 16 + min(length, LONGEST + 1)]
                place += 16 + -(-length // 8) * 8
            self.heaps[address] = found
        return self.heaps[address]


def _unpacked(form: str, data: bytes) -> tuple[Any, ...]:
    size = struct.calcsize(form)
    if len(data) < size:
        raise DataCorrupt("a part of it is cut short")
    return struct.unpack(form, data[:size])


def _shape(space: bytes) -> tuple[int, ...]:
    """The shape that a dataspace message says."""
    version, axes, _, kind = _unpacked("<BBBB", space)
    if version not in (1, 2) or axes > MOST_AXES or (version == 2 and kind > 1):
        raise DataCorrupt("an array of no shape that Keras writes")
    return _unpacked(f"<{axes}Q", space[8 if version == 1 else 4 :])


def _dtype(name: str, datatype: bytes) -> np.dtype[Any]:
    """NumPy's type of a datatype message."""
    head, bits, size = _unpacked("<B3sI", datatype)
    if head & 15 == OPAQUE and size == 2:
        return np.dtype("V2")
    if head & 15 == FLOAT and size in FLOATS and bits[0] & 0b01111110 == 0b00100000:
        offset, precision, exponent, *sizes = _unpacked("<HHBBBBI", datatype[8:])
        place, mantissa_at, mantissa, bias = sizes[0], sizes[1], sizes[2], sizes[3]
        found = (bits[1], exponent, place, mantissa, bias)
        if found == FLOATS[size] and (offset, precision, mantissa_at) == (0, 8 * size, 0):
            return np.dtype(f"{'>' if bits[0] & 1 else '<'}f{size}")
    raise DataCorrupt(f"{name} holds numbers of class {head & 15}, {size} bytes, expected floats")


def _attribute(owner: str, body: bytes) -> tuple[str, bytes, bytes, bytes]:
    """Name, datatype, dataspace and value of an attribute message."""
    version, _, *sizes = _unpacked("<BBHHH", body)
    if version not in (1, 2, 3):
        raise DataCorrupt(f"{owner} has an attribute of a later format")
    place, parts = 8 + (version == 3), []
    for size in sizes:
        parts.append(body[place : place + size])
        place += -(-size // 8) * 8 if version == 1 else size
    name = parts[0].split(b"\0")[0].decode("utf-8", "replace")
    return name, parts[1], parts[2], body[place:]
