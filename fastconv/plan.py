"""How a network's layers are executed: some as one, all in memory that is used again.

A `Plan` cuts a network's layers into runs (`fastconv.runs`) and lets them draw from memory of
its own. What nobody needs any more is used again at once, also within a step; from the second
step on, none is allocated. What a layer shows after a step is ``dW``, ``db`` and the like; inside
a run nothing else is there to see.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import ops
from .backends.algorithms import ConvAlgorithms
from .errors import StateError
from .geometry import window_geometry
from .ops.memory import Pool, drawing_from
from .runs import ConvRun, Normalized, Run, Runs, flat, trains
from .selection import settled

__all__ = ["Plan", "RunFacts", "describe"]

Array = NDArray[Any]


class Plan:
    """Runs layers forward and backward.

    Each Python thread that uses a plan has memory and a state of its own, so that
    several may predict at once. Copies and pickles of a plan start empty.
    """

    def __init__(self) -> None:
        self._own = _Own()

    def __reduce__(self) -> tuple[type[Plan], tuple[()]]:
        return Plan, ()

    def forward(self, layers: Sequence[Any], x: Array, train_flg: bool) -> Array:
        """Return what the last layer gives for x; with `train_flg`, `backward` may follow.

        What stands in front of the first layer that trains runs as in evaluation.
        """
        self._own.runs = None  # what they kept is free now
        row = list(flat(layers))
        first = next((i for i, layer in enumerate(row) if trains(layer)), len(row))
        first = first if train_flg else len(row)
        with settled(), drawing_from(self._own.pool):
            x = Runs(row[:first], False).forward(x, False)
            runs = Runs(row[first:], True)
            out = runs.forward(x, True)
        self._own.runs = runs if train_flg else None
        return out

    def backward(self, dout: Any) -> None:
        """Set the gradients of all layers, from that of the last layer's output (an array).

        Nobody reads the gradient of the first layer's input, and it is not computed.
        """
        runs, self._own.runs = self._own.runs, None
        if runs is None:
            raise StateError("Plan: backward was called before a forward in training")
        with settled(), drawing_from(self._own.pool):
            runs.backward(dout, False)


class _Own(threading.local):
    """What a thread has of a plan."""

    def __init__(self) -> None:
        self.pool = Pool()
        self.runs: Runs | None = None


@dataclass(frozen=True)
class RunFacts:
    """What a plan does at once.

    Attributes
    ----------
    layers : tuple of str
        Classes of the layers; ``Shortcut`` stands where the sum of one is added.
    input_shape, output_shape : tuple of int
    algorithms : ConvAlgorithms or None
        How a plain convolution is computed; None for other layers, and for backends that
        do not say.
    """

    layers: tuple[str, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    algorithms: ConvAlgorithms | None


def describe(
    layers: Sequence[Any], input_shape: tuple[int, ...], dtype: Any, train_flg: bool = True
) -> list[RunFacts]:
    """Say how a plan would run these layers on inputs of this shape, batch first.

    One image of zeros is run to find the shapes, in evaluation mode.
    """
    batch, *one = input_shape
    found = []

    def watch(run: Run, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        before = (batch, *before[1:])
        algorithms = None
        if isinstance(run, ConvRun):
            conv = run.conv
            fn, _, fh, fw = conv.W.shape
            geometry = window_geometry("plan", before, fh, fw, conv.stride, conv.pad)
            algorithms = ops.conv2d_algorithms(geometry, fn, run.pool, conv.backend)
        names = [type(layer).__name__ for layer in run.layers]
        if isinstance(run, ConvRun | Normalized) and run.adds_shortcut:
            names.insert(len(names) - run.relu, "Shortcut")
        found.append(RunFacts(tuple(names), before, (batch, *after[1:]), algorithms))

    Runs(layers, train_flg, watch=watch).forward(np.zeros((1, *one), dtype), False)
    return found
