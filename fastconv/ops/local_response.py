"""Local response normalisation of images, over neighbouring channels.

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from ..backends.base import Array
from ..errors import ArgumentError, ShapeError
from ..geometry import as_float, as_int
from ..selection import active
from .arrays import as_array, common_dtype, empty_images, expect_shape, in_layout, kept_images

__all__ = ["LrnContext", "lrn_backward", "lrn_forward"]


@dataclass(frozen=True, slots=True)
class LrnContext:
    """What `lrn_backward` needs of the forward pass."""

    backend: str
    shape: tuple[int, ...]
    x: Array
    scale: Array
    size: int
    alpha: float
    beta: float


def lrn_forward(
    x: ArrayLike,
    size: int,
    alpha: float,
    beta: float,
    k: float,
    backend: str | None = None,
) -> tuple[Array, LrnContext]:
    """x (N, C, H, W) / (k + alpha/size * sum of squares over `size` channels around)**beta.

    Raises
    ------
    ShapeError
        The input is not of four axes, or has no channels.
    ArgumentError
        A size below 1, an alpha below 0, a k that is not above 0, or what is no number.
    """
    op = "lrn"
    x = as_array(x)
    if x.ndim != 4 or x.shape[1] == 0:
        raise ShapeError(f"{op}: input must be (N, C, H, W) with C at least 1, got shape {x.shape}")
    size = as_int(op, "size", size, 1)
    alpha, beta, k = (as_float(op, *pair) for pair in (("alpha", alpha), ("beta", beta), ("k", k)))
    if not alpha >= 0:
        raise ArgumentError(f"{op}: alpha must be at least 0, got {alpha}")
    if not k > 0:
        raise ArgumentError(f"{op}: k must be above 0, got {k}")
    # A window that has all channels from every one of them has no more by being larger.
    whole = 2 * x.shape[1]
    if size > whole:
        size, alpha = whole, alpha * whole / size
    dtype = common_dtype(op, x)
    chosen = active(backend)
    x = in_layout(x, dtype, chosen.layout)
    out = empty_images(x.shape, dtype, chosen.layout)
    scale = empty_images(x.shape, dtype, chosen.layout)
    chosen.lrn_forward(x, size, alpha, beta, k, out, scale)
    return out, LrnContext(chosen.name, x.shape, x, scale, size, alpha, beta)


def lrn_backward(dout: ArrayLike, context: LrnContext) -> Array:
    """Gradient (N, C, H, W) of the input."""
    op = "lrn backward"
    dout = as_array(dout)
    backend = active(context.backend)
    expect_shape(op, "dout", dout, context.shape)
    common_dtype(op, dout)
    x = kept_images(op, "x", context.x, context.shape, backend.layout)
    scale = kept_images(op, "scale", context.scale, context.shape, backend.layout)
    dx = empty_images(x.shape, x.dtype, backend.layout)
    dout = in_layout(dout, x.dtype, backend.layout)
    settings = (context.size, context.alpha, context.beta)
    backend.lrn_backward(dout, x, scale, *settings, dx)
    return dx
