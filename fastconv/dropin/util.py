"""The functions of ``common.util``: im2col and col2im return float64, as the originals do.

Those make their arrays by ``np.zeros``, whatever the input's dtype. `fastconv.util` keeps float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import util
from ..geometry import Pad, Stride
from ..ops.arrays import as_array, computing
from ..util import conv_output_size, shuffle_dataset, smooth_curve

__all__ = ["col2im", "conv_output_size", "im2col", "shuffle_dataset", "smooth_curve"]


def im2col(
    input_data: ArrayLike, filter_h: int, filter_w: int, stride: Stride = 1, pad: Pad = 0
) -> NDArray[np.floating]:
    """As `fastconv.util.im2col`, but float64 unless another dtype was asked for."""
    col = util.im2col(input_data, filter_h, filter_w, stride, pad)
    return col if computing.dtype is not None else col.astype(np.float64, copy=False)


def col2im(
    col: ArrayLike,
    input_shape: tuple[int, int, int, int],
    filter_h: int,
    filter_w: int,
    stride: Stride = 1,
    pad: Pad = 0,
) -> NDArray[np.floating]:
    """As `fastconv.util.col2im`, but float64 unless another dtype was asked for."""
    if computing.dtype is None:
        col = as_array(col)
        col = col.astype(np.float64) if col.dtype == np.float32 else col
    return util.col2im(col, input_shape, filter_h, filter_w, stride, pad)
