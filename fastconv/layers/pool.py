"""Pooling: each window's maximum, its mean, or one pixel of it.

Notation: N images, C channels, H x W pixels; OH x OW windows.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import ops
from ..errors import StateError
from ..geometry import Pad, Stride, as_int
from ..ops.arrays import as_array
from .base import Array, Layer

__all__ = [
    "AdaptiveAveragePooling",
    "AveragePooling",
    "GlobalAveragePooling",
    "Pooling",
    "Subsampling",
]


class Pooling(Layer):
    """Max pooling; the gradient goes to the first maximum of each window.

    Parameters
    ----------
    pool_h, pool_w : int
        Size of the window.
    stride, pad
        As for `Convolution`. Padded places never win; pad is smaller than the window.
    ceil_mode : bool
        Keep a last window that reaches beyond the padded image, if it begins inside the image
        or in the padding before it.

    Attributes
    ----------
    x : array (N, C, H, W)
        The input of the last forward.
    """

    # On the class too: older pickles, and subclasses in the book's style, do not set it.
    ceil_mode: bool = False

    def __init__(
        self,
        pool_h: int,
        pool_w: int,
        stride: Stride = 1,
        pad: Pad = 0,
        backend: str | None = None,
        *,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(backend)
        self.pool_h = pool_h
        self.pool_w = pool_w
        self.stride = stride
        self.pad = pad
        self.ceil_mode = ceil_mode
        self.x: Array | None = None

    def forget(self) -> None:
        """Drop what the last forward kept."""
        super().forget()
        self.x = None
        self.__dict__.pop("arg_max", None)

    @cached_property
    def arg_max(self) -> NDArray[np.intp] | None:
        """Position of each maximum in its window, flattened in the order n, y, x, c."""
        if self._context is None:
            return None
        return self._context.winner.transpose(0, 2, 3, 1).ravel().astype(np.intp)

    def forward(self, x: ArrayLike) -> Array:
        """Return (N, C, OH, OW) for x (N, C, H, W)."""
        self.forget()
        out, self._context = ops.maxpool2d_forward(
            x,
            self.pool_h,
            self.pool_w,
            self.stride,
            self.pad,
            self.backend,
            ceil_mode=self.ceil_mode,
        )
        self.x = as_array(x)
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Return dx (N, C, H, W); where windows overlap, gradients add."""
        return ops.maxpool2d_backward(dout, self._forward_context())


class AveragePooling(Layer):
    """The average of each window.

    Parameters
    ----------
    pool_h, pool_w : int
        Size of the window.
    stride, pad
        As for `Convolution`; pad is smaller than the window.
    ceil_mode : bool
        Keep a last window that reaches beyond the padded image, if it begins inside the image
        or in the padding before it.
    count_padding : bool
        Whether padding counts as zeros (PyTorch's ``count_include_pad``); else a window is
        divided by the number of its pixels in the image, as TensorFlow and Keras do. Places beyond
        the padding never count.
    """

    def __init__(
        self,
        pool_h: int,
        pool_w: int,
        stride: Stride = 1,
        pad: Pad = 0,
        ceil_mode: bool = False,
        count_padding: bool = True,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend)
        self.pool_h = pool_h
        self.pool_w = pool_w
        self.stride = stride
        self.pad = pad
        self.ceil_mode = ceil_mode
        self.count_padding = count_padding

    def forward(self, x: ArrayLike) -> Array:
        """Return (N, C, OH, OW) for x (N, C, H, W)."""
        out, self._context = ops.avgpool2d_forward(
            x,
            self.pool_h,
            self.pool_w,
            self.stride,
            self.pad,
            self.ceil_mode,
            self.count_padding,
            self.backend,
        )
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Return dx (N, C, H, W); where windows overlap, gradients add."""
        return ops.avgpool2d_backward(dout, self._forward_context())


class AdaptiveAveragePooling(Layer):
    """The averages of out_h x out_w windows that cover an image of any size.

    Window i of OH takes the rows from floor(i*H/OH) to ceil((i + 1)*H/OH), so that
    neighbours overlap where OH does not divide H.

    Parameters
    ----------
    out_h, out_w : int
        OH and OW.
    """

    def __init__(self, out_h: int, out_w: int, backend: str | None = None) -> None:
        super().__init__(backend)
        self.out_h = out_h
        self.out_w = out_w

    def forward(self, x: ArrayLike) -> Array:
        """Return (N, C, OH, OW) for x (N, C, H, W)."""
        out, self._context = ops.adaptive_avgpool2d_forward(x, self.out_h, self.out_w, self.backend)
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Return dx (N, C, H, W)."""
        return ops.avgpool2d_backward(dout, self._forward_context())


class GlobalAveragePooling(AdaptiveAveragePooling):
    """The average of each channel: (N, C, H, W) to (N, C, 1, 1)  (arXiv:1312.4400)."""

    def __init__(self, backend: str | None = None) -> None:
        super().__init__(1, 1, backend)


class Subsampling(Layer):
    """Keep every `stride`-th pixel, and add `more_channels` of zeros around the channels.

    Option A of section 3.3 of arXiv:1512.03385.
    """

    def __init__(self, stride: int, more_channels: int, backend: str | None = None) -> None:
        super().__init__(backend)
        self.stride = as_int("Subsampling", "stride", stride, 1)
        self.more_channels = as_int("Subsampling", "more_channels", more_channels, 0)
        self.input_shape: tuple[int, int, int, int] | None = None

    def forward(self, x: ArrayLike) -> Array:
        """Return (N, C + more_channels, ceil(H / stride), ceil(W / stride))."""
        x = as_array(x)
        channels = self.more_channels + (x.shape[1] if x.ndim == 4 else 0)
        out = ops.subsample(x, self.stride, channels, self.backend)
        n, c, h, w = x.shape
        self.input_shape = (n, c, h, w)
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Return dx (N, C, H, W), 0 where no pixel was taken."""
        if self.input_shape is None:
            raise StateError("Subsampling: backward was called before forward")
        return ops.subsample_backward(dout, self.stride, self.input_shape, self.backend)
