"""Where random draws come from: NumPy's global generator, or a run's own.

The book's code draws from the global generator. A Trainer with a seed of its own
puts its generator in place for the length of a step, and layers ask here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["choice", "own_generator", "uniform"]

_generator: ContextVar[np.random.Generator | None] = ContextVar("fastconv_rng", default=None)


@contextmanager
def own_generator(generator: np.random.Generator | None) -> Iterator[None]:
    """Draw from `generator` inside the block; None leaves NumPy's global one in place."""
    token = _generator.set(generator)
    try:
        yield
    finally:
        _generator.reset(token)


def uniform(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Numbers in [0, 1); from the global generator in the call form ``rand(*shape)``."""
    generator = _generator.get()
    return np.random.rand(*shape) if generator is None else generator.random(shape)


def choice(population: int, count: int) -> NDArray[np.integer]:
    """`count` indices below `population`, drawn with replacement."""
    generator = _generator.get()
    if generator is None:
        return np.random.choice(population, count)
    return generator.choice(population, count)
