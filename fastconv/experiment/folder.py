"""A training run on disk: its configuration and its results.

::

    config.json       the configuration; enough to repeat the run
    history.jsonl     one line of JSON for each finished epoch
    weights.npz       the parameters
    checkpoint.npz    all that continuing needs
    result.json       how it ended, on the whole test set; missing until the run has ended
    curves.png  mistakes.png  confusion.png  filters.png  features.png
    mistakes.csv  mistakes.json    the misread test images, by name
    initial.npz       the filters of the first layer before training
    unreadable.txt    the user's files that were left out, if there were any
    .lock             while a process trains here

The JSON is valid JSON: null stands for a number that is not finite. If a folder has no config.json,
and nothing else than a killed process may leave, its run has not begun.

A run of several members has its own config.json, result.json and pictures, and besides::

    member-1/  ...    the run of each member
    ensemble.npz      all members' parameters, once the last one is trained
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..datasets.record import Unreadable
from ..errors import ArgumentError, DataNotFound, StateError
from ..io.arrays import load_arrays, save_arrays
from ..io.atomic import append_to_file, make_folder, replace_file
from ..io.lock import held_alone
from ..io.records import Count, NotNegative, Share, json_text, read_record
from .settings import RunConfig

__all__ = ["ClassResult", "Mistake", "RunFolder", "RunResult", "held_anew", "noting"]

ATTEMPTS = 10

BEGIN = "start one with: fastconv train --out"


@dataclass(frozen=True)
class Mistake:
    """A misread image: its name and class, and the answer with its probability."""

    name: str
    label: str
    answer: str
    confidence: float


@dataclass(frozen=True)
class ClassResult:
    """How well a class is read.

    Attributes
    ----------
    precision : float or None
        Right answers as a share of the answers that name the class; None if none does.
    recall : float or None
        Right answers as a share of the class's images; None if it has none.
    images, answers : int
        The class's images, and the answers that name it.
    """

    label: str
    precision: Share | None
    recall: Share | None
    images: Count
    answers: Count


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes
    ----------
    test_accuracy : float
    correct, total : int
        On the test images.
    seconds : float
        Of the training steps alone.
    epochs : int or None
        Finished epochs; None for an ensemble, whose members have their own.
    images_per_second : float or None
        None for an ensemble too.
    diverged : int or None
        The first epoch, from 1, with a loss that is not finite; None if there is none.
    kept : int or None
        The epoch whose weights are kept, if that is not the last one: the best on validation, or
        the last before the run diverged.
    by_class : list of ClassResult or None
        None in the files of earlier versions.
    """

    test_accuracy: Share
    correct: Count
    total: Count
    seconds: NotNegative
    epochs: Count | None = None
    images_per_second: NotNegative | None = None
    diverged: Count | None = None
    kept: Count | None = None
    by_class: list[ClassResult] | None = None


