"""A lock file that one process at a time holds; the system releases it when that process ends.

So no lock is ever stale: a process that was killed holds nothing. On network file systems the lock
is as good as theirs; NFS shares locks between machines from version 4 on, or by its lock daemon.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import FallbackWarning, StateError
from .atomic import failures_named

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["held_alone"]

HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
"""Errors of the systems for a lock that another process holds."""

BEYOND = 2**30
"""Position of the locked byte on Windows, where locked bytes cannot be read."""


@contextmanager
def held_alone(path: Path, what: str) -> Iterator[None]:
    """Hold a lock on the file at `path`, which is made for this and removed afterwards.

    Parameters
    ----------
    path : Path
        Its folder must exist.
    what : str
        What only one process at a time may do, for messages.

    Raises
    ------
    StateError
        Another process holds it; the message names its number and its machine.
    WriteFailed
        The file cannot be made, or the disk is full.
    """
    with failures_named(path):
        file = _opened(path, what)
    try:
        with failures_named(path):
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
            file.flush()
        yield
    finally:
        # First the name, then the lock: a process that opens the file in between sees no name.
        # Windows does it the other way round, since it keeps the names of open files.
        if sys.platform != "win32":
            path.unlink(missing_ok=True)
        with failures_named(path):  # closing tries to write once more on a full disk
            file.close()
        if sys.platform == "win32":
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _opened(path: Path, what: str) -> IO[bytes]:
    """Open and lock the file, and make sure that it still has this name."""
    while True:
        file = path.open("a+b")
        try:
            _lock(file, path, what)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
        except BaseException:  # Ctrl-C too leaves no file open, which would hold the lock
            file.close()
            raise
        file.close()


def _lock(file: IO[bytes], path: Path, what: str) -> None:
    try:
        if sys.platform == "win32":
            file.seek(BEYOND)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            file.seek(0)
            holder = file.read(500).decode(errors="replace") or "another process"
            raise StateError(f"{path.parent}: {holder} {what}") from None
        warnings.warn(
            f"{path}: this file system has no locks ({error.strerror}): nothing keeps a second "
            f"process out of the folder while this one {what}",
            FallbackWarning,
            stacklevel=5,
        )
