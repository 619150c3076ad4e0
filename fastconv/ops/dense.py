"""Fully connected layers: x @ weight + bias.

Notation: N samples, D features, M units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backends.table import Array
from ..errors import ShapeError
from ..moved import moved
from ..selection import active
from .arrays import (
    Context,
    as_array,
    bias_vector,
    common_dtype,
    computing,
    contiguous,
    expect_shape,
)

__all__ = ["affine_backward", "affine_forward"]


@dataclass(slots=True)
class AffineContext(Context):
    """What `affine_backward` needs: the flattened input and its first shape."""

    backend: str
    x: Array
    shape: tuple[int, ...]
    weight_shape: tuple[int, ...]


def affine_forward(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None, backend: str | None = None
) -> tuple[Array, AffineContext]:
    """x (N, ...) flattened to (N, D), times weight (D, M), plus bias (M,) if there is one."""
    op, chosen = "affine", active(backend)
    if computing.dtype is None:
        done = chosen.short.affine_forward(x, weight, bias)
        if done is not None:
            out, given = done
            flat = given if given.ndim == 2 else given.reshape(len(given), -1)
            weight_shape = flat.shape[1], out.shape[1]
            return out, AffineContext(chosen.name, flat, given.shape, weight_shape)
    x, weight = as_array(x), as_array(weight)
    if weight.ndim != 2 or 0 in weight.shape:
        raise ShapeError(f"{op}: weight must be (D, M) with no axis empty, got {weight.shape}")
    if x.ndim < 2:
        raise ShapeError(f"{op}: input must be (N, ...) with at least 2 axes, got shape {x.shape}")
    features = math.prod(x.shape[1:])
    if features != len(weight):
        raise ShapeError(
            f"{op}: input has {features} features, weight expects {len(weight)} "
            f"(input {x.shape}, weight {weight.shape})"
        )
    bias = bias_vector(op, bias, weight.shape[1], weight.dtype)
    dtype = common_dtype(op, x, weight, bias)
    flat = contiguous(x, dtype).reshape(len(x), features)
    out = np.empty((len(x), weight.shape[1]), dtype)
    chosen.affine_forward(flat, contiguous(weight, dtype), contiguous(bias, dtype), out)
    return out, AffineContext(chosen.name, flat, x.shape, weight.shape)


def affine_backward(
    dout: ArrayLike, weight: ArrayLike, context: AffineContext, input_gradient: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients (dx in the input's own shape, dweight, dbias); dx None where not asked for."""
    op, backend = "affine backward", active(context.backend)
    as_before = (
        context.x.shape == (context.shape[0], context.weight_shape[0])
        and getattr(weight, "shape", None) == context.weight_shape
    )
    if computing.dtype is None and as_before:
        done = backend.short.affine_backward(dout, context.x, weight, input_gradient)
        if done is not None:
            dx, dweight, dbias = done
            if dx is not None and len(context.shape) != 2:
                dx = dx.reshape(context.shape)
            return dx, dweight, dbias
    dout, weight = as_array(dout), as_array(weight)
    features, units = context.weight_shape
    samples = context.shape[0]
    expect_shape(op, "weight", weight, context.weight_shape)
    expect_shape(op, "dout", dout, (samples, units))
    expect_shape(op, "x, as forward kept it,", context.x, (samples, features))
    common_dtype(op, dout, weight)
    x = contiguous(context.x, context.x.dtype)
    dx = np.empty(x.shape, x.dtype) if input_gradient else None
    dweight = np.empty(weight.shape, x.dtype)
    dbias = np.empty(units, x.dtype)
    dout, weight = contiguous(dout, x.dtype), contiguous(weight, x.dtype)
    backend.affine_backward(dout, x, weight, dx, dweight, dbias)
    return None if dx is None else dx.reshape(context.shape), dweight, dbias


def __getattr__(name: str) -> Any:
    """Find names that earlier versions had here, for their pickles."""
    return moved(__name__, name)
