"""A training run on disk: what was asked for, and what came of it.

::

    config.json       the configuration; enough to repeat the run
    history.jsonl     one line of JSON for each finished epoch
    weights.npz       the parameters
    checkpoint.npz    all that continuing needs
    result.json       how it ended, on the whole test set; a run that is not at its end has none
    curves.png  mistakes.png  confusion.png
    unreadable.txt    the user's files that were left out, where there were any

A run of several members has its own config.json, result.json and pictures, and besides::

    member-1/  ...    the run of each member
    ensemble.npz      all members' parameters, once the last one is trained
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

from ._version import __version__
from .datasets.record import ImageFacts, Unreadable
from .errors import ArgumentError, DataCorrupt
from .io.atomic import append_to_file, make_folder, replace_file

__all__ = ["RunConfig", "RunFolder"]


@dataclass(frozen=True)
class RunConfig:
    """What a run is made of; two runs of equal configuration are equal.

    Attributes
    ----------
    model, data : str
        Names in `fastconv.models.MODELS` and `fastconv.datasets.DATASETS`; `data` may be the
        path of images of the user's own instead.
    data_dir : str or None
        Folder of the data files; None: the data set's own place.
    epochs, batch_size : int
    optimizer : str
    lr : float
        The highest learning rate.
    backend : str
        The backend that runs, never ``auto``.
    dtype : str
    threads, seed : int
    schedule : str
        Name in `fastconv.schedules.SCHEDULES`; runs of before there were any have none.
    image_facts : ImageFacts or None
        What the user's own images are, as they were found; None for a named data set.
    weight_decay : float or None
        None: the optimizer's own.
    label_smoothing : float
    clip_norm, ema : float or None
        Limit of the gradients' norm; decay of the average of weights.
    swa : int or None
        First epoch of the average of weights.
    validation : float or None
        Share of the training images that is set apart.
    patience : int or None
        Epochs without a better one that end the run.
    augment : str or None
        What `fastconv.Augmentation.parse` takes; likewise.
    init : str or None
        File of weights that the run starts from.
    freeze : str or None
        Patterns of what is not trained, with commas between them.
    math : str or None
        Math mode; runs of before it was kept have none, and take the process's.
    rise : float or None
        Part of a one-cycle schedule that goes up; None: the schedule's own.
    views : str or None
        What `fastconv.views.Views.parse` takes: in what ways the test images are seen.
    members : tuple of str or None
        Models of an ensemble's members, whose seeds are `seed`, `seed` + 1, ...; None: a run
        of one network.
    data_seed : int or None
        By which the user's own images are split; None: by `seed`. An ensemble's members
        share one, so that none is trained on what another is tested on.
    recipe : str or None
        Name or path of the recipe that the run was started by.
    isa, algorithm : str or None
        Instruction set, and algorithm of convolutions; runs of before they were kept have none.
    """

    model: str
    data: str
    data_dir: str | None
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    backend: str
    dtype: str
    threads: int
    seed: int
    schedule: str = "constant"
    image_facts: ImageFacts | None = None
    weight_decay: float | None = None
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    ema: float | None = None
    swa: int | None = None
    validation: float | None = None
    patience: int | None = None
    augment: str | None = None
    init: str | None = None
    freeze: str | None = None
    math: str | None = None
    rise: float | None = None
    views: str | None = None
    members: tuple[str, ...] | None = None
    data_seed: int | None = None
    recipe: str | None = None
    isa: str | None = None
    algorithm: str | None = None

    @property
    def split_seed(self) -> int:
        """By which images that have no test part of their own are split."""
        return self.seed if self.data_seed is None else self.data_seed

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it, with the version of fastconv."""
        return {"fastconv": __version__} | asdict(self)

    @classmethod
    def from_plain(cls, facts: Any, source: str) -> RunConfig:
        """Make one of what `plain` gave, or an older version's.

        Raises
        ------
        DataCorrupt
            Something is missing or of another type; `source` says where it was read.
        """
        if not isinstance(facts, dict):
            raise DataCorrupt(f"{source}: expected an object, got {facts!r}")
        values = {}
        for field in fields(cls):
            name, type_name = field.name, str(field.type)
            if name not in facts and field.default is not MISSING:
                continue
            if name not in facts:
                raise DataCorrupt(f"{source}: {name} is missing")
            if not isinstance(facts[name], _TYPES[type_name]):
                raise DataCorrupt(f"{source}: {name} is {facts[name]!r}, expected {type_name}")
            values[name] = facts[name]
        if values.get("image_facts") is not None:
            values["image_facts"] = ImageFacts.from_plain(values["image_facts"], source)
        if (members := values.get("members")) is not None:
            if not members or not all(isinstance(member, str) for member in members):
                raise DataCorrupt(f"{source}: members is {members!r}, expected names of models")
            values["members"] = tuple(members)
        return cls(**values)


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (float, int),
    "ImageFacts | None": (dict, type(None)),
    "float | None": (float, int, type(None)),
    "tuple[str, ...] | None": (list, tuple, type(None)),
}


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
        self.unreadable = self.path / "unreadable.txt"
        self.result = self.path / "result.json"
        self.ensemble = self.path / "ensemble.npz"

    def member(self, number: int) -> RunFolder:
        """The folder of a member's own run; they are counted from 1."""
        return RunFolder(self.path / f"member-{number}")

    def expect_new(self) -> None:
        """Raise `ArgumentError` where something is in the folder's place already."""
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise ArgumentError(
                f"{self.path} exists and is not an empty folder; name another "
                "with --out, or continue a run with --resume"
            )

    def create(self, config: RunConfig) -> None:
        """Make the folder with its configuration.

        Raises
        ------
        ArgumentError
            Something is there already.
        """
        self.expect_new()
        make_folder(self.path)
        self.write_config(config)

    def write_config(self, config: RunConfig) -> None:
        """Write the configuration, in place of an older one."""
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
        if not self.config_file.is_file():
            what = "has no config.json" if self.path.is_dir() else "does not exist"
            raise ArgumentError(f"{self.path} {what}: expected the folder of a training run")
        return RunConfig.from_plain(_read_json(self.config_file), str(self.config_file))

    def write_result(self, result: dict[str, Any]) -> None:
        """Write how the run ended."""
        _write_json(self.result, result)

    def read_result(self) -> dict[str, Any] | None:
        """Return what `write_result` wrote; None of a run that is not at its end.

        Raises
        ------
        DataCorrupt
            ``result.json`` is not what `write_result` writes.
        """
        if not self.result.is_file():
            return None
        result = _read_json(self.result)
        if not isinstance(result, dict):
            raise DataCorrupt(f"{self.result}: expected an object, got {result!r}")
        return result

    def append_epoch(self, record: dict[str, Any]) -> None:
        """Add one finished epoch to the history."""
        append_to_file(self.history, (json.dumps(record) + "\n").encode())

    def write_history(self, records: Iterable[dict[str, Any]]) -> None:
        """Replace the history: an interrupted run may have written more than it kept."""
        with replace_file(self.history) as file:
            for record in records:
                file.write((json.dumps(record) + "\n").encode())

    def write_unreadable(self, files: Sequence[Unreadable]) -> None:
        """List the user's files that were left out; without any, there is no such list."""
        if not files:
            self.unreadable.unlink(missing_ok=True)
            return
        with replace_file(self.unreadable) as out:
            out.write("".join(f"{file}\n" for file in files).encode())


def _write_json(path: Path, facts: dict[str, Any]) -> None:
    with replace_file(path) as file:
        file.write((json.dumps(facts, indent=2) + "\n").encode())


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataCorrupt(f"{path}: not JSON: {error}") from None
