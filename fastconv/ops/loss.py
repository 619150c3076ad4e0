"""Softmax with cross-entropy, and the labels that it takes.

Notation: N samples, M classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backends.base import Array, Labels
from ..errors import LabelError, ShapeError
from ..selection import active
from .arrays import as_array, common_dtype, contiguous

__all__ = [
    "class_indices",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
]


def class_indices(op: str, t: ArrayLike, shape: tuple[int, int]) -> Labels:
    """Class indices (N,) from indices, or from one-hot rows (N, M), for scores of `shape`.

    Raises
    ------
    LabelError
        Labels that are not whole numbers, out of range, or of another count or width.
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
    if t.dtype.kind == "f" and n and np.all(t == np.floor(t)):
        t = t.astype(np.int64)
    if t.dtype.kind not in "iu" and n:
        raise LabelError(f"{op}: class indices must be whole numbers, got dtype {t.dtype}")
    if n and (t.min() < 0 or t.max() >= classes):
        raise LabelError(
            f"{op}: labels must be 0 to {classes - 1} for {classes} classes, "
            f"got {t.min()} to {t.max()}"
        )
    return np.require(t.reshape(n), np.int64, ["C", "ALIGNED"])


@dataclass(frozen=True, slots=True)
class LossContext:
    """What `softmax_cross_entropy_backward` needs of the forward pass."""

    backend: str
    probabilities: Array
    labels: Labels
    soft: Array | None  # targets (N, M) that are not one-hot


def softmax_cross_entropy_forward(
    scores: ArrayLike, t: ArrayLike, backend: str | None = None
) -> tuple[float, LossContext]:
    """Mean cross-entropy of softmax(scores (N, M)) against labels; 0.0 for no samples.

    Targets (N, M) that are not one-hot are treated as the book's code does: the loss is
    that of their largest entries, the gradient pulls towards the targets themselves.
    """
    op = "softmax_cross_entropy"
    scores = as_array(scores)
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ShapeError(f"{op}: scores must be (N, M) with M at least 1, got shape {scores.shape}")
    dtype = common_dtype(op, scores)
    labels = class_indices(op, t, scores.shape)
    soft = _soft_targets(as_array(t), labels, dtype)
    probabilities = np.empty(scores.shape, dtype)
    chosen = active(backend)
    loss = 0.0
    if len(scores):
        loss = chosen.softmax_cross_entropy_forward(
            contiguous(scores, dtype), labels, probabilities
        )
    return loss, LossContext(chosen.name, probabilities, labels, soft)


def softmax_cross_entropy_backward(context: LossContext, dout: float = 1.0) -> Array:
    """Gradient (N, M) of the scores: (probabilities - onehot) * dout / N."""
    probabilities = context.probabilities
    dscores = np.empty(probabilities.shape, probabilities.dtype)
    scale = float(dout) / max(len(probabilities), 1)
    if context.soft is not None:
        np.subtract(probabilities, context.soft, out=dscores)
        dscores *= scale
    elif len(probabilities):
        active(context.backend).softmax_cross_entropy_backward(
            probabilities, context.labels, scale, dscores
        )
    return dscores


def _soft_targets(t: np.ndarray, labels: Labels, dtype: Any) -> Array | None:
    """`t` (N, M) where it is more than one-hot labels, else None."""
    if t.ndim != 2 or t.shape[1] == 1:
        return None
    one_hot = np.zeros(t.shape, bool)
    one_hot[np.arange(len(labels)), labels] = True
    return None if np.array_equal(t, one_hot) else t.astype(dtype)
