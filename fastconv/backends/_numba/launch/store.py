"""Machine code on disk: where it is kept, and whose files may be run."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from ....errors import FallbackWarning

__all__ = ["Store"]

DIGEST = hashlib.sha256().digest_size

ABANDONED = 3600.0
"""Age in seconds at which a temporary file must be one that a killed process left."""


class Store:
    """Named pieces of machine code, kept in a folder that users may share.

    Machine code is run unchecked, so what another user can write must not be read. Each user
    writes to a folder of their own, ``numba-UID``. Pieces are read from all such folders, if they
    belong to this user, to root, or to the owner of the cache folder, provided that nobody else
    can have made that folder. So the compiled kernels of a container image serve whoever runs it,
    and a folder that everyone may write to is safe to share.

    Parameters
    ----------
    cache_dir : callable
        Returns the cache folder, or raises OSError where there is none; called when the first
        piece is asked for.
    stamp : str
        What all pieces depend on; those of another stamp are not found.

    Attributes
    ----------
    unread : str
        Why the last file that was found but not read was not.
    unkept : str
        Why nothing can be written.
    """

    def __init__(self, cache_dir: Callable[[], Path], stamp: str) -> None:
        self.stamp = stamp
        self.unread = self.unkept = ""
        self._cache_dir = cache_dir

    def read(self, name: str) -> bytes | None:
        """Return what was written under that name, or None."""
        for folder in self._places():
            try:
                content = _read(folder / name, self._trusted)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self.unread = str(error)
                continue
            digest, data = content[:DIGEST], content[DIGEST:]
            if digest == self._digest(name, data):
                return data
            self.unread = f"{folder / name} is damaged"
        return None

    def write(self, name: str, data: bytes) -> None:
        """Keep `data` under that name; where that is not possible, say so once."""
        folder = self.folder
        if folder is None:
            return
        temporary = folder / f"{name}.{os.urandom(8).hex()}.tmp"
        try:
            # Complete before it gets its name: other processes may be looking for it.
            with open(temporary, "xb", opener=_create) as file:
                file.write(self._digest(name, data) + data)
            temporary.replace(folder / name)
        except OSError as error:
            self._cannot_keep(error)
        finally:
            with suppress(OSError):
                temporary.unlink()

    @cached_property
    def folder(self) -> Path | None:
        """The folder to write to, made if need be; None, with one warning, if that fails."""
        try:
            folder = self._own
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "it cannot be written", str(folder))
            for path in folder.glob("*.tmp"):
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > ABANDONED:
                        path.unlink()
        except OSError as error:
            self._cannot_keep(error)
            return None
        return folder

    def __str__(self) -> str:
        """Where pieces are found, for people; makes no folder."""
        found = [str(folder) for folder in self._places() if os.access(folder, os.R_OK)]
        reason = [f"not kept: {self.unkept}"] if self.unkept else []
        return ", ".join(found + reason) or "none yet"

    @cached_property
    def _cache(self) -> Path:
        return self._cache_dir()

    @property
    def _own(self) -> Path:
        user = f"-{os.geteuid()}" if hasattr(os, "geteuid") else ""
        return self._cache / f"numba{user}" / self.stamp

    def _places(self) -> list[Path]:
        """Where to look: the folder to write to, then those of other users."""
        places = []
        with suppress(OSError):  # there is no cache folder, or it cannot be listed
            places.append(self._own)
            others = self._cache.glob(f"numba-*/{self.stamp}")
            places += sorted(set(others) - {self._own})
        return places

    @cached_property
    def _trusted(self) -> set[int] | None:
        """Users whose machine code this process runs; None where files have no owners."""
        if not hasattr(os, "geteuid"):
            return None
        trusted = {os.geteuid(), 0}
        # Root trusts nobody else; other users trust the folder's owner.
        with suppress(OSError):
            if os.geteuid() != 0 and not anyone_may_make(self._cache):
                trusted.add(self._cache.stat().st_uid)
        return trusted

    def _digest(self, name: str, data: bytes) -> bytes:
        # Names are part of the digest, so that a file that was renamed is not accepted.
        return hashlib.sha256(f"{self.stamp}/{name}\n".encode() + data).digest()

    def _cannot_keep(self, error: OSError) -> None:
        if not self.unkept:
            self.unkept = str(error)
            warnings.warn(
                f"fastconv: compiled Numba kernels cannot be kept ({error}); each process compiles "
                "them anew. Set FASTCONV_CACHE_DIR to a folder that can be written.",
                FallbackWarning,
                stacklevel=2,
            )


def anyone_may_make(folder: Path) -> bool:
    """Whether the folder lies where any user can put one, as in ``/tmp``."""
    return any(parent.stat().st_mode & stat.S_IWOTH for parent in folder.resolve().parents)


def _read(path: Path, trusted: set[int] | None) -> bytes:
    """Content of a file that only a trusted user can have written."""
    with open(path, "rb", opener=_open) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            why = "it is no regular file"
        elif trusted is not None and facts.st_uid not in trusted:
            why = f"it belongs to another user ({facts.st_uid})"
        elif trusted is not None and facts.st_mode & stat.S_IWOTH:
            why = "anyone can write it"
        else:
            return file.read()
    raise PermissionError(errno.EACCES, f"not run, as {why}", str(path))


def _open(path: str, flags: int) -> int:
    # Must not wait for the other end of a pipe that somebody may have put there.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _create(path: str, flags: int) -> int:
    # Others may read it, if the umask lets them; nobody else may write it.
    return os.open(path, flags, 0o644)
