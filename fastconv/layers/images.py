"""Layers on images: convolution and max pooling.

Notation: N images, C channels, H x W pixels; FN filters of FH x FW; OH x OW
windows.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import ops
from ..ops.arrays import as_array
from .base import Array, Layer, made

__all__ = ["Convolution", "Pooling"]


class Convolution(Layer):
    """Cross-correlation of images with filters, zeros outside.

    Parameters
    ----------
    W : array (FN, C/groups, FH, FW)
    b : array (FN,) or number, optional
        A number is added by all filters; None adds nothing, and only W is trained.
    stride, pad : int
    dilation : int
        Step between the pixels of a window: it spans dilation*(FH - 1) + 1 rows.
    groups : int
        Divides C and FN: group number g of the filters sees group number g of the
        channels. With C groups the convolution is depthwise.

    Attributes
    ----------
    dW, db : arrays like W and b
        Set by `backward`; db stays None where b is.
    x : array (N, C, H, W)
        The input of the last forward.
    col, col_W : arrays (N*OH*OW, C*FH*FW), (C*FH*FW, FN), or None
        The windows of x as rows, and the filters as columns, as the book's layer keeps them.
        Nothing here needs them: they are made when they are asked for. None before forward,
        and of grouped and dilated convolutions.
    """

    parameter_names: tuple[str, ...] = ("W", "b")

    # On the class too: a subclass in the book's style calls no constructor but its own.
    dilation: int = 1
    groups: int = 1

    def __init__(
        self,
        W: Array,
        b: Array | None = None,
        stride: int = 1,
        pad: int = 0,
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
        if self.x is None or not self.plain:
            return None
        fh, fw = self.W.shape[2:]
        return ops.im2col(self.x, fh, fw, self.stride, self.pad, self.backend)

    @made
    def col_W(self) -> Array | None:
        """The filters as columns."""
        if self.x is None or not self.plain:
            return None
        return self.W.reshape(len(self.W), -1).T

    @property
    def plain(self) -> bool:
        """Whether it has one group and no dilation."""
        return self.dilation == 1 and self.groups == 1

    def forward(self, x: ArrayLike) -> Array:
        """Return (N, FN, OH, OW) for x (N, C, H, W); OH = (H + 2*pad - span)//stride + 1.

        The span of a window is FH rows, or dilation*(FH - 1) + 1.
        """
        arrays, window = (x, self.W, self.b), (self.stride, self.pad)
        if self.plain:
            out, self._context = ops.conv2d_forward(*arrays, *window, self.backend)
        else:
            out, self._context = ops.conv2d_grouped_forward(
                *arrays, *window, self.dilation, self.groups, self.backend
            )
        self.x = self._context.x
        return out

    def backward(self, dout: ArrayLike, *, input_gradient: bool = True) -> Array | None:
        """Set dW and db, return dx (N, C, H, W) (None if it is not asked for)."""
        context = self._forward_context()
        run = ops.conv2d_backward if context.plain else ops.conv2d_grouped_backward
        dx, self.dW, db = run(dout, self.W, context, input_gradient)
        self.db = None if self.b is None else db
        return dx


class Pooling(Layer):
    """Max pooling; the gradient goes to the first maximum of each window.

    Parameters
    ----------
    pool_h, pool_w : int
        Size of the window.
    stride, pad : int
        Padded places never win; pad is smaller than the window.
    ceil_mode : bool
        Keep a last window that hangs over the padded image, as long as it begins inside
        the image or in front of it.

    Attributes
    ----------
    x : array (N, C, H, W)
        The input of the last forward.
    """

    # On the class too: a pickle of an older one, or a subclass in the book's style, lacks it.
    ceil_mode: bool = False

    def __init__(
        self,
        pool_h: int,
        pool_w: int,
        stride: int = 1,
        pad: int = 0,
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
        """Position in its window of each maximum, one axis in the order n, y, x, c."""
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
