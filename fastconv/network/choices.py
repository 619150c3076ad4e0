"""Algorithms that measuring has found fastest, in memory and on disk: as FFTW's wisdom.

Each backend's kernels have a file of their own for each CPU and instruction set, in a folder of the
user's in the cache folder. What it says can make predictions slower, but not wrong: it is a choice
among algorithms that are allowed anyway, and others are refused.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import stat
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from .. import config, selection
from ..errors import DataCorrupt, FallbackWarning, StateError
from ..io.atomic import failures_named, replace_file
from ..io.lock import held_alone
from ..io.records import json_text, read_record

__all__ = ["Choices", "choices_for"]

MOST_CHOICES = 4096
"""Convolutions of one file; of more, the latest."""

MOST_BYTES = 1 << 20
"""A file of more is not read."""

MOST_FILES = 16
"""Files of one user; of more, those last written stay."""

TRIES, PAUSE = 100, 0.02
"""How often, and after how many seconds, a file is tried that another process writes."""

CPU_FIELDS = (
    *("vendor_id", "cpu family", "model", "model name", "stepping"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),
)
"""What tells CPUs apart in ``/proc/cpuinfo``, of x86 and of Arm."""

Name = Annotated[str, Meta(max_length=200)]
Kept = Literal["direct", "winograd2", "winograd2x4", "winograd4"]


@dataclass(frozen=True)
class Where:
    """What choices hold for.

    Attributes
    ----------
    cpu, backend, instruction_set : str
    kernels : str
        The backend's `kernel_version`.
    """

    cpu: str
    backend: str
    instruction_set: str
    kernels: str

    @property
    def file_name(self) -> str:
        """One for each."""
        digest = hashlib.sha256(json_text(asdict(self)).encode()).hexdigest()
        return f"{self.backend[:20]}-{digest[:16]}.json"


@dataclass(frozen=True)
class _File(Where):
    """A file: what it holds for, and the algorithm of each convolution."""

    algorithms: Annotated[dict[Name, Kept], Meta(max_length=MOST_CHOICES)]


class Choices:
    """The algorithms that are known for one backend's kernels on this CPU.

    Once one is known, this process keeps to it, whatever happens to the file.

    Parameters
    ----------
    where : Where
    """

    def __init__(self, where: Where) -> None:
        self.where = where
        self._known: dict[str, str] = {}
        self._refused: set[str] = set()
        self._said: set[str] = set()

    def find(self, wanted: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Return the algorithms of those convolutions, of these, for which one is known.

        Parameters
        ----------
        wanted : mapping
            The algorithms that may compute each convolution.
        """
        if not wanted.keys() <= self._known.keys():
            for name, algorithm in self._read().items():
                if name not in wanted or name in self._known:
                    continue
                if algorithm in wanted[name]:
                    self._known[name] = algorithm
                else:
                    self._refused.add(name)
                    self._say(
                        f"{self.path}: {algorithm} for {name}, where expected is one of "
                        f"{', '.join(wanted[name])}; measured anew"
                    )
        return {
            name: self._known[name]
            for name, allowed in wanted.items()
            if self._known.get(name) in allowed
        }

    def keep(self, found: Mapping[str, str]) -> None:
        """Know these algorithms from now on, and write them to the file.

        Where another process has meanwhile found one, that is known, so that all agree. Where
        nothing can be written, that is said once.
        """
        self._known |= found
        path = self.path
        if path is None:
            return
        try:
            _make_own(path.parent)
            with _alone(path):
                there = self._read()
                refused = self._refused & found.keys()
                self._known |= {
                    name: algorithm
                    for name, algorithm in there.items()
                    if name in found and name not in refused
                }
                merged = there | {name: self._known[name] for name in found}
                latest = dict(list(merged.items())[-MOST_CHOICES:])
                text = json_text(asdict(self.where) | {"algorithms": latest}, indent=1)
                with replace_file(path) as file:
                    file.write(f"{text}\n".encode())
            _tidy(path.parent)
        except (OSError, StateError) as error:
            self._cannot_keep(error)

    @property
    def path(self) -> Path | None:
        """The file, which may not be there; None, said once, where there is no cache folder."""
        try:
            return _folder() / self.where.file_name
        except OSError as error:
            self._cannot_keep(error)
            return None

    def _read(self) -> dict[str, str]:
        """What the file says; what is damaged, or of others, is said once."""
        path = self.path
        if path is None:
            return {}
        try:
            _expect_own(path.parent)
        except OSError:  # there is none yet; `keep` says what is wrong with it
            return {}
        try:
            file = read_record(_content(path), _File, str(path))
            theirs = Where(file.cpu, file.backend, file.instruction_set, file.kernels)
            if theirs != self.where:
                raise DataCorrupt(f"{path}: for {theirs}, expected {self.where}")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, DataCorrupt) as error:
            self._say(f"{error}; measured anew")
            return {}
        return dict(file.algorithms)

    def _cannot_keep(self, error: Exception) -> None:
        self._say(
            f"measured algorithms cannot be kept ({error}); each process measures anew. Set "
            "FASTCONV_CACHE_DIR to a folder that can be written."
        )

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            warnings.warn(f"fastconv: {text}", FallbackWarning, stacklevel=2)


_all: dict[Where, Choices] = {}


def choices_for(backend: Any) -> Choices | None:
    """What is known for a backend's kernels; None where it does not say what these are."""
    version = getattr(backend, "kernel_version", None)
    if version is None:
        return None
    isa = selection.instruction_set(backend.name) or ""
    where = Where(_cpu(), backend.name, isa, str(version()))
    return _all.setdefault(where, Choices(where))


def _cpu(root: Path = Path("/")) -> str:
    """What this machine's CPU is."""
    fields: dict[str, str] = {}
    with suppress(OSError):
        text = (root / "proc/cpuinfo").read_text(encoding="ascii", errors="replace")
        for line in text.partition("\n\n")[0].splitlines():  # of the first processor
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
    known = [fields[name] for name in CPU_FIELDS if name in fields]
    return " ".join([platform.machine(), *(known or [platform.processor()])])


def _folder() -> Path:
    """The user's folder in the cache folder, which users may share."""
    user = f"-{os.geteuid()}" if hasattr(os, "geteuid") else ""
    return config.cache_dir() / f"algorithms{user}"


def _make_own(folder: Path) -> None:
    with failures_named(folder, "the folder was not made"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(0o755)
    _expect_own(folder)


def _expect_own(folder: Path) -> None:
    """Raise an OSError where others may have put files or links into the folder, or replace it."""
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        why = "it is no folder"
    elif hasattr(os, "geteuid") and facts.st_uid != os.geteuid():
        why = f"it belongs to another user ({facts.st_uid})"
    elif hasattr(os, "geteuid") and facts.st_mode & stat.S_IWOTH:
        why = "anyone can write to it"
    else:
        return
    raise PermissionError(errno.EACCES, f"not used, as {why}", str(folder))


def _content(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise DataCorrupt(f"{path}: expected a file")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise DataCorrupt(f"{path}: more than {MOST_BYTES} bytes")
    return content


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of a file, after waiting for it a while."""
    with ExitStack() as held:
        for left in reversed(range(TRIES)):
            try:
                lock = held_alone(path.with_suffix(".lock"), "writes measured algorithms")
                held.enter_context(lock)
                break
            except StateError:
                if not left:
                    raise
                time.sleep(PAUSE)
        yield


def _tidy(folder: Path) -> None:
    """Leave the files that were written last."""
    with suppress(OSError):  # of another process
        files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in files[:-MOST_FILES]:
            path.unlink(missing_ok=True)
