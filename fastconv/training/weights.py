"""The weights of a run: those that it trains, evaluates, and ends with."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import Any

from ..errors import WeightsError
from ..io.arrays import under
from .averaging import WeightAverage
from .learned import PREFIXES, Arrays, exchanged, expect_fitting, learned, put
from .validation import Validation

__all__ = ["RunWeights"]


class RunWeights:
    """The weights of one run.

    During the run the network has the trained weights. At the end it gets the averages or those of
    the best epoch, and the trained ones are kept here in case the run goes on.

    Parameters
    ----------
    network : object
    average : WeightAverage or None
    validation : Validation or None
    """

    def __init__(
        self, network: Any, average: WeightAverage | None, validation: Validation | None
    ) -> None:
        self.network = network
        self.average = average
        self.validation = validation
        self._trained: Arrays | None = None

    def before_step(self) -> None:
        """Put the trained weights back into the network, if the run had ended."""
        if self._trained is not None:
            put(self.network, self._trained)
            self._trained = None

    def after_step(self) -> None:
        """Update the average."""
        if self.average is not None:
            self.average.after_step(self.network)

    def after_epoch(self, epoch: int) -> None:
        """Update the average; epochs count from 1."""
        if self.average is not None:
            self.average.after_epoch(self.network, epoch)

    def evaluated(self) -> AbstractContextManager[None]:
        """Inside the block the network has the averages, if there are any."""
        return exchanged(self.network, self._averages())

    def final(self) -> AbstractContextManager[None]:
        """Inside the block the network has the weights with which the run would end now."""
        return exchanged(self.network, self._final())

    def finish(self) -> None:
        """Give the network the weights with which the run ends."""
        final = self._final()
        if final is not None and self._trained is None:
            self._trained = _copies(self.network)
            put(self.network, final)

    def _averages(self) -> Arrays | None:
        return None if self.average is None else self.average.averages

    def _final(self) -> Arrays | None:
        best = None if self.validation is None else self.validation.best
        return self._averages() if best is None else best

    def state(self) -> Arrays:
        """Return the trained weights, the averages and the best, for a checkpoint."""
        arrays = dict(self._trained or learned(self.network))
        for name, part in self._parts():
            arrays |= {f"{name}/{key}": value for key, value in part.state().items()}
        return arrays

    def load_state(self, arrays: Arrays, source: str) -> None:
        """Restore what `state` returned, all of it or nothing.

        Raises
        ------
        WeightsError
            The arrays are of another network, or of a run with other parts.
        """
        given = {name: under(f"{name}/", arrays) for name in ("averaging", "validation")}
        parts = dict(self._parts())
        for name, state in given.items():
            if bool(state) != (name in parts):
                here, there = ("without", "with") if state else ("with", "without")
                raise WeightsError(f"{source}: of a run {there} {name}, but this one is {here}")
        for name, part in parts.items():
            trial = copy.copy(part)  # raises before anything has changed
            trial.load_state(given[name])
            kept = trial.averages if isinstance(trial, WeightAverage) else trial.best
            if kept is not None:
                expect_fitting(self.network, kept, f"{source}: {name}")
        own = {key: a for key, a in arrays.items() if key.startswith(PREFIXES)}
        expect_fitting(self.network, own, source)
        put(self.network, own)
        for name, part in parts.items():
            part.load_state(given[name])
        self._trained = None

    def _parts(self) -> list[tuple[str, Any]]:
        pairs = [("averaging", self.average), ("validation", self.validation)]
        return [(name, part) for name, part in pairs if part is not None]


def _copies(network: Any) -> Arrays:
    return {name: value.copy() for name, value in learned(network).items()}
