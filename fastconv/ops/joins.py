"""Where ways through a network meet: channels side by side, and sums.

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..backends.table import Array
from ..errors import ShapeError
from ..geometry import as_int
from ..selection import active
from .arrays import as_array, common_dtype, empty_images, expect_shape, in_layout

__all__ = ["add", "concatenate"]


def concatenate(arrays: Sequence[ArrayLike], backend: str | None = None) -> Array:
    """Join arrays (N, C, ...) along their second axis.

    Images come in the backend's layout. Nothing is computed, and copying is all that memory
    does; so no backend has a kernel for it.
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
        out[:, first : first + part.shape[1]] = part
        first += part.shape[1]
    return out


def add(x: ArrayLike, y: ArrayLike, backend: str | None = None) -> Array:
    """x + y, of one shape; sums of images (N, C, H, W) are in the backend's layout."""
    op = "add"
    x, y = as_array(x), as_array(y)
    expect_shape(op, "second array", y, x.shape)
    dtype = common_dtype(op, x, y)
    if x.ndim != 4:
        return np.add(x, y, dtype=dtype)
    chosen = active(backend)
    out = empty_images(x.shape, dtype, chosen.layout)
    zeros, ones = np.zeros(x.shape[1], dtype), np.ones(x.shape[1], dtype)
    x, y = in_layout(x, dtype, chosen.layout), in_layout(y, dtype, chosen.layout)
    chosen.batchnorm2d_apply(x, zeros, ones, zeros, y, False, out)
    return out


def subsample(x: ArrayLike, stride: int, channels: int, backend: str | None = None) -> Array:
    """Every `stride`-th pixel of x (N, C, H, W), between zeros to `channels` channels."""
    op = "subsample"
    x = as_array(x)
    stride = as_int(op, "stride", stride, 1)
    channels = as_int(op, "channels", channels, 0)
    if x.ndim != 4 or channels < x.shape[1]:
        raise ShapeError(f"{op}: expected (N, C, H, W) with C at most {channels}, got {x.shape}")
    taken = x[:, :, ::stride, ::stride]
    n, c, oh, ow = taken.shape
    out = empty_images((n, channels, oh, ow), common_dtype(op, x), active(backend).layout)
    first = (channels - c) // 2
    out[:, :first], out[:, first + c :] = 0, 0
    out[:, first : first + c] = taken
    return out


def subsample_backward(
    dout: ArrayLike, stride: int, input_shape: tuple[int, int, int, int], backend: str | None = None
) -> Array:
    """dx (N, C, H, W): the gradients of the pixels that `subsample` took, else 0."""
    op = "subsample backward"
    dout = as_array(dout)
    stride = as_int(op, "stride", stride, 1)
    n, c, h, w = input_shape
    channels = dout.shape[1] if dout.ndim == 4 else 0
    expect_shape(op, "dout", dout, (n, max(channels, c), -(-h // stride), -(-w // stride)))
    dx = empty_images(input_shape, common_dtype(op, dout), active(backend).layout)
    dx[...] = 0
    first = (channels - c) // 2
    dx[:, :, ::stride, ::stride] = dout[:, first : first + c]
    return dx
