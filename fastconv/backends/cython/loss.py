"""The Cython backend: softmax with cross-entropy."""

from __future__ import annotations

from ..table import Array, Labels
from .compiled import CompiledKernels

__all__ = ["LossKernels"]


class LossKernels(CompiledKernels):
    """Softmax with cross-entropy; see `table.Backend`."""

    def softmax_cross_entropy_forward(
        self, scores: Array, labels: Labels, smoothing: float, probabilities: Array
    ) -> float:
        return float(
            self._kernels.softmax_cross_entropy_forward(
                scores, labels, smoothing, probabilities, self._threads
            )
        )

    def softmax_cross_entropy_backward(
        self,
        probabilities: Array,
        labels: Labels,
        smoothing: float,
        scale: float,
        dscores: Array,
    ) -> None:
        self._kernels.softmax_cross_entropy_backward(
            probabilities, labels, smoothing, scale, dscores
        )
