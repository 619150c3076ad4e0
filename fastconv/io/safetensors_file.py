"""Named arrays in a ``.safetensors`` file, by the library of that name."""

from __future__ import annotations

import errno
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataCorrupt, DTypeError, MissingDependency
from ..memory import expect_room
from .atomic import replace_file
from .whole import read_whole

__all__ = ["load_safetensors", "of_bfloat16", "save_safetensors"]

BFLOAT16 = "BF16"

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "C64": "<c8",
    "BOOL": "?",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
}
"""NumPy's types of the format's."""


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise MissingDependency(
            "safetensors files need the package safetensors: pip install safetensors"
        ) from error
    return safetensors


def save_safetensors(path: str | PathLike[str], arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays to a ``.safetensors`` file, atomically, after reading them back to check.

    Raises
    ------
    DTypeError
        The format does not have an array's type.
    MissingDependency
        The package safetensors is not installed.
    """
    library = _library()
    # The library writes an array's memory in order, and ignores its strides.
    dense = {name: np.array(array, order="C") for name, array in arrays.items()}
    try:
        data = library.numpy.save(dense)
    except (library.SafetensorError, TypeError, ValueError) as error:
        raise DTypeError(f"{path}: safetensors cannot hold these arrays ({error})") from error
    with replace_file(path) as file:
        file.write(data)
        file.seek(0)
        written = library.numpy.load(file.read())
        for name, array in arrays.items():
            if not np.array_equal(written[name], array, equal_nan=array.dtype.kind == "f"):
                raise OSError(errno.EIO, f"{name} does not read back as it was written")


def load_safetensors(path: str | PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read the arrays of a ``.safetensors`` file, sorted by name: the format keeps no order.

    Numbers in bfloat16, which NumPy does not have, become float32: each has its value there.

    Raises
    ------
    DataNotFound, DataCorrupt
        There is no such file, or it is damaged or of another kind.
    DTypeError
        NumPy does not have an array's type, such as 8-bit floats.
    MissingDependency
        The package safetensors is not installed.
    """
    path = Path(path)
    library = _library()
    data = read_whole(path)
    try:
        found = dict(library.deserialize(data))
    except Exception as error:  # the library does not document which
        raise DataCorrupt(f"{path}: not a safetensors file ({error})") from error
    narrow = sum(len(array["data"]) for array in found.values() if array["dtype"] == BFLOAT16)
    expect_room(f"{path}: its bfloat16 numbers as float32", 2 * narrow, "free some")
    try:
        return {name: _as_array(**found[name]) for name in sorted(found)}
    except KeyError as error:
        raise DTypeError(
            f"{path}: holds {error.args[0]} numbers, which NumPy does not have; "
            "write them as F32 first"
        ) from error
    except ValueError as error:  # more axes than NumPy has
        raise DataCorrupt(f"{path}: not a safetensors file ({error})") from error


def _as_array(dtype: str, shape: list[int], data: bytes) -> NDArray[Any]:
    """A new array of the bytes in a file."""
    if dtype == BFLOAT16:
        return of_bfloat16(np.frombuffer(data, "<u2")).reshape(shape)
    return np.frombuffer(data, DTYPES[dtype]).reshape(shape).copy()


def of_bfloat16(halves: NDArray[Any]) -> NDArray[Any]:
    """Numbers in bfloat16, given as whole numbers, as float32, of which they are upper halves."""
    wide = halves.astype("<u4")
    wide <<= 16
    return wide.view("<f4")
