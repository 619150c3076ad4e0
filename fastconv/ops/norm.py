"""Normalisation: of features, of channels (perhaps with an addition and a ReLU), of responses.

Batch normalisation follows arXiv:1502.03167, local response normalisation AlexNet.

Notation: N samples or images, D features, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from ..backends.table import Array, Backend, Layout
from ..errors import ArgumentError, ShapeError
from ..geometry import as_float, as_int
from ..selection import active
from .arrays import (
    Context,
    as_array,
    common_dtype,
    computing,
    contiguous,
    empty_images,
    expect_shape,
    in_layout,
    kept_images,
)
from .recording import computed

__all__ = [
    "BatchNorm2dContext",
    "LrnContext",
    "Sharers",
    "batchnorm2d_backward",
    "batchnorm2d_fixed",
    "batchnorm2d_infer",
    "batchnorm2d_train",
    "batchnorm_backward",
    "batchnorm_infer",
    "batchnorm_train",
    "lrn_backward",
    "lrn_forward",
    "shared_with",
    "sharers",
]


class Sharers(Protocol):
    """The processes that normalise a batch together, of which each has a share.

    Attributes
    ----------
    part : float
        This share's part of the batch's loss, above 0.
    """

    @property
    def part(self) -> float: ...

    def gathered(self, own: Array) -> Array:
        """Return the arrays of all processes, along a new first axis."""

    def total(self, own: Array) -> Array:
        """Return the sum of the arrays of all processes."""


_sharers: ContextVar[Sharers | None] = ContextVar("fastconv_sharers", default=None)


@contextmanager
def shared_with(sharers: Sharers) -> Iterator[None]:
    """Inside the block, batch normalisation in training takes the statistics of the whole batch.

    All sharers run the same layers in the same order. The gradients of each remain those of its
    share's loss, such that their sum, weighted by `Sharers.part`, is that of the batch.
    """
    token = _sharers.set(sharers)
    try:
        yield
    finally:
        _sharers.reset(token)


def sharers() -> Sharers | None:
    """Return those of the innermost `shared_with`, if there are any."""
    return _sharers.get()


def _of_all(sharers: Sharers, mean: Array, variance: Array, count: int) -> tuple[Array, Array, int]:
    """Mean, variance and count of the whole batch, from those of this share."""
    own = np.array([mean, variance, np.full(mean.shape, count)], np.float64)
    means, variances, counts = sharers.gathered(own).swapaxes(0, 1)
    total = counts.sum(axis=0)
    whole = (counts * means).sum(axis=0) / total
    spread = (counts * (variances + (means - whole) ** 2)).sum(axis=0) / total
    return whole.astype(mean.dtype), spread.astype(mean.dtype), int(total[0])


def _means_of_all(sharers: Sharers, count: int, *sums: Array) -> Array:
    """Sums over this share, such as dbeta, as means over the whole batch of `count` values.

    Both are gradients of the share's loss, of which the batch's is the sum, weighted by its part.
    """
    own = np.array(sums, np.float64) * sharers.part
    return (sharers.total(own) / (count * sharers.part)).astype(sums[0].dtype)


@dataclass(frozen=True, slots=True)
class LrnContext:
    """What `lrn_backward` needs of the forward pass."""

    backend: str
    shape: tuple[int, ...]
    x: Array
    scale: Array
    size: int
    alpha: float
    beta: float


def lrn_forward(
    x: ArrayLike,
    size: int,
    alpha: float,
    beta: float,
    k: float,
    backend: str | None = None,
) -> tuple[Array, LrnContext]:
    """x (N, C, H, W) / (k + alpha/size * sum of squares over `size` channels around)**beta.

    Raises
    ------
    ShapeError
        The input does not have four axes, or has no channels.
    ArgumentError
        A size below 1, an alpha below 0, a k that is not above 0, or something not a number.
    """
    op = "lrn"
    x = as_array(x)
    if x.ndim != 4 or x.shape[1] == 0:
        raise ShapeError(f"{op}: input must be (N, C, H, W) with C at least 1, got shape {x.shape}")
    size = as_int(op, "size", size, 1)
    alpha, beta, k = (as_float(op, *pair) for pair in (("alpha", alpha), ("beta", beta), ("k", k)))
    if not alpha >= 0:
        raise ArgumentError(f"{op}: alpha must be at least 0, got {alpha}")
    if not k > 0:
        raise ArgumentError(f"{op}: k must be above 0, got {k}")
    # A window that covers all channels from each of them gains nothing by being larger.
    whole = 2 * x.shape[1]
    if size > whole:
        size, alpha = whole, alpha * whole / size
    dtype = common_dtype(op, x)
    chosen = active(backend)
    x = in_layout(x, dtype, chosen.layout)
    out = empty_images(x.shape, dtype, chosen.layout)
    scale = empty_images(x.shape, dtype, chosen.layout)
    chosen.lrn_forward(x, size, alpha, beta, k, out, scale)
    return out, LrnContext(chosen.name, x.shape, x, scale, size, alpha, beta)


def lrn_backward(dout: ArrayLike, context: LrnContext) -> Array:
    """Gradient (N, C, H, W) of the input."""
    op = "lrn backward"
    dout = as_array(dout)
    backend = active(context.backend)
    expect_shape(op, "dout", dout, context.shape)
    common_dtype(op, dout)
    x = kept_images(op, "x", context.x, context.shape, backend.layout)
    scale = kept_images(op, "scale", context.scale, context.shape, backend.layout)
    dx = empty_images(x.shape, x.dtype, backend.layout)
    dout = in_layout(dout, x.dtype, backend.layout)
    settings = (context.size, context.alpha, context.beta)
    backend.lrn_backward(dout, x, scale, *settings, dx)
    return dx


@dataclass(frozen=True, slots=True)
class BatchNorm2dContext:
    """What `batchnorm2d_backward` needs of the forward pass.

    Attributes
    ----------
    gate : array or None
        The output of the ReLU, if there was one: the gradient passes where it is above 0.
    mean, inv_std : arrays (C,)
        What x was normalised by.
    residual : bool
        Whether a residual was added, whose gradient is needed too.
    fixed : bool
        Whether mean and inv_std were given, and so do not depend on x.
    count : int
        Values of each channel that they were taken from.
    sharers : Sharers or None
        Whose values these were, if not all of this process.
    """

    backend: str
    shape: tuple[int, ...]
    x: Array
    gate: Array | None
    mean: Array
    inv_std: Array
    residual: bool
    fixed: bool
    count: int = 0
    sharers: Sharers | None = None


def batchnorm2d_train(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    epsilon: float,
    residual: ArrayLike | None = None,
    relu: bool = False,
    backend: str | None = None,
) -> tuple[Array, Array, Array, BatchNorm2dContext]:
    """Normalise each channel of x (N, C, H, W) by its own mean and variance over N, H, W.

    Parameters
    ----------
    x : array (N, C, H, W)
    gamma, beta : arrays (C,)
        Scale and shift.
    epsilon : float
        Added to the variance.
    residual : array (N, C, H, W), optional
        Added to the result.
    relu : bool
        Set the result, with the residual, to 0 where it is not above 0; a NaN stays.

    Returns
    -------
    array (N, C, H, W), the mean and the biased variance (C,), both 0 for no pixels, and the
    context for backward.

    Raises
    ------
    ShapeError, DTypeError
        Arrays that do not fit together, or that no kernel can compute with.
    """
    chosen = active(backend)
    x, added, vectors = _batchnorm2d_arrays(chosen.layout, x, residual, gamma=gamma, beta=beta)
    mean, variance = np.zeros(x.shape[1], x.dtype), np.zeros(x.shape[1], x.dtype)
    if x.size:
        chosen.batchnorm2d_statistics(x, mean, variance)
    count, with_others = x.size // x.shape[1], sharers()
    if with_others is not None:
        mean, variance, count = _of_all(with_others, mean, variance, count)
    vectors |= {"mean": mean, "variance": variance}
    out, context = _batchnorm2d_apply(chosen, x, added, vectors, epsilon, relu, fixed=False)
    return out, mean, variance, replace(context, count=count, sharers=with_others)


def batchnorm2d_fixed(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    epsilon: float,
    residual: ArrayLike | None = None,
    relu: bool = False,
    backend: str | None = None,
) -> tuple[Array, BatchNorm2dContext]:
    """As `batchnorm2d_infer`, with the context for a gradient through fixed statistics."""
    chosen = active(backend)
    given = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    x, added, vectors = _batchnorm2d_arrays(chosen.layout, x, residual, **given)
    return _batchnorm2d_apply(chosen, x, added, vectors, epsilon, relu, fixed=True)


def batchnorm2d_infer(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    epsilon: float,
    residual: ArrayLike | None = None,
    relu: bool = False,
    backend: str | None = None,
) -> Array:
    """Normalise x (N, C, H, W) by a given mean and variance (C,).

    The other parameters are those of `batchnorm2d_train`.
    """
    return batchnorm2d_fixed(x, gamma, beta, mean, variance, epsilon, residual, relu, backend)[0]


def batchnorm2d_backward(
    dout: ArrayLike, gamma: ArrayLike, context: BatchNorm2dContext, input_gradient: bool = True
) -> tuple[Array | None, Array, Array, Array | None]:
    """Gradients of `batchnorm2d_train`, or of `batchnorm2d_fixed`.

    Returns
    -------
    dx (N, C, H, W), or None if it is not asked for; dgamma and dbeta (C,); the residual's
    gradient, or None if none was added.
    """
    op = "batchnorm2d backward"
    dout, gamma = as_array(dout), as_array(gamma)
    backend, inv_std = active(context.backend), context.inv_std
    shape, gate = context.shape, context.gate
    expect_shape(op, "dout", dout, shape)
    expect_shape(op, "gamma", gamma, inv_std.shape)
    common_dtype(op, dout, gamma)
    x = kept_images(op, "x", context.x, shape, backend.layout)
    if gate is not None:
        gate = kept_images(op, "the output", gate, shape, backend.layout)
    dout, gamma = in_layout(dout, x.dtype, backend.layout), contiguous(gamma, x.dtype)

    def images(wanted: bool) -> Array | None:
        return empty_images(x.shape, x.dtype, backend.layout) if wanted else None

    dx = images(input_gradient)
    # Else the kernel computes dx, from the statistics of x alone.
    later = context.fixed or context.sharers is not None
    through_gate = context.gate is not None and later and input_gradient
    passed = images(context.residual or through_gate)
    dgamma, dbeta = np.zeros(gamma.shape, x.dtype), np.zeros(gamma.shape, x.dtype)
    if x.size:
        backend.batchnorm2d_backward(
            dout,
            gate,
            x,
            context.mean,
            inv_std,
            gamma,
            None if later else dx,
            dgamma,
            dbeta,
            passed,
        )
        if later and dx is not None:
            nothing = np.zeros(gamma.shape, x.dtype)
            scale = gamma * inv_std
            through: Array | None = None
            g = dout if passed is None else passed
            if context.sharers is not None:  # the gradient through mean and variance
                dscale, dshift = _means_of_all(context.sharers, context.count, dgamma, dbeta)
                through = empty_images(x.shape, x.dtype, backend.layout)
                slope = -scale * inv_std * dscale
                backend.batchnorm2d_apply(
                    x, context.mean, slope, -scale * dshift, None, False, through
                )
            backend.batchnorm2d_apply(g, nothing, scale, nothing, through, False, dx)
    return dx, dgamma, dbeta, passed if context.residual else None


def _batchnorm2d_arrays(
    layout: Layout, x: ArrayLike, residual: ArrayLike | None, **vectors: ArrayLike
) -> tuple[Array, Array | None, dict[str, Array]]:
    """x and residual in the backend's layout, vectors (C,) by name: checked, of one dtype."""
    op = "batchnorm2d"
    x = as_array(x)
    if x.ndim != 4 or x.shape[1] == 0:
        raise ShapeError(f"{op}: input must be (N, C, H, W) with C at least 1, got shape {x.shape}")
    arrays = {name: as_array(vector) for name, vector in vectors.items()}
    for name, array in arrays.items():
        if array.shape != x.shape[1:2]:
            raise ShapeError(
                f"{op}: {name} has shape {array.shape}, expected {x.shape[1:2]} for input {x.shape}"
            )
    added = None if residual is None else as_array(residual)
    if added is not None:
        expect_shape(op, "residual", added, x.shape)
    images = [x] if added is None else [x, added]
    dtype = common_dtype(op, *images, *arrays.values())
    laid = [in_layout(array, dtype, layout) for array in images]
    prepared = {name: contiguous(array, dtype) for name, array in arrays.items()}
    return laid[0], None if added is None else laid[1], prepared


