"""A step's gradients on their way to the other ranks: in buckets, which may leave early.

The gradients lie one after the other in the order in which backward completes them, about, and are
cut into buckets. Each is one message, and they leave in this order, so that all ranks mean the same
one. What remains (the gradients of the first layers, running statistics, the loss) is a message of
its own after backward. When a bucket leaves changes no bit of the sums.

MPI moves messages while it is called, so it is called for each group of layers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .buckets import Buckets
from .rounding import Unsent

__all__ = ["Departure", "Trial"]

Array = NDArray[Any]

ROUNDS = 3
"""How often a trial takes each way."""

STEPS = 8
"""Steps of a round."""

COUNTED = 4
"""Of these, those at the end whose time counts: the first steps of a run make programs."""

GAIN = 0.99
"""Gradients leave early if that takes no more than this part of the time."""


class Departure:
    """The gradients of one step that are in buckets.

    Parameters
    ----------
    send : callable
        ``send(bucket, sums)`` sends what lies at the slice `bucket` of `sums`, and returns a
        request, which brings the sums to the same place.
    buckets : Buckets
    sums : array
        As long as the buckets; nobody else's.
    factor : float
        This rank's part of the batch, with which its gradients count.
    unsent : Unsent, optional
        Gradients are sent in 16 bits, with what has been kept back before.
    """

    def __init__(
        self,
        send: Callable[[slice, Array], Any],
        buckets: Buckets,
        sums: Array,
        factor: float,
        unsent: Unsent | None = None,
    ) -> None:
        self.buckets = buckets
        self._send, self._sums, self._factor, self._unsent = send, sums, factor, unsent
        self._missing = [0] * len(buckets.ends)
        for bucket in buckets.owners.values():
            self._missing[bucket] += 1
        self._there: set[str] = set()
        self._pending: deque[Any] = deque()
        self._left = 0

    def put(self, name: str, gradient: Array) -> None:
        """Take a gradient along."""
        if name in self._there:
            return
        self._there.add(name)
        place = self.buckets.places[name]
        if self._unsent is None:
            np.multiply(gradient, self._factor, out=self._sums[place].reshape(gradient.shape))
        else:
            kept_back = self._unsent.own[place].reshape(gradient.shape)
            kept_back += np.multiply(gradient, self._factor, dtype=np.float32)
        self._missing[self.buckets.owners[name]] -= 1

    def advance(self) -> None:
        """Let the buckets leave that are complete, and MPI go on with those on their way."""
        while self._pending and self._pending[0].Test():  # which moves the others' messages too
            self._pending.popleft()
        while self._left < len(self._missing) and not self._missing[self._left]:
            bucket = slice(*[0, *self.buckets.ends][self._left : self._left + 2])
            self._pending.append(self._send(bucket, self._sums))
            self._left += 1

    def arrived(self) -> dict[str, Array]:
        """Wait for the sums; return them, flat."""
        while self._pending:
            self._pending.popleft().Wait()
        return {name: self._sums[place] for name, place in self.buckets.places.items()}

    def abandon(self) -> None:
        """Let all buckets pass that the other ranks may wait for; a step was broken off."""
        self._missing = [0] * len(self._missing)
        self.advance()
        self.arrived()


class Trial:
    """Whether gradients leave early, found by trying both ways in turns.

    It saves time where a network is slow, and costs time where it is not: then the processors are
    the limit, which move the messages and compute.

    Attributes
    ----------
    early : bool
        What the next step does.
    open : bool
        Whether the trial goes on.
    times : list of float
        The time of a step in both ways: late, early.
    """

    def __init__(self, early: bool | None) -> None:
        self.open, self.early = early is None, bool(early)
        self._taken: list[list[float]] = [[], []]
        self._step = 0

    @property
    def times(self) -> list[float]:
        return [median(each) for each in self._taken]

    def note(self, seconds: float) -> bool:
        """Take the time of a step down; return whether both ways have been tried enough."""
        if self._step % STEPS >= STEPS - COUNTED:
            self._taken[self.early].append(seconds)
        self._step += 1
        self.early = self._step // STEPS % 2 == 1
        return self._step == 2 * ROUNDS * STEPS

    def end(self, late: float, early: float) -> None:
        """Decide, by the sums of all ranks' times."""
        self.open, self.early = False, early < GAIN * late
