"""Operations on images: im2col and col2im, convolution, max pooling.

Notation: N images, C channels, H x W pixels; FN filters of FH x FW; OH x OW windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backends.base import Array, Backend, Bytes
from ..errors import ShapeError
from ..geometry import WindowGeometry, as_int, window_geometry
from ..selection import active
from .arrays import (
    as_array,
    bias_vector,
    common_dtype,
    contiguous,
    empty_images,
    expect_shape,
    in_layout,
    kept_images,
)
from .memory import empty

__all__ = [
    "col2im",
    "conv2d_backward",
    "conv2d_forward",
    "conv2d_grouped_backward",
    "conv2d_grouped_forward",
    "im2col",
    "maxpool2d_backward",
    "maxpool2d_forward",
]


# ---- columns ------------------------------------------------------------------------


def im2col(
    x: ArrayLike, fh: int, fw: int, stride: int = 1, pad: int = 0, backend: str | None = None
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
    stride: int = 1,
    pad: int = 0,
    backend: str | None = None,
) -> Array:
    """Images (N, C, H, W) that sum the entries of a column matrix (N*OH*OW, C*FH*FW)."""
    col = as_array(col)
    shape = tuple(as_int("col2im", "an axis of input_shape", axis, 0) for axis in input_shape)
    geometry = window_geometry("col2im", shape, fh, fw, stride, pad)
    dtype = common_dtype("col2im", col)
    expect_shape("col2im", "col", col, geometry.column_shape)
    x = empty(geometry.input_shape, dtype)
    active(backend).col2im(contiguous(col, dtype), geometry, x)
    return x


# ---- convolution --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConvContext:
    """What `conv2d_backward` and `conv2d_grouped_backward` need of the forward pass."""

    backend: str
    geometry: WindowGeometry
    x: Array
    filters: int
    groups: int = 1

    @property
    def plain(self) -> bool:
        """Whether it is for `conv2d_backward`: one group, no dilation."""
        return self.groups == 1 and self.geometry.dilation == 1


def conv2d_arguments(
    op: str,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    stride: int,
    pad: int,
    dilation: int = 1,
    groups: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, WindowGeometry, np.dtype[Any]]:
    """x, weight and bias as arrays that fit each other, their geometry, the dtype to compute in.

    No bias is one of zeros.
    """
    x, weight = as_array(x), as_array(weight)
    if weight.ndim != 4 or 0 in weight.shape:
        raise ShapeError(
            f"{op}: weight must be (FN, C, FH, FW) with no axis empty, got shape {weight.shape}"
        )
    fh, fw = weight.shape[2:]
    geometry = window_geometry(op, x.shape, fh, fw, stride, pad, dilation)
    groups = as_int(op, "groups", groups, 1)
    if len(weight) % groups:
        raise ShapeError(
            f"{op}: {len(weight)} filters do not fall into {groups} groups (weight {weight.shape})"
        )
    if x.shape[1] != weight.shape[1] * groups:
        each = f" in each of {groups} groups" if groups > 1 else ""
        raise ShapeError(
            f"{op}: input has {x.shape[1]} channels, weight expects {weight.shape[1]}{each} "
            f"(input {x.shape}, weight {weight.shape})"
        )
    bias = bias_vector(op, bias, len(weight), weight.dtype)
    dtype = common_dtype(op, x, weight, bias)
    return x, weight, bias, geometry, dtype


def conv2d_forward(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    stride: int = 1,
    pad: int = 0,
    backend: str | None = None,
) -> tuple[Array, ConvContext]:
    """Cross-correlate x (N, C, H, W) with weight (FN, C, FH, FW), add bias (FN,) or nothing."""
    x, weight, bias, geometry, dtype = conv2d_arguments("conv2d", x, weight, bias, stride, pad)
    chosen = active(backend)
    x = in_layout(x, dtype, chosen.layout)
    out = empty_images(geometry.output_shape(len(weight)), dtype, chosen.layout)
    weight, bias = contiguous(weight, dtype), contiguous(bias, dtype)
    chosen.conv2d_forward(x, weight, bias, geometry, out)
    return out, ConvContext(chosen.name, geometry, x, len(weight))


def conv2d_grouped_forward(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    stride: int = 1,
    pad: int = 0,
    dilation: int = 1,
    groups: int = 1,
    backend: str | None = None,
) -> tuple[Array, ConvContext]:
    """As `conv2d_forward`, for weight (FN, C/groups, FH, FW) and places `dilation` apart.

    Raises
    ------
    ShapeError
        Arrays that do not fit each other, groups that do not divide the filters, or windows
        larger than the padded images.
    ArgumentError
        A stride, pad, dilation or number of groups that is not a whole number in its range.
    """
    x, weight, bias, geometry, dtype = conv2d_arguments(
        "conv2d", x, weight, bias, stride, pad, dilation, groups
    )
    chosen = active(backend)
    x = in_layout(x, dtype, chosen.layout)
    out = empty_images(geometry.output_shape(len(weight)), dtype, chosen.layout)
    weight, bias = contiguous(weight, dtype), contiguous(bias, dtype)
    chosen.conv2d_grouped_forward(x, weight, bias, geometry, groups, out)
    return out, ConvContext(chosen.name, geometry, x, len(weight), groups)


def conv2d_backward(
    dout: ArrayLike,
    weight: ArrayLike,
    context: ConvContext,
    input_gradient: bool = True,
    weight_gradient: bool = True,
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients (dx, dweight, dbias); what is not asked for is None."""
    backend, dout, x, weight, dx = _gradient_arrays(dout, weight, context, input_gradient)
    dweight, dbias = _weight_gradients(weight) if weight_gradient else (None, None)
    backend.conv2d_backward(dout, x, weight, context.geometry, dx, dweight, dbias)
    return dx, dweight, dbias


