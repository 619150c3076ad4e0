"""Operations on elements by one formula: the activations but ReLU, which keeps a mask."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from ..backends.base import Activation, Array
from ..selection import active
from .arrays import as_array, common_dtype, contiguous, expect_shape, inverse, memory_order
from .memory import empty

__all__ = ["ActivationContext", "activation_backward", "activation_forward"]


@dataclass(frozen=True, slots=True)
class ActivationContext:
    """What `activation_backward` needs: the input, its axes in the order of its memory."""

    backend: str
    kind: Activation
    slope: float
    x: Array
    axes: tuple[int, ...]


def activation_forward(
    x: ArrayLike, kind: Activation, slope: float = 0.0, backend: str | None = None
) -> tuple[Array, ActivationContext]:
    """f(x) of any shape, in the order of x's axes in memory.

    Parameters
    ----------
    x : array
    kind : {"leaky_relu", "elu", "gelu", "silu", "tanh"}
        See `fastconv.backends.base.Backend.activation_forward`.
    slope : float
        Of the first two, where x <= 0.
    backend : str, optional
    """
    x = as_array(x)
    dtype = common_dtype(kind, x)
    axes = memory_order(x)
    dense = contiguous(x.transpose(axes), dtype)
    out = empty(dense.shape, dtype)
    chosen = active(backend)
    chosen.activation_forward(dense.reshape(-1), kind, slope, out.reshape(-1))
    return out.transpose(inverse(axes)), ActivationContext(chosen.name, kind, slope, dense, axes)


def activation_backward(dout: ArrayLike, context: ActivationContext) -> Array:
    """dout * f'(x)."""
    op = f"{context.kind} backward"
    dout, x, back = as_array(dout), context.x, inverse(context.axes)
    expect_shape(op, "dout", dout, x.transpose(back).shape)
    common_dtype(op, dout)
    dense = contiguous(dout.transpose(context.axes), x.dtype)
    dx = empty(x.shape, x.dtype)
    active(context.backend).activation_backward(
        dense.reshape(-1), x.reshape(-1), context.kind, context.slope, dx.reshape(-1)
    )
    return dx.transpose(back)
