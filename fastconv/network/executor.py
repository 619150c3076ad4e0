"""How a network's layers are executed: fused where the backend can, in memory that is reused.

An `Executor` cuts a network's layers into groups (`fusion`), which draw memory from its own pool.
An array's memory is free once nothing refers to it, even within a step, so that steps after the
first allocate nothing. The pool keeps at most twice what the largest of the last calls drew
(`fastconv.ops.memory.Pool`), and is freed with its network.

A step leaves ``dW``, ``db`` and the like on the layers; on those inside a group, nothing else.
Evaluation leaves fastconv's layers as they are.
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
from ..layers.tree import flat
from ..ops.memory import Pool, Use, drawing_from
from .fusion import ConvGroup, FusedRow, Group, Sum
from .step import Pass, Steps

__all__ = ["Executor", "GroupFacts", "describe"]

Array = NDArray[Any]


class Executor:
    """Runs layers forward and backward.

    Any number of threads may evaluate at once; they draw from one pool. One at a time may train.
    Copies by `copy.deepcopy` and pickles of an executor start empty.
    """

    def __init__(self) -> None:
        self.pool = Pool()
        self._kept: Pass | None = None
        self._steps = Steps(self.pool)
        # Threads, not flags: a forked child would inherit flags, but has none of the other threads.
        self._stepping: int | None = None
        self._running: int | None = None

    def __reduce__(self) -> tuple[type[Executor], tuple[()]]:
        return Executor, ()

    def in_step(self) -> bool:
        """Whether this thread is inside a `step`."""
        return self._stepping == threading.get_ident()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Make the block one step: a forward inside it can have no backward after it."""
        try:
            self._stepping = threading.get_ident()
            yield
        finally:
            self._stepping = self._kept = None

    def forward(self, layers: Sequence[Any], x: Array, train_flg: bool) -> Array:
        """Return the last layer's output for x; with `train_flg`, `backward` may follow.

        The layers before the first that trains run as in evaluation.
        """
        if not train_flg:
            with drawing_from(Use(self.pool)):
                return FusedRow(layers, False).forward(x, False)
        self._kept = None  # frees the memory of a forward without a backward
        chosen = self._steps.begin(flat(layers), x)
        with self._once():
            out = chosen.forward(x)
        self._kept = chosen
        return out

    def backward(self, dout: Any) -> None:
        """Set the gradients of all layers, from that of the last layer's output (an array).

        The gradient of the first layer's input is not computed, since nothing reads it.
        """
        kept, self._kept = self._kept, None
        if kept is None:
            raise StateError("Executor: backward was called before a forward in training")
        with self._once():
            kept.backward(dout)

    @contextmanager
    def _once(self) -> Iterator[None]:
        """Refuse a step inside a step, which a layer might begin: the layers have one state."""
        if self._running == threading.get_ident():
            raise StateError(
                "a forward in training was called inside a step of the same network; there, only "
                "predict may be called, or a copy.deepcopy of the network be trained"
            )
        try:  # first, so that Ctrl-C after the next line leaves nothing running
            self._running = threading.get_ident()
            yield
        finally:
            self._running = None


@dataclass(frozen=True)
class GroupFacts:
    """A group of layers that run as one.

    Attributes
    ----------
    layers : tuple of str
        Classes of the layers; ``Shortcut`` stands for the sum at its end.
    input_shape, output_shape : tuple of int
    algorithms : ConvAlgorithms or None
        How a plain convolution is computed; None for other layers, and if the backend does not
        say.
    """

    layers: tuple[str, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    algorithms: ConvAlgorithms | None


def describe(
    layers: Sequence[Any], input_shape: tuple[int, ...], dtype: Any, train_flg: bool = True
) -> list[GroupFacts]:
    """Return the groups in which layers run on inputs of this shape, batch first.

    One image of zeros is run to find the shapes, in evaluation mode.
    """
    batch, *one = input_shape
    found = []

    def watch(group: Group, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        before = (batch, *before[1:])
        algorithms = None
        if isinstance(group, ConvGroup):
            conv = group.conv
            fn, _, fh, fw = conv.W.shape
            geometry = window_geometry("describe", before, fh, fw, conv.stride, conv.pad)
            algorithms = ops.conv2d_algorithms(geometry, fn, group.pool, conv.backend)
        names = [
            "Shortcut" if isinstance(layer, Sum) else type(layer).__name__ for layer in group.layers
        ]
        found.append(GroupFacts(tuple(names), before, (batch, *after[1:]), algorithms))

    FusedRow(layers, train_flg, watch).forward(np.zeros((1, *one), dtype), False)
    return found
