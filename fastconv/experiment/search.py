"""A search of hyper-parameters: trials with settings drawn at random, on validation images.

As in the book's chapter 6, each trial trains a network with settings of its own, and is judged by
images that are set apart from the training images. The test images are never looked at. All draws
are made from the seed before the first trial, so that they do not depend on who trains them. On
disk::

    search.json    what is searched; enough to go on
    trials.jsonl   one line of JSON for each finished trial, in the order in which they ended
    trials.csv     the same as a table, the best first
    best.toml      the best trial's settings, as a recipe
    search.png  curves.png
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from os import PathLike
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from .. import figures
from .._version import __version__
from ..datasets.record import ImageSet, Part
from ..errors import (
    ArgumentError,
    DataCorrupt,
    DivergenceWarning,
    MissingDependency,
    StateError,
    suggestion,
)
from ..io.atomic import append_to_file, replace_file
from ..io.records import Count, NotNegative, Share, json_text, read_record
from ..training.ranks import Ranks
from .data import ImageOptions
from .evaluate import try_to_draw
from .folder import write_json
from .held import HeldFolder
from .recipes import KEYS
from .setting import Setting
from .settings import SETTINGS, RunConfig, new_config, set_process
from .train import build, expect_sound, prepare

__all__ = ["DRAWABLE", "Draw", "Search", "SearchFolder", "Trial", "best_first", "run_trials"]

MOST_TRIALS = 100_000

DIGITS = 4
"""Significant digits of a drawn number: enough, and it can be typed."""

DRAWABLE = (
    *("model", "batch_size", "optimizer", "lr", "schedule", "rise", "weight_decay"),
    *("label_smoothing", "class_weight", "clip_norm", "ema", "swa", "math"),
)
"""The settings that a search may draw."""


@dataclass(frozen=True)
class Draw:
    """How a setting is drawn: log-uniform between two numbers, or one of several values.

    Attributes
    ----------
    name : str
    text : str
        ``1e-6:1e-2``, or ``32,64,128``.
    low, high : float
    values : tuple
        Empty for a range.
    """

    name: str
    text: str
    low: float = 0.0
    high: float = 0.0
    values: tuple[Any, ...] = ()

    @staticmethod
    def parse(text: str) -> Draw:
        """Read ``lr=1e-6:1e-2`` or ``optimizer=sgd,adam``.

        Raises
        ------
        ArgumentError
            Not such a text, a setting that cannot be drawn, or values that it does not take.
        """
        name, equals, said = (part.strip() for part in text.partition("="))
        name = name.replace("-", "_")
        if not equals or not said:
            raise ArgumentError(f"must be NAME=LOW:HIGH or NAME=A,B,..., got {text!r}")
        if name not in DRAWABLE:
            raise ArgumentError(
                f"draws no {name!r}; known: {', '.join(DRAWABLE)}{suggestion(name, DRAWABLE)}"
            )
        if ":" not in said:
            values = tuple(_value(SETTINGS[name], each.strip()) for each in said.split(","))
            return Draw(name, said, values=values)
        try:
            low, high = (float(each) for each in said.split(":"))
        except ValueError:
            raise ArgumentError(f"{name}: must be LOW:HIGH, two numbers, got {said!r}") from None
        if not 0 < low < high < math.inf:
            raise ArgumentError(f"{name}: LOW must be above 0 and below HIGH, got {said!r}")
        for each in (low, high):
            _value(SETTINGS[name], f"{each:.0f}" if each.is_integer() else f"{each!r}")
        return Draw(name, said, low, high)


def _value(entry: Setting, text: str) -> Any:
    """The value that a setting has by this text."""
    try:
        value = entry.of_text(text)
        entry.expect_known(value)
    except ValueError as error:
        said = str(error) if isinstance(error, ArgumentError) else f"takes no {text!r}"
        raise ArgumentError(f"{entry.name}: {said}") from None
    return entry.settled(value)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched; two searches that are equal have equal trials.

    Attributes
    ----------
    run : RunConfig
        The settings that all trials share; its seed is also that of the draws.
    images : ImageOptions
        How to read the user's own images.
    draw : dict of str to str
        The text of each `Draw`, by the setting's name.
    trials : int
    """

    run: RunConfig
    images: ImageOptions = field(default_factory=ImageOptions)
    draw: dict[str, str] = field(default_factory=dict)
    trials: Annotated[int, Meta(ge=1, le=MOST_TRIALS)] = 1

    @property
    def draws(self) -> list[Draw]:
        """How each setting is drawn."""
        return [Draw.parse(f"{name}={text}") for name, text in self.draw.items()]

    def drawn(self) -> list[dict[str, Any]]:
        """Return the settings of each trial.

        Raises
        ------
        MissingDependency
            scikit-learn is not installed.
        ArgumentError
            There are fewer combinations of values than trials, or settings do not go together.
        """
        try:
            from scipy.stats import loguniform
            from sklearn.model_selection import ParameterGrid, ParameterSampler
        except ImportError:
            raise MissingDependency("search needs scikit-learn: pip install scikit-learn") from None
        self._expect_apart()
        draws = self.draws
        space = {
            draw.name: list(draw.values) if draw.values else loguniform(draw.low, draw.high)
            for draw in draws
        }
        if all(draw.values for draw in draws) and (most := len(ParameterGrid(space))) < self.trials:
            raise ArgumentError(
                f"--trials {self.trials}: there are {most} combinations of the values to draw"
            )
        return [
            {draw.name: _rounded(draw, sample[draw.name]) for draw in draws}
            for sample in ParameterSampler(space, self.trials, random_state=self.run.seed)
        ]

    def config(self, drawn: Mapping[str, Any]) -> RunConfig:
        """The configuration of a trial with these settings."""
        return dataclasses.replace(self.run, **drawn)

    def expect_sound(self, drawn: Sequence[Mapping[str, Any]]) -> None:
        """Raise an `ArgumentError` if a trial's settings do not go together."""
        for each in drawn:
            expect_sound(self.config(each))

    def _expect_apart(self) -> None:
        """Raise an `ArgumentError` if two of the settings say the same, or one needs another."""
        names = set(self.draw)
        if "optimizer" in names and "lr" not in names:
            raise ArgumentError(
                "--draw optimizer: each has a learning rate of its own; draw lr too"
            )
        for name in names:
            other = SETTINGS[name].instead_of
            if other is not None and (other in names or getattr(self.run, other) is not None):
                raise ArgumentError(f"--draw {name}: {other} says the same thing; leave one out")

    def plain(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        return {"fastconv": __version__} | asdict(self)


def _rounded(draw: Draw, value: Any) -> Any:
    """A drawn number as it can be typed, within its range; other values as they are."""
    if draw.values:
        return value
    number = min(max(float(f"{value:.{DIGITS}g}"), draw.low), draw.high)
    whole = isinstance(_value_of_one(draw.name), int)
    return max(1, round(number)) if whole else number


def _value_of_one(name: str) -> Any:
    """What a numeric setting makes of ``1``: an int or a float; those below 1 take no 1."""
    with suppress(ArgumentError):
        return _value(SETTINGS[name], "1")
    return 1.0


@dataclass(frozen=True)
class Trial:
    """How a trial ended.

    Attributes
    ----------
    number : int
        From 1, in the order of the draws.
    settings : dict
        Those that were drawn.
    accuracy, loss : float or None
        On the validation images, with the weights at the end (with early stopping, the best
        epoch's); None for a trial that has diverged or failed.
    epochs : int
    seconds : float
        Of the training steps alone.
    curve, training : list of float or None
        Accuracy on validation images and on training images, after each epoch.
    error : str or None
        Why there is no accuracy.
    """

    number: Count
    settings: dict[str, Any]
    accuracy: Share | None = None
    loss: float | None = None
    epochs: Count = 0
    seconds: NotNegative = 0.0
    curve: list[Share | None] = field(default_factory=list)
    training: list[Share | None] = field(default_factory=list)
    error: str | None = None


def best_first(trials: Sequence[Trial]) -> list[Trial]:
    """Sort trials: by accuracy, then by loss, then as they were drawn; those without at the end."""

    def place(trial: Trial) -> tuple[float, float, int]:
        accuracy = -1.0 if trial.accuracy is None else trial.accuracy
        return -accuracy, math.inf if trial.loss is None else trial.loss, trial.number

    return sorted(trials, key=place)


class SearchFolder(HeldFolder):
    """The folder of one search.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__(path, "search.json")
        self.trials = self.path / "trials.jsonl"
        self.table = self.path / "trials.csv"
        self.best = self.path / "best.toml"
        self.picture = self.path / "search.png"
        self.curves = self.path / "curves.png"

    def write_search(self, search: Search) -> None:
        """Write what is searched."""
        write_json(self.config_file, search.plain())

    def read_search(self) -> Search:
        """Return what `write_search` wrote.

        Raises
        ------
        ArgumentError
            There is no search here.
        DataCorrupt
            ``search.json`` is not what `write_search` writes.
        """
        if not self.config_file.is_file():
            raise ArgumentError(f"{self.path} has no search.json: expected the folder of a search")
        return read_record(self.config_file.read_bytes(), Search, str(self.config_file))

    def append(self, trial: Trial) -> None:
        """Add a finished trial."""
        append_to_file(self.trials, (json_text(asdict(trial)) + "\n").encode())

    def read_trials(self, drawn: Sequence[Mapping[str, Any]]) -> list[Trial]:
        """Return the finished trials.

        A last line that a killed process has left unfinished is dropped.

        Raises
        ------
        DataCorrupt
            The lines are not those of `append`, or of trials with other draws.
        """
        if not self.trials.is_file():
            return []
        content = self.trials.read_bytes()
        lines = content.splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
            with replace_file(self.trials) as file:
                file.write(b"".join(lines))
        trials: dict[int, Trial] = {}
        for line in lines:
            trial = read_record(line, Trial, str(self.trials))
            known = 1 <= trial.number <= len(drawn)
            if not known or dict(drawn[trial.number - 1]) != trial.settings:
                raise DataCorrupt(f"{self.trials}: trial {trial.number} has other draws")
            trials[trial.number] = trial
        return list(trials.values())

    def write_results(
        self, search: Search, trials: Sequence[Trial], say: Callable[[str], None]
    ) -> None:
        """Write the table, the best trial's recipe, and the pictures."""
        ranking = best_first(trials)
        text = io.StringIO(newline="")
        columns = ("accuracy", "loss", "epochs", "seconds", "error")
        table = csv.writer(text)
        table.writerow(["trial", *search.draw, *columns])
        for trial in ranking:
            facts = (getattr(trial, name) for name in columns)
            table.writerow([trial.number, *trial.settings.values(), *facts])
        with replace_file(self.table) as out:
            out.write(text.getvalue().encode())
        found = [trial for trial in ranking if trial.accuracy is not None]
        if not found:
            return
        with replace_file(self.best) as out:
            out.write(_recipe(search, found[0]).encode())
        rows = [asdict(trial) for trial in ranking]
        try_to_draw(say, self.picture, figures.search, rows, list(search.draw))
        try_to_draw(say, self.curves, figures.search_curves, rows)


def _recipe(search: Search, best: Trial) -> str:
    """The settings of the best trial, as a recipe without the search's validation."""
    config = search.config(best.settings)
    values = asdict(config) | asdict(search.images)
    if search.images.image_size is not None:
        values["image_size"] = "x".join(map(str, search.images.image_size))
    left_out = {"backend", "threads", "seed"} | (
        {"validation"} if config.patience is None else set()
    )
    lines = [f'about = "trial {best.number} of a search"']
    usual = new_config({"seed": config.seed})
    for name in KEYS.keys() - left_out:
        value = values.get(name)
        drawn = name in ("lr", *search.draw)
        if value is not None and (drawn or value != getattr(usual, name, None)):
            lines.append(f"{name} = {json_text(value)}")
    return "\n".join([lines[0], *sorted(lines[1:])]) + "\n"


def run_trials(
    data: ImageSet,
    search: Search,
    drawn: Sequence[Mapping[str, Any]],
    todo: Sequence[int],
    *,
    jobs: int,
    ranks: Ranks,
) -> Iterator[Trial]:
    """Run the trials of these numbers; yield each that has ended, on the first rank.

    Several ranks train one each, in rounds. `jobs` processes take the next one each, and read the
    data themselves.
    """
    if ranks.size > 1:
        for start in range(0, len(todo), ranks.size):
            own = todo[start : start + ranks.size][ranks.rank : ranks.rank + 1]
            ended = [_run(data, search, number, drawn[number - 1]) for number in own]
            yield from (trial for each in ranks.gathered(ended) for trial in each)
    elif jobs == 1:
        for number in todo:
            yield _run(data, search, number, drawn[number - 1])
    else:
        yield from _on_processes(search, drawn, todo, min(jobs, len(todo) or 1))


_in_process: tuple[ImageSet, Search]
"""What a process of `_on_processes` has been given."""


def _on_processes(
    search: Search,
    drawn: Sequence[Mapping[str, Any]],
    todo: Sequence[int],
    jobs: int,
) -> Iterator[Trial]:
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawned, _begin_process, (search,)) as pool:
        try:
            waiting = [pool.submit(_run_here, number, drawn[number - 1]) for number in todo]
            for done in as_completed(waiting):
                yield done.result()
        except BrokenProcessPool:
            raise StateError(
                "a process of the search ended abruptly, perhaps for want of memory; with fewer "
                "--jobs, --resume goes on"
            ) from None
        except BaseException:  # Ctrl-C too: else leaving the block waits for what runs
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _begin_process(search: Search) -> None:
    global _in_process
    _, data = prepare(search.run, search.images, progress=False, say=_say_nothing)
    _in_process = _without_test(data), search


