"""ReLU, which keeps a mask, the other activations, and products with a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backends.table import Activation, Array, Bytes
from ..selection import active
from .arrays import (
    Context,
    as_array,
    common_dtype,
    computing,
    contiguous,
    expect_shape,
    inverse,
    memory_order,
)
from .memory import empty
from .recording import computed, moved_to

__all__ = [
    "ActivationContext",
    "activation_backward",
    "activation_forward",
    "masked",
    "relu_backward",
    "relu_forward",
    "scaled",
    "sigmoid_backward",
    "sigmoid_forward",
]


@dataclass(frozen=True, slots=True)
class ActivationContext:
    """What `activation_backward` needs: the input, with its axes in memory order."""

    backend: str
    kind: Activation
    slope: float
    x: Array
    axes: tuple[int, ...]


def activation_forward(
    x: ArrayLike, kind: Activation, slope: float = 0.0, backend: str | None = None
) -> tuple[Array, ActivationContext]:
    """f(x), of any shape; keeps the order of x's axes in memory.

    Parameters
    ----------
    x : array
    kind : {"leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid"}
        See `fastconv.backends.table.Backend.activation_forward`.
    slope : float
        Of the first two kinds, where x <= 0.
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
    """dout * (1 - out) * out, from what `sigmoid_forward` returned."""
    if computing.dtype is None:
        dx = active(backend).short.sigmoid_backward(dout, out)
        if dx is not None:
            return dx
    dout = as_array(dout)
    common_dtype("sigmoid backward", dout)
    expect_shape("sigmoid backward", "dout", dout, out.shape)
    return computed("sigmoid backward", lambda dout, out: dout * (1 - out) * out, dout, out)


ORDERS = tuple(tuple(range(axes)) for axes in range(65))
"""The axes of C-contiguous arrays, by their number, up to NumPy's limit."""


@dataclass(slots=True)
class ReluContext(Context):
    """What `relu_backward` needs; `mask` is 1 where the gradient passes."""

    backend: str
    mask: Bytes
    axes: tuple[int, ...]
    dtype: np.dtype[Any]


def relu_forward(x: ArrayLike, backend: str | None = None) -> tuple[Array, ReluContext]:
    """x where x > 0, else 0, any shape; NaN stays. Keeps the order of x's axes in memory."""
    chosen = active(backend)
    if computing.dtype is None and (done := chosen.short.relu_forward(x)) is not None:
        out, mask = done
        return out, ReluContext(chosen.name, mask, ORDERS[out.ndim], out.dtype)
    x = as_array(x)
    dtype = common_dtype("relu", x)
    axes = memory_order(x)
    back = inverse(axes)
    dense = contiguous(x.transpose(axes), dtype)
    out, mask = empty(dense.shape, dtype), empty(dense.shape, np.uint8)
    chosen.relu_forward(dense.reshape(-1), out.reshape(-1), mask.reshape(-1))
    return out.transpose(back), ReluContext(chosen.name, mask.transpose(back), axes, dtype)


def relu_backward(dout: ArrayLike, context: ReluContext) -> Array:
    """dout where x was positive, else 0."""
    backend = active(context.backend)
    if getattr(dout, "dtype", None) is context.dtype:
        dx = backend.short.masked(dout, context.mask)
        if dx is not None:
            return dx
    dout = as_array(dout)
    expect_shape("relu backward", "dout", dout, context.mask.shape)
    common_dtype("relu backward", dout)
    axes, dtype = context.axes, context.dtype
    dense = contiguous(dout.transpose(axes), dtype)
    dx = empty(dense.shape, dtype)
    mask = context.mask.transpose(axes)
    backend.relu_backward(dense.reshape(-1), mask.reshape(-1), dx.reshape(-1))
    return dx.transpose(inverse(axes))


def scaled(op: str, x: ArrayLike, factor: float) -> Array:
    """x * factor, of any shape; keeps the order of x's axes in memory."""
    x = as_array(x)
    dtype = common_dtype(op, x)
    axes = memory_order(x)
    out = empty(x.transpose(axes).shape, dtype).transpose(inverse(axes))
    moved_to(out, x, factor)
    return out


def masked(op: str, x: ArrayLike, mask: np.ndarray, backend: str | None = None) -> Array:
    """x where the mask (bools of x's shape) is true, else 0, even in place of a NaN."""
    chosen = active(backend)
    if computing.dtype is None and (out := chosen.short.masked(x, mask)) is not None:
        return out
    x = as_array(x)
    dtype = common_dtype(op, x)
    expect_shape(op, "dout" if op.endswith("backward") else "input", x, mask.shape)
    axes = memory_order(x)
    dense = contiguous(x.transpose(axes), dtype)
    places = mask.view(np.uint8).transpose(axes)
    if not places.flags.c_contiguous:
        as_given, places = places, empty(places.shape, np.uint8)
        moved_to(places, as_given)
    out = empty(dense.shape, dtype)
    chosen.relu_backward(dense.reshape(-1), places.reshape(-1), out.reshape(-1))
    return out.transpose(inverse(axes))
