"""Average pooling in the reference backend: along the rows, then along the columns.

Notation: N images, C channels, H x W pixels; OH x OW windows.
"""

from __future__ import annotations

import numpy as np

from .base import Array, Labels

__all__ = ["AvgPool2dReference"]


class AvgPool2dReference:
    """The family ``avgpool2d`` in NumPy; see `fastconv.backends.base.Backend`."""

    def avgpool2d_forward(self, x: Array, rows: Labels, cols: Labels, out: Array) -> None:
        n, c, _, w = x.shape
        strips = np.empty((n, c, len(rows), w), x.dtype)
        for i, (begin, end, divisor) in enumerate(rows):
            strips[:, :, i] = x[:, :, begin:end].sum(axis=2) / divisor
        for j, (begin, end, divisor) in enumerate(cols):
            out[..., j] = strips[..., begin:end].sum(axis=3) / divisor

    def avgpool2d_backward(self, dout: Array, rows: Labels, cols: Labels, dx: Array) -> None:
        n, c, _, w = dx.shape
        strips = np.zeros((n, c, len(rows), w), dx.dtype)
        for j, (begin, end, divisor) in enumerate(cols):
            strips[..., begin:end] += dout[..., j : j + 1] / divisor
        dx[...] = 0
        for i, (begin, end, divisor) in enumerate(rows):
            dx[:, :, begin:end] += strips[:, :, i : i + 1] / divisor
