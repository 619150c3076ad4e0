"""Files of weights and checkpoints; reading one never runs code."""

from __future__ import annotations

import pickle
from os import PathLike
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import ArgumentError
from .arrays import load_arrays, save_arrays
from .atomic import replace_file
from .book_pickle import load_book_pickle

__all__ = ["load_params", "save_params"]


def save_params(path: str | PathLike[str], params: dict[str, NDArray[Any]]) -> None:
    """Write named arrays, atomically: ``.npz``, or a pickled dict where the name ends in ``.pkl``.

    Raises
    ------
    ArgumentError
        Another ending.
    """
    path = Path(path)
    match path.suffix:
        case ".npz":
            save_arrays(path, params)
        case ".pkl":
            with replace_file(path) as file:
                pickle.dump(dict(params), file, protocol=4)
        case _:
            raise ArgumentError(f"save_params: {path.name} must end in .npz or .pkl")


def load_params(path: str | PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read named arrays from a ``.npz``, or from a ``.pkl`` as the book's networks write it.

    Raises
    ------
    ArgumentError, DataNotFound, DataCorrupt, UnsafePickle
        Another ending; no such file; not a file of that kind; a pickle that holds
        anything but arrays of numbers.
    """
    path = Path(path)
    match path.suffix:
        case ".npz":
            return load_arrays(path)[0]
        case ".pkl":
            return load_book_pickle(path)
        case _:
            raise ArgumentError(f"load_params: {path.name} must end in .npz or .pkl")
