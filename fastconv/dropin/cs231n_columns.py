"""``cs231n.im2col_cython`` for those who have not built it.

Notation: N images, C channels, H x W pixels; windows of FH x FW; OH x OW windows. A row of the
matrix (C*FH*FW, OH*OW*N) has one place of all windows, in the order y, x, n.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError
from ..geometry import WindowGeometry, window_geometry
from ..ops.arrays import as_array

__all__ = ["col2im_6d_cython", "col2im_cython", "im2col_cython"]


def im2col_cython(x: Any, field_height: int, field_width: int, padding: int, stride: int) -> Any:
    """Column matrix (C*FH*FW, OH*OW*N) of images (N, C, H, W), zeros outside."""
    x = as_array(x)
    g = window_geometry("im2col_cython", x.shape, field_height, field_width, stride, padding)
    padded = np.pad(x, ((0, 0), (0, 0), (g.pad, g.pad), (g.pad, g.pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (g.fh, g.fw), (2, 3))
    windows = windows[:, :, :: g.stride, :: g.stride]
    return windows.transpose(1, 4, 5, 2, 3, 0).reshape(g.c * g.window, -1)


def col2im_cython(
    cols: Any,
    N: int,
    C: int,
    H: int,
    W: int,
    field_height: int,
    field_width: int,
    padding: int,
    stride: int,
) -> Any:
    """Sum the entries of a column matrix (C*FH*FW, OH*OW*N) into images (N, C, H, W)."""
    op = "col2im_cython"
    g = window_geometry(op, (N, C, H, W), field_height, field_width, stride, padding)
    parts = _expect(op, cols, (C * g.window, g.oh * g.ow * N))
    return _summed(parts.reshape(C, g.fh, g.fw, g.oh, g.ow, N).transpose(5, 0, 1, 2, 3, 4), g)


def col2im_6d_cython(
    cols: Any, N: int, C: int, H: int, W: int, HH: int, WW: int, pad: int, stride: int
) -> Any:
    """Sum the entries of columns (C, HH, WW, N, OH, OW) into images (N, C, H, W)."""
    op = "col2im_6d_cython"
    g = window_geometry(op, (N, C, H, W), HH, WW, stride, pad)
    return _summed(_expect(op, cols, (C, HH, WW, N, g.oh, g.ow)).transpose(3, 0, 1, 2, 4, 5), g)


def _expect(op: str, cols: Any, shape: tuple[int, ...]) -> np.ndarray:
    cols = as_array(cols)
    if cols.shape != shape:
        raise ShapeError(f"{op}: cols has shape {cols.shape}, expected {shape}")
    return cols


def _summed(parts: np.ndarray, g: WindowGeometry) -> np.ndarray:
    """Sum the places of all windows, (N, C, FH, FW, OH, OW), into images."""
    padded = np.zeros((g.n, g.c, g.h + 2 * g.pad, g.w + 2 * g.pad), parts.dtype)
    for i in range(g.fh):
        for j in range(g.fw):
            rows = slice(i, i + g.stride * g.oh, g.stride)
            cols = slice(j, j + g.stride * g.ow, g.stride)
            padded[:, :, rows, cols] += parts[:, :, i, j]
    return padded[:, :, g.pad : g.pad + g.h, g.pad : g.pad + g.w]
