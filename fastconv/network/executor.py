"""How a network's layers are executed: some as one, all in memory that is used again.

A `Plan` cuts a network's layers into runs (`fusion`) and lets them draw from memory of
its own. What nobody needs any more is used again at once, also within a step; from the second
step on, none is allocated. It keeps at most twice the memory that the largest of the last calls
drew (`fastconv.ops.memory.Pool`), and is gone with its network.

What a layer shows after a step is ``dW``, ``db`` and the like; inside a run nothing else is there
to see. Evaluation leaves fastconv's layers as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ops
from ..backends.algorithms import ConvAlgorithms
from ..errors import StateError
from ..geometry import window_geometry
from ..ops.memory import Pool, Use, drawing_from
from .fusion import ConvRun, Normalized, Run, Runs, flat, trains

__all__ = ["Plan", "RunFacts", "describe"]

Array = NDArray[Any]


class Plan:
    """Runs layers forward and backward.

    Any number of threads may evaluate at once; they draw from one pool. One at a time may train.
    Copies by `copy.deepcopy` and pickles of a plan start empty.
    """

    def __init__(self) -> None:
        self.pool = Pool()
        self._kept: tuple[Runs, Use] | None = None
        # Threads, and not marks: a process that forks leaves a child with those of its others.
        self._stepping: int | None = None
        self._running: int | None = None

    def __reduce__(self) -> tuple[type[Plan], tuple[()]]:
        return Plan, ()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Behind the outermost of such blocks no forward's backward can follow any more."""
        if self._stepping == threading.get_ident():
            yield
            return
        self._stepping = threading.get_ident()
        try:
            yield
        finally:
            self._stepping = self._kept = None

    def forward(self, layers: Sequence[Any], x: Array, train_flg: bool) -> Array:
        """Return what the last layer gives for x; with `train_flg`, `backward` may follow.

        What stands in front of the first layer that trains runs as in evaluation.
        """
        row = list(flat(layers))
        if not train_flg:
            with drawing_from(Use(self.pool)):
                return Runs(row, False).forward(x, False)
        first = next((i for i, layer in enumerate(row) if trains(layer)), len(row))
        self._kept = None  # what they kept is free now
        use = Use(self.pool)
        with self._once(), drawing_from(use):
            x = Runs(row[:first], False).forward(x, False)
            runs = Runs(row[first:], True)
            out = runs.forward(x, True)
        self._kept = runs, use
        return out

    def backward(self, dout: Any) -> None:
        """Set the gradients of all layers, from that of the last layer's output (an array).

        Nobody reads the gradient of the first layer's input, and it is not computed.
        """
        kept, self._kept = self._kept, None
        if kept is None:
            raise StateError("Plan: backward was called before a forward in training")
        runs, use = kept
        with self._once(), drawing_from(use):
            runs.backward(dout, False)

    @contextmanager
    def _once(self) -> Iterator[None]:
        """Refuse a step that a layer begins inside of a step: the layers have one state."""
        if self._running == threading.get_ident():
            raise StateError(
                "a forward in training was called inside of a step of the same network; "
                "predict may be, or a copy.deepcopy of the network trained"
            )
        self._running = threading.get_ident()
        try:
            yield
        finally:
            self._running = None


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