class RunFolder:
    """The folder of one run.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.history = self.path / "history.jsonl"
        self.weights = self.path / "weights.npz"
        self.checkpoint = self.path / "checkpoint.npz"
        self.curves = self.path / "curves.png"
        self.mistakes = self.path / "mistakes.png"
        self.confusion = self.path / "confusion.png"
        self.filters = self.path / "filters.png"
        self.features = self.path / "features.png"
        self.mistakes_csv = self.path / "mistakes.csv"
        self.mistakes_json = self.path / "mistakes.json"
        self.initial = self.path / "initial.npz"
        self.unreadable = self.path / "unreadable.txt"
        self.result = self.path / "result.json"
        self.ensemble = self.path / "ensemble.npz"
        self.lock = self.path / ".lock"
        files = [value for value in vars(self).values() if value not in (self.path, self.lock)]
        self._temporary = tuple(f".{path.name}." for path in files)

    def member(self, number: int) -> RunFolder:
        """The folder of a member's own run; members are counted from 1."""
        return RunFolder(self.path / f"member-{number}")

    @contextmanager
    def held(self, *, new: bool) -> Iterator[RunFolder]:
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
                if new and (self.config_file.exists() or self._others()):
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
        return [path for path in self.path.glob(".*") if path.name.startswith(self._temporary)]

    def _others(self) -> list[Path]:
        """Everything in the folder but leftovers and the lock."""
        leftovers = {self.lock, *self._leftovers()}
        return [path for path in self.path.iterdir() if path not in leftovers]

    def write_config(self, config: RunConfig) -> None:
        """Write the configuration, replacing an older one."""
        _write_json(self.config_file, config.plain())

    def read_config(self) -> RunConfig:
        """Return the configuration that the folder was made with.

        Raises
        ------
        ArgumentError
            There is no such folder, or no run in it.
        DataCorrupt
            ``config.json`` is not what `write_config` writes.
        """
        if not self.path.is_dir():
            raise ArgumentError(
                f"{self.path} does not exist: expected the folder of a training run"
            )
        if not self.config_file.is_file():
            if self._others():
                raise ArgumentError(
                    f"{self.path} has no config.json: expected the folder of a training run"
                )
            raise ArgumentError(
                f"{self.path} has no config.json: no run has begun in this folder; "
                f"{BEGIN} {self.path}"
            )
        return read_record(self.config_file.read_bytes(), RunConfig, str(self.config_file))

    def write_result(self, result: RunResult) -> None:
        """Write how the run ended."""
        _write_json(self.result, asdict(result))

    def read_result(self) -> RunResult:
        """Return what `write_result` wrote.

        Raises
        ------
        DataCorrupt
            ``result.json`` is not what `write_result` writes.
        """
        return read_record(self.result.read_bytes(), RunResult, str(self.result))

    def write_mistakes(self, mistakes: Sequence[Mistake]) -> None:
        """List the misread images, as JSON and for spreadsheets."""
        rows = [asdict(mistake) for mistake in mistakes]
        _write_json(self.mistakes_json, rows)
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, [field.name for field in fields(Mistake)])
        table.writeheader()
        table.writerows(rows)
        with replace_file(self.mistakes_csv) as out:
            out.write(text.getvalue().encode())

    def write_initial(self, filters: NDArray[Any] | None) -> None:
        """Keep the filters of a first layer before training, if there is such a layer."""
        if filters is None:
            self.initial.unlink(missing_ok=True)
        else:
            save_arrays(self.initial, {"filters": filters}, {})

    def read_initial(self) -> NDArray[Any] | None:
        """Return what `write_initial` kept; None in a run of an earlier version."""
        return load_arrays(self.initial)[0].get("filters") if self.initial.is_file() else None

    def append_epoch(self, record: dict[str, Any]) -> None:
        """Add one finished epoch to the history."""
        append_to_file(self.history, (json_text(record) + "\n").encode())

    def write_history(self, records: Iterable[dict[str, Any]]) -> None:
        """Replace the history: an interrupted run may have written more than it kept."""
        with replace_file(self.history) as file:
            for record in records:
                file.write((json_text(record) + "\n").encode())

    def write_unreadable(self, files: Sequence[Unreadable]) -> None:
        """Write the list of the user's files that were left out, if there are any."""
        if not files:
            self.unreadable.unlink(missing_ok=True)
            return
        with replace_file(self.unreadable) as out:
            out.write("".join(f"{file}\n" for file in files).encode())


def _write_json(path: Path, facts: Any) -> None:
    with replace_file(path) as file:
        file.write((json_text(facts, indent=2) + "\n").encode())


@contextmanager
def held_anew(place: Path) -> Iterator[RunFolder]:
    """Hold an unused folder of this name, with ``-2`` and so on added if the name is taken."""
    for number in itertools.count(1):
        name = place if number == 1 else place.with_name(f"{place.name}-{number}")
        with ExitStack() as stack:
            try:
                folder = RunFolder(name)
                stack.enter_context(folder.held(new=True))
            except (ArgumentError, StateError):
                continue
            yield folder
            return


@contextmanager
def noting(place: Path) -> Iterator[None]:
    """Add the file's name to errors about its contents."""
    try:
        yield
    except ArgumentError as error:
        error.add_note(f"in {place}")
        raise
