"""Definitions that compute as older editions of the book do.

`of_edition` finds the one that replaces a definition of a given edition.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import functions, layers, optimizer
from ..layers.base import Array
from ..ops.arrays import as_array, common_dtype
from ..ops.loss import class_indices
from ..training.optimizer_base import Step
from .source import Match

__all__ = ["of_edition"]


def of_edition(match: Match, home: str) -> Any:
    """What computes like the edition that the user's definition is from.

    Parameters
    ----------
    match : Match
    home : str
        The module of fastconv that has the current definition.
    """
    editions = {"__init__": match.init, "": match.edition} | match.needs
    for part, edition, other in OLDER.get(match.role, ()):
        if editions.get(part) == edition:
            return other
    return getattr(importlib.import_module(home), match.role)


# ---- functions ----------------------------------------------------------------------


def softmax(x: ArrayLike) -> NDArray[np.floating]:
    """exp(x) / sum(exp(x)): over each row of a matrix, or over the whole of any other array."""
    x = as_array(x)
    return functions.softmax(x if x.ndim <= 2 else x.reshape(-1)).reshape(x.shape)


def cross_entropy_error(y: ArrayLike, t: ArrayLike) -> float:
    """Mean over the batch of -log(y[true class]): infinite where that is 0."""
    y, t = as_array(y), as_array(t)
    y = y.astype(common_dtype("cross_entropy_error", y), copy=False)
    if y.ndim == 1:
        y = y.reshape(1, -1)
        t = t.reshape(1, -1) if t.size == y.size else t.reshape(-1)
    labels = class_indices("cross_entropy_error", t, y.shape)
    return float(-np.sum(np.log(y[np.arange(len(y)), labels])) / len(y))


def softmax_loss(X: ArrayLike, t: ArrayLike) -> float:
    """`cross_entropy_error` of the softmax of X."""
    return cross_entropy_error(softmax(X), t)


# ---- layers -------------------------------------------------------------------------


class SoftmaxWithLoss(layers.SoftmaxWithLoss):
    """The loss is infinite where a label's probability is 0."""

    def forward(self, x: ArrayLike, t: ArrayLike) -> float:  # type: ignore[override]  # no weights
        """Return the loss of scores x (N, M) for labels t: indices (N,) or one-hot (N, M)."""
        super().forward(x, t)
        assert self.y is not None and self.t is not None
        self.loss = cross_entropy_error(self.y, self.t)
        return self.loss


class BatchNormalization(layers.BatchNormalization):
    """Images are flattened to (C, N*H*W) rather than (N, C*H*W)."""

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Return an array like x, normalised by its own batch, or by the running statistics."""
        x = as_array(x)
        flat = _by_channel(x)
        out = super().forward(flat, train_flg).reshape(x.shape)
        self.input_shape = x.shape
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Set dgamma and dbeta, return dx in the input's own shape."""
        shape, flat = self.input_shape, _by_channel(as_array(dout))
        self.input_shape = flat.shape
        dx = super().backward(flat)
        self.input_shape = shape
        return dx.reshape(shape)


def _by_channel(images: Array) -> Array:
    if images.ndim == 2:
        return images
    return images.transpose(1, 0, 2, 3).reshape(images.shape[1], -1)


class Pooling(layers.Pooling):
    """Max pooling whose default stride is 2."""

    def __init__(self, pool_h: int, pool_w: int, stride: int = 2, pad: int = 0) -> None:
        super().__init__(pool_h, pool_w, stride, pad)


# ---- optimizers ------------------------------------------------------------------------


class Nesterov(optimizer.Nesterov):
    """v = momentum*v - lr*g; then p += momentum^2 * v - (1 + momentum)*lr*g with the new v."""

    def _take(self, step: Step) -> None:
        (v,) = step.kept
        down = step.lr * step.grad
        param = step.param
        v *= self.momentum
        v -= down
        param += self.momentum * self.momentum * v - (1 + self.momentum) * down


OLDER: dict[str, tuple[tuple[str, str, Any], ...]] = {
    "BatchNormalization": (("", "2016-07-07", BatchNormalization),),
    "Nesterov": (("", "2016-07-07", Nesterov),),
    "Pooling": (("__init__", "2020-09-14", Pooling),),
    "SoftmaxWithLoss": (("cross_entropy_error", "2016-07-07", SoftmaxWithLoss),),
    "cross_entropy_error": (("", "2016-07-07", cross_entropy_error),),
    "softmax": (("", "2016-07-07", softmax),),
    "softmax_loss": (("cross_entropy_error", "2016-07-07", softmax_loss),),
}
"""For each definition: a part of it or one that it calls, the edition of that, what serves it."""
