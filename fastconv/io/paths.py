"""Paths as people write them."""

from __future__ import annotations

from contextlib import suppress
from os import PathLike
from pathlib import Path

__all__ = ["user_path"]


def user_path(path: str | PathLike[str]) -> Path:
    """Return the path with ``~`` and ``~name`` at its beginning as home folders.

    If there is no such user or home, the path stays as it is.
    """
    path = Path(path)
    with suppress(RuntimeError):
        return path.expanduser()
    return path
