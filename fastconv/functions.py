"""The book's functions, in its chapters 3 and 4: activations and losses.

They keep the dtype of floating-point input; float16 is computed in float32, and
integers become float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import ops
from .errors import ShapeError
from .ops.arrays import FLOAT64, as_array, common_dtype, computing
from .ops.loss import class_indices
from .selection import active

__all__ = [
    "cross_entropy_error",
    "identity_function",
    "mean_squared_error",
    "relu",
    "relu_grad",
    "sigmoid",
    "sigmoid_grad",
    "softmax",
    "softmax_loss",
    "step_function",
    "sum_squared_error",
]

NUMBERS = frozenset({float, np.float64, np.float32})
"""Types of single numbers, which are computed faster without an array."""

PLAIN = NUMBERS | {int, np.ndarray}

LEAST = -87.0
"""Above it no exp(-x) overflows, in float32 neither."""

array, exp = np.array, np.exp
"""Looking them up takes a tenth of the time that a function of one number has."""


def _real(op: str, x: ArrayLike) -> NDArray[np.floating]:
    x = as_array(x)
    return x.astype(common_dtype(op, x), copy=False)


def identity_function(x: Any) -> Any:
    """Return x itself."""
    return x


def step_function(x: Any) -> NDArray[np.int_]:
    """1 where x > 0, else 0, as integers."""
    return array((x if type(x) in PLAIN else as_array(x)) > 0, dtype=int)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)); 0 where the exponential overflows."""
    if type(x) in NUMBERS and x > LEAST:
        return 1 / (1 + exp(-x))
    if type(x) is int and x.bit_length() < 1024:  # no more fit a float
        return sigmoid(float(x))
    return ops.sigmoid_forward(x)


def sigmoid_grad(x: ArrayLike) -> NDArray[np.floating]:
    """Derivative of `sigmoid` at x."""
    out = sigmoid(x)
    return (1 - out) * out


def relu(x: Any) -> Any:
    """The larger of 0 and x, of x's own dtype."""
    return np.maximum(0, x if type(x) in PLAIN else as_array(x))


def relu_grad(x: ArrayLike) -> NDArray[Any]:
    """1 where x >= 0, else 0, of x's own dtype and shape."""
    x = as_array(x)
    return (x >= 0).astype(x.dtype)


def softmax(x: ArrayLike) -> NDArray[np.floating]:
    """exp(x) / sum(exp(x)) over the last axis, shifted by the maximum."""
    if computing.dtype is None:
        out = active().short.softmax(x)
        if out is not None:
            return out
    x = _real("softmax", x)
    if x.ndim == 0:
        raise ShapeError("softmax: expected at least one axis, got a single number")
    if x.size == 0:
        return x.copy()
    out = active().short.softmax(np.ascontiguousarray(x))
    if out is not None:
        return out
    with np.errstate(under="ignore"):
        exponential = np.exp(x - x.max(axis=-1, keepdims=True))
        return exponential / exponential.sum(axis=-1, keepdims=True)


def sum_squared_error(y: Any, t: Any) -> np.floating:
    """Half the sum of (y - t)^2."""
    if not (type(y) is type(t) is np.ndarray and y.dtype is t.dtype is FLOAT64) or computing.dtype:
        y, t = _real("sum_squared_error", y), _real("sum_squared_error", t)
    return 0.5 * np.sum((y - t) ** 2)


mean_squared_error = sum_squared_error


def cross_entropy_error(y: ArrayLike, t: ArrayLike) -> float:
    """Mean over the batch of -log(y[true class] + 1e-7).

    Parameters
    ----------
    y : array (N, M), or (M,) for one sample
        Probabilities.
    t : array
        Class indices (N,), or one-hot, recognised by ``t.size == y.size``.

    Returns
    -------
    float
        0.0 for no samples.

    Raises
    ------
    LabelError
        Labels of another count or width, or out of range.
    """
    if computing.dtype is None:
        loss = active().short.cross_entropy(y, t)
        if loss is not None:
            return loss
    y, t = _real("cross_entropy_error", y), as_array(t)
    if y.ndim == 1:
        return cross_entropy_error(
            y.reshape(1, -1), t.reshape(1, -1) if t.size == y.size else t.reshape(-1)
        )
    if y.ndim != 2:
        raise ShapeError(f"cross_entropy_error: y must be (N, M) or (M,), got shape {y.shape}")
    labels = class_indices("cross_entropy_error", t, y.shape)
    if len(y) == 0:
        return 0.0
    return float(-np.log(y[np.arange(len(y)), labels] + 1e-7).mean())


def softmax_loss(X: ArrayLike, t: ArrayLike) -> float:
    """`cross_entropy_error` of `softmax` (X)."""
    return cross_entropy_error(softmax(X), t)
