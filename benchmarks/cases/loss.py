"""Softmax and cross-entropy of ten classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .case import Arguments, Case, draw

__all__ = ["cases"]


def cases(full: bool) -> Iterator[Case]:
    n, m = (100 if full else 6), 10
    label, labels = f"{n}x{m}", np.arange(n, dtype=np.int64) % m

    def forward(rng: np.random.Generator) -> Arguments:
        return {"scores": draw(rng, n, m), "labels": labels, "smoothing": 0.1}

    def backward(rng: np.random.Generator) -> Arguments:
        settings = {"labels": labels, "smoothing": 0.1, "scale": 1 / n}
        return {"probabilities": np.abs(draw(rng, n, m)), **settings}

    yield Case("softmax_cross_entropy_forward", label, forward, {"probabilities": (n, m)})
    yield Case("softmax_cross_entropy_backward", label, backward, {"dscores": (n, m)})
