"""The reference: im2col and col2im."""

from __future__ import annotations

import numpy as np

from ...geometry import WindowGeometry
from ..table import Array

__all__ = ["ColumnKernels"]


def unfold(x: Array, g: WindowGeometry) -> Array:
    """Columns of x (N, C, H, W) as (N, OH, OW, C, FH, FW), zeros where windows overhang."""
    top, left, bottom, right = g.pads
    padded = np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, g.span, axis=(2, 3))
    windows = windows[:, :, :: g.strides[0], :: g.strides[1], :: g.dilation, :: g.dilation]
    return windows.transpose(0, 2, 3, 1, 4, 5)


def fold(columns: Array, g: WindowGeometry, x: Array) -> None:
    """Adjoint of `unfold`: sum columns (N, OH, OW, C, FH, FW) into x (N, C, H, W)."""
    images = columns.shape[0]
    height, width = reach(g)
    padded = np.zeros((images, g.c, height, width), columns.dtype)
    by_place = columns.transpose(4, 5, 0, 3, 1, 2)
    down, across = g.strides
    for fy in range(g.fh):
        for fx in range(g.fw):
            top, left = g.dilation * fy, g.dilation * fx
            rows = slice(top, top + down * g.oh, down)
            cols = slice(left, left + across * g.ow, across)
            padded[:, :, rows, cols] += by_place[fy, fx]
    top, left = g.pads[:2]
    x[...] = padded[:, :, top : top + g.h, left : left + g.w]


def reach(g: WindowGeometry) -> tuple[int, int]:
    """Height and width of the padded image, up to where the last windows end."""
    height, width = g.padded
    return (
        max(height, g.strides[0] * (g.oh - 1) + g.fh),
        max(width, g.strides[1] * (g.ow - 1) + g.fw),
    )


class ColumnKernels:
    """Im2col and col2im; see `table.Backend`."""

    def im2col(self, x: Array, geometry: WindowGeometry, col: Array) -> None:
        columns = unfold(x, geometry)
        col.reshape(columns.shape)[...] = columns

    def col2im(self, col: Array, geometry: WindowGeometry, x: Array) -> None:
        g = geometry
        fold(col.reshape(g.n, g.oh, g.ow, g.c, g.fh, g.fw), g, x)
