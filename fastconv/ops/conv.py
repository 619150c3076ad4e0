"""Convolution: plain, grouped, and fused with the sum, ReLU and 2x2 max pooling after it.

A fused convolution keeps nothing in between: neither the images before the pooling, nor a mask.
Backward needs one array, the gate: the output itself, or the winners as bytes.

Notation: N images, C channels, H x W pixels; FN filters of FH x FW; OH x OW windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backends.algorithms import ConvAlgorithms
from ..backends.table import Array, Backend, Bytes
from ..errors import ArgumentError, ShapeError
from ..geometry import Pad, Stride, WindowGeometry, as_int, window_geometry
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
    "BlockContext",
    "ConvContext",
    "conv2d_algorithms",
    "conv2d_arguments",
    "conv2d_backward",
    "conv2d_block_backward",
    "conv2d_block_forward",
    "conv2d_forward",
    "conv2d_grouped_backward",
    "conv2d_grouped_forward",
    "runs_blocks",
]


def is_plain(geometry: WindowGeometry) -> bool:
    """Whether the plain kernels take such windows; those of grouped convolution take any."""
    return geometry.one_stride and geometry.dilation == 1


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
        """Whether plain kernels compute it: one group, no dilation, and one stride."""
        return self.groups == 1 and is_plain(self.geometry)


def conv2d_arguments(
    op: str,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    stride: Stride,
    pad: Pad,
    dilation: int = 1,
    groups: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, WindowGeometry, np.dtype[Any]]:
    """x, weight and bias as arrays that fit each other, their geometry, the dtype to compute in.

    A bias of None becomes zeros.
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
    stride: Stride = 1,
    pad: Pad = 0,
    backend: str | None = None,
) -> tuple[Array, ConvContext]:
    """Cross-correlate x (N, C, H, W) with weight (FN, C, FH, FW), add bias (FN,) or nothing."""
    chosen = active(backend)
    x, weight, bias, geometry, out = _forward_arrays(chosen, x, weight, bias, stride, pad)
    if is_plain(geometry):
        chosen.conv2d_forward(x, weight, bias, geometry, out)
    else:
        chosen.conv2d_grouped_forward(x, weight, bias, geometry, 1, out)
    return out, ConvContext(chosen.name, geometry, x, len(weight))


def conv2d_grouped_forward(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    stride: Stride = 1,
    pad: Pad = 0,
    dilation: int = 1,
    groups: int = 1,
    backend: str | None = None,
) -> tuple[Array, ConvContext]:
    """As `conv2d_forward`, for weight (FN, C/groups, FH, FW) and taps `dilation` apart.

    Raises
    ------
    ShapeError
        Arrays that do not fit each other, groups that do not divide the filters, or windows
        larger than the padded images.
    ArgumentError
        A stride, pad, dilation or number of groups that is not a whole number in its range.
    """
    chosen = active(backend)
    x, weight, bias, geometry, out = _forward_arrays(
        chosen, x, weight, bias, stride, pad, dilation, groups
    )
    chosen.conv2d_grouped_forward(x, weight, bias, geometry, groups, out)
    return out, ConvContext(chosen.name, geometry, x, len(weight), groups)


def _forward_arrays(
    backend: Backend,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    *window: Any,
) -> tuple[Array, Array, Array, WindowGeometry, Array]:
    """x, weight and bias as the backend takes them; their geometry; and memory for the output.

    `window` is stride and pad, and for a grouped convolution also dilation and groups.
    """
    x, weight, bias, geometry, dtype = conv2d_arguments("conv2d", x, weight, bias, *window)
    x = in_layout(x, dtype, backend.layout)
    out = empty_images(geometry.output_shape(len(weight)), dtype, backend.layout)
    return x, contiguous(weight, dtype), contiguous(bias, dtype), geometry, out


