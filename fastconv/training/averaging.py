"""Averages of the weights over training: ``Trainer(..., averaging=EMA(0.999))``.

The averages are evaluated and saved; training goes on with the weights themselves. Averages are
float64, so that the small share of one step is not rounded away. Running statistics of batch
normalisation are averaged like the weights: the statistics of the last step belong to the last
weights, and averaged weights give other activations. For `SWA`, whose weights lie far apart, this
is an approximation; exact statistics would take a pass over the training set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArgumentError, WeightsError
from ..geometry import as_int
from ..ops.arrays import expect_numbers, whole_number
from .learned import Arrays, learned

__all__ = ["EMA", "SWA", "WeightAverage"]


MOST = 1 << 53
"""Most weights in an average; no run has as many steps."""


@dataclass(frozen=True)
class EMA:
    """An exponential moving average of the weights after each step, with bias correction.

    After n steps, the weights of k steps ago count decay^k * (1 - decay) / (1 - decay^n). Adam
    corrects its averages likewise (arXiv:1412.6980); the first weights do not linger, and no
    warm-up is needed.

    Parameters
    ----------
    decay : float
        Between 0 and 1; the average looks back over about 1 / (1 - decay) steps.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ArgumentError(f"EMA: decay must lie between 0 and 1, got {self.decay}")

    def share(self, count: int) -> float:
        """Return the share of the newest weights in the average of so many."""
        return (1 - self.decay) / -math.expm1(count * math.log(self.decay))


@dataclass(frozen=True)
class SWA:
    """Stochastic weight averaging (arXiv:1803.05407): the mean of the weights after each epoch.

    Parameters
    ----------
    start_epoch : int
        First epoch whose weights count, from 1.
    """

    start_epoch: int

    def __post_init__(self) -> None:
        as_int("SWA", "start_epoch", self.start_epoch, 1)

    def share(self, count: int) -> float:
        """Return the share of the newest weights in the average of so many."""
        return 1 / count


class WeightAverage:
    """The average of one training run.

    Parameters
    ----------
    rule : EMA or SWA

    Attributes
    ----------
    averages : dict of str to float64 array or None
        Named as by `fastconv.training.learned.learned`; None before the first.
    """

    def __init__(self, rule: EMA | SWA) -> None:
        if not isinstance(rule, EMA | SWA):
            raise ArgumentError(f"Trainer: averaging must be EMA(...) or SWA(...), got {rule!r}")
        self.rule = rule
        self.averages: Arrays | None = None
        self.count = 0

    def after_step(self, network: Any) -> None:
        """Add the weights, if the rule averages steps."""
        if isinstance(self.rule, EMA):
            self._take(network)

    def after_epoch(self, network: Any, epoch: int) -> None:
        """Add the weights, if the rule averages this epoch, counted from 1."""
        if isinstance(self.rule, SWA) and epoch >= self.rule.start_epoch:
            self._take(network)

    def _take(self, network: Any) -> None:
        self.count += 1
        share = self.rule.share(self.count)
        averages = self.averages = self.averages or {}
        for name, value in learned(network).items():
            if name not in averages:
                averages[name] = np.array(value, np.float64)
                continue
            step = value - averages[name]
            step *= share
            averages[name] += step

    def state(self) -> Arrays:
        """Return the state, for a checkpoint."""
        return {type(self.rule).__name__: np.array(self.count), **(self.averages or {})}

    def load_state(self, arrays: Arrays) -> None:
        """Restore what `state` returned.

        Raises
        ------
        WeightsError
            The arrays are not an average by this rule.
        """
        own = type(self.rule).__name__
        if own not in arrays:
            raise WeightsError(f"the checkpoint's average of the weights is not one by {own}")
        count = whole_number(f"{own}: count", arrays[own], MOST)
        averages = {name: value for name, value in arrays.items() if name != own}
        if bool(count) != bool(averages):
            raise WeightsError(f"{own}: an average of {count} weights with {len(averages)} arrays")
        for name, value in averages.items():
            expect_numbers(f"{own}: {name}", value)
        self.count = count
        self.averages = {key: np.array(a, np.float64) for key, a in averages.items()} or None
