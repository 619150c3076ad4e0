"""The Numba backend: softmax with cross-entropy."""

from __future__ import annotations

import numpy as np

from .._numba import loss
from ..table import Array, Labels
from .launched import LaunchedKernels

__all__ = ["LossKernels"]


class LossKernels(LaunchedKernels):
    """Softmax with cross-entropy; see `table.Backend`."""

    def softmax_cross_entropy_forward(
        self, scores: Array, labels: Labels, smoothing: float, probabilities: Array
    ) -> float:
        losses = np.empty(len(labels))
        rows, columns = scores.shape
        arrays = {"scores": scores, "labels": labels, "losses": losses}
        sizes = {"smoothing": smoothing, "rows": rows, "columns": columns}
        arrays["probabilities"] = probabilities
        self._run_on(scores, loss.softmax_forward, **arrays, **sizes)
        return float(losses.mean())

    def softmax_cross_entropy_backward(
        self,
        probabilities: Array,
        labels: Labels,
        smoothing: float,
        scale: float,
        dscores: Array,
    ) -> None:
        rows, columns = dscores.shape
        arrays = {"probabilities": probabilities, "labels": labels, "dscores": dscores}
        sizes = {"smoothing": smoothing, "scale": scale, "rows": rows, "columns": columns}
        self._run_on(dscores, loss.softmax_backward, **arrays, **sizes)
