"""im2col and its adjoint, col2im: the windows of images as rows of a matrix.

Notation: N images, C channels, H x W pixels; windows of FH x FW; OH x OW windows.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from ..backends.table import Array
from ..geometry import Pad, Stride, as_int, window_geometry
from ..selection import active
from .arrays import as_array, common_dtype, contiguous, expect_shape
from .memory import empty

__all__ = ["col2im", "im2col"]


def im2col(
    x: ArrayLike,
    fh: int,
    fw: int,
    stride: Stride = 1,
    pad: Pad = 0,
    backend: str | None = None,
) -> Array:
    """Column matrix (N*OH*OW, C*FH*FW) of images (N, C, H, W)."""
    x = as_array(x)
    geometry = window_geometry("im2col", x.shape, fh, fw, stride, pad)
    dtype = common_dtype("im2col", x)
    col = empty(geometry.column_shape, dtype)
    active(backend).im2col(contiguous(x, dtype), geometry, col)
    return col


def col2im(
    col: ArrayLike,
    input_shape: tuple[int, int, int, int],
    fh: int,
    fw: int,
    stride: Stride = 1,
    pad: Pad = 0,
    backend: str | None = None,
) -> Array:
    """Sum the entries of a column matrix (N*OH*OW, C*FH*FW) into images (N, C, H, W)."""
    col = as_array(col)
    shape = tuple(as_int("col2im", "an axis of input_shape", axis, 0) for axis in input_shape)
    geometry = window_geometry("col2im", shape, fh, fw, stride, pad)
    dtype = common_dtype("col2im", col)
    expect_shape("col2im", "col", col, geometry.column_shape)
    x = empty(geometry.input_shape, dtype)
    active(backend).col2im(contiguous(col, dtype), geometry, x)
    return x
