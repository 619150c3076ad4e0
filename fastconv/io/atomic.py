"""Atomic writing: a file is either the old one or the whole new one, never half of it."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

from ..errors import DataNotFound, FastconvError, WriteFailed

__all__ = ["append_to_file", "failures_named", "make_folder", "replace_file"]

LONGEST_NAME = 50
"""Characters of a file's name that its temporary file's name begins with; 255 bytes hold them."""

_ROOM = "make room there, or name another place"
_PERMISSION = "expected a place that this user may write to"
REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: _PERMISSION,
    errno.EISDIR: "name a file in it",
    errno.ENAMETOOLONG: "give it a shorter name",
}
"""Remedies, by the number of the error."""


@contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`, and move it to `path` on success.

    A symbolic link stays; the file that it leads to is replaced. The new file has the mode, owner
    and extended attributes of the old one, or those that ``open`` gives. Some files cannot be
    replaced, and are overwritten once the whole content is known: a device, a pipe, a file with
    several names (hard links), with an owner that a new file cannot have, or in a folder that
    takes no new files.

    Parameters
    ----------
    path : path
        Its folder must exist.

    Yields
    ------
    binary file, open for writing and reading

    Raises
    ------
    DataNotFound
        There is no such folder.
    WriteFailed
        The disk is full, the file is read-only, or `path` is a folder. The temporary file is
        removed.
    """
    path = Path(path)
    with failures_named(path):
        old = _old_file(path)
        target = Path(os.path.realpath(path))
        if old is None and not target.parent.is_dir():
            folder = target.parent if path.is_symlink() else path.parent
            raise DataNotFound(f"{path}: no folder {folder} to write it to")
        file = _successor(target, old)
        if file is None:
            with io.BytesIO() as content:
                yield content
                _overwrite(path, content)
            return
        temporary = Path(file.name)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            try:
                temporary.replace(target)
            except OSError:
                if old is None:
                    raise
                with temporary.open("rb") as content:
                    _overwrite(path, content)  # a mount point, or held open on Windows
        finally:  # also after Ctrl-C
            with suppress(OSError):
                temporary.unlink()


def append_to_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Append to a file, which is made if there is none: all of it or nothing.

    Raises
    ------
    WriteFailed
        As for `replace_file`.
    """
    path = Path(path)
    with failures_named(path), path.open("ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except BaseException:  # Ctrl-C too leaves no half line
            with suppress(OSError):  # a device or pipe has no end to cut
                file.truncate(size)
            raise


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder, and those above it that are missing.

    Raises
    ------
    WriteFailed
        It cannot be made, or there is something else of its name.
    """
    with failures_named(Path(path), "the folder was not made"):
        Path(path).mkdir(parents=True, exist_ok=True)


@contextmanager
def failures_named(path: Path, what: str = "not written") -> Iterator[None]:
    """Turn the system's errors about `path` into `WriteFailed` with a remedy."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FastconvError):
            raise
        raise _failure(path, what, error) from error


def _failure(path: Path, what: str, error: OSError) -> WriteFailed:
    number = error.errno or errno.EIO
    reason = error.strerror or str(error)
    # Is the error about another file, which the block was reading?
    beside = Path(os.path.realpath(path)).parent
    named = error.filename
    if isinstance(named, str | os.PathLike) and Path(os.path.realpath(named)).parent != beside:
        reason += f": {named}"
    remedy = REMEDIES.get(number)
    return WriteFailed(number, f"{what}: {reason}" + (f"; {remedy}" if remedy else ""), str(path))


def _old_file(path: Path) -> os.stat_result | None:
    """Return the file's status, or None without a file; raise if ``open`` would not write to it."""
    try:
        old = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if stat.S_ISREG(old.st_mode):
        os.close(os.open(path, os.O_WRONLY))  # replacing it would need no such permission
    return old


def _successor(target: Path, old: os.stat_result | None) -> IO[bytes] | None:
    """Make a file beside `target` that can replace it; None if `target` itself must be written.

    The system applies the umask when it makes the file. Reading the umask would mean changing it,
    for all threads.
    """
    if old is not None and not (
        stat.S_ISREG(old.st_mode) and old.st_nlink == 1 and not _is_standard_stream(old)
    ):
        return None
    name = target.with_name(f".{target.name[:LONGEST_NAME]}.{secrets.token_hex(4)}")
    mode = 0o666 if old is None else 0o600  # unreadable for those who could not read the old file
    try:
        file = open(name, "x+b", opener=partial(os.open, mode=mode))  # noqa: SIM115, the caller's
    except OSError:
        if old is None:
            raise
        return None
    try:
        if old is not None:
            _make_alike(file.fileno(), target, old)
    except BaseException as error:
        file.close()
        name.unlink(missing_ok=True)
        if isinstance(error, OSError):
            return None
        raise
    return file


def _is_standard_stream(file: os.stat_result) -> bool:
    """Whether one of this process's standard streams is this file (``/dev/stdout``)."""
    for descriptor in range(3):
        with suppress(OSError):
            if os.path.samestat(file, os.fstat(descriptor)):
                return True
    return False


def _make_alike(descriptor: int, target: Path, old: os.stat_result) -> None:
    """Give a new file the owner, attributes and mode of `target`."""
    if sys.platform == "win32":
        return
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    theirs, ours = _attributes(target), _attributes(descriptor)
    if sys.platform == "linux":
        for name in ours.keys() - theirs.keys():  # inherited from the folder
            os.removexattr(descriptor, name)
        for name, value in theirs.items():
            if ours.get(name) != value:
                os.setxattr(descriptor, name, value)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))  # last, for a change of owner clears bits


def _attributes(file: Path | int) -> dict[str, bytes]:
    """Extended attributes, access control lists included; none where the system has none."""
    if sys.platform != "linux":
        return {}
    try:
        return {name: os.getxattr(file, name) for name in os.listxattr(file)}
    except OSError:
        return {}


def _overwrite(path: Path, content: IO[bytes]) -> None:
    """Overwrite the existing file at `path`."""
    size = content.seek(0, os.SEEK_END)
    content.seek(0)
    flags = os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    with open(path, "wb", opener=lambda name, _: os.open(name, flags)) as file:
        facts = os.fstat(file.fileno())
        regular = stat.S_ISREG(facts.st_mode)
        if regular:
            _reserve(file.fileno(), facts.st_size, size)
        try:
            shutil.copyfileobj(content, file)
            file.flush()
            if regular:
                file.truncate(size)
                os.fsync(file.fileno())
        except OSError as error:
            if not regular:
                raise
            raise _failure(path, "overwritten in part, and damaged now", error) from error


def _reserve(descriptor: int, old_size: int, size: int) -> None:
    """Reserve the disk space of a larger file before its old content is touched."""
    if size <= old_size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, old_size, size - old_size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            os.ftruncate(descriptor, old_size)
            raise
