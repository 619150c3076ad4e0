"""IDX files, the format of MNIST: big-endian header, then one unsigned byte per value.

Header: two zero bytes, 0x08 (unsigned byte), the number of axes, then the length
of each axis as a 32-bit integer. Source: http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataCorrupt, DataNotFound

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
        MD5 of the uncompressed file.
    """

    name: str
    shape: tuple[int, ...]
    md5: str


def find_idx(folder: Path, name: str) -> Path | None:
    """Path of ``name`` or ``name.gz`` in `folder`, or None."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def parse_idx(content: bytes, expected: IdxFile, source: str) -> NDArray[np.uint8]:
    """Check the content of an IDX file and return its values.

    Parameters
    ----------
    content : bytes
        The file, gzipped or not: told by its first bytes, as names mislead.
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
        Truncated, of another format or size, or of another checksum.
    """
    if content.startswith(GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise DataCorrupt(f"{source}: truncated or damaged gzip file: {error}") from None
    axes = len(expected.shape)
    header = struct.pack(f">HBB{axes}I", 0, 0x08, axes, *expected.shape)
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
    size = len(header) + int(np.prod(expected.shape))
    if len(content) != size:
        problem = "truncated" if len(content) < size else "too long"
        raise DataCorrupt(f"{source}: {problem}: {len(content)} bytes, expected {size}")
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 != expected.md5:
        raise DataCorrupt(
            f"{source}: well-formed, but not the {expected.name} of this data set: "
            f"MD5 {md5}, expected {expected.md5}"
        )
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(expected.shape)


def read_idx(folder: Path, expected: IdxFile) -> NDArray[np.uint8]:
    """Read ``expected.name``, gzipped or not, from `folder`; see `parse_idx`."""
    path = find_idx(folder, expected.name)
    if path is None:
        raise DataNotFound(
            f"{folder}: neither {expected.name} nor {expected.name}.gz is in this folder"
        )
    return parse_idx(path.read_bytes(), expected, str(path))
