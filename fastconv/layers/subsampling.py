"""The shortcut that has no parameters, where a stage of a ResNet halves the image.

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from .. import ops
from ..errors import StateError
from ..geometry import as_int
from ..ops.arrays import as_array
from .base import Array, Layer

__all__ = ["Subsampling"]


class Subsampling(Layer):
    """Every `stride`-th pixel, and `more_channels` of zeros around the channels.

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
