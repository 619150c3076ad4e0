"""Softmax with cross-entropy, and the labels that it takes.

Notation: N samples, M classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backends.table import Array, Labels
from ..errors import ArgumentError, LabelError, ShapeError
from ..selection import active
from .arrays import Context, as_array, common_dtype, computing, contiguous, expect_shape

__all__ = [
    "class_indices",
    "expect_smoothing",
    "expect_weights",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
]


def class_indices(op: str, t: ArrayLike, shape: tuple[int, int]) -> Labels:
    """Class indices (N,) from indices, or from one-hot rows (N, M), for scores of `shape`.

    Raises
    ------
    LabelError
        Labels that are not whole numbers, are out of range, or have the wrong shape.
    """
    t = as_array(t)
    n, classes = shape
    if t.ndim == 2 and t.shape == shape:
        if t.dtype.kind not in "fiub":
            raise LabelError(f"{op}: one-hot labels must be numbers, got dtype {t.dtype}")
        return t.argmax(axis=1).astype(np.int64)
    if t.shape not in ((n,), (n, 1)):
        raise LabelError(
            f"{op}: labels have shape {t.shape}, expected ({n},) for class indices or "
            f"({n}, {classes}) for one-hot"
        )
    whole = t.dtype.kind in "iu" or (t.dtype.kind == "f" and np.all(t == np.floor(t)))
    if n and not whole:
        raise LabelError(f"{op}: class indices must be whole numbers, got dtype {t.dtype}")
    if n and (t.min() < 0 or t.max() >= classes):
        raise LabelError(
            f"{op}: labels must be 0 to {classes - 1} for {classes} classes, "
            f"got {t.min()} to {t.max()}"
        )
    # A copy: backward's kernel relies on the range, and the caller's array may change.
    return np.array(t.reshape(n), np.int64)


def expect_smoothing(op: str, smoothing: float) -> None:
    """Raise an `ArgumentError` unless `smoothing` is from 0 to below 1."""
    if not isinstance(smoothing, Real) or not 0 <= smoothing < 1:
        raise ArgumentError(f"{op}: label_smoothing must be from 0 to below 1, got {smoothing!r}")


def expect_weights(op: str, weights: ArrayLike, samples: int) -> Array:
    """Return the samples' weights (N,) as float64.

    Raises
    ------
    DTypeError, ShapeError, ArgumentError
        Not a real number for each of so many samples, or one that is negative or not finite.
    """
    array = as_array(weights)
    common_dtype(op, array)  # numbers
    expect_shape(op, "weights of samples", array, (samples,))
    array = array.astype(np.float64)
    if not (np.isfinite(array) & (array >= 0)).all():
        raise ArgumentError(
            f"{op}: weights of samples must be finite and at least 0, got {array.min()} to "
            f"{array.max()}"
        )
    return array


@dataclass(slots=True)
class LossContext(Context):
    """What `softmax_cross_entropy_backward` needs of the forward pass."""

    backend: str
    classes: int
    probabilities: Array
    labels: Labels
    smoothing: float
    soft: Array | None  # targets (N, M) that are not one-hot, smoothed
    shares: Array | None = None  # of the samples (N,) in the loss, if they have weights


def softmax_cross_entropy_forward(
    scores: ArrayLike,
    t: ArrayLike,
    backend: str | None = None,
    *,
    smoothing: float = 0.0,
    weights: ArrayLike | None = None,
) -> tuple[float, LossContext]:
    """Mean cross-entropy of softmax(scores (N, M)) against labels; 0.0 for no samples.

    With `smoothing` (arXiv:1512.00567, section 7) that share of each label is spread over
    all M classes. The book's loss, without smoothing, adds 1e-7 to probabilities; the
    smoothed one takes the logarithm exactly, since classes of small probability matter there.

    Targets (N, M) that are not one-hot are treated as in the book's code: the loss is that of
    their largest entries, but the gradient pulls towards the targets themselves.

    With `weights` (N,) of the samples it is the weighted mean, sum(w*loss) / sum(w), as that of
    PyTorch is with weights of classes; 0.0 if all weights are 0.
    """
    op, chosen = "softmax_cross_entropy", active(backend)
    if computing.dtype is None and smoothing == 0 and weights is None:
        done = chosen.short.softmax_cross_entropy_forward(scores, t, 0.0)
        if done is not None:
            loss, probabilities, labels = done
            classes = probabilities.shape[1]
            return loss, LossContext(chosen.name, classes, probabilities, labels, 0.0, None)
    expect_smoothing(op, smoothing)
    scores = as_array(scores)
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ShapeError(f"{op}: scores must be (N, M) with M at least 1, got shape {scores.shape}")
    dtype = common_dtype(op, scores)
    labels = class_indices(op, t, scores.shape)
    soft = _soft_targets(as_array(t), labels, dtype)
    if soft is not None:
        soft = (1 - smoothing) * soft + smoothing / soft.shape[1]
    probabilities = np.empty(scores.shape, dtype)
    loss = 0.0
    if len(scores):
        loss = chosen.softmax_cross_entropy_forward(
            contiguous(scores, dtype), labels, float(smoothing), probabilities
        )
    shares = None
    if weights is not None:
        shares = expect_weights(op, weights, len(scores))
        shares /= shares.max(initial=0) or 1.0  # so that the sum is finite
        shares /= shares.sum() or 1.0
        loss = float(shares @ _losses(scores, probabilities, labels, smoothing))
    classes = scores.shape[1]
    context = (chosen.name, classes, probabilities, labels, float(smoothing), soft, shares)
    return loss, LossContext(*context)


def _losses(scores: Array, probabilities: Array, labels: Labels, smoothing: float) -> Array:
    """The loss (N,) of each sample, in float64."""
    rows = np.arange(len(labels))
    if not smoothing:
        return -np.log(probabilities[rows, labels] + np.float64(1e-7))
    below = scores - scores.max(axis=1, keepdims=True).astype(np.float64)
    logs = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
    return -(1 - smoothing) * logs[rows, labels] - smoothing * logs.mean(axis=1)


def softmax_cross_entropy_backward(context: LossContext, dout: float = 1.0) -> Array:
    """Gradient (N, M) of the scores: (probabilities - smoothed onehot) * dout / N.

    Weighted samples have their share of the weights in place of 1/N.
    """
    op, probabilities = "softmax_cross_entropy backward", context.probabilities
    samples = len(context.labels)
    plain = context.soft is None and context.shares is None
    if plain and samples and probabilities.shape == (samples, context.classes):
        short, scale = active(context.backend).short, float(dout) / samples
        dscores = short.softmax_cross_entropy_backward(
            probabilities, context.labels, context.smoothing, scale
        )
        if dscores is not None:
            return dscores
    expect_shape(op, "y, as forward kept it,", probabilities, (samples, context.classes))
    probabilities = contiguous(probabilities, probabilities.dtype)
    dscores = np.empty(probabilities.shape, probabilities.dtype)
    scale = float(dout) / (max(samples, 1) if context.shares is None else 1)
    if context.soft is not None:
        np.subtract(probabilities, context.soft, out=dscores)
        dscores *= scale
    elif samples:
        active(context.backend).softmax_cross_entropy_backward(
            probabilities, context.labels, context.smoothing, scale, dscores
        )
    if context.shares is not None:
        dscores *= context.shares[:, np.newaxis].astype(dscores.dtype)
    return dscores


def _soft_targets(t: np.ndarray, labels: Labels, dtype: Any) -> Array | None:
    """`t` (N, M) if its rows are not one-hot, else None."""
    if t.ndim != 2 or t.shape[1] == 1:
        return None
    one_hot = np.zeros(t.shape, bool)
    one_hot[np.arange(len(labels)), labels] = True
    return None if np.array_equal(t, one_hot) else t.astype(dtype)
