"""Images and labels in NumPy's files, never pickled: an ``.npz``, or a folder of ``.npy``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataCorrupt
from ..io.arrays import load_arrays
from ..io.npy import open_npy
from .record import PART_NAMES, Source, Unreadable, index_labels, printable

__all__ = ["open_arrays"]

KINDS = {
    "x": "images",
    "image": "images",
    "images": "images",
    "t": "labels",
    "y": "labels",
    "label": "labels",
    "labels": "labels",
}
"""Names that arrays of images and of labels may have."""

CLASS_NAMES = "class_names"
EXPECTED = "expected x_train and t_train, perhaps with x_test and t_test, or x and t"
SCALES = {np.dtype(bool): 1, np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
"""The value of white, by type; fractions are in 0..1 already."""

CHUNK = 1000
"""Images that are converted to float32 at a time."""


def open_arrays(
    path: Path, size: tuple[int, int] | None, grey: bool | None, classes: Sequence[str] | None
) -> Source:
    """Take images and labels from an ``.npz`` file, or from the ``.npy`` files of a folder.

    Arrays are called ``x_train``, ``t_train``, ``x_val``, ``t_val``, ``x_test``, ``t_test``, or
    ``x``, ``t`` if there is only one part. ``x`` may also be called ``images``, ``t`` also ``y`` or
    ``labels``, and the part may come first (``train_images``). ``class_names``, if present, holds
    the names that labels are indices into.

    Images are (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels, of uint8, uint16,
    bool, or fractions in 0..1; labels (N,) or (N, 1), whole numbers or strings.

    Parameters
    ----------
    path : path
    size, grey, classes
        As in `open_files`, except that arrays are not brought to another size or colour.

    Raises
    ------
    ArgumentError
        `size` or `grey` differ from the arrays' own, or a class that is not among `classes`.
    DataCorrupt
        Not NumPy's files, arrays of objects, or not images with their labels.
    """
    source = printable(str(path))
    arrays = _read_folder(path) if path.is_dir() else _read_archive(path, source)
    names = arrays.pop(CLASS_NAMES, None)
    images, labels, unknown = _by_part(arrays, source)
    notes = [f"not read: {', '.join(unknown)}"] if unknown else []

    listed = None if names is None else _names_of_classes(names, source)
    texts = {part: _texts(array, listed, f"{source}: {part}") for part, array in labels.items()}
    if listed is not None and classes is None:
        classes = listed
    class_names, indices = index_labels(texts, classes, source)
    shapes = set()
    for part, array in images.items():
        images[part] = array = _channels_first(array, f"{source}: {part}")
        shapes.add(array.shape[1:])
        if len(array) != len(indices[part]):
            raise DataCorrupt(
                f"{source}: {len(array)} {part} images, but {len(indices[part])} labels"
            )
    if len(shapes) > 1:
        raise DataCorrupt(f"{source}: images of different shapes: {sorted(shapes)}")
    (shape,) = shapes
    own = shape[1:], shape[0] == 1
    if (size or own[0], own[1] if grey is None else grey) != own:
        raise ArgumentError(
            f"{source}: images of {' x '.join(map(str, shape))} cannot be brought to another size "
            "or colour: arrays are taken as they are"
        )
    fingerprint = _fingerprint(images, indices, class_names)
    read = _Arrays(images, source).read
    return Source(class_names, indices, shape, fingerprint, read, (), tuple(notes))


def _read_archive(path: Path, source: str) -> dict[str, NDArray[Any]]:
    if path.suffix.lower() != ".npz":
        raise ArgumentError(
            f"{source}: one array does not hold images and labels: put x_train.npy, t_train.npy "
            "and so on into a folder and name that, or write an .npz"
        )
    return load_arrays(path)[0]


def _read_folder(folder: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a folder by file name, left on disk until they are used."""
    return {path.stem: open_npy(path) for path in sorted(folder.glob("*.npy"))}


def _by_part(
    arrays: dict[str, NDArray[Any]], source: str
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], list[str]]:
    """Images and labels by part, and the names of the arrays that are neither."""
    found: dict[str, dict[str, NDArray[Any]]] = {"images": {}, "labels": {}}
    unknown = []
    for name, array in arrays.items():
        words = name.casefold().split("_")
        kinds = [KINDS[word] for word in words if word in KINDS]
        parts = [PART_NAMES[word] for word in words if word in PART_NAMES]
        if len(kinds) != 1 or len(kinds) + len(parts) != len(words) or len(parts) > 1:
            unknown.append(printable(name))
            continue
        part = parts[0] if parts else "train"
        if part in found[kinds[0]]:
            raise DataCorrupt(f"{source}: more than one array of {part} {kinds[0]}: {name}")
        found[kinds[0]][part] = array
    if not found["images"] or found["images"].keys() != found["labels"].keys():
        raise DataCorrupt(f"{source}: holds {', '.join(map(printable, arrays))}; {EXPECTED}")
    return found["images"], found["labels"], unknown


