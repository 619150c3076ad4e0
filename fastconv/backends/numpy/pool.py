"""The reference: max pooling, and average pooling along the rows, then along the columns.

Notation: N images, C channels, H x W pixels; OH x OW windows.
"""

from __future__ import annotations

import numpy as np

from ...geometry import WindowGeometry
from ..table import Array, Bounds, Bytes
from .columns import fold, reach

__all__ = ["PoolKernels"]


class PoolKernels:
    """Max pooling and average pooling; see `table.Backend`."""

    winner_is_optional = True

    def maxpool2d_forward(
        self, x: Array, geometry: WindowGeometry, out: Array, winner: Bytes | None
    ) -> None:
        # Walk over the places of the window in row-major order, keeping the first of the
        # largest; the first NaN beats every number.
        g = geometry
        out[...] = -np.inf
        if winner is not None:
            winner[...] = 0
        unset = np.ones(out.shape, bool)
        height, width = reach(g)
        top, left = g.pads[:2]
        border = [(0, 0), (0, 0), (top, height - top - g.h), (left, width - left - g.w)]
        padded = np.pad(x, border, constant_values=-np.inf)
        inside = np.pad(np.ones((1, 1, g.h, g.w), bool), border)
        down, across = g.strides
        for place in range(g.window):
            fy, fx = divmod(place, g.fw)
            rows = slice(fy, fy + down * g.oh, down)
            cols = slice(fx, fx + across * g.ow, across)
            value, real = padded[:, :, rows, cols], inside[:, :, rows, cols]
            better = real & (unset | (value > out) | (np.isnan(value) & ~np.isnan(out)))
            out[better] = value[better]
            if winner is not None:
                winner[better] = place
            unset &= ~real

    def maxpool2d_backward(
        self, dout: Array, winner: Bytes, geometry: WindowGeometry, dx: Array
    ) -> None:
        g = geometry
        places = np.arange(g.window).reshape(g.fh, g.fw)
        won = winner.transpose(0, 2, 3, 1)[..., None, None] == places
        fold(np.where(won, dout.transpose(0, 2, 3, 1)[..., None, None], 0), g, dx)

    def avgpool2d_forward(self, x: Array, rows: Bounds, cols: Bounds, out: Array) -> None:
        n, c, _, w = x.shape
        strips = np.empty((n, c, len(rows), w), x.dtype)
        for i, (begin, end, divisor) in enumerate(rows):
            strips[:, :, i] = x[:, :, begin:end].sum(axis=2) / divisor
        for j, (begin, end, divisor) in enumerate(cols):
            out[..., j] = strips[..., begin:end].sum(axis=3) / divisor

    def avgpool2d_backward(self, dout: Array, rows: Bounds, cols: Bounds, dx: Array) -> None:
        n, c, _, w = dx.shape
        strips = np.zeros((n, c, len(rows), w), dx.dtype)
        for j, (begin, end, divisor) in enumerate(cols):
            strips[..., begin:end] += dout[..., j : j + 1] / divisor
        dx[...] = 0
        for i, (begin, end, divisor) in enumerate(rows):
            dx[:, :, begin:end] += strips[:, :, i : i + 1] / divisor
