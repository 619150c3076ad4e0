"""Files of Keras 3: ``.weights.h5``, which is HDF5, and ``.keras``, a zip archive with one inside.

Groups are named by the class and number of a layer (``conv2d``, ``conv2d_1``), whatever the model
calls it; its own name is an attribute. Arrays lie in the file as they are, which is checked before
one is read, so that a file takes no more memory than its size.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, DataCorrupt, FastconvError
from ..layers.base import Array
from ..memory import expect_room
from .hdf5 import Hdf5Item, open_hdf5
from .records import read_record
from .safetensors_file import of_bfloat16
from .weights import KERAS
from .whole import read_whole

__all__ = ["KerasFile", "KerasLayer", "read_keras"]

WEIGHTS, CONFIG = "model.weights.h5", "config.json"
"""Members of a ``.keras`` file."""

UNREAD = ("vars", "seed_generator")
"""Groups inside a layer's: its arrays, and what only its training needs."""


@dataclass(frozen=True)
class KerasLayer:
    """A layer that has arrays.

    Attributes
    ----------
    place : str
        Its group in the file.
    kind, number : str, int
        Which that means: ``conv2d_3`` is the fourth ``conv2d``, number 3.
    name : str
        What the model calls it.
    arrays : list of array
    """

    place: str
    kind: str
    number: int
    name: str
    arrays: list[Array]

    def __str__(self) -> str:
        shapes = ", ".join(str(array.shape) for array in self.arrays)
        return f"{self.place} (called {self.name!r}, arrays {shapes})"


@dataclass(frozen=True)
class KerasFile:
    """What a file holds.

    Attributes
    ----------
    layers : list of KerasLayer
        By class, and of one class in the order in which the model has them.
    settings : dict of str to dict, or None
        Of a ``.keras`` file: the settings of each layer by the model's name for it, with its class
        as ``class_name``. A ``.weights.h5`` has none.
    """

    layers: list[KerasLayer]
    settings: dict[str, dict[str, Any]] | None


def read_keras(path: Path) -> KerasFile:
    """Read a file; nothing that is in it is run.

    Raises
    ------
    ArgumentError
        Another ending, or a file larger than the available memory.
    DataNotFound, DataCorrupt
        There is no such file; it is damaged, or not of Keras 3, or has layers inside of layers.
    """
    if not path.name.endswith(KERAS):
        raise ArgumentError(f"{path.name} must end in {' or '.join(KERAS)}, as Keras 3's files")
    data = read_whole(path)
    expect_room(f"{path}: its arrays", 2 * len(data), "free some")
    with _reported(path):
        settings = None
        if path.suffix == ".keras":
            data, config = _unpacked(data)
            settings = _settings(read_record(config, dict[str, Any], CONFIG))
        return KerasFile(_layers(open_hdf5(data).children()), settings)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """What zipfile raises for damage, which is not documented, as `DataCorrupt`."""
    try:
        yield
    except DataCorrupt as error:
        raise DataCorrupt(f"{path}: {error}") from error
    except (FastconvError, MemoryError):
        raise
    except Exception as error:
        why = str(error) or type(error).__name__
        raise DataCorrupt(f"{path}: not a whole file of Keras 3 ({why})") from error


def _unpacked(data: bytes) -> tuple[bytes, bytes]:
    """The weights and the configuration in a ``.keras`` file, which Keras does not pack."""
    found = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in (WEIGHTS, CONFIG):
            member = archive.getinfo(name)
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise DataCorrupt(f"{name} in it is packed, which Keras does not do")
            if member.file_size != member.compress_size:
                raise DataCorrupt(
                    f"{name} in it has {member.compress_size} bytes, expected {member.file_size}"
                )
            with archive.open(member) as stream:
                found.append(stream.read(member.file_size))
    return found[0], found[1]


def _settings(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each layer; empty for a model that does not list its layers."""
    inside = config.get("config")
    layers = inside.get("layers") if isinstance(inside, dict) else None
    return {
        str(own.get("name")): own | {"class_name": layer.get("class_name")}
        for layer in (layers if isinstance(layers, list) else ())
        if isinstance(layer, dict) and isinstance(own := layer.get("config"), dict)
    }


def _layers(parts: dict[str, Hdf5Item]) -> list[KerasLayer]:
    if "layers" not in parts:
        raise DataCorrupt(
            f"it has no group 'layers', expected what Keras 3 writes of a model that lists its "
            f"layers; it has {', '.join(list(parts)[:5]) or 'nothing'}"
        )
    found = []
    for place, group in parts["layers"].children().items():
        inside = group.children()
        if others := [name for name in inside if name not in UNREAD]:
            raise DataCorrupt(
                f"layers/{place} holds {others[0]!r}, a layer inside of a layer; expected a model "
                "whose layers are Keras's own"
            )
        if "vars" not in inside:
            continue
        variables = inside["vars"].children()
        if set(variables) != {str(number) for number in range(len(variables))}:
            raise DataCorrupt(f"layers/{place} has arrays {', '.join(variables)}, expected 0, 1")
        arrays = [_array(variables[str(number)]) for number in range(len(variables))]
        if arrays:
            match = re.fullmatch(r"(.+?)(?:_(\d{1,9}))?", place, re.DOTALL)
            kind, number = (match[1], match[2]) if match else (place, None)
            name = inside["vars"].text("name")
            known = place if name is None else name
            found.append(KerasLayer(place, kind, int(number or 0), known, arrays))
    return sorted(found, key=lambda layer: (layer.kind, layer.number))


def _array(item: Hdf5Item) -> Array:
    array = item.array()
    if array.dtype != np.dtype("V2"):
        return array
    if (kind := item.text("dtype")) != "bfloat16":
        raise DataCorrupt(f"{item.name} holds {kind or 'bytes'}, expected floats")
    return of_bfloat16(array.view("<u2"))