def _batchnorm2d_apply(
    chosen: Backend,
    x: Array,
    residual: Array | None,
    vectors: dict[str, Array],
    epsilon: float,
    relu: bool,
    fixed: bool,
) -> tuple[Array, BatchNorm2dContext]:
    mean, variance, dtype = vectors["mean"], vectors["variance"], x.dtype

    def inverted(variance: Array) -> Array:  # must not hold x: a recording keeps this function
        return (1 / np.sqrt(variance.astype(np.float64) + epsilon)).astype(dtype)

    inv_std = computed("1 / standard deviation", inverted, variance)
    scale = computed("gamma / standard deviation", np.multiply, vectors["gamma"], inv_std)
    out = empty_images(x.shape, x.dtype, chosen.layout)
    chosen.batchnorm2d_apply(x, mean, scale, vectors["beta"], residual, relu, out)
    kept = x, out if relu else None, mean, inv_std
    return out, BatchNorm2dContext(chosen.name, x.shape, *kept, residual is not None, fixed)


@dataclass(slots=True)
class BatchNormContext(Context):
    """What `batchnorm_backward` needs of the forward pass."""

    backend: str
    normalized: Array
    variance: Array
    epsilon: float
    count: int = 0
    sharers: Sharers | None = None


def _batchnorm_arrays(x: ArrayLike, **vectors: ArrayLike) -> tuple[Array, dict[str, Array]]:
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
    return contiguous(x, dtype), prepared


