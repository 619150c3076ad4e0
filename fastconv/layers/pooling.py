"""Average pooling.

Notation: N images, C channels, H x W pixels; OH x OW windows.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from .. import ops
from .base import Array, Layer

__all__ = ["AdaptiveAveragePooling", "AveragePooling", "GlobalAveragePooling"]


class AveragePooling(Layer):
    """The average of each window.

    Parameters
    ----------
    pool_h, pool_w : int
        Size of the window.
    stride, pad : int
        pad is smaller than the window.
    ceil_mode : bool
        Keep a last window that hangs over the padded image, as long as it begins inside
        the image or in front of it.
    count_padding : bool
        Whether padding counts as zeros (PyTorch's ``count_include_pad``); else a window is
        divided by its real places. What hangs over the padding never counts.
    """

    def __init__(
        self,
        pool_h: int,
        pool_w: int,
        stride: int = 1,
        pad: int = 0,
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
    """The averages of out_h x out_w windows that share out an image of any size.

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
