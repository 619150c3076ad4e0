"""Folders of images, one for each class, perhaps inside of ``train``, ``val`` and ``test``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataCorrupt
from .picture import endings
from .record import PART_NAMES, printable

__all__ = ["Entry", "Listing", "list_folder"]


@dataclass(frozen=True)
class Entry:
    """A file of a data set: where it is, what it is called, its class and its part."""

    path: Path
    name: str
    label: str
    part: str


@dataclass(frozen=True)
class Listing:
    """The files of a data set, and what was found beside them, a sentence each."""

    source: str
    entries: list[Entry]
    notes: list[str]


def list_folder(root: Path) -> Listing:
    """List the images of a folder that has a folder for each class.

    Where `root` has a folder ``train``, ``val`` (``valid``, ``validation``) or ``test``, the
    classes are looked for in those, and what lies beside them is not read. Hidden files and
    folders are passed over; a class may have folders inside; links are followed, but never
    into a folder that is being listed already.

    Parameters
    ----------
    root : path

    Returns
    -------
    Listing
        Sorted by part, class and name.

    Raises
    ------
    DataCorrupt
        Two folders for one part, or no folder with images.
    """
    folders, loose = _folders(root), 0
    source, notes = printable(str(root)), []
    parts: dict[str, Path] = {}
    for folder in folders:
        if part := PART_NAMES.get(folder.name.casefold()):
            if part in parts:
                raise DataCorrupt(
                    f"{source}: both {parts[part].name}/ and {folder.name}/ hold the {part} part"
                )
            parts[part] = folder
    if parts:
        beside = [printable(f.name) for f in folders if f not in parts.values()]
        if beside:
            own = ", ".join(f.name for f in parts.values())
            notes.append(f"not read, as they lie beside {own}: {_some(beside)}")
    else:
        parts = {"train": root}

    entries: list[Entry] = []
    others: Counter[str] = Counter()
    barren = []
    for part, place in parts.items():
        loose += sum(_is_picture(path) for path in _visible(place) if not path.is_dir())
        for folder in _folders(place):
            before = len(entries)
            label = printable(folder.name)
            for path in _files(folder, {_identity(root), _identity(place)}):
                if _is_picture(path):
                    name = printable(path.relative_to(root).as_posix())
                    entries.append(Entry(path, name, label, part))
                else:
                    others[path.suffix.lower() or path.name] += 1
            if len(entries) == before:
                barren.append(printable(folder.relative_to(root).as_posix()))
    if not entries:
        raise DataCorrupt(
            f"{source}: no images in folders of their classes: expected {source}/CLASS/IMAGE, "
            f"or {source}/train/CLASS/IMAGE" + (f"; {loose} lie in no folder" if loose else "")
        )
    if loose:
        notes.append(f"not read, as they lie in no folder of a class: {loose:,} images")
    if barren:
        notes.append(f"not taken for classes, as no images are in them: {_some(barren)}")
    if others:
        kinds = [f"{printable(ending)} ({count:,})" for ending, count in others.most_common()]
        notes.append(f"not read, by the endings of their names: {_some(kinds)}")
    return Listing(source, sorted(entries, key=_order), notes)


def _order(entry: Entry) -> tuple[str, str, str]:
    return entry.part, entry.label, entry.name


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")


def _visible(folder: Path) -> list[Path]:
    with os.scandir(folder) as found:
        return sorted(Path(entry.path) for entry in found if not entry.name.startswith("."))


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in endings()


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _files(folder: Path, above: set[tuple[int, int]]) -> Iterator[Path]:
    """All files below a folder; `above` are the folders that it lies in, known by their inodes."""
    own = _identity(folder)
    if own in above:
        return
    for path in _visible(folder):
        if path.is_dir():
            yield from _files(path, above | {own})
        else:
            yield path
