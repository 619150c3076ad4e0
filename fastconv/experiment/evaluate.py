"""Test networks of runs on a whole test set; list and draw the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import figures
from ..datasets.record import ImageFacts, ImageSet, Part, numbered
from ..errors import MissingDependency
from ..models.ensemble import Ensemble
from ..progress import ProgressBar
from ..selection import use_backend
from .folder import ClassResult, MemberAnswers, Mistake, RunFolder
from .members import MemberResult, Members, interval

__all__ = [
    *("Evaluation", "draw_evaluation", "draw_mistakes", "evaluate"),
    "try_to_draw",
]

BATCH = 100

PATIENCE = 3.0
"""Seconds after which an evaluation shows its progress."""


@dataclass(frozen=True)
class Evaluation:
    """What a network, or several, answered on a test set.

    Attributes
    ----------
    test : Part
        (N, ...) images and their true classes.
    class_names : sequence of str
        (K,).
    probabilities : ndarray
        (N, K), of each class.
    members : Members or None
        How each of several networks answered.
    """

    test: Part
    class_names: Sequence[str]
    probabilities: NDArray[Any]
    members: Members | None = None

    @property
    def labels(self) -> NDArray[np.integer]:
        """The true classes, (N,)."""
        return self.test.labels

    @property
    def names(self) -> Sequence[str]:
        """Of the images, (N,)."""
        return self.test.names or numbered("test", range(self.total))

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

    @cached_property
    def mistakes(self) -> list[Mistake]:
        """The misread images, in the order of the test set."""
        names, label = self.names, self.class_names
        shares = self.probabilities
        return [
            Mistake(
                names[index],
                label[self.labels[index]],
                label[answer := self.answers[index]],
                float(shares[index, answer]),
            )
            for index in np.flatnonzero(self.labels != self.answers).tolist()
        ]

    @property
    def by_member(self) -> list[MemberResult]:
        """What each of several members adds; empty for one network."""
        return [] if self.members is None else self.members.results(self.labels)

    @property
    def misread_by_any(self) -> int:
        """Images that at least one of several members misreads."""
        return len(self.misread_by_members)

    @property
    def misread_by_all(self) -> int:
        """Images that all of several members misread: what an oracle that picks one has left."""
        if self.members is None:
            return 0
        readers = self.members.misreaders(self.labels)
        return int((readers == len(self.members.answers)).sum())

    @cached_property
    def misread_by_members(self) -> list[MemberAnswers]:
        """The images that at least one of several members misreads, in the order of the test."""
        if self.members is None:
            return []
        names, label = self.names, self.class_names
        return [
            MemberAnswers(
                names[index],
                label[self.labels[index]],
                label[self.answers[index]],
                [label[answer] for answer in self.members.answers[:, index]],
            )
            for index in np.flatnonzero(self.members.misreaders(self.labels)).tolist()
        ]

    @property
    def by_class(self) -> list[ClassResult]:
        """Precision and recall of each class."""
        counted = zip(
            self.class_names,
            self.confusion.diagonal().tolist(),
            self.confusion.sum(axis=1).tolist(),
            self.confusion.sum(axis=0).tolist(),
            strict=True,
        )
        return [
            ClassResult(
                label,
                right / answers if answers else None,
                right / images if images else None,
                images,
                answers,
            )
            for label, right, images, answers in counted
        ]

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

    @property
    def interval(self) -> tuple[float, float]:
        """Where the accuracy on all images of this kind lies, by 95 %: `members.interval`."""
        return interval(self.correct, self.total)


def evaluate(
    ensemble: Ensemble,
    data: ImageSet,
    backend: str,
    progress: bool,
    algorithms: Literal["rule", "measured"] = "rule",
) -> Evaluation:
    """Let one network or several answer on each of the images.

    `backend` makes the views; with `progress`, a bar shows on standard error if it takes more than
    a few seconds; `algorithms` as for `Network.prepare`.
    """
    test = data.test
    starts = range(0, len(test), BATCH)
    found, by_member = [], []
    bar = ProgressBar(len(starts), 0, show=progress, unit="batch", delay=PATIENCE)
    with use_backend(backend), bar:
        if len(test):
            shape = (min(BATCH, len(test)), *test.images.shape[1:])
            ensemble = ensemble.prepare(shape, algorithms=algorithms)
        for start in starts:
            part = slice(start, start + BATCH)
            shares = [*ensemble.by_member(test.images[part])]
            found.append(ensemble.joined(shares))
            by_member.append(Members.of(shares, test.labels[part], ensemble.weights))
            bar.tick()
    members = Members.joined(by_member) if len(ensemble.members) > 1 else None
    return Evaluation(test, data.class_names, np.concatenate(found), members)


def try_to_draw(say: Callable[[str], None], path: Path, draw: Callable[..., Any], *of: Any) -> bool:
    """Write a picture of `figures`, and say what it lacks, or that Matplotlib is missing."""
    try:
        lacking = figures.save(draw(*of), path)
    except MissingDependency as error:
        say(f"{path.name} not drawn: {error}")
        return False
    if lacking:
        say(f"{path.name}: boxes stand for {lacking}, which no font known here has")
    return True


def draw_mistakes(result: Evaluation, facts: ImageFacts) -> Any:
    """`figures.mistakes` for images of this kind: ink on paper, or photographs."""
    how: dict[str, Any] = {"names": result.names}
    if not facts.ink:
        how |= {"ink": False, "restore": facts.restore}
    arguments = (result.test.images, result.labels, result.answers, result.class_names)
    return figures.mistakes(*arguments, **how)


def draw_evaluation(
    result: Evaluation, facts: ImageFacts, folder: RunFolder, say: Callable[[str], None]
) -> list[Path]:
    """Draw mistakes and confusion matrix into a folder, and list the mistakes there.

    Of several members, also the images that any of them misreads, with each one's answer.

    Returns the pictures that were made.
    """
    folder.write_mistakes(result.mistakes)
    if result.members is not None:
        folder.write_member_answers(result.misread_by_members)
    pictures: dict[Path, tuple[Any, ...]] = {
        folder.mistakes: (draw_mistakes, result, facts),
        folder.confusion: (figures.confusion, result.confusion, result.class_names),
    }
    return [path for path, how in pictures.items() if try_to_draw(say, path, *how)]
