"""Layers made of layers: chains, branches, shortcuts, auxiliary heads.

Each has the forward and backward of any layer, so they nest. Each child has a name; names joined
by dots name the parameters of a network, to which a child named ``""`` adds nothing.

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import ops
from ..errors import ArgumentError, ShapeError, StateError
from ..ops.arrays import as_array
from .base import Array, Layer, has_modes
from .loss import SoftmaxWithLoss

__all__ = [
    *("AuxiliaryHead", "Branches", "Chain", "Container", "Shortcut"),
    *("expect_sum", "run_layer", "sum_of"),
]


MOST_NAMED = 6
"""Layers inside another that its line names."""


def run_layer(layer: Any, x: Any, train_flg: bool) -> Any:
    """Call `layer.forward`, with the mode where the layer has modes."""
    if has_modes(layer):
        return layer.forward(x, train_flg)
    return layer.forward(x)


class Container(Layer):
    """The base class of layers made of layers.

    Parameters
    ----------
    layers : mapping of str to Layer, or sequence of Layer
        The children; in a sequence they are named ``"0"``, ``"1"`` and so on.

    Attributes
    ----------
    layers : dict of str to Layer
    """

    has_modes = True

    def __init__(self, layers: Mapping[str, Any] | Sequence[Any]) -> None:
        super().__init__()
        named = layers if isinstance(layers, Mapping) else dict(enumerate(layers))
        self.layers: dict[str, Any] = {str(name): layer for name, layer in named.items()}

    def __repr__(self) -> str:
        kinds = [type(layer).__name__ for layer in self.layers.values()]
        inside = ", ".join(kinds) if len(kinds) <= MOST_NAMED else f"{len(kinds)} layers"
        return f"{type(self).__name__}({inside})"

    def forget(self) -> None:
        """Drop what the last forward kept, in all layers."""
        super().forget()
        for layer in self.layers.values():
            if hasattr(layer, "forget"):
                layer.forget()


class Chain(Container):
    """Layers one after the other."""

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Return the last layer's output."""
        out = as_array(x)
        for layer in self.layers.values():
            out = run_layer(layer, out, train_flg)
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Run the layers' backward from the last to the first; return dx."""
        grad = as_array(dout)
        for layer in reversed(self.layers.values()):
            grad = layer.backward(grad)
        return grad


class Branches(Container):
    """Runs each child on the same input, and joins their outputs along the channels.

    The Inception block of GoogLeNet (arXiv:1409.4842) is four chains in one of these.
    """

    def __init__(self, layers: Mapping[str, Any] | Sequence[Any]) -> None:
        super().__init__(layers)
        if not self.layers:
            raise ArgumentError("Branches: expected at least one branch, got none")
        self.widths: list[int] = []

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Return (N, sum of the branches' channels, H, W)."""
        x = as_array(x)
        return self.join([run_layer(layer, x, train_flg) for layer in self.layers.values()])

    def backward(self, dout: ArrayLike) -> Array:
        """Hand each branch its channels of dout; return the sum of their dx."""
        parts = zip(self.layers.values(), self.split(dout), strict=True)
        return sum_of((layer.backward(part) for layer, part in parts), self.backend)

    def join(self, outputs: Sequence[Array]) -> Array:
        """Join the branches' outputs; keep their numbers of channels for `split`."""
        if len({(out.shape[0], *out.shape[2:]) for out in outputs}) > 1:
            shapes = ", ".join(
                f"{name or 'unnamed'} {out.shape}"
                for name, out in zip(self.layers, outputs, strict=True)
            )
            raise ShapeError(f"Branches: outputs differ in more than channels: {shapes}")
        self.widths = [out.shape[1] for out in outputs]
        return ops.concatenate(outputs)

    def split(self, dout: ArrayLike) -> list[Array]:
        """Return each branch's channels of dout."""
        dout = as_array(dout)
        if not self.widths:
            raise StateError("Branches: backward was called before forward")
        if dout.shape[1] != sum(self.widths):
            raise ShapeError(
                f"Branches: dout has {dout.shape[1]} channels, expected {sum(self.widths)} "
                f"({' + '.join(map(str, self.widths))})"
            )
        return np.split(dout, np.cumsum(self.widths)[:-1], axis=1)


class Shortcut(Container):
    """body(x) + shortcut(x); without a second child, body(x) + x (arXiv:1512.03385).

    Parameters
    ----------
    layers : mapping of str to Layer, or sequence of Layer
        The body, and perhaps a projection that gives x the shape of the body's output.
    """

    def __init__(self, layers: Mapping[str, Any] | Sequence[Any]) -> None:
        super().__init__(layers)
        if not 1 <= len(self.layers) <= 2:
            raise ArgumentError(
                f"Shortcut: expected a body and perhaps a projection, got {len(self.layers)} layers"
            )

    @property
    def body(self) -> Any:
        """The layers that the shortcut bypasses."""
        return next(iter(self.layers.values()))

    @property
    def projection(self) -> Any | None:
        """The layers on the shortcut; None for the identity."""
        return list(self.layers.values())[1] if len(self.layers) == 2 else None

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Return the sum, of the body's shape."""
        x = as_array(x)
        beside = x if self.projection is None else run_layer(self.projection, x, train_flg)
        out = run_layer(self.body, x, train_flg)
        expect_sum(out.shape, beside.shape)
        return ops.add(out, beside, self.backend)

    def backward(self, dout: ArrayLike) -> Array:
        """Run backward through body and shortcut; return the sum of their dx."""
        dout = as_array(dout)
        beside = dout if self.projection is None else self.projection.backward(dout)
        return sum_of((self.body.backward(dout), beside), self.backend)


class AuxiliaryHead(Container):
    """Passes x on; in training, a classifier of its own on x adds to the loss (GoogLeNet).

    The network adds ``weight`` times the head's loss to its own.

    Parameters
    ----------
    layers : mapping of str to Layer, or sequence of Layer
        The classifier, a chain from the images to scores (N, classes).
    weight : float
        Share of the head's loss in the network's.
    """

    def __init__(self, layers: Mapping[str, Any] | Sequence[Any], weight: float = 0.3) -> None:
        super().__init__(layers)
        self.head = Chain(self.layers)
        self.weight = weight
        self.scores: Array | None = None
        self.last_layer = SoftmaxWithLoss()

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Return x; in training, keep the head's scores of it."""
        x = as_array(x)
        self.scores = self.head.forward(x, True) if train_flg else None
        return x

    def loss(self, t: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the head's share of the loss, for labels t and perhaps weights of samples."""
        if self.scores is None:
            raise StateError("AuxiliaryHead: loss was called before a forward in training")
        return self.weight * self.last_layer.forward(self.scores, t, sample_weight)

    def backward(self, dout: ArrayLike) -> Array:
        """Return dout plus the gradient of the head's loss."""
        gradient = self.head.backward(self.last_layer.backward(self.weight))
        return sum_of((gradient, as_array(dout)), self.backend)


def sum_of(arrays: Iterable[Array], backend: str | None = None) -> Array:
    """Return the sum of arrays of one shape, and write to none of them."""
    return reduce(lambda total, array: ops.add(total, array, backend), arrays)


def expect_sum(body: tuple[int, ...], beside: tuple[int, ...]) -> None:
    """Raise a `ShapeError` unless a body and its shortcut give the same shape."""
    if body != beside:
        raise ShapeError(
            f"Shortcut: the body gives {body}, the shortcut {beside}; a projection "
            "must give the body's shape"
        )
