"""Softmax with cross-entropy.

Notation: N samples, M classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .. import ops
from ..ops.arrays import as_array
from .base import Array, Layer

__all__ = ["SoftmaxWithLoss"]


class SoftmaxWithLoss(Layer):
    """Softmax and mean cross-entropy; keeps ``y`` (N, M), ``t`` and ``loss``.

    Parameters
    ----------
    label_smoothing : float
        Share of each label that is spread over all classes (arXiv:1512.00567), 0 to below 1.
        It may be changed later: ``network.last_layer.label_smoothing = 0.1``.
    """

    # On the class too: a subclass in the book's style calls no constructor but its own.
    label_smoothing: float = 0.0
    _lone: bool = False  # whether the scores were those of one sample, without an axis for it

    def __init__(self, backend: str | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__(backend)
        ops.expect_smoothing("SoftmaxWithLoss", label_smoothing)
        self.label_smoothing = label_smoothing
        self.loss: float | None = None
        self.y: Array | None = None
        self.t: Array | None = None

    def forward(self, x: ArrayLike, t: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the loss of scores x (N, M) for labels t: indices (N,) or one-hot (N, M).

        For one sample: scores (M,), and an index or a one-hot row (M,). With weights (N,) of
        samples it is the weighted mean, sum(w*loss) / sum(w).
        """
        self._lone = getattr(x, "ndim", 2) == 1
        if self._lone:
            x, t = _one_row(x, t)
        self.loss, context = ops.softmax_cross_entropy_forward(
            x, t, self.backend, smoothing=self.label_smoothing, weights=sample_weight
        )
        self._context = context
        self.y, self.t = context.probabilities, as_array(t)
        if self._lone:
            self.y, self.t = self.y[0], self.t[0]
        return self.loss

    def backward(self, dout: float = 1) -> Array:
        """Return (y - smoothed onehot(t)) * dout / N; of weighted samples, * w / sum(w).

        For the scores (M,) of one sample, this divides by the length of t, as the book's layer
        does: by M for a one-hot t.
        """
        if self._lone:
            length = max(1, as_array(self.t).size)
            return ops.softmax_cross_entropy_backward(self._forward_context(), dout / length)[0]
        return ops.softmax_cross_entropy_backward(self._forward_context(), dout)


def _one_row(x: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
    """Return the scores and the label of one sample as a batch of one."""
    scores, label = as_array(x), as_array(t)
    return scores[np.newaxis], label.reshape((1, -1) if label.size == scores.size else (-1,))
