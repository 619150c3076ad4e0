"""Convolution, plain, grouped and dilated.

Notation: N images, C channels, H x W pixels; FN filters of FH x FW; OH x OW windows.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from .. import ops
from ..geometry import Pad, Stride
from .base import Array, Layer, made

__all__ = ["Convolution"]


class Convolution(Layer):
    """Cross-correlation of images with filters, zeros outside.

    Parameters
    ----------
    W : array (FN, C/groups, FH, FW)
    b : array (FN,) or number, optional
        A number is added by all filters; None adds nothing, and only W is trained.
    stride : int or (int, int)
        Step between windows: one for both axes, or (down, across). Windows that do not move as far
        down as across are computed by the kernels of grouped convolution.
    pad : int, (int, int), ((int, int), (int, int)) or "same"
        Zeros around the image: as many on all sides; (above and below, left and right); or
        ((top, bottom), (left, right)). With ``"same"`` the output has ceil(H / stride) x
        ceil(W / stride) pixels; where the zeros are odd in number, the larger half is at the
        bottom and on the right, as in TensorFlow, Keras and ONNX's SAME_UPPER.
    dilation : int
        Step between the pixels of a window: it spans dilation*(FH - 1) + 1 rows.
    groups : int
        A divisor of C and FN: the g-th group of filters sees the g-th group of channels.
        With C groups the convolution is depthwise.

    Attributes
    ----------
    dW, db : arrays like W and b
        Set by `backward`; db stays None where b is.
    x : array (N, C, H, W)
        The input of the last forward.
    col, col_W : arrays (N*OH*OW, C*FH*FW), (C*FH*FW, FN), or None
        The windows of x as rows, and the filters as columns, as the book's layer keeps them.
        They are computed when they are read; no kernel needs them. None before forward, and of
        grouped and dilated convolutions.
    """

    parameter_names: tuple[str, ...] = ("W", "b")

    # On the class too: a subclass in the book's style calls no constructor but its own.
    dilation: int = 1
    groups: int = 1

    def __init__(
        self,
        W: Array,
        b: Array | None = None,
        stride: Stride = 1,
        pad: Pad = 0,
        backend: str | None = None,
        *,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__(backend)
        self.W = W
        self.b = b
        if b is None:
            self.parameter_names = ("W",)
        self.stride = stride
        self.pad = pad
        self.dilation = dilation
        self.groups = groups
        self.x: Array | None = None
        self.dW: Array | None = None
        self.db: Array | None = None

    def forget(self) -> None:
        """Drop what the last forward kept."""
        super().forget()
        self.x = None

    @made
    def col(self) -> Array | None:
        """The windows of the last forward's input as rows."""
        if self.x is None or not self._has_columns:
            return None
        fh, fw = self.W.shape[2:]
        return ops.im2col(self.x, fh, fw, self.stride, self.pad, self.backend)

    @made
    def col_W(self) -> Array | None:
        """The filters as columns."""
        if self.x is None or not self._has_columns:
            return None
        return self.W.reshape(len(self.W), -1).T

    @property
    def _has_columns(self) -> bool:
        return self.dilation == 1 and self.groups == 1

    @property
    def plain(self) -> bool:
        """Whether it has one group, no dilation, and one stride for both axes."""
        stride = self.stride
        one = not isinstance(stride, tuple) or stride[:1] == stride[1:]
        return one and self.dilation == 1 and self.groups == 1

    def forward(self, x: ArrayLike) -> Array:
        """Return (N, FN, OH, OW) for x (N, C, H, W); OH = (H + 2*pad - span)//stride + 1.

        The span of a window is FH rows, or dilation*(FH - 1) + 1; 2*pad stands for the zeros at
        both ends.
        """
        arrays, window = (x, self.W, self.b), (self.stride, self.pad)
        if self._has_columns:
            out, context = ops.conv2d_forward(*arrays, *window, self.backend)
        else:
            out, context = ops.conv2d_grouped_forward(
                *arrays, *window, self.dilation, self.groups, self.backend
            )
        self._context = context
        self.x = context.x
        return out

    def backward(self, dout: ArrayLike, *, input_gradient: bool = True) -> Array | None:
        """Set dW and db, return dx (N, C, H, W) (None if it is not asked for)."""
        dx, self.dW, db = ops.conv2d_backward(dout, self.W, self._forward_context(), input_gradient)
        self.db = None if self.b is None else db
        return dx
