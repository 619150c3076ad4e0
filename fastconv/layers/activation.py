"""ReLU, the sigmoid and other activations: one formula for each element."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import ops
from ..backends.table import Activation
from ..errors import StateError
from .base import Array, Layer

__all__ = ["Elu", "Gelu", "LeakyRelu", "Relu", "Sigmoid", "Silu", "Tanh"]


class Relu(Layer):
    """max(0, x), NaN kept; the gradient passes where x > 0."""

    def forget(self) -> None:
        """Drop what the last forward kept."""
        super().forget()
        self.__dict__.pop("mask", None)

    @cached_property
    def mask(self) -> NDArray[np.bool_] | None:
        """True where the gradient is stopped (x was not positive); None before forward."""
        return None if self._context is None else self._context.mask == 0

    def forward(self, x: ArrayLike) -> Array:
        """Return an array like x, 0 where x <= 0."""
        self.forget()
        out, self._context = ops.relu_forward(x, self.backend)
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Return dout where x was positive, else 0; dout itself is left as it is."""
        return ops.relu_backward(dout, self._forward_context())


class Sigmoid(Layer):
    """1 / (1 + exp(-x)); keeps ``out``."""

    def __init__(self, backend: str | None = None) -> None:
        super().__init__(backend)
        self.out: Array | None = None

    def forget(self) -> None:
        """Drop what the last forward kept."""
        super().forget()
        self.out = None

    def forward(self, x: ArrayLike) -> Array:
        """Return an array like x."""
        self.out = ops.sigmoid_forward(x, self.backend)
        return self.out

    def backward(self, dout: ArrayLike) -> Array:
        """Return dout * out * (1 - out)."""
        if self.out is None:
            raise StateError("Sigmoid: backward was called before forward")
        return ops.sigmoid_backward(dout, self.out, self.backend)


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
