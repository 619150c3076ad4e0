"""Where random draws come from: NumPy's global generator, or a run's own; and a draw by class.

The book's code draws from the global generator. A Trainer with a seed has its own, which layers
draw from during its steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import StateError

__all__ = ["choice", "own_generator", "share_of", "stratified", "uniform"]

_generator: ContextVar[np.random.Generator | None] = ContextVar("fastconv_rng", default=None)
_share: ContextVar[tuple[slice, int] | None] = ContextVar("fastconv_share", default=None)


@contextmanager
def own_generator(generator: np.random.Generator | None) -> Iterator[None]:
    """Draw from `generator` inside the block; None leaves NumPy's global one in place."""
    token = _generator.set(generator)
    try:
        yield
    finally:
        _generator.reset(token)


@contextmanager
def share_of(share: slice, count: int) -> Iterator[None]:
    """Inside the block, `uniform` draws for a batch of `count` samples and returns a share's.

    So processes that share out a batch draw together what one process draws.
    """
    token = _share.set((share, count))
    try:
        yield
    finally:
        _share.reset(token)


def uniform(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Numbers in [0, 1), as ``np.random.rand(*shape)`` draws them from the global generator.

    Inside `share_of`, the first axis is that of the samples: one row or more for each.
    """
    generator, shared = _generator.get(), _share.get()
    rows: slice | None = None
    if shared is not None:
        share, count = shared
        each, rest = divmod(shape[0] if shape else 0, share.stop - share.start)
        if rest or not each:
            raise StateError(
                f"a random draw of shape {shape} for {share.stop - share.start} of a batch of "
                f"{count} samples: expected rows for each of them, to draw what one process draws"
            )
        shape = (each * count, *shape[1:])
        rows = slice(each * share.start, each * share.stop)
    drawn = np.random.rand(*shape) if generator is None else generator.random(shape)
    return drawn if rows is None else drawn[rows]


def choice(population: int, count: int) -> NDArray[np.integer]:
    """`count` indices below `population`, drawn with replacement."""
    generator = _generator.get()
    if generator is None:
        return np.random.choice(population, count)
    return generator.choice(population, count)


def stratified(
    labels: NDArray[Any], share: float, generator: Any, *, every_class: bool = False
) -> NDArray[np.bool_]:
    """Choose a share of each class's samples at random; at least one of each class is left.

    Parameters
    ----------
    labels : array (N,)
    share : float
    generator : numpy.random.Generator, or the module `numpy.random`
    every_class : bool
        Choose round(share * n) of the n samples of a class, but at least one where it has two.
        Else round(share * N) of all, each class within one sample of its share.

    Returns
    -------
    array of bool (N,)
        True for the chosen.
    """
    counts = np.unique(labels, return_counts=True)[1]
    if every_class:
        wanted = np.maximum(np.rint(share * counts), 1)
    else:  # rounding the running total keeps the sum
        wanted = np.diff(np.rint(share * np.cumsum(counts)), prepend=0)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    chosen = np.zeros(len(labels), bool)
    for members, number in zip(by_class, np.minimum(wanted, counts - 1).astype(int), strict=False):
        chosen[generator.permutation(members)[:number]] = True
    return chosen
