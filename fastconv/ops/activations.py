"""Operations on elements by one formula: the activations but ReLU, which keeps a mask."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from ..backends.base import Activation, Array
from ..selection import active
from .arrays import (
    as_array,
    common_dtype,
    computing,
    contiguous,
    expect_shape,
    inverse,
    memory_order,
)
from .memory import empty

__all__ = [
    "ActivationContext",
    "activation_backward",
    "activation_forward",
    "sigmoid_backward",
    "sigmoid_forward",
]


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
    kind : {"leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid"}
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


def sigmoid_forward(x: ArrayLike, backend: str | None = None) -> Array:
    """1 / (1 + exp(-x)), of any shape."""
    if computing.dtype is None:
        out = active(backend).short.sigmoid_forward(x)
        if out is not None:
            return out
    out, _ = activation_forward(x, "sigmoid", backend=backend)
    return out if out.ndim else out[()]


def sigmoid_backward(dout: ArrayLike, out: Array, backend: str | None = None) -> Array:
    """dout * (1 - out) * out, of what `sigmoid_forward` gave."""
    if computing.dtype is None:
        dx = active(backend).short.sigmoid_backward(dout, out)
        if dx is not None:
            return dx
    dout = as_array(dout)
    common_dtype("sigmoid backward", dout)
    expect_shape("sigmoid backward", "dout", dout, out.shape)
    return dout * (1 - out) * out
