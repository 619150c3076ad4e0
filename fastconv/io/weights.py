"""Files of weights: named arrays of numbers, in the format that the file name's ending says."""

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
from .safetensors_file import load_safetensors, save_safetensors

__all__ = ["load_for", "load_params", "save_params"]

_ENDINGS = (".npz", ".safetensors", ".pkl")

KERAS = (".weights.h5", ".keras")
"""Keras's files, which only say what they hold beside a network."""


def save_params(
    path: str | PathLike[str],
    params: Mapping[str, NDArray[Any]],
    *,
    allow_pickle: bool = False,
) -> None:
    """Write named arrays to a ``.npz`` or ``.safetensors`` file, atomically.

    Parameters
    ----------
    path : path
        Its folder must exist; an existing file is replaced once the new one is complete.
    params : mapping of str to array
        Arrays of numbers.
    allow_pickle : bool
        Allow a ``.pkl`` file: a pickled dict, as the book's networks read it. Unpickling a file
        runs the code in it, so that is not the default.

    Raises
    ------
    ArgumentError
        Another ending, or ``.pkl`` without `allow_pickle`.
    DTypeError
        A value is not an array of numbers.
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

    Reading never runs code: of a pickle, only the instructions for a dict of arrays are followed.

    Raises
    ------
    ArgumentError, DataNotFound, DataCorrupt, UnsafePickle
        Another ending; no such file; a damaged file or one of another kind; a pickle of
        something other than arrays of numbers.
    DTypeError, WeightsError
        Arrays of something other than numbers; a checkpoint of a Trainer.
    MissingDependency
        ``.safetensors`` without the package safetensors.
    """
    path = Path(path)
    match _ending("load_params", path):
        case ".npz":
            arrays, metadata = load_arrays(path)
            if metadata:
                raise WeightsError(
                    f"{path}: a checkpoint of a Trainer, not weights alone; "
                    "the weights of a run are in its weights.npz"
                )
        case ".safetensors":
            arrays = load_safetensors(path)
        case _:
            from .book_pickle import load_book_pickle  # with pickletools, which few need

            arrays = load_book_pickle(path)
    return _numbers(str(path), arrays)


def load_for(
    path: str | PathLike[str], network: Any, *, partly: bool = False
) -> dict[str, NDArray[Any]]:
    """Read a file of weights for a network: any of `load_params`, or of Keras.

    With `partly`, arrays may have other shapes than the network's.

    Raises
    ------
    ArgumentError, DataNotFound, DataCorrupt, UnsafePickle, DTypeError, MissingDependency
        As for `load_params` and `fastconv.io.from_keras`.
    WeightsError
        Of Keras's files: weights of another architecture.
    """
    if not Path(path).name.endswith(KERAS):
        return load_params(path)
    from .keras_weights import from_keras, keras_state  # with zipfile and layers

    return keras_state(path, network) if partly else from_keras(path, network)


def _ending(op: str, path: Path) -> str:
    if path.suffix in _ENDINGS:
        return path.suffix
    remedy = ""
    if path.suffix in (".pt", ".pth") and op == "load_params":
        remedy = (
            "; PyTorch's own files are pickles: there, write "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
    if path.suffix in (".h5", ".keras") and op == "load_params":
        remedy = (
            "; Keras's .weights.h5 and .keras do not name arrays as a network does: "
            "network.load_params(path) or fastconv.io.from_keras(path, network) reads them"
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
        # Files of other machines may have the other byte order, with which kernels do not compute.
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return arrays
