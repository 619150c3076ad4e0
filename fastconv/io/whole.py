"""Files that are read as a whole, and files that are mistaken for weights."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataCorrupt, DataNotFound
from ..memory import expect_room

__all__ = ["read_whole", "stand_in"]

STAND_INS = {
    b"version https://git-lfs.github.com/": "a pointer of Git LFS, not the file: run git lfs pull",
    b"<!doctype html": "a web page, which a server gave in place of the file",
    b"<html": "a web page, which a server gave in place of the file",
}
"""Beginnings of files that are often found in place of weights, and what those files are."""


def read_whole(path: Path) -> bytes:
    """Return the content of a file.

    Raises
    ------
    DataNotFound
        There is no such file.
    DataCorrupt
        It is a placeholder for another file.
    ArgumentError
        It is larger than the available memory.
    """
    if not path.is_file():
        raise DataNotFound(f"{path}: no such file")
    expect_room(f"{path}: its bytes", path.stat().st_size, "free some, or put less into one file")
    data = path.read_bytes()
    if what := stand_in(data[:100]):
        raise DataCorrupt(f"{path}: {what}")
    return data


def stand_in(head: bytes) -> str | None:
    """Say which placeholder for another file begins so; None of other files."""
    start = head.lstrip().lower()
    return next((what for mark, what in STAND_INS.items() if start.startswith(mark)), None)
