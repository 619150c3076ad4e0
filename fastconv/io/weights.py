"""Files of weights: named arrays of numbers, in the format that the file's name ends in."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import ArgumentError, DTypeError, WeightsError
from ..ops.arrays import as_array
from .arrays import load_arrays, save_arrays
from .atomic import replace_file
from .book_pickle import load_book_pickle
from .safetensors_file import load_safetensors, save_safetensors

__all__ = ["load_params", "save_params"]

_ENDINGS = (".npz", ".safetensors", ".pkl")


def save_params(
    path: str | PathLike[str],
    params: Mapping[str, NDArray[Any]],
    *,
    allow_pickle: bool = False,
) -> None:
    """Write named arrays, atomically: ``.npz`` or ``.safetensors``, as the name ends.

    Parameters
    ----------
    path : path
        Its folder must exist; a file in its place is replaced, once the new one is whole.
    params : mapping of str to array
        Arrays of numbers.
    allow_pickle : bool
        Write a ``.pkl``, a pickled dict as the book's networks read it, where the name
        ends so. Whoever unpickles such a file runs whatever is in it; hence not by default.

    Raises
    ------
    ArgumentError
        Another ending, or a ``.pkl`` that was not asked for.
    DTypeError
        Something else than an array of numbers.
    MissingDependency
        ``.safetensors`` without the package safetensors.
    """
    path = Path(path)
    ending = _ending("save_params", path)
    if ending == ".pkl" and not allow_pickle:
        raise ArgumentError(
            f"save_params: {path.name}: a pickle is written only on request: pass "
            "allow_pickle=True, or name the file .npz or .safetensors, which cannot run code"
        )
    arrays = _numbers(f"save_params: {path}", params)
    match ending:
        case ".npz":
            save_arrays(path, arrays)
        case ".safetensors":
            save_safetensors(path, arrays)
        case ".pkl":
            with replace_file(path) as file:
                pickle.dump(arrays, file, protocol=4)


def load_params(path: str | PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read named arrays from a ``.npz``, ``.safetensors``, or ``.pkl`` of the book's networks.

    No format runs code: of a pickle, only what a dict of arrays needs is read at all.

    Raises
    ------
    ArgumentError, DataNotFound, DataCorrupt, UnsafePickle
        Another ending; no such file; not a file of that kind; a pickle that asks for
        anything but arrays of numbers.
    DTypeError, WeightsError
        Arrays of something else than numbers; a training checkpoint.
    MissingDependency
        ``.safetensors`` without the package safetensors.
    """
    path = Path(path)
    match _ending("load_params", path):
        case ".npz":
            arrays, metadata = load_arrays(path)
            if metadata:
                raise WeightsError(
                    f"{path}: a checkpoint of a training, not weights alone; "
                    "the weights of a run are in its weights.npz"
                )
        case ".safetensors":
            arrays = load_safetensors(path)
        case _:
            arrays = load_book_pickle(path)
    return _numbers(str(path), arrays)


def _ending(op: str, path: Path) -> str:
    if path.suffix in _ENDINGS:
        return path.suffix
    remedy = ""
    if path.suffix in (".pt", ".pth") and op == "load_params":
        remedy = (
            "; PyTorch's own files are pickles: there, write "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
    raise ArgumentError(f"{op}: {path.name} must end in .npz, .safetensors or .pkl{remedy}")


def _numbers(op: str, params: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    arrays = {}
    for name, value in params.items():
        array = as_array(value)
        if not isinstance(name, str) or array.dtype.kind not in "fiub":
            raise DTypeError(
                f"{op}: {name!r} holds {array.dtype} values, expected arrays of numbers "
                "under string names"
            )
        # Files of other machines may have the other byte order, which kernels do not.
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return arrays
