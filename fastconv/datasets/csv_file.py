"""A CSV file that names images and their classes."""

from __future__ import annotations

import csv
from pathlib import Path

from ..errors import DataCorrupt
from .folder import Entry, Listing
from .record import PART_NAMES, printable

__all__ = ["list_csv"]

COLUMNS = {
    "path": ("path", "file", "filename", "image"),
    "label": ("label", "class"),
    "split": ("split",),
}
"""What the first line may call the columns."""


def list_csv(path: Path) -> Listing:
    """List the images of a CSV file, separated by commas, in UTF-8.

    The first line names the columns: ``path`` (or ``file``, ``filename``, ``image``) and
    ``label`` (or ``class``), perhaps ``split`` (train, val or test); others are passed over.
    A file without such a line has two columns, path and label. Paths are relative to the
    folder of the CSV file.

    Returns
    -------
    Listing
        Sorted by part, class and path.

    Raises
    ------
    DataCorrupt
        Not text in UTF-8, a line of another number of columns, an empty path or label, an
        unknown part, or a path twice with another class or part.
    """
    source = printable(str(path))
    rows = _rows(path, source)
    if not rows:
        raise DataCorrupt(f"{source}: no lines")
    where = _columns(rows[0][1], source)
    if where is None:
        where, width = {"path": 0, "label": 1}, 2
    else:
        width = len(rows.pop(0)[1])

    entries: dict[str, tuple[int, Entry]] = {}
    for line, row in rows:
        if len(row) != width:
            raise DataCorrupt(f"{source}, line {line}: {len(row)} columns, expected {width}")
        cells = {column: row[index].strip() for column, index in where.items()}
        if not cells["path"] or not cells["label"]:
            raise DataCorrupt(f"{source}, line {line}: an empty path or label")
        part = PART_NAMES.get(cells.get("split", "train").casefold())
        if part is None:
            raise DataCorrupt(
                f"{source}, line {line}: split is {cells['split']!r}, expected train, val or test"
            )
        name = cells["path"]
        image = path.parent / name
        entry = Entry(image, printable(name), printable(cells["label"]), part)
        first, known = entries.setdefault(name, (line, entry))
        if known != entry:
            raise DataCorrupt(
                f"{source}, line {line}: {entry.name} is in line {first} already, with another "
                "label or split"
            )
    if not entries:
        raise DataCorrupt(f"{source}: no lines below the names of the columns")
    listed = sorted(
        (entry for _, entry in entries.values()), key=lambda e: (e.part, e.label, e.name)
    )
    repeats = len(rows) - len(listed)
    notes = [f"{repeats} lines repeat others and count once"] if repeats else []
    return Listing(source, listed, notes)


def _rows(path: Path, source: str) -> list[tuple[int, list[str]]]:
    """The lines that are not empty, with their numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            return [(reader.line_num, row) for row in reader if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataCorrupt(f"{source}: not a CSV file in UTF-8: {error}") from None


def _columns(first: list[str], source: str) -> dict[str, int] | None:
    """Where each column is, or None where the first line does not name them."""
    names = [cell.strip().casefold() for cell in first]
    where: dict[str, int] = {}
    for column, known in COLUMNS.items():
        found = [index for index, name in enumerate(names) if name in known]
        if len(found) > 1:
            raise DataCorrupt(
                f"{source}: {len(found)} columns may be the {column}: "
                f"{', '.join(names[index] for index in found)}"
            )
        if found:
            where[column] = found[0]
    return where if "path" in where and "label" in where else None
