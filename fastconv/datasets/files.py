"""Listed image files as a `Source`: several threads examine them, and later read them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import config
from ..errors import ArgumentError, DataCorrupt
from ..progress import ProgressBar
from .folder import Entry, Listing
from .picture import PictureFacts, decode, examine, quiet_pillow, why
from .record import Source, Unreadable, index_labels, some

__all__ = ["open_files"]

PATIENCE = 2.0
"""Seconds before a bar appears."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def open_files(
    listing: Listing,
    size: tuple[int, int] | None,
    grey: bool | None,
    classes: Sequence[str] | None,
    progress: bool,
) -> Source:
    """Look at every file of a listing, without reading its pixels yet.

    Parameters
    ----------
    listing : Listing
    size : (H, W), optional
        The size that images will be brought to. By default the one that they all have.
    grey : bool, optional
        One channel or three. By default one if every training file's format is grey.
    classes : sequence of str, optional
        The classes of a trained network; by default those that occur.
    progress : bool
        Show bars on standard error if it takes more than a few seconds.

    Raises
    ------
    ArgumentError
        A class that is not among `classes`; or the images are of several sizes, and `size` is
        not given.
    DataCorrupt
        No file can be read.
    """
    paths = [entry.path for entry in listing.entries]
    found = list(_in_threads(examine, paths, progress, "file"))
    digest = hashlib.sha256()
    good: list[tuple[Entry, PictureFacts]] = []
    unreadable = [*listing.unreadable]
    names: dict[str, list[str]] = {}
    for entry, facts in zip(listing.entries, found, strict=True):
        # Another release of Pillow may read other files, which would change the split.
        state = "read" if facts.reason is None else "left out"
        line = "\0".join((entry.part, entry.label, entry.name, facts.digest, state))
        digest.update(f"{line}\n".encode())
        labels = names.setdefault(entry.part, [])
        if facts.reason is None:
            good.append((entry, facts))
            labels.append(entry.label)
        else:
            unreadable.append(Unreadable(entry.name, facts.reason))
    if not good:
        raise DataCorrupt(
            f"{listing.source}: none of {len(found):,} files can be read; {unreadable[0]}"
        )
    # A class without readable images still counts: training on it says that it lacks images.
    every = {part: [e.label for e in listing.entries if e.part == part] for part in names}
    class_names, _ = index_labels(every, classes, listing.source)
    _, labels_of = index_labels(names, class_names, listing.source)
    if size is None:
        size = _common_size(good, listing.source)
    if grey is None:
        training = [facts for entry, facts in good if entry.part == "train"]
        grey = all(facts.grey for facts in training or [facts for _, facts in good])
    files = {part: [entry for entry, _ in good if entry.part == part] for part in names}
    shape = (1 if grey else 3, *size)
    return Source(
        class_names,
        labels_of,
        shape,
        digest.hexdigest(),
        _Files(files, shape, progress).read,
        tuple(unreadable),
        (*listing.notes, *(_notes_on_copies(good) if classes is None else ())),
        lambda part, rows: [files[part][row].name for row in rows],
    )


def _notes_on_copies(good: list[tuple[Entry, PictureFacts]]) -> list[str]:
    """Notes on files of equal contents, which may be tested on after training on them."""
    equal: dict[str, list[Entry]] = {}
    for entry, facts in good:
        equal.setdefault(facts.digest, []).append(entry)
    has_test = any(entry.part == "test" for entry, _ in good)
    labels, parts = [], []
    for first, *others in equal.values():
        for entry in others:
            pair = f"{first.name} and {entry.name}"
            if entry.label != first.label:
                labels.append(pair)
            elif entry.part != first.part or (entry.part == "train" and not has_test):
                parts.append(pair)
    notes = []
    if labels:
        notes.append(f"equal files of different classes ({len(labels):,}): {some(labels, 3)}")
    if parts:
        notes.append(
            f"equal files ({len(parts):,}), so that the network may be tested on what it was "
            f"trained on: {some(parts, 3)}"
        )
    return notes


def _common_size(found: list[tuple[Entry, PictureFacts]], source: str) -> tuple[int, int]:
    sizes = Counter(facts.size for _, facts in found)
    if len(sizes) == 1:
        return next(iter(sizes))
    examples = {facts.size: entry.name for entry, facts in reversed(found)}
    shown = ", ".join(
        f"{height}x{width} ({count:,}, as {examples[height, width]})"
        for (height, width), count in sizes.most_common(3)
    )
    raise ArgumentError(
        f"{source}: images of {len(sizes)} sizes: {shown}{', ...' if len(sizes) > 3 else ''}; "
        "name one to bring them to: --image-size HxW (size=(H, W) in Python)"
    )


@dataclass(frozen=True)
class _Files:
    """The files of each part that are images as far as was seen."""

    files: dict[str, list[Entry]]
    shape: tuple[int, int, int]
    progress: bool

    def read(
        self, part: str, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[Unreadable], list[str]]:
        images = np.empty((len(rows), *self.shape), np.float32)
        entries = [self.files[part][row] for row in rows]
        as_they_lie: list[int] = []

        def read_one(place: int) -> str | None:
            try:
                images[place], lost = decode(entries[place].path, self.shape)
                if lost:
                    as_they_lie.append(place)
            except Exception as error:
                return why(error)
            return None

        reasons = list(_in_threads(read_one, range(len(rows)), self.progress, "image"))
        good = np.array([reason is None for reason in reasons], bool)
        kept = 0
        for place in np.flatnonzero(good):  # moved in place: a copy of all may not fit
            if place != kept:
                images[kept] = images[place]
            kept += 1
        unreadable = [
            Unreadable(entry.name, reason)
            for entry, reason in zip(entries, reasons, strict=True)
            if reason is not None
        ]
        return images[:kept], good, unreadable, [entries[place].name for place in as_they_lie]


def _in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], progress: bool, unit: str
) -> Iterator[Result]:
    """``map(work, items)`` on as many threads as kernels use; Pillow releases the GIL."""
    bar = ProgressBar(len(items), 0, show=progress, unit=unit, delay=PATIENCE)
    pool = ThreadPoolExecutor(config.get_num_threads())
    with quiet_pillow(), bar:
        try:
            for result in pool.map(work, items):
                bar.tick()
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
