"""IDX files, the format of MNIST: big-endian header, then one unsigned byte per value.

Header: two zero bytes, 0x08 (unsigned byte), the number of axes, then the length
of each axis as a 32-bit integer. Source: http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ..errors import DataCorrupt, DataNotFound
from .checksum import md5_of_file, warn_of_no_checksum

__all__ = ["IdxFile", "find_idx", "parse_idx"]

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class IdxFile:
    """What one file of a data set must hold.

    Attributes
    ----------
    name : str
        File name, without ``.gz``.
    shape : tuple of int
        Lengths of the axes.
    md5 : str
        MD5 of the uncompressed file, or if `packed`, of the gzipped one.
    packed : bool
        Which of the two has a published checksum.
    """

    name: str
    shape: tuple[int, ...]
    md5: str
    packed: bool = False

    @property
    def remote(self) -> str:
        """The file's name on a mirror."""
        return f"{self.name}.gz"

    def find(self, folder: Path) -> Path | None:
        """`find_idx`."""
        return find_idx(folder, self.name)

    def parse(self, content: bytes, source: str) -> NDArray[np.uint8]:
        """`parse_idx`."""
        return parse_idx(content, self, source)

    def read(self, folder: Path) -> NDArray[np.uint8]:
        """`read_idx`."""
        return read_idx(folder, self)


def find_idx(folder: Path, name: str) -> Path | None:
    """Path of a file in `folder`, gzipped or not, or None.

    The name itself comes first, then other spellings: programs that unpack the file write
    ``train-images.idx3-ubyte``, some of them into a folder of the same name.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return next(_spelled_otherwise(folder, _plain(name)), None)


def _spelled_otherwise(folder: Path, plain: str) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if _plain(path.name) == plain:
            if path.is_file():
                yield path
            elif path.is_dir():
                yield from (p for p in sorted(path.iterdir()) if _plain(p.name) == plain)


def _plain(name: str) -> str:
    """A file's name without what its spellings differ in."""
    return re.sub(r"[._ ]", "-", name.casefold().removesuffix(".gz"))


def parse_idx(content: bytes, expected: IdxFile, source: str) -> NDArray[np.uint8]:
    """Check the content of an IDX file and return its values.

    Parameters
    ----------
    content : bytes
        The file, gzipped or not: its first bytes tell, since names mislead.
    expected : IdxFile
    source : str
        Path or address, for messages.

    Returns
    -------
    ndarray of uint8
        Of ``expected.shape``, read-only.

    Raises
    ------
    DataCorrupt
        Truncated, or of the wrong format, size or checksum.
    """
    if expected.packed and not content.startswith(GZIP_MAGIC):
        raise DataCorrupt(f"{source}: not a gzip file; only that has a published checksum")
    return _read(BytesIO(content), expected, source)


def _read(file: IO[bytes], expected: IdxFile, source: str) -> NDArray[np.uint8]:
    axes = len(expected.shape)
    header = struct.pack(f">HBB{axes}I", 0, 0x08, axes, *expected.shape)
    size = len(header) + math.prod(expected.shape)
    content = _first(file, size + 1, source)
    if content[:4] != header[:4]:
        raise DataCorrupt(
            f"{source}: not an IDX file of bytes with {axes} axes: "
            f"starts with 0x{content[:4].hex() or '(empty)'}, expected 0x{header[:4].hex()}"
        )
    if len(content) < len(header):
        raise DataCorrupt(
            f"{source}: truncated header: {len(content)} bytes, expected {len(header)}"
        )
    shape = struct.unpack_from(f">{axes}I", content, 4)
    if shape != expected.shape:
        raise DataCorrupt(f"{source}: holds {shape} values, expected {expected.shape}")
    if len(content) < size:
        raise DataCorrupt(f"{source}: truncated: {len(content)} bytes, expected {size}")
    if len(content) > size:
        raise DataCorrupt(f"{source}: too long: more than the {size} bytes that are expected")
    md5 = _md5_of(file, content, expected, source)
    if md5 != expected.md5:
        raise DataCorrupt(
            f"{source}: well-formed, but not the {expected.name} of this data set: "
            f"MD5 {md5}, expected {expected.md5}"
        )
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(expected.shape)


def _md5_of(file: IO[bytes], content: bytes, expected: IdxFile, source: str) -> str:
    """The MD5 to compare with the published one, which is of the packed or the unpacked file."""
    if not expected.packed:
        return hashlib.md5(content, usedforsecurity=False).hexdigest()
    file.seek(0)
    if file.read(len(GZIP_MAGIC)) != GZIP_MAGIC:
        warn_of_no_checksum(source, f"{expected.name}.gz")
        return expected.md5
    file.seek(0)
    return md5_of_file(file)


def _first(file: IO[bytes], count: int, source: str) -> bytes:
    """The first bytes of a file, unpacked if it is gzipped, but never more than `count`."""
    packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    file.seek(0)
    if not packed:
        return file.read(count)
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            return stream.read(count)
    except (EOFError, OSError, zlib.error) as error:
        raise DataCorrupt(f"{source}: truncated or damaged gzip file: {error}") from None


def read_idx(folder: Path, expected: IdxFile) -> NDArray[np.uint8]:
    """Read ``expected.name``, gzipped or not, from `folder`; see `parse_idx`."""
    path = find_idx(folder, expected.name)
    if path is None:
        raise DataNotFound(
            f"{folder}: neither {expected.name} nor {expected.name}.gz is in this folder"
        )
    with path.open("rb") as file:
        return _read(file, expected, str(path))
