"""Named arrays and a little JSON in one ``.npz`` file."""

from __future__ import annotations

import json
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataCorrupt, DataNotFound
from .atomic import replace_file

__all__ = ["load_arrays", "load_metadata", "save_arrays"]

METADATA = "metadata.json"

DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    MemoryError,  # a header that speaks of more than there is
    RuntimeError,  # encrypted, or packed in a way that zipfile does not know
    tokenize.TokenError,  # a header that breaks off
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy raises for files that are not its own, or no longer whole."""


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
        Anything that JSON can hold.
    """
    contents = dict(arrays)
    if metadata is not None:
        contents[METADATA] = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    with replace_file(path) as file:
        np.savez(file, allow_pickle=False, **contents)


def load_arrays(path: str | PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what `save_arrays` wrote: the arrays and the metadata (empty if there was none).

    Raises
    ------
    DataNotFound
        There is no such file.
    DataCorrupt
        The file is no ``.npz`` of plain arrays.
    """
    return _load(Path(path), lambda name: True)


def load_metadata(path: str | PathLike[str]) -> dict[str, Any]:
    """Read what `save_arrays` wrote besides the arrays.

    Raises
    ------
    DataNotFound, DataCorrupt
        As for `load_arrays`.
    """
    return _load(Path(path), lambda name: name == METADATA)[1]


def _load(
    path: Path, wanted: Callable[[str], bool]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    if not path.is_file():
        raise DataNotFound(f"{path}: no such file")
    try:
        # Given a path, NumPy leaves a damaged file open.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataCorrupt(f"{path}: a single array, expected an .npz of named arrays")
            with archive:
                arrays = {name: archive[name] for name in archive.files if wanted(name)}
        metadata = json.loads(arrays.pop(METADATA).tobytes()) if METADATA in arrays else {}
        if not isinstance(metadata, dict):
            raise DataCorrupt(f"{path}: {METADATA} is no object")
    except DAMAGE as error:
        if isinstance(error, DataCorrupt):
            raise
        raise DataCorrupt(f"{path}: not an .npz file of plain arrays ({error})") from error
    return arrays, metadata