def conv2d_grouped_backward(
    dout: ArrayLike, weight: ArrayLike, context: ConvContext, input_gradient: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients (dx, dweight, dbias) of `conv2d_grouped_forward`; dx may be None."""
    backend, dout, x, weight, dx = _gradient_arrays(dout, weight, context, input_gradient)
    dweight, dbias = _weight_gradients(weight)
    geometry, groups = context.geometry, context.groups
    backend.conv2d_grouped_backward(dout, x, weight, geometry, groups, dx, dweight, dbias)
    return dx, dweight, dbias


def _weight_gradients(weight: Array) -> tuple[Array, Array]:
    """Memory for dweight and dbias."""
    return empty(weight.shape, weight.dtype), np.empty(len(weight), weight.dtype)


def _gradient_arrays(
    dout: ArrayLike, weight: ArrayLike, context: ConvContext, input_gradient: bool
) -> tuple[Backend, Array, Array, Array, Array | None]:
    """The backend; dout, x and weight as it wants them; and memory for dx."""
    op = "conv2d backward"
    dout, weight = as_array(dout), as_array(weight)
    backend, geometry = active(context.backend), context.geometry
    shape = (context.filters, geometry.c // context.groups, geometry.fh, geometry.fw)
    expect_shape(op, "weight", weight, shape)
    expect_shape(op, "dout", dout, geometry.output_shape(context.filters))
    common_dtype(op, dout, weight)
    x = kept_images(op, "x", context.x, geometry.input_shape, backend.layout)
    dx = empty_images(geometry.input_shape, x.dtype, backend.layout) if input_gradient else None
    dout = in_layout(dout, x.dtype, backend.layout)
    return backend, dout, x, contiguous(weight, x.dtype), dx


# ---- max pooling --------------------------------------------------------------------

MOST_PLACES = 2**31 - 1
"""Of a window: a place is kept in 32 bits."""


def expect_places(op: str, geometry: WindowGeometry) -> None:
    """Raise a `ShapeError` unless there are channels, and places of the image in each window."""
    g = geometry
    if g.pad >= min(g.fh, g.fw):
        raise ShapeError(
            f"{op}: pad {g.pad} must be smaller than the window ({g.fh} x {g.fw}), or a window "
            "could hold nothing but padding"
        )
    if g.c == 0:
        raise ShapeError(f"{op}: input has no channels (input {g.input_shape})")


@dataclass(frozen=True, slots=True)
class PoolContext:
    """What `maxpool2d_backward` needs: the position that won each window."""

    backend: str
    geometry: WindowGeometry
    winner: Bytes
    dtype: np.dtype[Any]


def maxpool2d_forward(
    x: ArrayLike,
    fh: int,
    fw: int,
    stride: int = 1,
    pad: int = 0,
    backend: str | None = None,
    *,
    ceil_mode: bool = False,
) -> tuple[Array, PoolContext]:
    """Maximum (N, C, OH, OW) of each window of x (N, C, H, W); `window_geometry` has ceil mode."""
    op = "maxpool2d"
    x = as_array(x)
    geometry = window_geometry(op, x.shape, fh, fw, stride, pad, ceil_mode=ceil_mode)
    expect_places(op, geometry)
    if geometry.window > MOST_PLACES:
        raise ShapeError(
            f"{op}: a window has at most {MOST_PLACES} places, got {geometry.fh} x {geometry.fw}"
        )
    dtype = common_dtype(op, x)
    chosen = active(backend)
    shape = geometry.output_shape(geometry.c)
    out = empty_images(shape, dtype, chosen.layout)
    winner_dtype = np.uint8 if geometry.window <= 256 else np.int32
    winner = empty_images(shape, winner_dtype, chosen.layout)
    chosen.maxpool2d_forward(in_layout(x, dtype, chosen.layout), geometry, out, winner)
    return out, PoolContext(chosen.name, geometry, winner, dtype)


def maxpool2d_backward(dout: ArrayLike, context: PoolContext) -> Array:
    """Gradient (N, C, H, W): each maximum's gradient goes to the place that won."""
    op = "maxpool2d backward"
    dout = as_array(dout)
    backend, geometry = active(context.backend), context.geometry
    shape = geometry.output_shape(geometry.c)
    expect_shape(op, "dout", dout, shape)
    common_dtype(op, dout)
    winner = kept_images(op, "winner", context.winner, shape, backend.layout)
    dx = empty_images(geometry.input_shape, context.dtype, backend.layout)
    dout = in_layout(dout, context.dtype, backend.layout)
    backend.maxpool2d_backward(dout, winner, geometry, dx)
    return dx
