"""Checks, dtypes and memory that every operation shares.

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.base import Array, Layout
from ..errors import DTypeError, ShapeError

__all__ = ["common_dtype", "contiguous", "empty_images", "expect_shape", "in_layout"]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)


def common_dtype(op: str, *arrays: np.ndarray) -> np.dtype[Any]:
    """The dtype to compute in: `np.result_type`, but float32 for float16, float64 for integers.

    Raises
    ------
    DTypeError
        An array is not of real numbers, or wider than float64.
    """
    for array in arrays:
        if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
            raise DTypeError(
                f"{op}: expected real numbers of at most 64 bits, got an array of dtype "
                f"{array.dtype} and shape {array.shape}"
            )
    dtype = np.result_type(*arrays)
    if dtype.kind != "f" or dtype.itemsize == 8:
        return FLOAT64
    return FLOAT32


def contiguous(array: np.ndarray, dtype: np.dtype[Any]) -> Array:
    """`array` itself where it is C-contiguous, aligned and of `dtype`, else a copy that is."""
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.array(array, dtype=dtype, order="C", copy=True)


def in_layout(images: np.ndarray, dtype: np.dtype[Any], layout: Layout) -> Array:
    """`images` (N, C, H, W) in the memory layout and dtype, copied only where they are not."""
    if layout == "channels_first":
        return contiguous(images, dtype)
    return contiguous(images.transpose(0, 2, 3, 1), dtype).transpose(0, 3, 1, 2)


def empty_images(shape: tuple[int, int, int, int], dtype: Any, layout: Layout) -> NDArray[Any]:
    """New memory for images of this (N, C, H, W) shape."""
    if layout == "channels_first":
        return np.empty(shape, dtype)
    n, c, h, w = shape
    return np.empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def expect_shape(op: str, name: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    """Raise a `ShapeError` unless `array` has this shape."""
    if array.shape != expected:
        raise ShapeError(f"{op}: {name} has shape {array.shape}, expected {expected}")
