"""Max pooling, average pooling, and subsampling.

Notation: N images, C channels, H x W pixels; windows of FH x FW; OH x OW windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backends.table import Array, Bytes, Labels
from ..errors import ShapeError
from ..geometry import Pad, Stride, WindowGeometry, as_int, window_geometry
from ..selection import active
from .arrays import as_array, common_dtype, empty_images, expect_shape, in_layout, kept_images
from .recording import constant, moved_to

__all__ = [
    "AvgPoolContext",
    "PoolContext",
    "adaptive_avgpool2d_forward",
    "avgpool2d_backward",
    "avgpool2d_forward",
    "maxpool2d_backward",
    "maxpool2d_forward",
    "subsample",
    "subsample_backward",
]

MOST_PLACES = 2**31 - 1
"""Most places of a window: a winner is kept in 32 bits."""


def expect_places(op: str, geometry: WindowGeometry) -> None:
    """Raise a `ShapeError` unless there are channels, and each window holds a pixel."""
    g = geometry
    top, left, bottom, right = g.pads
    if max(top, bottom) >= g.fh or max(left, right) >= g.fw:
        pad = top if len({*g.pads}) == 1 else tuple(g.pads)
        raise ShapeError(
            f"{op}: pad {pad} must be smaller than the window ({g.fh} x {g.fw}), or a window "
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
    stride: Stride = 1,
    pad: Pad = 0,
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


@dataclass(frozen=True, slots=True)
class AvgPoolContext:
    """What `avgpool2d_backward` needs: where the windows are, and their divisors."""

    backend: str
    rows: Labels
    cols: Labels
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]


def avgpool2d_forward(
    x: ArrayLike,
    fh: int,
    fw: int,
    stride: Stride = 1,
    pad: Pad = 0,
    ceil_mode: bool = False,
    count_padding: bool = True,
    backend: str | None = None,
) -> tuple[Array, AvgPoolContext]:
    """Average (N, C, OH, OW) of each window of x (N, C, H, W).

    Parameters
    ----------
    ceil_mode : bool
        Keep a last window that hangs over the padded image; see `window_geometry`.
    count_padding : bool
        Whether padding counts as zeros; else a window is divided by how many pixels it holds.
        Places beyond the padding never count.
    """
    op = "avgpool2d"
    x = as_array(x)
    g = window_geometry(op, x.shape, fh, fw, stride, pad, ceil_mode=ceil_mode)
    expect_places(op, g)

    def bounds() -> tuple[Labels, Labels]:
        (down, across), (top, left, bottom, right) = g.strides, g.pads
        rows = _bounds(g.h, g.fh, down, (top, bottom), g.oh, count_padding)
        return rows, _bounds(g.w, g.fw, across, (left, right), g.ow, count_padding)

    return _average(op, x, (g.oh, g.ow), bounds, backend)


def adaptive_avgpool2d_forward(
    x: ArrayLike, oh: int, ow: int, backend: str | None = None
) -> tuple[Array, AvgPoolContext]:
    """Average (N, C, OH, OW) of OH x OW windows that cover x (N, C, H, W) evenly.

    Window i takes the rows from floor(i*H/OH) to ceil((i + 1)*H/OH), as in PyTorch.
    """
    op = "adaptive_avgpool2d"
    x = as_array(x)
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ShapeError(
            f"{op}: input must be (N, C, H, W) with no axis but N empty, got shape {x.shape}"
        )
    h, w = x.shape[2:]
    oh, ow = as_int(op, "output height", oh, 1), as_int(op, "output width", ow, 1)
    return _average(op, x, (oh, ow), lambda: (_shares(h, oh), _shares(w, ow)), backend)


def avgpool2d_backward(dout: ArrayLike, context: AvgPoolContext) -> Array:
    """Gradient (N, C, H, W): each window's is divided among its pixels."""
    op = "avgpool2d backward"
    dout = as_array(dout)
    backend, shape = active(context.backend), context.shape
    expect_shape(op, "dout", dout, (*shape[:2], len(context.rows), len(context.cols)))
    common_dtype(op, dout)
    dx = empty_images(shape, context.dtype, backend.layout)
    dout = in_layout(dout, context.dtype, backend.layout)
    backend.avgpool2d_backward(dout, context.rows, context.cols, dx)
    return dx


def _average(
    op: str,
    x: np.ndarray,
    counts: tuple[int, int],
    bounds: Callable[[], tuple[Labels, Labels]],
    backend: str | None,
) -> tuple[Array, AvgPoolContext]:
    """The averages of OH x OW windows; `bounds` is called once there is memory for the result."""
    dtype = common_dtype(op, x)
    chosen = active(backend)
    n, c, h, w = x.shape
    out = empty_images((n, c, *counts), dtype, chosen.layout)
    rows, cols = map(constant, bounds())
    chosen.avgpool2d_forward(in_layout(x, dtype, chosen.layout), rows, cols, out)
    return out, AvgPoolContext(chosen.name, rows, cols, (n, c, h, w), dtype)


def _bounds(
    size: int, window: int, stride: int, pads: tuple[int, int], count: int, count_padding: bool
) -> Labels:
    """(count, 3): begin and end of each window inside the image, and its divisor."""
    before, after = pads
    begin = stride * np.arange(count, dtype=np.int64) - before
    end = np.minimum(begin + window, size + after)
    inside = np.maximum(begin, 0), np.minimum(end, size)
    divisor = end - begin if count_padding else inside[1] - inside[0]
    return np.stack([*inside, divisor], axis=1)


def _shares(size: int, count: int) -> Labels:
    """(count, 3) as `_bounds`, for windows that cover `size` places evenly."""
    i = np.arange(count, dtype=np.int64)
    begin, end = i * size // count, -(-(i + 1) * size // count)
    return np.stack([begin, end, end - begin], axis=1)


def subsample(x: ArrayLike, stride: int, channels: int, backend: str | None = None) -> Array:
    """Every `stride`-th pixel of x (N, C, H, W), padded with zeros to `channels` channels."""
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
    for beside in (out[:, :first], out[:, first + c :]):
        moved_to(beside, constant(np.zeros(beside.shape, out.dtype)))
    moved_to(out[:, first : first + c], taken)
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
    moved_to(dx, constant(np.zeros(dx.shape, dx.dtype)))
    first = (channels - c) // 2
    moved_to(dx[:, :, ::stride, ::stride], dout[:, first : first + c])
    return dx
