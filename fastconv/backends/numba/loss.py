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
        arrays = [scores, probabilities, labels, losses, np.array([float(smoothing)])]
        self._run_on(loss.softmax_forward, arrays, *scores.shape)
        return float(losses.mean())

    def softmax_cross_entropy_backward(
        self,
        probabilities: Array,
        labels: Labels,
        smoothing: float,
        scale: float,
        dscores: Array,
    ) -> None:
        settings = np.array([smoothing, scale], np.float64)
        arrays = [probabilities, dscores, labels, settings]
        self._run_on(loss.softmax_backward, arrays, *dscores.shape)
