"""Learning rate schedules: ``Trainer(..., lr_schedule=OneCycle(0.004, steps))``.

A schedule is called with the number of a step, counted from 0, and returns that step's learning
rate. After its last step the rate stays the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import ArgumentError, suggestion

__all__ = [
    "SCHEDULES",
    "Constant",
    "Cosine",
    "ExponentialDecay",
    "OneCycle",
    "Schedule",
    "StepDecay",
    "Warmup",
    "make_schedule",
]

Schedule = Callable[[int], float]
"""A step's number, counted from 0, to its learning rate."""


@dataclass(frozen=True)
class Constant:
    """The same learning rate at every step."""

    lr: float

    def __post_init__(self) -> None:
        _positive(self, "lr")

    def __call__(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class StepDecay:
    """``lr``, multiplied by ``factor`` after every ``every`` steps."""

    lr: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "lr", "every", "factor")

    def __call__(self, step: int) -> float:
        return self.lr * self.factor ** (step // self.every)


@dataclass(frozen=True)
class ExponentialDecay:
    """``lr``, multiplied by ``factor`` over every ``every`` steps, a little at each."""

    lr: float
    every: float = 1
    factor: float = 0.95

    def __post_init__(self) -> None:
        _positive(self, "lr", "every", "factor")

    def __call__(self, step: int) -> float:
        return float(self.lr * self.factor ** (step / self.every))


@dataclass(frozen=True)
class Cosine:
    """From ``lr`` down to ``last`` along half a cosine of ``steps`` steps (arXiv:1608.03983)."""

    lr: float
    steps: int
    last: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "lr", "steps")
        _not_negative(self, "last")

    def __call__(self, step: int) -> float:
        return _between(self.lr, self.last, step / self.steps)


@dataclass(frozen=True)
class OneCycle:
    """Up to ``lr`` and down again, each along half a cosine (arXiv:1708.07120).

    Attributes
    ----------
    lr : float
        The highest learning rate.
    steps : int
        Steps of the whole run.
    rise : float
        Share of the steps during which the rate rises.
    first, last : float
        Rates of the first and the last step, as shares of ``lr``.
    """

    lr: float
    steps: int
    rise: float = 0.3
    first: float = 1 / 25
    last: float = 4e-6

    def __post_init__(self) -> None:
        _positive(self, "lr", "steps", "first")
        _not_negative(self, "last")
        if not 0 < self.rise < 1:
            raise ArgumentError(f"OneCycle: rise must lie between 0 and 1, got {self.rise}")

    def __call__(self, step: int) -> float:
        top, end = self.rise * self.steps - 1, self.steps - 1
        if step < top:
            return _between(self.first * self.lr, self.lr, step / top)
        return _between(self.lr, self.last * self.lr, (step - top) / (end - top))


@dataclass(frozen=True)
class Warmup:
    """Another schedule, with a linear warm-up from near 0 over its first ``steps`` steps."""

    then: Schedule
    steps: int

    def __post_init__(self) -> None:
        _positive(self, "steps")

    def __call__(self, step: int) -> float:
        return self.then(step) * min(1.0, (step + 1) / self.steps)


SCHEDULES: dict[str, Callable[[float, int], Schedule]] = {
    "constant": lambda lr, steps: Constant(lr),
    "step": lambda lr, steps: StepDecay(lr, max(1, math.ceil(steps / 3))),
    "exponential": lambda lr, steps: ExponentialDecay(lr, max(1, steps), 0.01),
    "cosine": lambda lr, steps: Cosine(lr, max(1, steps)),
    "one-cycle": lambda lr, steps: OneCycle(lr, max(1, steps)),
}
"""Schedules by their names on the command line, made of the highest rate and a run's steps.

``step`` divides the rate by 10 after each third of the run; ``exponential`` ends at a hundredth.
"""


def make_schedule(name: str, lr: float, steps: int, rise: float | None = None) -> Schedule:
    """Return the schedule of this name for a run of so many steps.

    Parameters
    ----------
    name : str
        One of `SCHEDULES`.
    lr : float
        The highest learning rate.
    steps : int
    rise : float, optional
        ``rise`` of `OneCycle`.

    Raises
    ------
    ArgumentError
        There is no such name, the learning rate is not above 0, or another schedule got ``rise``.
    """
    if name not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise ArgumentError(
            f"unknown learning rate schedule {name!r}; known: {known}{suggestion(name, SCHEDULES)}"
        )
    if rise is None:
        return SCHEDULES[name](lr, steps)
    if name != "one-cycle":
        raise ArgumentError(f"rise={rise:g}: only the one-cycle schedule has it, got {name}")
    return OneCycle(lr, max(1, steps), rise)


def _between(first: float, last: float, way: float) -> float:
    """From first to last along half a cosine, as `way` goes from 0 to 1; it ends there."""
    return last + (first - last) * (1 + math.cos(math.pi * min(way, 1.0))) / 2


def _positive(schedule: object, *names: str) -> None:
    for name in names:
        value = getattr(schedule, name)
        if not 0 < value < math.inf:
            raise ArgumentError(
                f"{type(schedule).__name__}: {name} must be greater than 0, got {value}"
            )


def _not_negative(schedule: object, *names: str) -> None:
    for name in names:
        value = getattr(schedule, name)
        if not 0 <= value < math.inf:
            raise ArgumentError(
                f"{type(schedule).__name__}: {name} must not be negative, got {value}"
            )
