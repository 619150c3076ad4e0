"""ReLU behind a convolution and behind a fully connected layer; the other activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np

from fastconv.backends.table import Activation

from .case import Arguments, Case, draw

__all__ = ["cases"]

LARGEST = (100, 12544)
"""Images and numbers of one image, behind DeepConvNet's first convolution."""


def cases(full: bool) -> Iterator[Case]:
    for n, d in (LARGEST, (100, 50)) if full else ((4, 18),):
        yield from _relu(n, d)
    n, d = LARGEST if full else (4, 18)
    for kind in get_args(Activation):
        yield from _activation(kind, n * d)


def _relu(n: int, d: int) -> Iterator[Case]:
    label, size = f"{n}x{d}", n * d

    def backward(rng: np.random.Generator) -> Arguments:
        mask = (draw(rng, size) > 0).astype(np.uint8)
        return {"dout": draw(rng, size), "mask": mask}

    outputs = {"out": (size,), "mask": (size,)}
    yield Case("relu_forward", label, lambda rng: {"x": draw(rng, size)}, outputs)
    yield Case("relu_backward", label, backward, {"dx": (size,)})


def _activation(kind: Activation, size: int) -> Iterator[Case]:
    label, settings = f"{kind},{size}", {"kind": kind, "slope": 0.3}

    def forward(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, size), **settings}

    def backward(rng: np.random.Generator) -> Arguments:
        return {"dout": draw(rng, size), "x": draw(rng, size), **settings}

    yield Case("activation_forward", label, forward, {"out": (size,)}, kind=kind)
    yield Case("activation_backward", label, backward, {"dx": (size,)}, kind=kind)
