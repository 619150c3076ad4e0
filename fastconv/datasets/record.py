"""What every loader of a user's own images returns, and what a run keeps of it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..console import html_table, plain
from ..errors import ArgumentError
from .normalization import Normalization

__all__ = ["ImageFacts", "ImageSet", "Part", "Source", "Unreadable", "expect_size"]

PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names that folders, columns and arrays may give the parts of a set, in lower case."""

Shape = tuple[int, int, int]

LARGEST_IMAGE = 2**27
"""Most numbers in one image, over all channels: half a GiB."""


@dataclass(frozen=True)
class Part:
    """Images for training, validation or testing, with their labels.

    Attributes
    ----------
    images : ndarray of float32
        (N, C, H, W), in 0..1 unless a `Normalization` was applied.
    labels : ndarray of int
        (N,), indices into the names of the classes.
    names : sequence of str
        Of each image: a file's path in the data, or ``test[17]``, which counts from 0. A data set
        of fastconv's own has none.
    """

    images: NDArray[Any]
    labels: NDArray[np.integer]
    names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.images.shape[1:]))
        return f"Part({len(self):,} images of {size}, {self.images.dtype})"


def numbered(part: str, rows: Iterable[int]) -> list[str]:
    """Names for images that have none: ``test[17]``."""
    return [f"{part}[{row}]" for row in rows]


@dataclass(frozen=True)
class Unreadable:
    """A file that was left out: its name and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class ImageSet:
    """Images of a data set, ready for a network.

    Attributes
    ----------
    train, test : Part
        The training images are in an order drawn from the seed, the others in the data's order.
    validation : Part or None
        If the data have such a part of their own.
    class_names : tuple of str
        In the order of the labels.
    unreadable : tuple of Unreadable
        The files that were left out.
    notes : tuple of str
        What else was changed or skipped, a sentence each.
    fingerprint : str or None
        SHA-256 over names, labels and contents; None for data sets that check their own.
    test_share : float or None
        Share of the images that was set apart for testing; None if the data say which.
    """

    train: Part
    test: Part
    validation: Part | None
    class_names: tuple[str, ...]
    unreadable: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()
    fingerprint: str | None = None
    test_share: float | None = None

    @property
    def _parts(self) -> dict[str, Part]:
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.train.images.shape[1:]))
        counts = ", ".join(f"{len(part):,} for {name}" for name, part in self._parts.items())
        classes = f"{len(self.class_names)} classes: {some(self.class_names)}"
        return f"ImageSet({counts}; {size}; {classes})"

    def _repr_html_(self) -> str:
        """The number of images by class and part, for a notebook."""
        parts = self._parts.values()
        counts = [np.bincount(part.labels, minlength=len(self.class_names)) for part in parts]
        rows = [
            (name, *(f"{number:,}" for number in numbers))
            for name, *numbers in zip(self.class_names, *counts, strict=True)
        ]
        return html_table(repr(self), ("class", *self._parts), rows)


@dataclass(frozen=True)
class ImageFacts:
    """What a run keeps of a user's images: the form that further images must be brought to.

    Attributes
    ----------
    shape : (C, H, W)
    class_names : tuple of str
    normalization : Normalization or None
    test_share : float or None
    fingerprint : str or None
        As in `ImageSet`.

    Raises
    ------
    ArgumentError
        Sizes or a share out of range, no classes, or a normalization for other images.
    """

    shape: Shape
    class_names: tuple[str, ...]
    normalization: Normalization | None
    test_share: float | None
    fingerprint: str | None

    @property
    def ink(self) -> bool:
        """Whether the images are drawings, from 0, paper, to 1, ink, as in MNIST."""
        return self.fingerprint is None and self.shape[0] == 1

    @property
    def restore(self) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
        """What brings normalized images back to 0..1; None if they are."""
        return None if self.normalization is None else self.normalization.undo

    def __post_init__(self) -> None:
        expect_size("ImageFacts", self.shape)
        if not self.class_names:
            raise ArgumentError("ImageFacts: expected names of classes, got none")
        if self.test_share is not None and not 0 < self.test_share < 1:
            raise ArgumentError(
                f"ImageFacts: test_share must lie between 0 and 1, got {self.test_share}"
            )
        if self.normalization is not None and len(self.normalization.mean) != self.shape[0]:
            raise ArgumentError(
                f"ImageFacts: a normalization of {len(self.normalization.mean)} channels for "
                f"images of {self.shape[0]}"
            )


@dataclass(frozen=True)
class Source:
    """A user's data, looked through but not read yet.

    Attributes
    ----------
    class_names : tuple of str
    labels : dict of str to ndarray
        The labels of each part (``train``, ``val``, ``test``; some may be missing).
    shape : (C, H, W)
        Of every image once it is read.
    fingerprint : str
    read : callable
        ``read(part, rows)`` -> images float32 of the rows that could be read, a mask of these
        rows, a list of `Unreadable` for the others, and the names of images that were not turned
        upright, because their orientation cannot be read.
    unreadable, notes : tuple
        As in `ImageSet`.
    names : callable
        ``names(part, rows)`` -> the names of these images.
    """

    class_names: tuple[str, ...]
    labels: dict[str, NDArray[np.int64]]
    shape: Shape
    fingerprint: str
    read: Callable[
        [str, NDArray[np.int64]],
        tuple[NDArray[np.float32], NDArray[np.bool_], list[Unreadable], list[str]],
    ]
    unreadable: tuple[Unreadable, ...]
    notes: tuple[str, ...]
    names: Callable[[str, NDArray[np.int64]], list[str]] = numbered


def expect_size(op: str, shape: tuple[int, ...]) -> None:
    """Raise an `ArgumentError` unless images can have this shape, as (C, H, W) or (H, W)."""
    if min(shape) < 1 or math.prod(shape) > LARGEST_IMAGE:
        raise ArgumentError(
            f"{op}: images of {' x '.join(map(str, shape))}: expected lengths of at least 1, and "
            f"at most {LARGEST_IMAGE} numbers in an image"
        )


def printable(text: str) -> str:
    """Make a file name safe for every terminal and JSON file.

    Accents are composed, since systems differ in that. Characters that are no text, or move a
    terminal's cursor, are escaped.
    """
    return plain(unicodedata.normalize("NFC", text), keep="")


def some(names: Iterable[str], most: int = 5) -> str:
    """The first of many names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if names[most:] else "")


