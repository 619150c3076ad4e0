"""The part of the kernel table that networks after the book's need.

`fastconv.backends.base` has the contract that holds for these as well, and the notation.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..geometry import WindowGeometry

__all__ = ["Activation", "Array", "Bounds", "Boxes", "NetworkKernels"]

Array = NDArray[np.floating]
Boxes = NDArray[np.int64]
Bounds = NDArray[np.int64]
Activation = Literal["leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid"]


class NetworkKernels(Protocol):
    """Grouped convolution, averages, normalisation of channels, activations, augmentation."""

    # ---- convolution whose channels fall into groups, or whose windows are dilated ---

    def conv2d_grouped_forward(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        geometry: WindowGeometry,
        groups: int,
        out: Array,
    ) -> None:
        """As `conv2d_forward`, for weight (FN, C/groups, FH, FW) and any dilation.

        `groups` divides C and FN. Filters [g*FN/groups, (g+1)*FN/groups) see the channels
        [g*C/groups, (g+1)*C/groups).
        """

    def conv2d_grouped_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        geometry: WindowGeometry,
        groups: int,
        dx: Array | None,
        dweight: Array,
        dbias: Array,
    ) -> None:
        """Gradients of `conv2d_grouped_forward`'s three inputs; dx may be None."""

    # ---- average pooling ----------------------------------------------------------

    def avgpool2d_forward(self, x: Array, rows: Bounds, cols: Bounds, out: Array) -> None:
        """out (N, C, OH, OW): the sum of each window of x (N, C, H, W) over its divisor.

        rows (OH, 3) and cols (OW, 3), int64: where a window begins in the image, where it ends
        (excluded), and its part of the divisor, which is the product of both parts, at least 1.
        Neither begins nor ends decrease; begin <= end.
        """

    def avgpool2d_backward(self, dout: Array, rows: Bounds, cols: Bounds, dx: Array) -> None:
        """The adjoint: dx (N, C, H, W) sums dout over its divisor over the windows of a place."""

    # ---- local response normalisation -----------------------------------------------

    def lrn_forward(
        self,
        x: Array,
        size: int,
        alpha: float,
        beta: float,
        k: float,
        out: Array,
        scale: Array,
    ) -> None:
        """out and scale (N, C, H, W), over neighbouring channels; k is above 0.

        scale[c] = k + alpha/size * (sum of x*x over the channels c - size//2, ...,
        c + (size - 1)//2 that there are); out = x * scale**-beta.
        """

    def lrn_backward(
        self,
        dout: Array,
        x: Array,
        scale: Array,
        size: int,
        alpha: float,
        beta: float,
        dx: Array,
    ) -> None:
        """Gradient of `lrn_forward`, from its x and scale."""

    # ---- batch normalisation, per channel -----------------------------------------

    def batchnorm2d_statistics(self, x: Array, mean: Array, variance: Array) -> None:
        """Mean and biased variance (C,) of x (N, C, H, W) over N, H, W; N*H*W is at least 1.

        Sums are as exact as float64's, and a large mean takes nothing from the variance.
        """

    def batchnorm2d_apply(
        self,
        x: Array,
        centre: Array,
        scale: Array,
        shift: Array,
        residual: Array | None,
        relu: bool,
        out: Array,
    ) -> None:
        """out = (x - centre)*scale + shift [+ residual], and with `relu` 0 where that is <= 0.

        centre, scale and shift (C,); x, residual and out (N, C, H, W). A NaN stays.
        """

    def batchnorm2d_backward(
        self,
        dout: Array,
        gate: Array | None,
        x: Array,
        mean: Array,
        inv_std: Array,
        gamma: Array,
        dx: Array | None,
        dgamma: Array,
        dbeta: Array,
        dresidual: Array | None,
    ) -> None:
        """Gradients of `batchnorm2d_apply` by statistics of x itself; N*H*W is at least 1.

        With g = dout where gate > 0, else 0 (gate is apply's out behind a ReLU; None: g = dout),
        P = N*H*W and normalized = (x - mean)*inv_std, of which nobody keeps an array:
        dbeta = sum of g, dgamma = sum of g*normalized, dresidual = g,
        dx = gamma*inv_std*(g - dbeta/P - normalized*dgamma/P).
        dx and dresidual are None where nobody needs them.
        """

    # ---- augmentation: images that differ a little from those of the data set ------

    # They run beside training: `threads` says how many of the backend's they may use at most.

    def warp(
        self,
        x: Array,
        matrix: Array,
        field: Array | None,
        fill: float,
        threads: int,
        out: Array,
    ) -> None:
        """out (N, C, H, W): at row v, column u the value of x (N, C, H, W) at place (a, b).

        (a, b), column and row, is matrix[n] (2, 3) times (u, v, 1), plus field[n, :, v, u]
        where there is a field (N, 2, H, W). Values are interpolated bilinearly: with p < 1
        between two neighbours s and t in a row, s + p*(t - s), or s itself where p is 0;
        likewise between the rows. So whole places are copied bit for bit. Outside of the
        image, and where a place is NaN, is `fill`.
        """

    def smooth(self, x: Array, taps: Array, threads: int, out: Array) -> None:
        """out (N, C, H, W): x cross-correlated with taps (K,) along rows, then columns.

        K is odd, its middle tap falls on the place itself; zeros outside.
        """

    def tone(
        self,
        x: Array,
        gain: Array,
        offset: Array,
        boxes: Boxes,
        fill: float,
        threads: int,
        out: Array,
    ) -> None:
        """out (N, C, H, W) = gain*x + offset, of (N,) each, but `fill` inside the boxes.

        boxes (N, 4): first row and column, then last row and column, excluded, all of them
        within the image; a box of no rows or columns is none.
        """
