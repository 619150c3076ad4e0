"""Operations of data augmentation: warps, smooth random fields, tone and boxes.

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from ..backends.table import Array, Boxes
from ..config import threads_here
from ..errors import ArgumentError, ShapeError
from ..geometry import as_float
from ..selection import active
from .arrays import as_array, common_dtype, contiguous, expect_shape
from .memory import empty

__all__ = ["smooth", "tone", "warp"]


def _images(op: str, x: ArrayLike) -> Array:
    """x as C-contiguous images (N, C, H, W) in the dtype to compute in."""
    x = as_array(x)
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ShapeError(
            f"{op}: input must be images (N, C, H, W) with at least one channel and pixel, "
            f"got shape {x.shape}"
        )
    return contiguous(x, common_dtype(op, x))


def _like(op: str, name: str, value: ArrayLike, shape: tuple[int, ...], dtype: Any) -> Array:
    """`value` as a C-contiguous array of this shape and dtype."""
    array = as_array(value)
    expect_shape(op, name, array, shape)
    common_dtype(op, array)
    return contiguous(array, dtype)


def warp(
    x: ArrayLike,
    matrix: ArrayLike,
    field: ArrayLike | None = None,
    fill: float = 0.0,
    backend: str | None = None,
) -> Array:
    """Take each pixel from another place of its image, by bilinear interpolation.

    Parameters
    ----------
    x : array (N, C, H, W)
    matrix : array (N, 2, 3)
        By image: the output's column u and row v come from the place
        ``matrix @ (u, v, 1)``, its column first. Centres of pixels are at whole numbers.
    field : array (N, 2, H, W), optional
        Added to these places, in pixels: across, then down.
    fill : float
        The value outside the images.

    Returns
    -------
    array (N, C, H, W)
        Pixels at whole places are copied bit for bit.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
    """
    op = "warp"
    x = _images(op, x)
    n, _, h, w = x.shape
    matrix = _like(op, "matrix", matrix, (n, 2, 3), x.dtype)
    if field is not None:
        field = _like(op, "field", field, (n, 2, h, w), x.dtype)
    out = empty(x.shape, x.dtype)
    active(backend).warp(x, matrix, field, as_float(op, "fill", fill), threads_here(), out)
    return out


def smooth(x: ArrayLike, taps: ArrayLike, backend: str | None = None) -> Array:
    """Cross-correlate each plane of x with taps along its rows, then along its columns.

    Parameters
    ----------
    x : array (N, C, H, W)
        Zeros are assumed around it.
    taps : array (K,)
        K is odd; the middle one belongs to the place itself.

    Returns
    -------
    array (N, C, H, W)

    Raises
    ------
    ShapeError, DTypeError
    """
    op = "smooth"
    x, taps = _images(op, x), as_array(taps)
    if taps.ndim != 1 or len(taps) % 2 == 0:
        raise ShapeError(f"{op}: taps must be (K,) with K odd, got shape {taps.shape}")
    # A tap farther from the middle than this reaches the image from no place.
    middle, reach = len(taps) // 2, max(x.shape[2:]) - 1
    taps = taps[max(middle - reach, 0) : middle + reach + 1]
    taps = _like(op, "taps", taps, taps.shape, x.dtype)
    out = empty(x.shape, x.dtype)
    active(backend).smooth(x, taps, threads_here(), out)
    return out


def tone(
    x: ArrayLike,
    gain: ArrayLike,
    offset: ArrayLike,
    boxes: ArrayLike,
    fill: float = 0.0,
    backend: str | None = None,
) -> Array:
    """gain*x + offset for each image, but `fill` inside its box.

    Parameters
    ----------
    x : array (N, C, H, W)
    gain, offset : arrays (N,)
    boxes : array of int (N, 4)
        First row and column, last row and column (both excluded).
    fill : float

    Returns
    -------
    array (N, C, H, W)

    Raises
    ------
    ShapeError, DTypeError
    ArgumentError
        A box that is not within the image, or ends before it begins.
    """
    op = "tone"
    x = _images(op, x)
    n, _, h, w = x.shape
    gain = _like(op, "gain", gain, (n,), x.dtype)
    offset = _like(op, "offset", offset, (n,), x.dtype)
    checked = _boxes(op, boxes, n, h, w)
    out = empty(x.shape, x.dtype)
    active(backend).tone(x, gain, offset, checked, as_float(op, "fill", fill), threads_here(), out)
    return out


def _boxes(op: str, boxes: ArrayLike, n: int, h: int, w: int) -> Boxes:
    boxes = as_array(boxes)
    expect_shape(op, "boxes", boxes, (n, 4))
    if boxes.dtype.kind not in "iu":
        raise ArgumentError(f"{op}: boxes must be whole numbers, got dtype {boxes.dtype}")
    first, last = boxes[:, :2], boxes[:, 2:]
    wrong = ((first < 0) | (first > last) | (last > (h, w))).any(axis=1)
    if wrong.any():
        raise ArgumentError(
            f"{op}: box {boxes[wrong][0].tolist()} (first row and column, last row and column) is "
            f"not within an image of {h} x {w}"
        )
    return cast(Boxes, contiguous(boxes, np.dtype(np.int64)))