def batchnorm_train(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    epsilon: float,
    backend: str | None = None,
) -> tuple[Array, Array, Array, BatchNormContext]:
    """Normalise x (N, D), N at least 1, over the batch: (out, mean, variance, context)."""
    chosen, with_others = active(backend), sharers()
    if with_others is not None:
        x, vectors = _batchnorm_arrays(x, gamma=gamma, beta=beta)
        mean, variance, count = _of_all(with_others, x.mean(axis=0), x.var(axis=0), len(x))
        normalized = (x - mean) / np.sqrt(variance + x.dtype.type(epsilon))
        context = BatchNormContext(chosen.name, normalized, variance, epsilon, count, with_others)
        return vectors["gamma"] * normalized + vectors["beta"], mean, variance, context
    if computing.dtype is None:
        done = chosen.short.batchnorm_train(x, gamma, beta, epsilon)
        if done is not None:
            out, normalized, mean, variance = done
            return out, mean, variance, BatchNormContext(chosen.name, normalized, variance, epsilon)
    x, vectors = _batchnorm_arrays(x, gamma=gamma, beta=beta)
    out, normalized = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    mean, variance = np.empty(x.shape[1], x.dtype), np.empty(x.shape[1], x.dtype)
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
    """Normalise x (N, D) by a given mean and variance (D,)."""
    x, vectors = _batchnorm_arrays(x, gamma=gamma, beta=beta, mean=mean, variance=variance)
    out = np.empty(x.shape, x.dtype)
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
    if context.sharers is not None:
        dout = as_array(dout)
        expect_shape(op, "dout", dout, normalized.shape)
        dgamma, dbeta = (dout * normalized).sum(axis=0), dout.sum(axis=0)
        dscale, dshift = _means_of_all(context.sharers, context.count, dgamma, dbeta)
        scale = as_array(gamma) / np.sqrt(context.variance + normalized.dtype.type(context.epsilon))
        return scale * (dout - dshift - normalized * dscale), dgamma, dbeta
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
