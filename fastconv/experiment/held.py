"""A folder that one process at a time writes: of a run, or of a search."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Self, TypeVar

from ..errors import ArgumentError, DataNotFound, StateError
from ..io.atomic import make_folder
from ..io.lock import held_alone

__all__ = ["HeldFolder", "held_anew"]

ATTEMPTS = 10


class HeldFolder:
    """A folder, and the paths of its files, which are this object's attributes.

    Parameters
    ----------
    path : path
    config_name : str
        The file with which work here has begun.
    """

    def __init__(self, path: str | PathLike[str], config_name: str) -> None:
        self.path = Path(path)
        self.lock = self.path / ".lock"
        self.config_file = self.path / config_name

    def _temporary(self) -> tuple[str, ...]:
        """How names begin of files that are being written."""
        paths = [value for value in vars(self).values() if value not in (self.path, self.lock)]
        return tuple(f".{path.name}." for path in paths)

    @contextmanager
    def held(self, *, new: bool) -> Iterator[Self]:
        """Keep other runs out of the folder while this one trains; a new run's folder is made.

        Files that killed processes left half written are removed. If no run has begun at the end
        of the block, a folder that was made here is removed.

        Parameters
        ----------
        new : bool
            Whether a run is to begin, or to go on.

        Raises
        ------
        ArgumentError
            A new run, but something exists under the folder's name already.
        StateError
            Another process trains in it.
        """
        try:
            made = self._make()
        except FileExistsError:
            raise self._taken() from None
        try:
            with held_alone(self.lock, "trains in this folder: wait for its end, or stop it"):
                # Only under the lock: before it, another run may have been about to begin.
                if new and (self.config_file.exists() or self.others()):
                    raise self._taken()
                for path in self._leftovers():
                    path.unlink(missing_ok=True)
                try:
                    yield self
                finally:
                    if not self.config_file.exists():
                        for path in self._leftovers():
                            path.unlink(missing_ok=True)
        finally:
            for path in made:
                with suppress(OSError):  # it is not empty: a run has begun
                    path.rmdir()

    def _make(self) -> list[Path]:
        """Make the folder; return the folders that were made, the innermost first."""
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError
        for _ in range(ATTEMPTS):
            made = []
            for path in (self.path, *self.path.parents):
                if path.is_dir():
                    break
                made.append(path)
            with suppress(FileNotFoundError):  # a refused run has just removed one of them
                for path in reversed(made[1:]):
                    make_folder(path)
                if made:
                    self._make_alone()
                return made
        raise DataNotFound(f"{self.path}: the folders above it come and go")

    def _make_alone(self) -> None:
        """Make the folder itself; a `FileExistsError` if another run has just done so."""
        try:
            self.path.mkdir()
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError:
            make_folder(self.path)  # says what is wrong, and what to do

    def _taken(self) -> ArgumentError:
        return ArgumentError(
            f"{self.path} exists and is not an empty folder; name another with --out, or "
            "continue a run with --resume"
        )

    def _leftovers(self) -> list[Path]:
        """The temporary files in the folder, which killed processes left if it is held."""
        return [path for path in self.path.glob(".*") if path.name.startswith(self._temporary())]

    def others(self) -> list[Path]:
        """Everything in the folder but leftovers and the lock."""
        leftovers = {self.lock, *self._leftovers()}
        return [path for path in self.path.iterdir() if path not in leftovers]


Folder = TypeVar("Folder", bound=HeldFolder)


@contextmanager
def held_anew(place: Path, kind: Callable[[Path], Folder]) -> Iterator[Folder]:
    """Hold an unused folder of this name, with ``-2`` and so on added if the name is taken."""
    for number in itertools.count(1):
        name = place if number == 1 else place.with_name(f"{place.name}-{number}")
        with ExitStack() as stack:
            try:
                folder = kind(name)
                stack.enter_context(folder.held(new=True))
            except (ArgumentError, StateError):
                continue
            yield folder
            return
