"""The book's ``.pkl`` files of weights, read without ever running code.

A pickle is a program that calls what it names. The unpickler here knows the few
names by which NumPy pickles an array, and binds each to a stand-in of ours that
only writes down what it was given. Arrays are made from that afterwards, with
their sizes checked. Any other name is refused before it is looked up.
"""

from __future__ import annotations

import math
import pickle
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataCorrupt, DataNotFound, UnsafePickle

__all__ = ["load_book_pickle"]


class _StandIn:
    """Something that a pickle may name; it takes no state unless it says so."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise UnsafePickle("gives state to something that has none")


class _NumberType(_StandIn):
    """A pickled numpy.dtype, of plain numbers only."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any) -> None:
        dtype = None
        if isinstance(code, str) and len(code) <= 3:
            try:
                dtype = np.dtype(code)
            except TypeError:
                dtype = None
        if dtype is None or dtype.kind not in "fiub":
            raise UnsafePickle(f"dtype {code!r}: only arrays of plain numbers are admitted")
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, ...): numbers have none of the rest.
        plain = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None,) * 3
        if not plain or state[1] not in ("<", ">", "=", "|"):
            raise UnsafePickle("dtype with fields; only arrays of plain numbers are admitted")
        self.dtype = self.dtype.newbyteorder(state[1])


class _PickledArray(_StandIn):
    """A pickled array: its dtype, shape, order and bytes, as the file gives them."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise UnsafePickle("array with an unexpected state")
        _version, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data: Any, dtype: Any, shape: Any, order: str) -> None:
        if not isinstance(dtype, _NumberType) or not isinstance(data, bytes | bytearray):
            raise UnsafePickle("array of something else than numbers")
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise UnsafePickle(f"array of shape {shape!r}")
        expected = math.prod(shape) * dtype.dtype.itemsize
        if len(data) != expected:
            raise ValueError(f"array of shape {shape} holds {len(data)} bytes, not {expected}")
        flat = np.frombuffer(data, dtype.dtype)
        native = dtype.dtype.newbyteorder("=")
        self.array = flat.reshape(shape, order="F" if order == "F" else "C").astype(native)


class _Reconstruct(_StandIn):
    __slots__ = ()

    def __call__(self, subtype: Any, shape: Any, typecode: Any) -> _PickledArray:
        if not isinstance(subtype, _ArrayClass):
            raise UnsafePickle("array of an unexpected class")
        return _PickledArray()


class _FromBuffer(_StandIn):
    __slots__ = ()

    def __call__(self, data: Any, dtype: Any, shape: Any, order: Any) -> _PickledArray:
        result = _PickledArray()
        result.fill(data, dtype, shape, order)
        return result


class _ArrayClass(_StandIn):
    """The name numpy.ndarray, which is only ever an argument."""

    __slots__ = ()


class _DtypeClass(_StandIn):
    __slots__ = ()

    def __call__(self, code: Any, align: Any = False, copy: Any = False) -> _NumberType:
        return _NumberType(code)


class _EncodeLatin1(_StandIn):
    """How protocols before 3 write bytes: as text, to be encoded."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise UnsafePickle("bytes in an unexpected encoding")
        return text.encode("latin1")


# Before NumPy 2 the package was numpy.core, since then it is numpy._core.
_ADMITTED: dict[tuple[str, str], _StandIn] = {
    ("numpy", "ndarray"): _ArrayClass(),
    ("numpy", "dtype"): _DtypeClass(),
    ("_codecs", "encode"): _EncodeLatin1(),
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer(),
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer(),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _StandIn:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise UnsafePickle(
                f"asks for {module}.{name}; only NumPy arrays of numbers are admitted"
            ) from None

    def persistent_load(self, identifier: Any) -> Any:
        raise UnsafePickle("asks for an object kept elsewhere; only arrays are admitted")


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
        with path.open("rb") as file:
            params = _ArrayUnpickler(file, encoding="latin1").load()
    except UnsafePickle as error:
        raise UnsafePickle(f"{path}: refused: {error}") from None
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        # What the pickle machine raises on bytes that are not a pickle.
        raise DataCorrupt(f"{path}: not a pickle of arrays ({error})") from error
    if not isinstance(params, dict) or not params:
        raise DataCorrupt(f"{path}: holds a {type(params).__name__}, expected a dict of arrays")
    arrays = {}
    for key, value in params.items():
        if not isinstance(key, str) or not isinstance(value, _PickledArray) or value.array is None:
            raise DataCorrupt(f"{path}: expected arrays under string names, got {key!r}: {value!r}")
        arrays[key] = value.array
    return arrays
