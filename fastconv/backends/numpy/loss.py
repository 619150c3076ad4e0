"""The reference: softmax with cross-entropy."""

from __future__ import annotations

import numpy as np

from ..table import Array, Labels

__all__ = ["LossKernels"]


class LossKernels:
    """Softmax with cross-entropy; see `table.Backend`."""

    def softmax_cross_entropy_forward(
        self, scores: Array, labels: Labels, smoothing: float, probabilities: Array
    ) -> float:
        rows = np.arange(len(labels))
        below = scores - scores.max(axis=1, keepdims=True)
        np.exp(below, out=probabilities)
        totals = probabilities.sum(axis=1, keepdims=True)
        probabilities /= totals
        if smoothing == 0:
            return float(-np.log(probabilities[rows, labels].astype(np.float64) + 1e-7).mean())
        # log(p) = below - log(total), and q sums to 1.
        pulled = (1 - smoothing) * below[rows, labels] + smoothing * below.mean(axis=1)
        return float((np.log(totals[:, 0]) - pulled).mean(dtype=np.float64))

    def softmax_cross_entropy_backward(
        self,
        probabilities: Array,
        labels: Labels,
        smoothing: float,
        scale: float,
        dscores: Array,
    ) -> None:
        rows, everyone = np.arange(len(labels)), smoothing / probabilities.shape[1]
        np.subtract(probabilities, everyone, out=dscores)
        dscores[rows, labels] = probabilities[rows, labels] - (1 - smoothing + everyone)
        dscores *= scale
