"""Named arrays in a ``.safetensors`` file, by the library of that name."""

from __future__ import annotations

import errno
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataCorrupt, DTypeError, MissingDependency
from .atomic import replace_file
from .whole import read_whole

__all__ = ["load_safetensors", "save_safetensors"]


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

    Raises
    ------
    DataNotFound, DataCorrupt
        There is no such file, or it is damaged or of another kind.
    DTypeError
        NumPy does not have an array's type, such as bfloat16.
    MissingDependency
        The package safetensors is not installed.
    """
    path = Path(path)
    library = _library()
    data = read_whole(path)
    try:
        arrays = library.numpy.load(data)
    except KeyError as error:
        raise DTypeError(
            f"{path}: holds {error.args[0]} numbers, which NumPy does not have; "
            "write them as F32 first"
        ) from error
    except Exception as error:
        # Errors of the library, or of NumPy for a bad shape; neither documents which.
        raise DataCorrupt(f"{path}: not a safetensors file ({error})") from error
    # The library returns read-only views of the file's bytes.
    return {name: arrays[name].copy() for name in sorted(arrays)}
