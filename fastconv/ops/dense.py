"""Operations on rows and elements: affine, ReLU, batch normalisation, Adam's step.

Notation: N samples, D features, M units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backends.base import Array, Bytes
from ..errors import ShapeError
from ..selection import active
from .arrays import (
    Context,
    as_array,
    bias_vector,
    common_dtype,
    computing,
    contiguous,
    expect_shape,
    inverse,
    memory_order,
    updated_arrays,
)
from .memory import empty

__all__ = [
    "adam_update",
    "affine_backward",
    "affine_forward",
    "batchnorm_backward",
    "batchnorm_infer",
    "batchnorm_train",
    "checked_adam_update",
    "masked",
    "relu_backward",
    "relu_forward",
]


# ---- fully connected ----------------------------------------------------------------


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


ORDERS = tuple(tuple(range(axes)) for axes in range(65))
"""The axes of C-contiguous arrays, by how many there are; NumPy has no more."""


# ---- ReLU ---------------------------------------------------------------------------


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


def masked(op: str, x: ArrayLike, mask: np.ndarray, backend: str | None = None) -> Array:
    """x where the mask, bools of its shape, is true, else 0: also in place of a NaN."""
    chosen = active(backend)
    if computing.dtype is None and (out := chosen.short.masked(x, mask)) is not None:
        return out
    x = as_array(x)
    dtype = common_dtype(op, x)
    expect_shape(op, "dout" if op.endswith("backward") else "input", x, mask.shape)
    axes = memory_order(x)
    dense = contiguous(x.transpose(axes), dtype)
    places = np.ascontiguousarray(mask.transpose(axes)).view(np.uint8)
    out = empty(dense.shape, dtype)
    chosen.relu_backward(dense.reshape(-1), places.reshape(-1), out.reshape(-1))
    return out.transpose(inverse(axes))


# ---- batch normalisation ------------------------------------------------------------


@dataclass(slots=True)
class BatchNormContext(Context):
    """What `batchnorm_backward` needs of the forward pass."""

    backend: str
    normalized: Array
    variance: Array
    epsilon: float


def _batchnorm_arrays(
    x: ArrayLike, **vectors: ArrayLike
) -> tuple[Array, dict[str, Array], np.dtype[Any]]:
    """x (N, D) and the vectors (D,), checked and of one dtype."""
    op = "batchnorm"
    x = as_array(x)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ShapeError(f"{op}: input must be (N, D) with D at least 1, got shape {x.shape}")
    arrays = {name: as_array(vector) for name, vector in vectors.items()}
    for name, array in arrays.items():
        if array.shape != (x.shape[1],) and array.ndim != 0:
            raise ShapeError(
                f"{op}: {name} has shape {array.shape}, expected ({x.shape[1]},) "
                f"for input {x.shape}"
            )
    dtype = common_dtype(op, x, *arrays.values())
    prepared = {
        name: contiguous(np.broadcast_to(array, x.shape[1:]), dtype)
        for name, array in arrays.items()
    }
    return contiguous(x, dtype), prepared, dtype


def batchnorm_train(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    epsilon: float,
    backend: str | None = None,
) -> tuple[Array, Array, Array, BatchNormContext]:
    """Normalise x (N, D), N at least 1, over the batch: (out, mean, variance, context)."""
    chosen = active(backend)
    if computing.dtype is None:
        done = chosen.short.batchnorm_train(x, gamma, beta, epsilon)
        if done is not None:
            out, normalized, mean, variance = done
            return out, mean, variance, BatchNormContext(chosen.name, normalized, variance, epsilon)
    x, vectors, dtype = _batchnorm_arrays(x, gamma=gamma, beta=beta)
    out, normalized = np.empty(x.shape, dtype), np.empty(x.shape, dtype)
    mean, variance = np.empty(x.shape[1], dtype), np.empty(x.shape[1], dtype)
    if len(x):
        chosen.batchnorm_train(
            x, vectors["gamma"], vectors["beta"], epsilon, out, normalized, mean, variance
        )
    else:
        mean[...], variance[...] = 0, 0
    return out, mean, variance, BatchNormContext(chosen.name, normalized, variance, epsilon)


def batchnorm_infer(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    epsilon: float,
    backend: str | None = None,
) -> Array:
    """Normalise x (N, D) by the mean and variance (D,) that are given."""
    x, vectors, dtype = _batchnorm_arrays(x, gamma=gamma, beta=beta, mean=mean, variance=variance)
    out = np.empty(x.shape, dtype)
    active(backend).batchnorm_infer(
        x, vectors["gamma"], vectors["beta"], vectors["mean"], vectors["variance"], epsilon, out
    )
    return out


def batchnorm_backward(
    dout: ArrayLike, gamma: ArrayLike, context: BatchNormContext
) -> tuple[Array, Array, Array]:
    """Gradients (dx (N, D), dgamma (D,), dbeta (D,)) of `batchnorm_train`."""
    op, backend = "batchnorm backward", active(context.backend)
    normalized, kept = context.normalized, (context.variance, context.epsilon)
    if computing.dtype is None:
        done = backend.short.batchnorm_backward(dout, normalized, gamma, *kept)
        if done is not None:
            return done
    dout = as_array(dout)
    expect_shape(op, "dout", dout, normalized.shape)
    common_dtype(op, dout)
    dtype, features = normalized.dtype, normalized.shape[1]
    gamma = as_array(gamma)
    if gamma.ndim:
        expect_shape(op, "gamma", gamma, (features,))
    common_dtype(op, gamma)
    gamma = contiguous(np.broadcast_to(gamma, (features,)), dtype)
    dx, dgamma, dbeta = (
        np.empty(normalized.shape, dtype),
        np.empty(features, dtype),
        np.empty(features, dtype),
    )
    if len(normalized) == 0:
        dgamma[...], dbeta[...] = 0, 0
        return dx, dgamma, dbeta
    backend.batchnorm_backward(contiguous(dout, dtype), normalized, gamma, *kept, dx, dgamma, dbeta)
    return dx, dgamma, dbeta


# ---- the optimizer's step -----------------------------------------------------------


def adam_update(
    param: np.ndarray,
    grad: ArrayLike,
    m: np.ndarray,
    v: np.ndarray,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    backend: str | None = None,
) -> None:
    """Adam's step in place on param, m and v (all of one shape); lr is corrected for bias."""
    param, grad, (m, v) = updated_arrays("adam", param, as_array(grad), m=m, v=v)
    checked_adam_update(param, grad, m, v, lr, beta1, beta2, epsilon, backend)


def checked_adam_update(
    param: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    backend: str | None = None,
) -> None:
    """`adam_update` of arrays that `updated_arrays` gave, as an optimizer has them."""
    # The moments of a float16 parameter live in float32, as Adam made them.
    dtype = common_dtype("adam", param, m, v)
    work = [contiguous(array, dtype) for array in (param, m, v)]
    active(backend).adam_update(
        work[0].reshape(-1),
        contiguous(grad, dtype).reshape(-1),
        work[1].reshape(-1),
        work[2].reshape(-1),
        lr,
        beta1,
        beta2,
        epsilon,
    )
    for array, result in zip((param, m, v), work, strict=True):
        if array is not result:
            array[...] = result
