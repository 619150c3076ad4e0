"""Adam's update of an array of weights: DeepConvNet's hidden layer, and two filters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .case import Arguments, Case, draw

__all__ = ["cases"]


def cases(full: bool) -> Iterator[Case]:
    for size in (51200, 36864, 144) if full else (50,):
        yield _adam(size)


def _adam(size: int) -> Case:
    def inputs(rng: np.random.Generator) -> Arguments:
        return {
            "param": draw(rng, size),
            "grad": draw(rng, size),
            "m": draw(rng, size),
            "v": np.abs(draw(rng, size)),
            "lr": 0.001,
            "beta1": 0.9,
            "beta2": 0.999,
            "epsilon": 1e-7,
        }

    return Case("adam_update", str(size), inputs, {})