def _run_here(number: int, drawn: Mapping[str, Any]) -> Trial:
    return _run(*_in_process, number, drawn)


def _say_nothing(text: str) -> None:
    """The first process has said it."""


def _without_test(data: ImageSet) -> ImageSet:
    """The data without test images, which a search must not look at."""
    part = data.test
    return dataclasses.replace(data, test=Part(part.images[:0], part.labels[:0], part.names[:0]))


def _run(data: ImageSet, search: Search, number: int, drawn: Mapping[str, Any]) -> Trial:
    """Train by these settings. An error is the trial's end, and not the search's."""
    config = search.config(drawn)
    set_process(config)
    curve: list[float | None] = []
    training: list[float | None] = []

    def after_epoch(trainer: Any, record: Mapping[str, Any]) -> None:
        curve.append(record["validation_accuracy"])
        training.append(record["train_accuracy"])

    facts: dict[str, Any] = {}
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", DivergenceWarning)  # is in the trial
            trainer = build(_without_test(data), config, after_epoch, anew=True, say=_say_nothing)
            trainer.train()
        seconds = sum(record["seconds"] for record in trainer.history)
        facts = {"epochs": len(trainer.history), "seconds": seconds}
        if trainer.diverged or not trainer.finite:
            facts["error"] = f"diverged in epoch {trainer.diverged_epoch or len(trainer.history)}"
        else:
            best = None if trainer.validation is None else trainer.validation.best_epoch
            kept = best or len(trainer.history)
            record = trainer.history[kept - 1]
            accuracy, loss = record["validation_accuracy"], record["validation_loss"]
            if math.isfinite(loss):
                facts |= {"accuracy": accuracy, "loss": loss}
            else:
                facts["error"] = f"diverged in epoch {kept}: the validation loss is {loss}"
    except Exception as error:
        facts["error"] = f"{type(error).__name__}: {error}"
    return Trial(number, dict(drawn), curve=curve, training=training, **facts)
