"""Named arrays and a little JSON in one ``.npz`` file.

Such a file is a zip archive of ``.npy`` files. Before an array is made, the size that its header
states is compared with the archive's directory, the size of the file, and the available memory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataCorrupt, DataNotFound, FastconvError
from ..memory import expect_room, in_words
from .atomic import replace_file
from .npy import MAGIC, Header, read_array, read_header
from .records import json_text, read_record
from .whole import stand_in

__all__ = [
    "load_arrays",
    "load_metadata",
    "save_arrays",
    "under",
]

METADATA = "metadata.json"

PACKED = 100
"""How many times its own size a file may unpack to; weights and pictures stay far below."""

SMALL = 64 << 20
"""Bytes that a file of any size may unpack to."""

DENSEST = 1032
"""Most bytes that deflate can make of one: 258 of two bits."""

_Result = TypeVar("_Result")


def save_arrays(
    path: str | PathLike[str],
    arrays: dict[str, NDArray[Any]],
    metadata: dict[str, Any] | None = None,
) -> None:
    """Write arrays and metadata to a ``.npz`` file, atomically.

    Parameters
    ----------
    path : path
    arrays : dict of str to array
        Arrays of numbers.
    metadata : dict, optional
        Anything that JSON can hold; numbers that are not finite come back as None.
    """
    contents = dict(arrays)
    if metadata is not None:
        contents[METADATA] = np.frombuffer(json_text(metadata).encode(), np.uint8)
    with replace_file(path) as file:
        np.savez(file, allow_pickle=False, **contents)


def load_arrays(path: str | PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read arrays of numbers or text, and the metadata of `save_arrays` (empty if there is none).

    Raises
    ------
    DataNotFound
        There is no such file.
    DataCorrupt
        The file is not an ``.npz`` of plain arrays, or unpacks to more than 100 times its size
        and more than 64 MiB.
    ArgumentError
        Its arrays take more memory than there is.
    """
    return _load(Path(path), lambda name: True)


def load_metadata(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the metadata that `save_arrays` wrote.

    Raises
    ------
    DataNotFound, DataCorrupt, ArgumentError
        As for `load_arrays`.
    """
    return _load(Path(path), lambda name: name == METADATA)[1]


def _load(
    path: Path, wanted: Callable[[str], bool]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    if not path.is_file():
        raise DataNotFound(f"{path}: no such file")
    try:
        with path.open("rb") as file, _archive(file) as archive:
            members = _members(archive, path.stat().st_size)
            chosen = {name: member for name, member in members.items() if wanted(name)}
            _expect_room(path, sum(member.file_size for member in chosen.values()))
            arrays = {name: _read(archive, name, member) for name, member in chosen.items()}
    except DataCorrupt as error:
        raise DataCorrupt(f"{path}: not an .npz file of plain arrays ({error})") from error
    except MemoryError:
        raise ArgumentError(f"{path}: takes more memory than this process can get") from None
    metadata = {}
    if METADATA in arrays:
        text = arrays.pop(METADATA).tobytes()
        metadata = read_record(text, dict[str, Any], f"{path}: {METADATA}")
    return arrays, metadata


def _sound(call: Callable[..., _Result], *arguments: Any) -> _Result:
    """Call zipfile, whose errors for damage are undocumented; raise `DataCorrupt` for all."""
    try:
        return call(*arguments)
    except (FastconvError, MemoryError):
        raise
    except Exception as error:
        raise DataCorrupt(f"{error or type(error).__name__}") from error


@contextmanager
def _archive(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    head = file.read(100)
    what = "a single array, expected named ones" if head.startswith(MAGIC) else stand_in(head)
    if what:
        raise DataCorrupt(what)
    with _sound(zipfile.ZipFile, file) as archive:
        yield archive


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the arrays of an archive of this size by name, if NumPy could have written it."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename:
            raise DataCorrupt(f"it holds {name!r}, expected .npy files alone")
        if name in members:
            raise DataCorrupt(f"it holds {name!r} twice")
        if member.flag_bits & 1:
            raise DataCorrupt(f"{name!r} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataCorrupt(
                f"{name!r} is packed by method {member.compress_type}, expected none or deflate"
            )
        packed = member.compress_type == zipfile.ZIP_DEFLATED
        if packed and name == METADATA:  # JSON takes many times its size even unpacked
            raise DataCorrupt(f"{name!r} is packed, which fastconv does not write")
        most = DENSEST * member.compress_size if packed else member.compress_size
        if member.file_size > most:
            raise DataCorrupt(
                f"{name!r} has {member.compress_size} bytes, which cannot be unpacked to "
                f"{member.file_size}"
            )
        members[name] = member
    need = sum(member.file_size for member in members.values())
    if need > max(SMALL, PACKED * size):
        raise DataCorrupt(
            f"it unpacks to {in_words(need)}, more than {PACKED} times the size of the file and "
            f"{in_words(SMALL)}; write it again with numpy.savez, not packed"
        )
    return members


def _expect_room(path: Path, need: int) -> None:
    expect_room(f"{path}: the arrays", need, "free some, or put less into one file")


def _read(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> NDArray[Any]:
    try:
        with _sound(archive.open, member) as stream:

            def read(count: int) -> bytes:
                return _sound(stream.read, count)

            header = read_header(read)
            _expect_size(header, member)
            if name == METADATA and (header.dtype != np.uint8 or len(header.shape) != 1):
                raise DataCorrupt(f"{header.dtype} of shape {header.shape}, expected bytes")
            return read_array(read, header)
    except DataCorrupt as error:
        raise DataCorrupt(f"{name!r}: {error}") from error


def _expect_size(header: Header, member: zipfile.ZipInfo) -> None:
    size = member.file_size - header.length
    if size != header.nbytes:
        raise DataCorrupt(
            f"it has {size} bytes of numbers, expected {header.nbytes} for the shape "
            f"{header.shape} of {header.dtype}"
        )


def under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names begin with `prefix`, named without it."""
    return {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
