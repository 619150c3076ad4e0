"""Test networks of runs on a whole test set, and draw the results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..datasets.record import ImageFacts, Part
from ..errors import MissingDependency
from ..models.ensemble import Ensemble
from ..progress import ProgressBar
from ..selection import use_backend
from . import figures

__all__ = [
    *("Evaluation", "draw_evaluation", "evaluate", "mistakes_drawer", "try_to_draw"),
]

BATCH = 100

PATIENCE = 3.0
"""Seconds after which an evaluation shows its progress."""


@dataclass(frozen=True)
class Evaluation:
    """What a network, or several, answered on a test set.

    Attributes
    ----------
    labels : ndarray of int
        (N,), the true classes.
    probabilities : ndarray
        (N, K), of each class.
    """

    labels: NDArray[np.integer]
    probabilities: NDArray[Any]

    @cached_property
    def answers(self) -> NDArray[np.integer]:
        """The likeliest classes, (N,)."""
        return self.probabilities.argmax(axis=1)

    @cached_property
    def confusion(self) -> NDArray[np.integer]:
        """Images (K, K) of each true class (row) that were given each answer (column)."""
        classes = self.probabilities.shape[1]
        confusion = np.zeros((classes, classes), np.int64)
        np.add.at(confusion, (self.labels, self.answers), 1)
        return confusion

    @property
    def correct(self) -> int:
        """Number of right answers."""
        return int(np.trace(self.confusion))

    @property
    def total(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.correct / self.total


def evaluate(
    ensemble: Ensemble,
    test: Part,
    backend: str,
    progress: bool,
    algorithms: Literal["rule", "measured"] = "rule",
) -> Evaluation:
    """Let one network or several answer on each of the images.

    `backend` makes the views; with `progress`, a bar shows on standard error if it takes more than
    a few seconds; `algorithms` as for `Network.prepare`.
    """
    starts = range(0, len(test), BATCH)
    found = []
    bar = ProgressBar(len(starts), 0, show=progress, unit="batch", delay=PATIENCE)
    with use_backend(backend), bar:
        if len(test):
            shape = (min(BATCH, len(test)), *test.images.shape[1:])
            ensemble = ensemble.prepare(shape, algorithms=algorithms)
        for start in starts:
            found.append(ensemble.probabilities(test.images[start : start + BATCH]))
            bar.tick()
    return Evaluation(test.labels, np.concatenate(found))


def try_to_draw(say: Callable[[str], None], draw: Callable[..., str], *arguments: Any) -> bool:
    """Draw a picture of `figures`; say which characters it lacks, or that Matplotlib is missing."""
    name = Path(arguments[0]).name
    try:
        lacking = draw(*arguments)
    except MissingDependency as error:
        say(f"{name} not drawn: {error}")
        return False
    if lacking:
        say(f"{name}: boxes stand for {lacking}, which no font known here has")
    return True


def mistakes_drawer(facts: ImageFacts) -> Callable[..., str]:
    """`figures.draw_mistakes` for images of this kind: ink on paper, or photographs."""
    if facts.fingerprint is None:
        return figures.draw_mistakes
    restore = None if facts.normalization is None else facts.normalization.undo
    return partial(figures.draw_mistakes, ink=False, restore=restore)


def draw_evaluation(
    result: Evaluation,
    images: NDArray[Any],
    facts: ImageFacts,
    mistakes: Path,
    confusion: Path,
    say: Callable[[str], None],
) -> list[Path]:
    """Draw mistakes and confusion matrix; return the pictures that were made."""
    drawn, names = [], facts.class_names
    arguments = (images, result.labels, result.answers, names)
    if try_to_draw(say, mistakes_drawer(facts), mistakes, *arguments):
        drawn.append(mistakes)
    if try_to_draw(say, figures.draw_confusion, confusion, result.confusion, names):
        drawn.append(confusion)
    return drawn
