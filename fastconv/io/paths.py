"""Paths as people write them."""

from __future__ import annotations

from contextlib import suppress
from os import PathLike
from pathlib import Path

__all__ = ["user_path"]


def user_path(path: str | PathLike[str]) -> Path:
    """Return the path with ``~`` and ``~name`` at its beginning as home folders.

    Where nobody knows such a user, or such a home, it is a name like others.
    """
    path = Path(path)
    with suppress(RuntimeError):
        return path.expanduser()
    return path
