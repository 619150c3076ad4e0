"""A user's own images: folders, CSV files and NumPy's files, all in one form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataCorrupt, DataNotFound
from ..io.paths import user_path
from ..memory import expect_room
from ..randomness import stratified
from .arrays import open_arrays
from .csv_file import list_csv
from .files import open_files
from .folder import list_folder
from .record import ImageFacts, ImageSet, Part, Source, Unreadable, expect_size, printable, some

__all__ = ["describe_unreadable", "load_images", "load_test_images", "open_images"]

TEST_SHARE = 0.2
"""Share of each class that is for testing, by default."""

SHOWN = 5
"""Most unreadable files that an error names."""


def open_images(
    path: str | PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    grey: bool | None = None,
    classes: Sequence[str] | None = None,
    progress: bool = False,
) -> Source:
    """Look through a user's data, of any kind, without reading the images yet.

    Parameters and errors are those of `load_images`.
    """
    path = user_path(path)
    source = printable(str(path))
    if size is not None:
        expect_size(source, size)
    if path.is_dir():
        if any(path.glob("*.npy")):
            return open_arrays(path, size, grey, classes)
        return open_files(list_folder(path), size, grey, classes, progress)
    if not path.is_file():
        raise DataNotFound(f"{source}: no such file or folder")
    match path.suffix.lower():
        case ".csv" | ".tsv":
            return open_files(list_csv(path), size, grey, classes, progress)
        case ".npz" | ".npy":
            return open_arrays(path, size, grey, classes)
    raise ArgumentError(
        f"{source}: expected a folder of images, a .csv of paths and labels, or an .npz of arrays"
    )


def load_images(
    path: str | PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    grey: bool | None = None,
    test_share: float | None = None,
    seed: int = 0,
    strict: bool = False,
    progress: bool = False,
) -> ImageSet:
    """Load a user's own images in the form that networks take.

    docs/data.md says what is read, and how it is brought to one form.

    Parameters
    ----------
    path : path
        A folder with a folder for each class, or of ``.npy`` files; a ``.csv``; an ``.npz``.
    size : (H, W), optional
        Scale images to fill this frame, and cut off what juts out. By default all must have
        the same size.
    grey : bool, optional
        One channel or three. By default one if every training file's format is grey.
    test_share : float, optional
        Share of each class that is set apart for testing, 0.2 by default; only for data that
        do not say which images are for testing.
    seed : int
        Decides which images those are, and the order of the training images.
    strict : bool
        Raise for files that cannot be read; otherwise these are left out and listed.
    progress : bool
        Show bars on standard error if reading takes more than a few seconds.

    Returns
    -------
    ImageSet
        Images float32 (N, C, H, W) in 0..1, labels int64 (N,).

    Raises
    ------
    ArgumentError
        A parameter that is out of range or does not apply to these data; more images than fit
        into memory.
    DataNotFound, DataCorrupt
        No such path, nothing readable in it, a class without training images, or with `strict`
        any file that cannot be read.
    MissingDependency
        Pillow is not installed.
    """
    name = printable(str(path))
    if test_share is not None and not 0 < test_share < 1:
        raise ArgumentError(f"{name}: test_share must be between 0 and 1, got {test_share}")
    source = open_images(path, size=size, grey=grey, progress=progress)
    if test_share is not None and "test" in source.labels:
        raise ArgumentError(f"{name}: has a test part of its own; leave the test share out")
    share = None if "test" in source.labels else test_share or TEST_SHARE
    if "train" not in source.labels:
        raise DataCorrupt(f"{name}: no training images: only {', '.join(source.labels)}")
    rows = _rows(source, share, seed)
    _expect_classes(name, source, source.labels["train"][rows["train"][1]])
    _expect_room(name, source, rows)
    unreadable = [*source.unreadable]
    if strict:
        _expect_all(name, unreadable)
    parts, as_they_lie = {}, []
    for part, chosen in rows.items():
        parts[part], failed, lying = _read(source, *chosen)
        unreadable += failed
        as_they_lie += lying
        if strict:
            _expect_all(name, unreadable)
    _expect_classes(name, source, parts["train"].labels)
    if not len(parts["test"]):
        raise DataCorrupt(f"{name}: no images to test on; a class's only image is for training")
    notes = source.notes + _note_lying(as_they_lie)
    if share is not None:
        notes += (f"{share:.0%} of each class are set apart for testing",)
    return ImageSet(
        parts["train"],
        parts["test"],
        parts.get("val"),
        source.class_names,
        tuple(unreadable),
        notes,
        source.fingerprint,
        share,
    )


def load_test_images(
    path: str | PathLike[str],
    facts: ImageFacts,
    *,
    seed: int,
    own_place: bool,
    strict: bool = False,
    progress: bool = False,
) -> ImageSet:
    """Load the images to test a trained network on; the training part is empty.

    From the data that the network was trained on, these are the images that were set apart;
    from other data, the test part, or all of them if there is none.

    Parameters
    ----------
    path : path
    facts : ImageFacts
        Of the data that the network was trained on. Labels are indices into its classes.
    seed : int
        Of its training.
    own_place : bool
        The network was trained on data at this path, which must still be there.
    strict, progress
        As for `load_images`.

    Raises
    ------
    ArgumentError
        Images of a class that the network does not know.
    DataNotFound, DataCorrupt, MissingDependency
        As for `load_images`; or the data that it was trained on have changed.
    """
    name = printable(str(path))
    channels, *size = facts.shape
    source = open_images(
        path,
        size=(size[0], size[1]),
        grey=channels == 1,
        classes=facts.class_names,
        progress=progress,
    )
    own = source.fingerprint == facts.fingerprint
    if own_place and not own:
        raise DataCorrupt(
            f"{name}: {CHANGED}, so which of them it has not seen is not known: "
            "name other images by --data"
        )
    notes = source.notes
    if own and facts.test_share is not None:
        chosen = _rows(source, facts.test_share, seed)["test"]
    else:
        part = "test" if "test" in source.labels else "train"
        if part == "train":
            notes += ("no test part, and not the data of the training: all images are tested on",)
        chosen = part, np.arange(len(source.labels.get(part, ())))
    if not len(chosen[1]):
        raise DataCorrupt(f"{name}: no images to test on: only {', '.join(source.labels)}")
    _expect_room(name, source, {"test": chosen})
    test, failed, lying = _read(source, *chosen)
    notes += _note_lying(lying)
    unreadable = (*source.unreadable, *failed)
    if strict:
        _expect_all(name, unreadable)
    if not len(test):
        raise DataCorrupt(f"{name}: no images to test on")
    nothing = Part(test.images[:0], test.labels[:0])
    return ImageSet(nothing, test, None, facts.class_names, unreadable, notes)


CHANGED = "these are not the images that the run was trained on"

Rows = tuple[str, NDArray[np.int64]]
"""A part of the source, and rows of it."""


def _rows(source: Source, share: float | None, seed: int) -> dict[str, Rows]:
    """Which rows of the source each part takes; training images are shuffled."""
    rows = {part: (part, np.arange(len(labels))) for part, labels in source.labels.items()}
    if share is not None:
        rng = np.random.default_rng([seed, 0])
        is_test = stratified(source.labels["train"], share, rng, every_class=True)
        rows |= {"train": ("train", np.flatnonzero(~is_test))}
        rows |= {"test": ("train", np.flatnonzero(is_test))}
    # In the order of the classes, the first images would all be of one class.
    order = np.random.default_rng([seed, 1]).permutation(len(rows["train"][1]))
    rows["train"] = "train", rows["train"][1][order]
    return rows


def _read(
    source: Source, part: str, rows: NDArray[np.int64]
) -> tuple[Part, list[Unreadable], list[str]]:
    images, good, unreadable, as_they_lie = source.read(part, rows)
    rows = rows[good]
    read = Part(images, source.labels[part][rows], source.names(part, rows))
    return read, unreadable, as_they_lie


def _note_lying(names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    return (
        f"not turned upright, as their EXIF is damaged: {len(names):,} images, "
        f"{some(sorted(names))}",
    )


def _expect_room(name: str, source: Source, rows: dict[str, Rows]) -> None:
    images = sum(len(chosen) for _, chosen in rows.values())
    shape = " x ".join(map(str, source.shape))
    expect_room(
        f"{name}: {images:,} images of {shape}",
        4 * images * math.prod(source.shape),
        "take fewer images, or train on picture files at a smaller --image-size (size= in Python)",
    )


def _expect_classes(name: str, source: Source, labels: NDArray[np.integer]) -> None:
    counts = np.bincount(labels, minlength=len(source.class_names))
    if missing := [source.class_names[label] for label in np.flatnonzero(counts == 0)]:
        raise DataCorrupt(f"{name}: no training image can be read of class {some(missing)}")


def _expect_all(name: str, unreadable: Sequence[Unreadable]) -> None:
    if unreadable:
        raise DataCorrupt(f"{name}: {describe_unreadable(unreadable)}")


def describe_unreadable(unreadable: Sequence[Unreadable], most: int = SHOWN) -> str:
    """Count files that were left out, and name the first of them."""
    count = len(unreadable)
    named = "; ".join(map(str, unreadable[:most]))
    more = f"; and {count - most:,} more" if count > most else ""
    return f"{count:,} file{'s' * (count != 1)} cannot be read: {named}{more}"
