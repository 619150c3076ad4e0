"""Files that are either the old one or the whole new one, never half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import DataNotFound

__all__ = ["replace_file"]


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`, and put it in `path`'s place on success.

    Parameters
    ----------
    path : path
        Its folder must exist.

    Yields
    ------
    binary file, open for writing, and for reading back what was written

    Raises
    ------
    DataNotFound
        There is no such folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise DataNotFound(f"{path}: no folder {path.parent} to write it to")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's file is for its owner alone; give it what open() would have given.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException:  # Ctrl-C as well must not leave half a file; it goes on its way
        temporary.unlink(missing_ok=True)
        raise
