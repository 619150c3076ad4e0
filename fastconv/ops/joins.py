"""Where branches of a network meet: concatenation of channels, and sums.

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..backends.table import Array
from ..errors import ShapeError
from ..selection import active
from .arrays import as_array, common_dtype, contiguous, empty_images, expect_shape, in_layout
from .recording import constant, moved_to

__all__ = ["add", "concatenate"]


def concatenate(arrays: Sequence[ArrayLike], backend: str | None = None) -> Array:
    """Join arrays (N, C, ...) along their second axis.

    Images come out in the backend's layout. Nothing is computed, only copied, so no backend has
    a kernel for it.
    """
    op = "concatenate"
    parts = [as_array(array) for array in arrays]
    if not parts:
        raise ShapeError(f"{op}: expected at least one array, got none")
    for part in parts:
        if part.ndim < 2 or (part.shape[0], *part.shape[2:]) != (
            parts[0].shape[0],
            *parts[0].shape[2:],
        ):
            shapes = ", ".join(str(part.shape) for part in parts)
            raise ShapeError(f"{op}: arrays differ in more than their second axis: {shapes}")
    dtype = common_dtype(op, *parts)
    n, _, *rest = parts[0].shape
    channels = sum(part.shape[1] for part in parts)
    if len(rest) == 2:
        out = empty_images((n, channels, rest[0], rest[1]), dtype, active(backend).layout)
    else:
        out = np.empty((n, channels, *rest), dtype)
    first = 0
    for part in parts:
        moved_to(out[:, first : first + part.shape[1]], part)
        first += part.shape[1]
    return out


def add(x: ArrayLike, y: ArrayLike, backend: str | None = None) -> Array:
    """x + y, of the same shape; sums of images (N, C, H, W) are in the backend's layout."""
    op = "add"
    x, y = as_array(x), as_array(y)
    expect_shape(op, "second array", y, x.shape)
    dtype = common_dtype(op, x, y)
    if x.ndim < 2 or x.size == 0:
        return np.add(x, y, dtype=dtype)
    chosen = active(backend)
    shape = x.shape if x.ndim == 4 else (len(x), x.size // len(x), 1, 1)
    out = empty_images(shape, dtype, chosen.layout)
    zeros = constant(np.zeros(shape[1], dtype))
    ones = constant(np.ones(shape[1], dtype))
    x4, y4 = (
        in_layout(
            array if array.ndim == 4 else contiguous(array, dtype).reshape(shape),
            dtype,
            chosen.layout,
        )
        for array in (x, y)
    )
    chosen.batchnorm2d_apply(x4, zeros, ones, zeros, y4, False, out)
    return out if x.ndim == 4 else out.reshape(x.shape)
