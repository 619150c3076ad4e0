"""Fully connected layers.

Notation: N samples, D features, M units.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from .. import ops
from ..moved import moved
from .base import Array, Layer

__all__ = ["Affine"]


class Affine(Layer):
    """A fully connected layer: x @ W + b.

    Parameters
    ----------
    W : array (D, M)
    b : array (M,) or number, optional
        A number is added by all units; None adds nothing, and only W is trained.

    Attributes
    ----------
    dW, db : arrays like W and b
        Set by `backward`; db stays None where b is.
    x : array (N, D)
        The input of the last forward, flattened.
    """

    parameter_names: tuple[str, ...] = ("W", "b")

    def __init__(self, W: Array, b: Array | None = None, backend: str | None = None) -> None:
        super().__init__(backend)
        self.W = W
        self.b = b
        if b is None:
            self.parameter_names = ("W",)
        self.x: Array | None = None
        self.original_x_shape: tuple[int, ...] | None = None
        self.dW: Array | None = None
        self.db: Array | None = None

    def forget(self) -> None:
        """Drop what the last forward kept."""
        super().forget()
        self.x = self.original_x_shape = None

    def forward(self, x: ArrayLike) -> Array:
        """Return (N, M) for x (N, ...); all axes but the first are flattened to D."""
        out, context = ops.affine_forward(x, self.W, self.b, self.backend)
        self._context = context
        self.x, self.original_x_shape = context.x, context.shape
        return out

    def backward(self, dout: ArrayLike, *, input_gradient: bool = True) -> Array | None:
        """Set dW and db, return dx in the input's own shape (None if it is not asked for)."""
        context = self._forward_context()
        dx, self.dW, db = ops.affine_backward(dout, self.W, context, input_gradient)
        self.db = None if self.b is None else db
        return dx


def __getattr__(name: str) -> Any:
    """What earlier versions had here, for their pickles."""
    return moved(__name__, name)
