"""How a network's layers are executed: some as one, all in memory that is used again.

A `Plan` cuts a list of layers into runs. Convolution and ReLU, and a 2x2 max pooling behind
them, become one block, where the backend has kernels for it; every other layer runs by itself.
A block keeps less for backward than its layers would, and the memory of its results belongs
to the plan: from the second step on, none is allocated. What a layer shows after a step
is ``dW`` and ``db``; inside a block nothing else is there to see.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import ops
from .backends.algorithms import ConvAlgorithms
from .backends.base import Layout
from .geometry import window_geometry
from .layers import Affine, Convolution, Pooling, Relu
from .ops.arrays import LINE, Allocator, images_in
from .selection import settled

__all__ = ["Plan", "RunFacts", "describe"]

Array = NDArray[Any]


class Plan:
    """Runs layers forward and backward.

    Each Python thread that uses a plan has memory and a state of its own, so that
    several may predict at once. Copies and pickles of a plan start empty.
    """

    def __init__(self) -> None:
        self._own = threading.local()

    def __reduce__(self) -> tuple[type[Plan], tuple[()]]:
        return Plan, ()

    def forward(self, layers: Sequence[Any], x: Array, train_flg: bool) -> Array:
        """Return what the last layer gives for x; with `train_flg`, `backward` may follow."""
        memory = self._memory()
        with settled():
            runs = list(cut(layers))
            for run in runs:
                # Backward reads what training keeps; in evaluation two memories in turns will do.
                slot = f"output {run.block}" if train_flg else f"evaluation {run.block % 2}"
                last = run is runs[-1]  # its result goes to the caller, who may keep it
                x = run.forward(x, train_flg, ops.empty_images if last else memory.at(slot))
        self._own.done = runs if train_flg else []
        return x

    def backward(self, dout: Any) -> None:
        """Set the gradients of all layers, from that of the last layer's output (an array).

        Nobody reads the gradient of the first layer's input, and it is not computed.
        """
        memory = self._memory()
        with settled():
            for run in reversed(self._own.done):
                first = run is self._own.done[0]
                dout = run.backward(dout, not first, memory.at(f"gradient {run.block % 2}"))

    def _memory(self) -> Memory:
        if not hasattr(self._own, "memory"):
            self._own.memory = Memory()
            self._own.done = []
        return self._own.memory


class Memory:
    """Memory by slot, as large as the largest result that was put there."""

    def __init__(self) -> None:
        self._slots: dict[tuple[str, str], NDArray[np.uint8]] = {}
        self._last: dict[tuple[str, str], tuple[Any, Array]] = {}

    def at(self, slot: str) -> Allocator:
        """An allocator that hands out one slot, overwriting what was there."""

        def empty(shape: tuple[int, int, int, int], dtype: Any, layout: Layout) -> Array:
            key = slot, dtype.kind  # winners lie beside what they have won
            wanted = shape, dtype, layout
            if key in self._last and self._last[key][0] == wanted:
                return self._last[key][1]
            needed = math.prod(shape) * dtype.itemsize + LINE
            if key not in self._slots or self._slots[key].size < needed:
                self._slots[key] = np.empty(needed, np.uint8)
            images = images_in(self._slots[key], shape, dtype, layout)
            self._last[key] = wanted, images
            return images

        return empty


class Block:
    """Convolution and ReLU, perhaps a 2x2 max pooling, as one; number `block` of its kind."""

    def __init__(self, layers: Sequence[Any], block: int) -> None:
        self.conv: Convolution = layers[0]
        self.layers = layers
        self.block = block
        self._context: Any = None

    def forward(self, x: Array, train_flg: bool, empty: Allocator) -> Array:
        conv = self.conv
        for layer in self.layers:
            layer.forget()
        out, self._context = ops.conv2d_block_forward(
            x,
            conv.W,
            conv.b,
            conv.stride,
            conv.pad,
            len(self.layers) == 3,
            conv.backend,
            train_flg,
            empty,
        )
        return out

    def backward(self, dout: Array, input_gradient: bool, empty: Allocator) -> Array | None:
        conv = self.conv
        dx, conv.dW, db = ops.conv2d_block_backward(
            dout, conv.W, self._context, input_gradient, empty
        )
        conv.db = None if conv.b is None else db
        return dx


class Single:
    """A layer by itself, behind `block` blocks."""

    def __init__(self, layers: Sequence[Any], block: int) -> None:
        (self.layer,) = self.layers = layers
        self.block = block

    def forward(self, x: Array, train_flg: bool, empty: Allocator) -> Array:
        if getattr(self.layer, "has_modes", False):
            return self.layer.forward(x, train_flg)
        return self.layer.forward(x)

    def backward(self, dout: Array, input_gradient: bool, empty: Allocator) -> Array | None:
        if not input_gradient and isinstance(self.layer, Convolution | Affine):
            return self.layer.backward(dout, input_gradient=False)
        return self.layer.backward(dout)


def cut(layers: Sequence[Any]) -> Iterator[Block | Single]:
    """Cut a list of layers into runs."""
    start = block = 0
    while start < len(layers):
        length = block_length(layers[start : start + 3])
        if length and ops.runs_blocks(layers[start].backend):
            yield Block(layers[start : start + length], block)
            block += 1
        else:
            length = 1
            yield Single(layers[start : start + 1], block)
        start += length


def block_length(layers: Sequence[Any]) -> int:
    """How many of these layers make one block, or 0."""
    kinds = [type(layer) for layer in layers if "forward" not in vars(layer)]
    # A class derived from one of these may compute something else.
    if kinds[:2] != [Convolution, Relu] or layers[0].backend != layers[1].backend:
        return 0
    if not layers[0].plain:
        return 0
    if kinds[2:] != [Pooling] or layers[2].backend != layers[0].backend:
        return 2
    window = (layers[2].pool_h, layers[2].pool_w, layers[2].stride, layers[2].pad)
    return 3 if window == (2, 2, 2, 0) else 2


@dataclass(frozen=True)
class RunFacts:
    """What a plan does at once.

    Attributes
    ----------
    layers : tuple of str
        Classes of the layers.
    input_shape, output_shape : tuple of int
    algorithms : ConvAlgorithms or None
        How a plain convolution is computed; None for other layers, and for backends that do
        not say.
    """

    layers: tuple[str, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    algorithms: ConvAlgorithms | None


def describe(layers: Sequence[Any], input_shape: tuple[int, ...], dtype: Any) -> list[RunFacts]:
    """Say how a plan would run these layers on inputs of this shape, batch first.

    One image of zeros is run to find the shapes.
    """
    batch, *one = input_shape
    x = np.zeros((1, *one), dtype)
    found = []
    for run in cut(layers):
        inside = run.layers
        before = (batch, *x.shape[1:])
        algorithms = None
        if isinstance(inside[0], Convolution):
            conv = inside[0]
            fn, _, fh, fw = conv.W.shape
            if conv.plain:
                geometry = window_geometry("plan", before, fh, fw, conv.stride, conv.pad)
                algorithms = ops.conv2d_algorithms(geometry, fn, len(inside) == 3, conv.backend)
        x = run.forward(x, False, ops.empty_images)
        names = tuple(type(layer).__name__ for layer in inside)
        found.append(RunFacts(names, before, (batch, *x.shape[1:]), algorithms))
    return found
