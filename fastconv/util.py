"""The book's helpers around convolution: im2col, col2im, output sizes, smoothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import ops
from .errors import ArgumentError, ShapeError
from .geometry import Pad, Stride

__all__ = ["col2im", "conv_output_size", "im2col", "shuffle_dataset", "smooth_curve"]


def smooth_curve(x: ArrayLike) -> NDArray[np.floating]:
    """Smooth a curve for plotting by a Kaiser window of length 11 (beta 2).

    The ends are reflected, as the book does it: on the left without the first value,
    on the right with the last.

    Parameters
    ----------
    x : array (n,)
        For instance a Trainer's ``train_loss_list``.

    Returns
    -------
    array (n,)
    """
    x = np.asarray(x, dtype=float)
    if x.ndim != 1:
        raise ShapeError(f"smooth_curve: expected one axis, got shape {x.shape}")
    if x.size == 0:
        return x
    length = 11
    extended = np.pad(np.pad(x, (length - 1, 0), "reflect"), (0, length - 1), "symmetric")
    window = np.kaiser(length, 2)
    smoothed = np.convolve(window / window.sum(), extended, mode="valid")
    return smoothed[length // 2 : -(length // 2)]


def shuffle_dataset(x: NDArray[Any], t: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Put samples and labels in one random order, drawn from NumPy's global generator.

    Raises
    ------
    ShapeError
        x and t hold different numbers of samples.
    """
    if len(x) != len(t):
        raise ShapeError(f"shuffle_dataset: {len(x)} samples but {len(t)} labels")
    order = np.random.permutation(len(x))
    return x[order], t[order]


def conv_output_size(input_size: int, filter_size: int, stride: int = 1, pad: int = 0) -> float:
    """(input_size + 2*pad - filter_size) / stride + 1, not rounded."""
    try:
        return (input_size + 2 * pad - filter_size) / stride + 1
    except (ZeroDivisionError, OverflowError) as error:
        raise ArgumentError(f"conv_output_size: the output has no size ({error})") from None


def im2col(
    input_data: ArrayLike, filter_h: int, filter_w: int, stride: Stride = 1, pad: Pad = 0
) -> NDArray[np.floating]:
    """Unfold the windows of images into the rows of a matrix.

    Parameters
    ----------
    input_data : array (N, C, H, W)
    filter_h, filter_w : int
        Size of the window.
    stride : int or (int, int)
        Step between windows, or (down, across).
    pad : int, (int, int), ((int, int), (int, int)) or "same"
        Zeros around each image, as for `Convolution`.

    Returns
    -------
    array (N*OH*OW, C*filter_h*filter_w)
        Rows in order n, y, x; columns in order c, fy, fx. float32 stays float32.

    Raises
    ------
    ShapeError, ArgumentError, DTypeError
        Not four axes, a window larger than the padded image, stride 0, a negative pad,
        or an array that does not hold real numbers.

    Notes
    -----
    Chapter 7 of *Deep Learning from Scratch*.
    """
    return ops.im2col(input_data, filter_h, filter_w, stride, pad)


def col2im(
    col: ArrayLike,
    input_shape: tuple[int, int, int, int],
    filter_h: int,
    filter_w: int,
    stride: Stride = 1,
    pad: Pad = 0,
) -> NDArray[np.floating]:
    """Fold a column matrix back to images: the adjoint of `im2col`.

    Entries that came from the same place add; what came from the padding is dropped,
    and places that no window reaches are 0.

    Parameters
    ----------
    col : array (N*OH*OW, C*filter_h*filter_w)
    input_shape : (N, C, H, W)
    filter_h, filter_w : int
    stride, pad
        As for `im2col`.

    Returns
    -------
    array (N, C, H, W)
    """
    return ops.col2im(col, input_shape, filter_h, filter_w, stride, pad)
