"""The batches of a training run: which samples each has, and with augmentation, in what form.

Without augmentation, a step draws its samples from the same generator as its dropout masks, as in
the book. With augmentation, each step has a generator of its own, made of the run's seed and the
step's number. So the next batch can be made while a step computes, and a run that is continued
anywhere draws what an uninterrupted one does.

A thread makes the next batch only where the step's kernels leave a CPU free. Otherwise it would
take a CPU from one of their threads, for which all others wait; making the batch in the step, on
all threads, is faster.
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
from .validation import class_labels

__all__ = ["Augment", "Batches"]

Augment = Callable[[NDArray[Any], np.random.Generator], Any]
"""``augment(x, rng)`` returns what to train on instead of x; only rng makes it random."""

Batch = tuple[Any, ...]
"""Samples, labels and, if they have any, weights."""


class Batches:
    """The batch of each step, by the step's number.

    Parameters
    ----------
    x, t : arrays
        Samples (N, ...) and their labels (N, ...).
    size : int
        Samples of a batch, drawn with replacement.
    augment : callable, optional
        As `Augment` says.
    seed : int, optional
        Seed of the run. By default, NumPy's global generator draws one for `augment`.
    weights : array (N,), optional
        Of the samples in the loss.
    balanced : bool
        Draw from each class equally often, whatever their sizes: a class for each sample of the
        batch, then one of its samples.
    share : slice, optional
        The samples of each batch that are wanted: those of this process, if several share it out.
        All are drawn, and `augment` changes them together.

    Attributes
    ----------
    balanced : bool
    seed : int or None
        Seed of all batches; None without `augment`. It may be set between batches.
    """

    # On the class too: pickles of earlier versions lack them.
    weights: NDArray[np.floating[Any]] | None = None
    balanced: bool = False
    _by_class: tuple[NDArray[Any], ...] | None = None
    share = slice(None)

    def __init__(
        self,
        x: NDArray[Any],
        t: NDArray[Any],
        size: int,
        augment: Augment | None = None,
        seed: int | None = None,
        *,
        weights: NDArray[np.floating[Any]] | None = None,
        balanced: bool = False,
        share: slice | None = None,
    ) -> None:
        self.x = x
        self.t = t
        self.weights = weights
        self.size = size
        self.augment = augment
        self.balanced = balanced
        if share is not None:
            self.share = share
        self.seed: int | None = None
        if augment is not None:
            self.seed = int(np.random.randint(2**31)) if seed is None else int(seed)
        if balanced:
            labels = class_labels(t)
            counts = np.unique(labels, return_counts=True)[1]
            self._by_class = np.argsort(labels, kind="stable"), np.cumsum(counts) - counts, counts
        self._pool: ThreadPoolExecutor | None = None
        self._last = 0
        self._next: tuple[int, Future[Batch]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy gets: neither the thread nor the batch that it makes."""
        return vars(self) | {"_pool": None, "_next": None}

    def take(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0; inside `ahead`, begin the next one.

        An error of `augment` is raised here, in the step that its batch is for.
        """
        if self.augment is None:
            chosen = self._draw(randomness.choice, randomness.uniform)[self.share]
            return self.x[chosen], *self._beside(chosen)
        ready, self._next = self._next, None
        if ready is not None and ready[0] == step:
            batch = ready[1].result()
        else:
            batch = self._make(self.augment, step)
        if self._pool is not None and step + 1 < self._last:
            # The thread runs in this context, which holds the backend that the run chose.
            context = copy_context()
            context.run(context_beside.set, True)
            future = self._pool.submit(context.run, self._make, self.augment, step + 1)
            self._next = step + 1, future
        return batch

    def same_seed(self, stored: Any, source: str) -> int | None:
        """Return the seed that a checkpoint kept, checked.

        Raises
        ------
        WeightsError
            Only one of the two runs has augmentation.
        """
        if (stored is None) != (self.augment is None):
            what = "without augmentation, expected one with it"
            if self.augment is None:
                what = "with augmentation, expected one without it"
            raise WeightsError(f"{source}: a checkpoint of a run {what}")
        return None if stored is None else int(stored)

    @contextmanager
    def ahead(self, steps: int) -> Iterator[None]:
        """Inside the block, make the next batch of a run of so many steps in a thread.

        When the block ends, so does the thread, and the batch that it made is dropped. Where no
        CPU is free, batches are made in their steps.
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
        chosen = self._draw(rng.choice, rng.random)
        return augment(self.x[chosen], rng)[self.share], *self._beside(chosen[self.share])

    def _beside(self, chosen: NDArray[np.integer]) -> Batch:
        labels = self.t[chosen]
        return (labels,) if self.weights is None else (labels, self.weights[chosen])

    def _draw(self, choice: Callable[..., Any], uniform: Callable[..., Any]) -> NDArray[Any]:
        """The samples of a batch, as indices."""
        if self._by_class is None:
            return choice(len(self.x), self.size)
        order, starts, counts = self._by_class
        classes = choice(len(counts), self.size)
        return order[starts[classes] + (uniform((self.size,)) * counts[classes]).astype(np.intp)]
