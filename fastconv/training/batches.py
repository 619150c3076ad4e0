"""The batches of a training run: which samples, and with augmentation, in what form.

Without augmentation the samples of a step are drawn in the step, from the generator that its
dropout masks come from, as in the book. With it, each step has a generator of its own, made of the
run's seed and the step's number: so the next batch can be made while a step computes, and a
run that is continued anywhere draws as one that never stopped.

A thread makes the next batch only where the step's kernels leave a CPU free. Otherwise it would
take one of theirs, and all of them wait for the last: a batch made in the step, on all threads,
is sooner done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import randomness
from ..config import context_beside, count_cpus, get_num_threads
from ..errors import WeightsError

__all__ = ["Augment", "Batches"]

Augment = Callable[[NDArray[Any], np.random.Generator], Any]
"""``augment(x, rng)``: what to train on instead of the samples x; random by rng alone."""

Batch = tuple[Any, NDArray[Any]]


class Batches:
    """Batches by the number of their step.

    Parameters
    ----------
    x, t : arrays
        Samples (N, ...) and their labels (N, ...).
    size : int
        Samples of a batch, drawn with replacement.
    augment : callable, optional
        As `Augment` says.
    seed : int, optional
        Of the run. Where there is none, `augment` gets one from NumPy's global generator.

    Attributes
    ----------
    seed : int or None
        What batches are drawn from; None without `augment`. It may be set between batches.
    """

    def __init__(
        self,
        x: NDArray[Any],
        t: NDArray[Any],
        size: int,
        augment: Augment | None = None,
        seed: int | None = None,
    ) -> None:
        self.x = x
        self.t = t
        self.size = size
        self.augment = augment
        self.seed: int | None = None
        if augment is not None:
            self.seed = int(np.random.randint(2**31)) if seed is None else int(seed)
        self._pool: ThreadPoolExecutor | None = None
        self._last = 0
        self._next: tuple[int, Future[Batch]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: not the thread, nor what it makes ahead."""
        return vars(self) | {"_pool": None, "_next": None}

    def take(self, step: int) -> Batch:
        """The batch of a step, counted from 0; inside `ahead` the next one is begun.

        What `augment` raises is raised here, for the step that it was raised in.
        """
        if self.augment is None:
            chosen = randomness.choice(len(self.x), self.size)
            return self.x[chosen], self.t[chosen]
        ready, self._next = self._next, None
        if ready is not None and ready[0] == step:
            batch = ready[1].result()
        else:
            batch = self._make(self.augment, step)
        if self._pool is not None and step + 1 < self._last:
            # The backend that the run chose is a matter of context.
            context = copy_context()
            context.run(context_beside.set, True)
            future = self._pool.submit(context.run, self._make, self.augment, step + 1)
            self._next = step + 1, future
        return batch

    def same_seed(self, stored: Any, source: str) -> int | None:
        """The seed that a checkpoint kept, after a look at whether it is one of such a run.

        Raises
        ------
        WeightsError
            One of the two runs changes its samples, and the other does not.
        """
        if (stored is None) != (self.augment is None):
            what = "without augmentation, expected one with it"
            if self.augment is None:
                what = "with augmentation, expected one without it"
            raise WeightsError(f"{source}: a checkpoint of a run {what}")
        return None if stored is None else int(stored)

    @contextmanager
    def ahead(self, steps: int) -> Iterator[None]:
        """Make each next batch, of a run of so many steps, in a thread beside the step.

        The thread is gone, and what it made ahead is dropped, when the block is left. Where
        there is no CPU for it, batches are made in their steps.
        """
        if self.augment is None or count_cpus() <= get_num_threads():
            yield
            return
        with ThreadPoolExecutor(1, "fastconv-batches") as self._pool:
            self._last = steps
            try:
                yield
            finally:
                self._pool = self._next = None

    def _make(self, augment: Augment, step: int) -> Batch:
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(step,)))
        chosen = rng.choice(len(self.x), self.size)
        return augment(self.x[chosen], rng), self.t[chosen]
