"""Files that are read as a whole, and files that only stand for others."""

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
"""How files begin that are often found where weights should be, and what they are."""


def read_whole(path: Path) -> bytes:
    """Return what is in a file.

    Raises
    ------
    DataNotFound
        There is no such file.
    DataCorrupt
        It only stands for another one.
    ArgumentError
        It takes more memory than there is.
    """
    if not path.is_file():
        raise DataNotFound(f"{path}: no such file")
    expect_room(f"{path}: its bytes", path.stat().st_size, "free some, or put less into one file")
    data = path.read_bytes()
    if what := stand_in(data[:100]):
        raise DataCorrupt(f"{path}: {what}")
    return data


def stand_in(head: bytes) -> str | None:
    """What a file is that begins so and only stands for another one; None if it does not."""
    start = head.lstrip().lower()
    return next((what for mark, what in STAND_INS.items() if start.startswith(mark)), None)
