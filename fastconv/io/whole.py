"""Files that are read as a whole."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataNotFound
from ..room import expect_room

__all__ = ["read_whole"]


def read_whole(path: Path) -> bytes:
    """Return what is in a file.

    Raises
    ------
    DataNotFound
        There is no such file.
    ArgumentError
        It takes more memory than there is.
    """
    if not path.is_file():
        raise DataNotFound(f"{path}: no such file")
    expect_room(f"{path}: its bytes", path.stat().st_size, "free some, or put less into one file")
    return path.read_bytes()
