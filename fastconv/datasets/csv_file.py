"""A CSV file that names images and their classes."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataCorrupt
from .folder import Entry, Listing, identity
from .picture import endings, why
from .record import PART_NAMES, printable, some

__all__ = ["list_csv"]

FILE = r"(image|img|file|picture|photo)"
CLASS = r"(class|label|category|target)"
COLUMNS = {
    "path": (
        "path|file|filename|image",
        rf"{FILE}_?(path|name|file)s?|(path|{FILE})s?",
        rf"({FILE}_?)?(id|name|index)",
    ),
    "label": ("label|class", rf"{CLASS}(_?name)?s?|classes|categories", rf"y|{CLASS}_?id"),
    "split": ("split|subset|partition|data_set",),
}
"""Names that the columns may have in the first line, in lower case, words joined by ``_``.

A pattern counts only if none before it finds a column.
"""

EXPECTED = (
    "expected a first line that names the columns: path (or file, image, image_path, ...), label "
    "(or class, category, ...), and perhaps split; or lines of a path and a label"
)

SEPARATORS = (",", ";", "\t")

Row = tuple[int, list[str]]
"""The number of a line, and its cells."""


def list_csv(path: Path) -> Listing:
    """List the images of a CSV file, in UTF-8, separated by commas, semicolons or tabs.

    The first line names the columns: ``path`` and ``label``, or other common names of these
    (`COLUMNS`), perhaps ``split`` (train, val or test); other columns are ignored. A file without
    such a line has two columns, path and label. Paths are relative to the folder of the CSV file.
    If no such file exists, they are tried with the backslashes of Windows, and with accents
    composed or decomposed.

    Returns
    -------
    Listing
        Sorted by part, class and path.

    Raises
    ------
    DataCorrupt
        Not text in UTF-8, unknown columns, a line with another number of columns, an empty path or
        label, an unknown part, or a file listed twice with different classes or parts.
    """
    source = printable(str(path))
    table = _table(_text(path, source), path.parent, source)
    width = len(table.first)
    entries: dict[object, tuple[int, Entry]] = {}
    for line, row in table.rows:
        if len(row) != width:
            raise DataCorrupt(f"{source}, line {line}: {len(row)} columns, expected {width}")
        cells = {column: row[index].strip() for column, index in table.where.items()}
        if not cells["path"] or not cells["label"]:
            raise DataCorrupt(f"{source}, line {line}: an empty path or label")
        part = PART_NAMES.get(cells.get("split", "train").casefold())
        if part is None:
            raise DataCorrupt(
                f"{source}, line {line}: {table.first[table.where['split']].strip()} is "
                f"{cells['split']!r}, expected train, val or test; if that column says something "
                "else, rename it"
            )
        image = _image(path.parent, cells["path"])
        entry = Entry(image, printable(cells["path"]), printable(cells["label"]), part)
        first, known = entries.setdefault(identity(image), (line, entry))
        if (known.label, known.part) != (entry.label, entry.part):
            spelled = "" if known.name == entry.name else f", as {known.name}"
            raise DataCorrupt(
                f"{source}, line {line}: {entry.name} is in line {first} already{spelled}, with "
                "another label or split"
            )
    if not entries:
        raise DataCorrupt(f"{source}: no lines below the names of the columns")
    listed = sorted(
        (entry for _, entry in entries.values()), key=lambda e: (e.part, e.label, e.name)
    )
    notes = [*table.notes]
    if repeats := len(table.rows) - len(listed):
        notes.append(f"{repeats} lines repeat others and count once")
    return Listing(source, listed, notes)


def _text(path: Path, source: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataCorrupt(f"{source}: not a CSV file in UTF-8; save it as UTF-8: {error}") from None
    except OSError as error:
        raise DataCorrupt(f"{source}: cannot be read: {why(error)}") from None


@dataclass(frozen=True)
class _Table:
    """The first line, the places of the columns, the lines after their names, and notes."""

    first: list[str]
    where: dict[str, int]
    rows: list[Row]
    notes: list[str]


def _table(text: str, folder: Path, source: str) -> _Table:
    """Split a text into its table.

    The first line decides the separator: the one that makes it name the columns, else the first
    that makes it a path and a label.
    """
    if hint := re.match(r"sep=([,;\t])\r?\n", text):  # as Excel writes it
        text = text[hint.end() :]
    firsts: dict[str, list[str]] = {}
    broken: csv.Error | None = None
    for separator in (hint[1],) if hint else SEPARATORS:
        try:
            firsts[separator] = next((row for _, row in _rows(text, separator)), [])
        except csv.Error as error:
            broken = error
    if any(not first for first in firsts.values()):
        raise DataCorrupt(f"{source}: no lines")
    for separator, first in firsts.items():
        if where := _columns(first, source):
            beside = [name.strip() for at, name in enumerate(first) if at not in where.values()]
            beside = [printable(name) for name in beside if name]
            notes = [f"columns that are not read: {some(beside)}"] if beside else []
            return _Table(first, where, _all_rows(text, separator, source)[1:], notes)
    for separator, first in firsts.items():
        if len(first) == 2 and _is_path(first[0].strip(), folder):
            rows = _all_rows(text, separator, source)
            return _Table(first, {"path": 0, "label": 1}, rows, [])
    if broken is not None:
        raise DataCorrupt(f"{source}: not a CSV file in UTF-8: {broken}")
    found = some([printable(cell.strip())[:80] for cell in max(firsts.values(), key=len)], 10)
    raise DataCorrupt(f"{source}, line 1: found the columns {found}; {EXPECTED}")


def _all_rows(text: str, separator: str, source: str) -> list[Row]:
    try:
        return list(_rows(text, separator))
    except csv.Error as error:
        raise DataCorrupt(f"{source}: not a CSV file in UTF-8: {error}") from None


def _rows(text: str, separator: str) -> Iterator[Row]:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True
    )
    for row in reader:
        if any(cell.strip() for cell in row):
            yield reader.line_num, row


def _image(folder: Path, cell: str) -> Path:
    """The file that a cell names, in the spelling of this or of another system.

    Windows separates folders by a backslash. A Mac decomposes accents in file names, while
    people type them composed.
    """
    written = folder / cell
    slashes = cell.replace("\\", "/")
    for text in (cell, slashes):
        for spelling in (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))):
            if _exists(folder / spelling):
                return folder / spelling
    return written


def _is_path(cell: str, folder: Path) -> bool:
    """Whether this may be an image's path, rather than the name of an unknown column."""
    return Path(cell).suffix.lower() in endings() or _exists(folder / cell)


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def _columns(first: list[str], source: str) -> dict[str, int]:
    """The place of each column; empty if the first line does not name path and label."""
    names = [re.sub(r"[\W_]+", "_", cell.strip().casefold()).strip("_") for cell in first]
    where: dict[str, int] = {}
    for column, patterns in COLUMNS.items():
        for pattern in patterns:
            found = [index for index, name in enumerate(names) if re.fullmatch(pattern, name)]
            if len(found) > 1:
                raise DataCorrupt(
                    f"{source}: {len(found)} columns may be the {column}: "
                    f"{', '.join(names[index] for index in found)}; expected one"
                )
            if found:
                where[column] = found[0]
                break
    return where if "path" in where and "label" in where else {}