def index_labels(
    names: dict[str, list[str]], classes: Sequence[str] | None, source: str
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Turn the class names of each part's images into indices.

    Parameters
    ----------
    names : dict of str to list of str
        The class of each image, by part.
    classes : sequence of str, optional
        The classes of a trained network, which are then the only ones. By default those
        that occur, sorted: as numbers if all are whole numbers, else as text.
    source : str
        For messages.

    Raises
    ------
    ArgumentError
        A class that is not among `classes`.
    """
    found = {name for part in names.values() for name in part}
    if classes is None:
        classes = _sorted_classes(found)
    elif unknown := sorted(found - set(classes)):
        raise ArgumentError(
            f"{source}: the network knows no class {some(unknown)}; "
            f"it knows {', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}"
        )
    order = {name: index for index, name in enumerate(classes)}
    labels = {
        part: np.array([order[name] for name in part_names], np.int64)
        for part, part_names in names.items()
    }
    return tuple(classes), labels


def _sorted_classes(names: Iterable[str]) -> list[str]:
    names = sorted(names)
    if all(name.isdecimal() for name in names):
        return sorted(names, key=_number)
    return names


def _number(name: str) -> tuple[int, str]:
    """A key that sorts decimals of any script as numbers; `int` refuses those of 4,301 digits."""
    digits = "".join(str(int(digit)) for digit in name).lstrip("0")
    return len(digits), digits
