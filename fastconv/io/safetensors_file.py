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
    """Write arrays to a ``.safetensors`` file, atomically, and read them back before it counts.

    Raises
    ------
    DTypeError
        An array of a type that the format does not have.
    MissingDependency
        The package safetensors is not installed.
    """
    library = _library()
    # The library writes an array's memory as it lies, whatever its strides say.
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
    """Read the arrays of a ``.safetensors`` file, by name: the format keeps no order.

    Raises
    ------
    DataNotFound, DataCorrupt
        No such file, or not a whole one of that kind.
    DTypeError
        An array of a type that NumPy does not have, such as bfloat16.
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
        # The library's own error, or NumPy's where a shape is none; neither says which there are.
        raise DataCorrupt(f"{path}: not a safetensors file ({error})") from error
    # What the library gives are read-only views of the file's bytes.
    return {name: arrays[name].copy() for name in sorted(arrays)}