def conv2d_backward(
    dout: ArrayLike,
    weight: ArrayLike,
    context: ConvContext,
    input_gradient: bool = True,
    weight_gradient: bool = True,
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients (dx, dweight, dbias); what is not asked for is None."""
    if not context.plain:
        found = conv2d_grouped_backward(dout, weight, context, input_gradient)
        return found if weight_gradient else (found[0], None, None)
    shape = context.geometry.output_shape(context.filters)
    backend, dout, x, weight, dx = _gradient_arrays(dout, shape, weight, context, input_gradient)
    dweight, dbias = _weight_gradients(weight) if weight_gradient else (None, None)
    backend.conv2d_backward(dout, x, weight, context.geometry, dx, dweight, dbias)
    return dx, dweight, dbias


def conv2d_grouped_backward(
    dout: ArrayLike, weight: ArrayLike, context: ConvContext, input_gradient: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients (dx, dweight, dbias) of `conv2d_grouped_forward`; dx may be None."""
    geometry, groups = context.geometry, context.groups
    shape = geometry.output_shape(context.filters)
    backend, dout, x, weight, dx = _gradient_arrays(dout, shape, weight, context, input_gradient)
    dweight, dbias = _weight_gradients(weight)
    backend.conv2d_grouped_backward(dout, x, weight, geometry, groups, dx, dweight, dbias)
    return dx, dweight, dbias


def _weight_gradients(weight: Array) -> tuple[Array, Array]:
    """Memory for dweight and dbias."""
    return empty(weight.shape, weight.dtype), np.empty(len(weight), weight.dtype)


def _gradient_arrays(
    dout: ArrayLike,
    dout_shape: tuple[int, ...],
    weight: ArrayLike,
    context: ConvContext,
    input_gradient: bool,
) -> tuple[Backend, Array, Array, Array, Array | None]:
    """The backend; dout, x and weight as it wants them; and memory for dx."""
    op = "conv2d backward"
    dout, weight = as_array(dout), as_array(weight)
    backend, geometry = active(context.backend), context.geometry
    shape = (context.filters, geometry.c // context.groups, geometry.fh, geometry.fw)
    expect_shape(op, "weight", weight, shape)
    expect_shape(op, "dout", dout, dout_shape)
    common_dtype(op, dout, weight)
    x = kept_images(op, "x", context.x, geometry.input_shape, backend.layout)
    dx = empty_images(geometry.input_shape, x.dtype, backend.layout) if input_gradient else None
    dout = in_layout(dout, x.dtype, backend.layout)
    return backend, dout, x, contiguous(weight, x.dtype), dx


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockContext(ConvContext):
    """What `conv2d_block_backward` needs of the forward pass."""

    pool: bool
    gate: Array | Bytes


def runs_blocks(backend: str | None = None) -> bool:
    """Whether the backend has its own fused kernels; otherwise single layers are faster."""
    chosen = active(backend)
    return getattr(chosen, "providers", {}).get("conv2d_block_forward") == chosen.name


def conv2d_algorithms(
    geometry: WindowGeometry, filters: int, pooled: bool, backend: str | None = None
) -> ConvAlgorithms | None:
    """How the backend computes a convolution of this shape; None if it does not say."""
    say = getattr(active(backend), "conv2d_algorithms", None)
    return say(geometry, filters, pooled) if say else None


def conv2d_block_forward(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    stride: Stride = 1,
    pad: Pad = 0,
    pool: bool = False,
    backend: str | None = None,
    gradient: bool = True,
    residual: ArrayLike | None = None,
    relu: bool = True,
) -> tuple[Array, BlockContext | None]:
    """ReLU of the convolution of x (N, C, H, W), and with `pool` its 2x2 maxima at stride 2.

    Without a gradient, a residual can be added before the ReLU, and the ReLU left out.

    Parameters
    ----------
    x, weight, bias, stride, pad, backend
        As for `conv2d_forward`.
    pool : bool
        Keep the maximum of each window of 2x2; a last odd row or column is left out.
    gradient : bool
        Whether backward follows; if not, the context is None.
    residual : array (N, FN, OH, OW), optional
        Added to the convolution's output, as at the end of a shortcut (arXiv:1512.03385).
    relu : bool
        Whether there is a ReLU.

    Returns
    -------
    array (N, FN, OH, OW) or (N, FN, OH//2, OW//2), and the context for backward.

    Raises
    ------
    ShapeError, DTypeError
        Arrays that do not fit together, or that no kernel can compute with.
    ArgumentError
        A residual, or no ReLU, with a pool or a gradient.
    """
    op = "conv2d"  # the name that users know
    x, weight, bias, geometry, dtype = conv2d_arguments(op, x, weight, bias, stride, pad)
    n, filters, oh, ow = geometry.output_shape(len(weight))
    if pool and min(oh, ow) < 2:
        raise ShapeError(f"{op}: no window of 2 x 2 fits the convolution's output of {oh} x {ow}")
    added = None if residual is None else as_array(residual)
    if (added is not None or not relu) and (pool or gradient):
        raise ArgumentError(
            f"{op}: a residual, or no ReLU, goes with neither a pool nor a gradient; got "
            f"residual {'none' if added is None else added.shape}, relu={relu}, pool={pool}, "
            f"gradient={gradient}"
        )
    chosen = active(backend)
    if added is not None:
        expect_shape(op, "residual", added, (n, filters, oh, ow))
        dtype = common_dtype(op, x, weight, bias, added)
        added = in_layout(added, dtype, chosen.layout)
    x = in_layout(x, dtype, chosen.layout)
    shape = (n, filters, oh // 2, ow // 2) if pool else (n, filters, oh, ow)
    out = empty_images(shape, dtype, chosen.layout)
    winner = empty_images(shape, np.dtype(np.uint8), chosen.layout) if pool and gradient else None
    chosen.conv2d_block_forward(
        x,
        contiguous(weight, dtype),
        contiguous(bias, dtype),
        added,
        geometry,
        relu,
        pool,
        out,
        winner,
    )
    if not gradient:
        return out, None
    gate = out if winner is None else winner
    return out, BlockContext(
        backend=chosen.name, geometry=geometry, x=x, filters=filters, pool=pool, gate=gate
    )


def conv2d_block_backward(
    dout: ArrayLike,
    weight: ArrayLike,
    context: BlockContext,
    input_gradient: bool = True,
    weight_gradient: bool = True,
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients (dx, dweight, dbias); what is not asked for is None."""
    geometry = context.geometry
    shape = geometry.output_shape(context.filters)
    if context.pool:
        shape = (*shape[:2], shape[2] // 2, shape[3] // 2)
    backend, dout, x, weight, dx = _gradient_arrays(dout, shape, weight, context, input_gradient)
    gate = kept_images("conv2d backward", "the gate", context.gate, shape, backend.layout)
    dweight, dbias = _weight_gradients(weight) if weight_gradient else (None, None)
    backend.conv2d_block_backward(dout, gate, x, weight, geometry, context.pool, dx, dweight, dbias)
    return dx, dweight, dbias
