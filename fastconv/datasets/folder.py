"""Folders of images, one for each class, perhaps inside ``train``, ``val`` and ``test``."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataCorrupt
from .picture import endings, why
from .record import PART_NAMES, Unreadable, printable, some

__all__ = ["Entry", "Listing", "identity", "list_folder", "list_pictures"]

SYSTEM_FOLDERS = {
    *("$recycle.bin", "recycler", "system volume information", "found.000"),  # Windows
    *("__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder"),  # macOS
    "lost+found",  # ext2 to ext4
    *("@eadir", "#recycle", "#snapshot"),  # Synology
    *("@recycle", "@recently-snapshot"),  # QNAP
    "~snapshot",  # NetApp
}
"""Folders that systems make, in lower case. Hidden folders are never read either."""

SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini"}
"""Files that systems put beside pictures, in lower case; they are skipped without a note."""


@dataclass(frozen=True)
class Entry:
    """A file of a data set: its path, name, class and part."""

    path: Path
    name: str
    label: str
    part: str


@dataclass(frozen=True)
class Listing:
    """The files of a data set, and what was found beside them.

    Attributes
    ----------
    source : str
        The data set, for messages.
    entries : list of Entry
    notes : list of str
        What was skipped, a sentence each.
    unreadable : list of Unreadable
        Folders that cannot be listed.
    """

    source: str
    entries: list[Entry]
    notes: list[str]
    unreadable: list[Unreadable] = field(default_factory=list)


def list_folder(root: Path) -> Listing:
    """List the images of a folder that has a folder for each class.

    Folders of `root` that have the name of a part (``train``, ``val``, ``test``: `PART_NAMES`) and
    hold folders of classes are parts; anything beside them is not read. If folders of other names
    hold images too, such a folder may also be a class, and the choice is refused, unless the parts
    have a class in common. docs/data.md has the table.

    Hidden files and folders are skipped, and so is what systems make. A class may have folders
    inside. Links are followed, but never into a folder that is being listed.

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
        Folders that may be parts or classes, two folders for one part, no folder with images,
        or `root` cannot be listed.
    """
    source, found = printable(str(root)), _look_through(root)
    if root in found.barred:
        raise DataCorrupt(f"{source}: the folder cannot be listed: {found.barred[root]}")
    names = _part_folders(root, found)
    depth = 2 if names else 1  # of a class's folder
    notes = []
    if names:
        beside = sorted({way[0] for way in found.folders} - names.keys())
        if beside:
            own = ", ".join(names)
            notes.append(f"not read, as they are beside {own}: {some(map(printable, beside))}")

    entries: list[Entry] = []
    others: Counter[str] = Counter()
    loose, full = 0, set()
    for way in found.files:
        is_part = way[0] in names or not names
        if not _is_picture(way[-1]):
            if is_part and len(way) > depth:
                others[Path(way[-1]).suffix.lower() or way[-1]] += 1
        elif len(way) == 1 or (is_part and len(way) <= depth):
            loose += 1
        elif is_part:
            part = names.get(way[0], "train")
            name, label = printable("/".join(way)), printable(way[depth - 1])
            entries.append(Entry(root.joinpath(*way), name, label, part))
            full.add(way[:depth])
    if not entries:
        raise DataCorrupt(
            f"{source}: no images in folders of their classes: expected {source}/CLASS/IMAGE, "
            f"or {source}/train/CLASS/IMAGE" + (f"; {loose} are in no folder" if loose else "")
        )
    barren = [
        printable("/".join(way))
        for way in found.folders
        if len(way) == depth and way not in full and (way[0] in names or not names)
    ]
    if loose:
        notes.append(f"not read, as they are in no class's folder: {loose:,} images")
    if barren:
        notes.append(f"not taken for classes, as no images are in them: {some(barren)}")
    if others:
        kinds = [f"{printable(ending)} ({count:,})" for ending, count in others.most_common()]
        notes.append(f"not read, by the endings of their names: {some(kinds)}")
    if found.systems:
        kinds = [
            f"{printable(name)} ({f'{count:,} images' if count else 'cannot be listed'})"
            for name, count in found.systems.most_common()
        ]
        notes.append(f"not read, as systems make them: {some(kinds)}")
    unreadable = [
        Unreadable(printable(path.relative_to(root).as_posix()) + "/", reason)
        for path, reason in found.barred.items()
    ]
    listed = _each_once(sorted(entries, key=_order), source)
    if repeats := len(entries) - len(listed):
        notes.append(f"{repeats:,} images are others under another name, and count once")
    return Listing(source, listed, notes, unreadable)


def identity(path: Path) -> object:
    """What all names of one file share: other spellings, and links of both kinds."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # no such file, or a name that no file can have
        return os.path.normpath(path)
    # Some file systems have no file numbers.
    return (status.st_dev, status.st_ino) if status.st_ino else path.resolve()


