"""Fully connected layers: DeepConvNet's two."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .case import Arguments, Case, draw

__all__ = ["cases"]


def cases(full: bool) -> Iterator[Case]:
    for n, d, m in ((100, 1024, 50), (100, 50, 10)) if full else ((5, 20, 7),):
        yield from _affine(n, d, m)


def _affine(n: int, d: int, m: int) -> Iterator[Case]:
    label, flops = f"{n}x{d}->{m}", 2 * n * d * m

    def forward(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, n, d), "weight": draw(rng, d, m), "bias": draw(rng, m)}

    def backward(rng: np.random.Generator) -> Arguments:
        return {"dout": draw(rng, n, m), "x": draw(rng, n, d), "weight": draw(rng, d, m)}

    yield Case("affine_forward", label, forward, {"out": (n, m)}, flops)
    gradients = {"dx": (n, d), "dweight": (d, m), "dbias": (m,)}
    yield Case("affine_backward", label, backward, gradients, 2 * flops)
