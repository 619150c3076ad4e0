"""A step's gradients on their way to the other ranks: in buckets, which may leave early.

The gradients lie one after the other in the order in which backward completes them, about, and are
cut into buckets. Each is one message, and they leave in this order, so that all ranks mean the same
one. What remains (the gradients of the first layers, running statistics, the loss) is a message of
its own after backward. When a bucket leaves changes no bit of the sums.

MPI moves messages while it is called, so it is called for each group of layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buckets", "Departure", "Trial"]

Array = NDArray[Any]

LEAST = 1 << 15
"""Bytes of a bucket, at least: a smaller message costs more time than it saves."""

MOST_BUCKETS = 16

ROUNDS = 3
"""How often a trial takes each way."""

STEPS = 8
"""Steps of a round."""

COUNTED = 4
"""Of these, those at the end whose time counts: the first steps of a run make programs."""

GAIN = 0.99
"""Gradients leave early if that takes no more than this part of the time."""


@dataclass(frozen=True)
class Buckets:
    """How gradients are cut.

    Attributes
    ----------
    places : dict of str to slice
        Where each gradient lies that is in a bucket.
    owners : dict of str to int
        In which bucket.
    ends : list of int
        Where each bucket ends.
    """

    places: Mapping[str, slice]
    owners: Mapping[str, int]
    ends: Sequence[int]

    @staticmethod
    def of(sizes: Mapping[str, int], itemsize: int) -> Buckets:
        """Cut gradients of these sizes, in the order of the layers; a bucket has whole ones."""
        least = max(LEAST // itemsize, sum(sizes.values()) // MOST_BUCKETS)
        places, owners, ends = dict[str, slice](), dict[str, int](), list[int]()
        begin = end = 0
        for name, size in reversed(list(sizes.items())):
            places[name] = slice(end, end + size)
            owners[name] = len(ends)
            end += size
            if end - begin >= least:
                begin = end
                ends.append(end)
        if ends and end == ends[-1]:  # complete with the last gradient: there is nothing to hide
            ends.pop()
        whole = {name for name, bucket in owners.items() if bucket < len(ends)}
        return Buckets(
            {name: place for name, place in places.items() if name in whole},
            {name: bucket for name, bucket in owners.items() if name in whole},
            ends,
        )


class Departure:
    """The gradients of one step that are in buckets.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        For gradients alone, since ranks may come at different times.
    in_place, total : object
        What MPI calls ``IN_PLACE`` and ``SUM``.
    buckets : Buckets
    memory : array
        As long as the buckets; nobody else's.
    factor : float
        This rank's part of the batch, with which its gradients count.
    """

    def __init__(
        self,
        comm: Any,
        in_place: Any,
        total: Any,
        buckets: Buckets,
        memory: Array,
        factor: float,
    ) -> None:
        self._comm, self._in_place, self._total = comm, in_place, total
        self.buckets, self._memory, self._factor = buckets, memory, factor
        self._missing = [0] * len(buckets.ends)
        for bucket in buckets.owners.values():
            self._missing[bucket] += 1
        self._there: set[str] = set()
        self._pending: list[Any] = []
        self._left = 0

    def put(self, name: str, gradient: Array) -> None:
        """Take a gradient along."""
        if name in self._there:
            return
        self._there.add(name)
        place = self._memory[self.buckets.places[name]]
        np.multiply(gradient, self._factor, out=place.reshape(gradient.shape))
        self._missing[self.buckets.owners[name]] -= 1

    def advance(self) -> None:
        """Let the buckets leave that are complete, and MPI go on with those on their way."""
        while self._pending and self._pending[-1].Test():  # which moves the others' messages too
            self._pending.pop()
        while self._left < len(self._missing) and not self._missing[self._left]:
            begin, end = [0, *self.buckets.ends][self._left : self._left + 2]
            bucket = self._memory[begin:end]
            self._pending.append(self._comm.Iallreduce(self._in_place, bucket, self._total))
            self._left += 1

    def arrived(self) -> dict[str, Array]:
        """Wait for the sums; return them, flat."""
        while self._pending:
            self._pending.pop().Wait()
        return {name: self._memory[place] for name, place in self.buckets.places.items()}

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
