"""Activations besides ReLU and sigmoid: one formula for each element."""

from __future__ import annotations

from typing import ClassVar

from numpy.typing import ArrayLike

from .. import ops
from ..backends.base import Activation
from .base import Array, Layer

__all__ = ["Elu", "Gelu", "LeakyRelu", "Silu", "Tanh"]


class _Elementwise(Layer):
    """An activation of the kernel table."""

    kind: ClassVar[Activation]

    def forward(self, x: ArrayLike) -> Array:
        """Return an array like x."""
        out, self._context = ops.activation_forward(x, self.kind, self._slope(), self.backend)
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Return dout times the derivative at the input of the last forward."""
        return ops.activation_backward(dout, self._forward_context())

    def _slope(self) -> float:
        return 0.0


class LeakyRelu(_Elementwise):
    """x where x > 0, else slope*x.

    Parameters
    ----------
    slope : float
    """

    kind = "leaky_relu"

    def __init__(self, slope: float = 0.01, backend: str | None = None) -> None:
        super().__init__(backend)
        self.slope = slope

    def _slope(self) -> float:
        return self.slope


class Elu(_Elementwise):
    """x where x > 0, else alpha*(exp(x) - 1) (arXiv:1511.07289).

    Parameters
    ----------
    alpha : float
        Far below 0 the output is -alpha.
    """

    kind = "elu"

    def __init__(self, alpha: float = 1.0, backend: str | None = None) -> None:
        super().__init__(backend)
        self.alpha = alpha

    def _slope(self) -> float:
        return self.alpha


class Gelu(_Elementwise):
    """x times the share of the normal distribution below x, exactly (arXiv:1606.08415)."""

    kind = "gelu"


class Silu(_Elementwise):
    """x / (1 + exp(-x)), also known as swish (arXiv:1606.08415)."""

    kind = "silu"


class Tanh(_Elementwise):
    """The hyperbolic tangent."""

    kind = "tanh"
