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
    members.csv       the test images that any member misreads, and each one's answer
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..datasets.record import Unreadable
from ..errors import ArgumentError
from ..io.arrays import load_arrays, save_arrays
from ..io.atomic import append_to_file, replace_file
from ..io.records import Count, NotNegative, Share, json_text, read_record
from .held import HeldFolder
from .settings import RunConfig

__all__ = [
    "ClassResult",
    "MemberAnswers",
    "Mistake",
    "RunFolder",
    "RunResult",
    "noting",
    "write_json",
]

BEGIN = "start one with: fastconv train --out"


@dataclass(frozen=True)
class Mistake:
    """A misread image: its name and class, and the answer with its probability."""

    name: str
    label: str
    answer: str
    confidence: float


@dataclass(frozen=True)
class MemberAnswers:
    """An image: its name and class, what all members answer together, and what each does."""

    name: str
    label: str
    answer: str
    by_member: list[str]


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


class RunFolder(HeldFolder):
    """The folder of one run.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__(path, "config.json")
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
        self.members_csv = self.path / "members.csv"
        self.initial = self.path / "initial.npz"
        self.unreadable = self.path / "unreadable.txt"
        self.result = self.path / "result.json"
        self.ensemble = self.path / "ensemble.npz"

    def member(self, number: int) -> RunFolder:
        """The folder of a member's own run; members are counted from 1."""
        return RunFolder(self.path / f"member-{number}")

    def write_config(self, config: RunConfig) -> None:
        """Write the configuration, replacing an older one."""
        write_json(self.config_file, config.plain())

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
            if self.others():
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
        write_json(self.result, asdict(result))

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
        write_json(self.mistakes_json, rows)
        names = [field.name for field in fields(Mistake)]
        _write_table(self.mistakes_csv, [names, *(row.values() for row in rows)])

    def write_member_answers(self, images: Sequence[MemberAnswers]) -> None:
        """List images with each member's answer, for spreadsheets."""
        members = range(1, 1 + max((len(image.by_member) for image in images), default=0))
        names = ["name", "label", "answer", *(f"member-{number}" for number in members)]
        rows = ([each.name, each.label, each.answer, *each.by_member] for each in images)
        _write_table(self.members_csv, [names, *rows])

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


def _write_table(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Replace a file by rows of values with commas between them."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    with replace_file(path) as out:
        out.write(text.getvalue().encode())


def write_json(path: Path, facts: Any) -> None:
    """Replace a file by plain data as JSON."""
    with replace_file(path) as file:
        file.write((json_text(facts, indent=2) + "\n").encode())


@contextmanager
def noting(place: Path) -> Iterator[None]:
    """Add the file's name to errors about its contents."""
    try:
        yield
    except ArgumentError as error:
        error.add_note(f"in {place}")
        raise