def _channels_first(array: NDArray[Any], what: str) -> NDArray[Any]:
    """A view in the form (N, C, H, W)."""
    if array.dtype.newbyteorder("=") not in SCALES and array.dtype.kind != "f":
        raise DataCorrupt(
            f"{what} images are {array.dtype}, expected uint8, uint16, bool or fractions in 0..1"
        )
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim == 4 and 0 not in array.shape:
        if array.shape[1] in (1, 3):
            return array
        if array.shape[3] in (1, 3):
            return array.transpose(0, 3, 1, 2)
    raise DataCorrupt(
        f"{what} images have shape {array.shape}, expected (N, H, W), (N, C, H, W) or "
        "(N, H, W, C) with 1 or 3 channels"
    )


def _names_of_classes(names: NDArray[Any], source: str) -> list[str]:
    if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) != len(names):
        raise DataCorrupt(f"{source}: {CLASS_NAMES} must be different strings, (K,)")
    return [printable(name) for name in names.tolist()]


def _texts(labels: NDArray[Any], listed: list[str] | None, what: str) -> list[str]:
    """The name of each label's class."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise DataCorrupt(
            f"{what} labels are {labels.dtype} of shape {labels.shape}, expected whole numbers "
            "or strings of shape (N,)"
        )
    if labels.dtype.kind == "U":
        return [printable(label) for label in labels.tolist()]
    most = len(listed) - 1 if listed is not None else None
    if len(labels) and (labels.min() < 0 or (most is not None and labels.max() > most)):
        raise DataCorrupt(
            f"{what} labels go from {labels.min()} to {labels.max()}, expected 0 to "
            f"{'any' if most is None else most}"
        )
    if listed is not None:
        return [listed[label] for label in labels.tolist()]
    return [str(label) for label in labels.tolist()]


def _fingerprint(
    images: dict[str, NDArray[Any]], labels: dict[str, NDArray[np.int64]], names: Sequence[str]
) -> str:
    digest = hashlib.sha256("\0".join(names).encode())
    for part in sorted(images):
        for array in (images[part], labels[part]):
            digest.update(f"\n{part} {array.dtype.str} {array.shape}\n".encode())
            for start in range(0, len(array), CHUNK):
                digest.update(np.ascontiguousarray(array[start : start + CHUNK]).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class _Arrays:
    """The images of each part, in the form (N, C, H, W), as the file has them."""

    images: dict[str, NDArray[Any]]
    source: str

    def read(
        self, part: str, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[Unreadable], list[str]]:
        array = self.images[part]
        scale = SCALES.get(array.dtype.newbyteorder("="), 1)
        images = np.empty((len(rows), *array.shape[1:]), np.float32)
        for start in range(0, len(rows), CHUNK):
            chunk = images[start : start + CHUNK]
            np.divide(array[rows[start : start + CHUNK]], np.float32(scale), out=chunk)
            if len(lost := np.flatnonzero(~np.isfinite(chunk).all(axis=(1, 2, 3)))):
                raise DataCorrupt(
                    f"{self.source}: {part} images hold NaN or infinity, the first of them image "
                    f"{rows[start + lost[0]]} (counted from 0)"
                )
            if not (chunk.min() >= 0 and chunk.max() <= 1):
                raise DataCorrupt(
                    f"{self.source}: {part} images hold {chunk.min():g} to {chunk.max():g}; "
                    "fractions must be in 0..1, whole numbers uint8 or uint16"
                )
        return images, np.ones(len(rows), bool), [], []