def _each_once(entries: list[Entry], source: str) -> list[Entry]:
    found: dict[object, Entry] = {}
    for entry in entries:
        known = found.setdefault(identity(entry.path), entry)
        if (known.label, known.part) != (entry.label, entry.part):
            where = "in two parts" if known.part != entry.part else "of two classes"
            raise DataCorrupt(
                f"{source}: {known.name} and {entry.name} are one file, {where}: expected each in "
                "one place"
            )
    return list(found.values())


Way = tuple[str, ...]
"""A path below the data set's folder, as the names on the way."""


@dataclass(frozen=True)
class _Found:
    """What is below a folder.

    Attributes
    ----------
    files, folders : list
        Without those that systems made.
    barred : dict
        Folders that cannot be listed, and why.
    systems : Counter
        The images in folders that systems make, by the folder's name; 0 if it cannot be listed.
    """

    files: list[Way] = field(default_factory=list)
    folders: list[Way] = field(default_factory=list)
    barred: dict[Path, str] = field(default_factory=dict)
    systems: Counter[str] = field(default_factory=Counter)


def list_pictures(root: Path) -> list[Path]:
    """The pictures below a folder, sorted, as `list_folder` finds them, whatever their folders."""
    return [root.joinpath(*way) for way in _look_through(root).files if _is_picture(way[-1])]


def _part_folders(root: Path, found: _Found) -> dict[str, str]:
    """The folders that are parts, with the parts' names; none if the folders are classes.

    Only images decide: a folder ``test`` without images is neither part nor class.
    """
    source = printable(str(root))
    classes: dict[str, set[str]] = {}  # by folder, the folders of classes in it
    for way in found.files:
        if len(way) > 1 and _is_picture(way[-1]):
            classes.setdefault(way[0], set()).update(way[1:-1][:1])
    for place in found.barred:  # there may be images in it
        if place.name.casefold() in PART_NAMES and place.parent == root:
            classes.setdefault(place.name, set())
    names = {name: PART_NAMES.get(name.casefold(), "") for name in sorted(classes)}
    parts = {name: part for name, part in names.items() if part}
    beside = [name for name in names if name not in parts]
    if not parts:
        return {}
    shown = ", ".join(map(printable, parts))
    first, inside = printable(next(iter(parts))), f"{source}/train"
    if beside and not _have_a_class_in_common([classes[name] for name in parts]):
        raise DataCorrupt(
            f"{source}: {shown} may be {'classes' if parts.keys() - {first} else 'a class'} or the "
            f"part of that name, since other folders hold images as well: {some(beside)}; if all "
            f"are classes, move them into one folder: {inside}/{first}, {inside}/"
            f"{printable(beside[0])} (or into test/, to be tested on); if not, move "
            f"{some(beside)} away, or list the images in a .csv"
        )
    if not any(classes[name] for name in parts):
        raise DataCorrupt(
            f"{source}: no images in folders of their classes: those of {shown} are in no class's "
            f"folder: expected {source}/{first}/CLASS/IMAGE; if {shown} are the classes, move "
            f"them into one folder: {inside}/{first}"
        )
    known: dict[str, str] = {}
    for name, part in parts.items():
        if part in known:
            raise DataCorrupt(
                f"{source}: both {known[part]}/ and {name}/ hold the {part} part; expected one"
            )
        known[part] = name
    return parts


def _have_a_class_in_common(parts: list[set[str]]) -> bool:
    counts = Counter(name for classes in parts for name in set(map(printable, classes)))
    return max(counts.values(), default=0) > 1


def _order(entry: Entry) -> tuple[str, str, str]:
    return entry.part, entry.label, entry.name


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in endings()


def _look_through(root: Path) -> _Found:
    """Everything below a folder that no system made, sorted."""
    found = _Found()
    folders: list[tuple[Way, frozenset[tuple[int, int]]]] = [((), frozenset())]
    while folders:
        way, above = folders.pop()
        place = root.joinpath(*way)
        try:
            status = place.stat()
            own = status.st_dev, status.st_ino
            if own in above:  # a link to a folder that contains it
                continue
            with os.scandir(place) as listed:
                inside = [entry for entry in listed if not entry.name.startswith(".")]
        except OSError as error:
            found.barred[place] = why(error)
            continue
        if way:
            found.folders.append(way)
        for entry in inside:
            name = entry.name.casefold()
            if not _is_folder(entry):
                if name not in SYSTEM_FILES:
                    found.files.append((*way, entry.name))
            elif name not in SYSTEM_FOLDERS:
                folders.append(((*way, entry.name), above | {own}))
            else:
                images, barred = _count_images(entry.path)
                if images or barred:
                    found.systems[entry.name] += images
    found.files.sort()
    found.folders.sort()
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or without permission
        return False


def _count_images(folder: str) -> tuple[int, bool]:
    """How many images are below a folder, and whether some of it cannot be listed."""
    barred: list[OSError] = []
    count = sum(
        not name.startswith(".") and _is_picture(name)
        for _, _, files in os.walk(folder, onerror=barred.append)
        for name in files
    )
    return count, bool(barred)
