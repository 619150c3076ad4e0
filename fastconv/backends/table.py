"""The kernel table: what every backend gives, on one page.

Layers say what, backends say how, and this table is all that stands between
them. `fastconv.ops` is its only caller.

Contract
--------
* Shapes are logical: images are (N, C, H, W) whatever their memory looks like.
  ``layout`` names a backend's memory layout: ``"channels_first"``
  (C-contiguous) or ``"channels_last"`` (the view ``a.transpose(0, 2, 3, 1)`` is
  C-contiguous). Every 4-D array of a call is in that layout, except the images of
  `im2col`, `col2im` and augmentation, which are always C-contiguous: data sets are
  stored that way, and images of one channel, like MNIST's, are in both layouts.
  Arrays of one or two axes are C-contiguous, as are convolution weights and `dweight`.
* One dtype throughout a call, float32 or float64, native byte order, aligned.
  `winner` and `mask` are uint8 (`winner` is int32 where a window has more than
  256 positions), `labels` and `boxes` int64.
* Inputs are never written, and may be read-only. Outputs (listed after
  `geometry`, or named in the docstring) are allocated by the caller, overlap no
  other array, and are overwritten completely, even where no window reaches.
* What backward needs is an input or an output of forward; the caller keeps it
  and runs backward on the backend that ran forward.
* The caller has checked everything: kernels assume shapes, dtypes and ranges.
  N may be 0. C, FN, D and M are at least 1.
* Weights may change between any two calls: nothing derived from them is kept.
* ``configure`` says how many threads to use, and how convolutions may be computed
  (`fastconv.backends.algorithms`). With ``threads == 1`` a backend enters no thread
  pool at all, so it is safe in a forked child. Several Python threads may call one
  backend at the same time.
* In the math mode ``bf16``, what float32 convolutions (grouped ones too) and affine kernels
  multiply is first rounded to bfloat16: `x`, `weight`, and in backward `dout` (after ReLU and
  pooling).
  `fastconv.backends.numpy.operands` says how. Products are exact then, and sums are as exact
  as in the other modes, so that backends differ by no more than there. Nothing else is rounded:
  not the bias, nor `dbias`, nor what is stored. Calls in float64 are computed as in ``default``.
* In that mode a part of a convolution that is computed by ``winograd2`` rounds the transforms in
  place of the operands. It then differs from what the unrounded operands give by no more than two
  roundings, 2^-7, of each product of transforms: `fastconv.testing.rounding` derives how much
  that is for each value, and `check_backend` allows that and no more. Small whole numbers are
  exact in either way. No other algorithm of tiles may run in that mode.
* A NaN or an infinity in its window makes a convolution's output NaN or infinite. Neighbouring
  outputs may become so too: fast algorithms compute several outputs from one tile of pixels.
* In the forward pass, an output whose window holds only zeros (0 or -0, in all channels of its
  group, padding included) is exactly its bias, plus the residual if there is one. So ReLU and
  pooling decide there as they do in the reference, whatever lies beside the window. Only a NaN
  or an infinity among the filter's own weights changes that. Gradients may hold rounding noise
  in place of such zeros, since nothing depends on their sign.
* A backend with several ways to compute convolutions says which it chooses, by a method
  ``conv2d_algorithms(geometry, filters, pooled)`` that returns `ConvAlgorithms`. It should also
  report which ran, by a method ``ways_taken()`` that returns a dict from each `Way` to how often
  calls of this Python thread have taken it since the process began: `fastconv.testing.ways` and
  `check_backend` use it. A kernel counts a way where the way begins, not where it is chosen.
* Measured algorithms are kept for backends with a method ``kernel_version()``. It returns a text,
  a different one whenever a kernel may have changed.
* ``maxpool2d_forward`` gets a `winner`, unless the backend says that it can do without: by an
  attribute ``winner_is_optional`` that is true. It is None then where nobody asks for positions.
* A backend may say, by an attribute ``into_channels``, which of its kernels can write between the
  channels of larger images, and by ``bfloat16_images``, which images of which kernels may lie in
  memory as bfloat16s; see `fastconv.backends.calls`. Programs make use of that.
* The same input, thread count and machine give the same result, bit for bit.

Notation: N images, C channels, H x W pixels; FN filters of FH x FW; OH x OW
windows; D features, M units. ``geometry`` holds these numbers. Its ``pads`` may differ from side
to side. Its ``strides`` are two numbers, which are the same in `conv2d_forward`,
`conv2d_block_forward` and their backward kernels; only in `conv2d_grouped_forward` and
`conv2d_grouped_backward` is its ``dilation`` not 1. A kernel that reads ``geometry.stride`` or
``geometry.pad`` refuses, by an `ArgumentError`, what one number does not say.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..geometry import WindowGeometry
from .short import Short

__all__ = [
    "CHANNELS_FIRST",
    "FAMILIES",
    "KERNELS",
    "Activation",
    "Array",
    "Backend",
    "Bounds",
    "Boxes",
    "Bytes",
    "Labels",
    "Layout",
    "Way",
]

Activation = Literal["leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid"]
"""The functions of `activation_forward`."""

Array = NDArray[np.floating]
"""Images, weights and features: float32 or float64."""

Bounds = NDArray[np.int64]
"""Where the windows of one axis begin and end."""

Boxes = NDArray[np.int64]
"""The rectangle that is filled in each image."""

Bytes = NDArray[np.integer]
"""A mask, or the winners of windows."""

Labels = NDArray[np.int64]
"""The class of each sample."""

Layout = Literal["channels_first", "channels_last"]
"""The order of images in memory."""


class Way(NamedTuple):
    """One of several ways to compute something, as it ran.

    Attributes
    ----------
    part : str
        What was computed: ``"forward"``, ``"input_gradient"`` or ``"weight_gradient"`` of a
        convolution, in which case `how` is an `Algorithm`, or a name of the backend's own.
    how : str
        ``"few_channels"`` is a second direct input gradient, for few channels.
    dtype : {"float32", "float64"}
    lanes : int
        Numbers in a vector, which shows the instruction set.
    parallel : bool
        Whether it ran on several threads.
    """

    part: str
    how: str
    dtype: str
    lanes: int
    parallel: bool

    @property
    def algorithm(self) -> str:
        """`how`, as `conv2d_algorithms` names it: few channels count as direct."""
        return "direct" if self.how == "few_channels" else self.how


class Backend(Protocol):
    """The table. A backend is an object with these attributes and methods."""

    name: str
    layout: Layout
    short: Short  # whole operations on little data; see `.short`

    def configure(self, *, threads: int, math_mode: str, algorithm: str) -> None:
        """Set these from the next call on; `.algorithms` lists the modes and algorithms."""

    def refuses(self, math_mode: str) -> str:
        """Why it cannot run in this mode here, and what to do about it; empty if it can.

        A backend without this method refuses ``bf16``.
        """

    def describe(self) -> dict[str, str]:
        """Facts for `fastconv.show_config`: versions, instruction set, threading layer."""

    # ---- columns: the book's im2col and its adjoint -------------------------------

    def im2col(self, x: Array, geometry: WindowGeometry, col: Array) -> None:
        """col (N*OH*OW, C*FH*FW) from x (N, C, H, W): row order n, y, x; column c, fy, fx."""

    def col2im(self, col: Array, geometry: WindowGeometry, x: Array) -> None:
        """The adjoint: each pixel of x (N, C, H, W) sums the entries of col taken from it."""

    # ---- convolution: cross-correlation with zero padding -------------------------

    def conv2d_forward(
        self, x: Array, weight: Array, bias: Array, geometry: WindowGeometry, out: Array
    ) -> None:
        """out (N, FN, OH, OW) from x (N, C, H, W), weight (FN, C, FH, FW), bias (FN,).

        Where a window holds only zeros, out is bias, exactly.
        """

    def conv2d_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        geometry: WindowGeometry,
        dx: Array | None,
        dweight: Array | None,
        dbias: Array | None,
    ) -> None:
        """Gradients of the three inputs.

        dx is None where it is not needed; so are dweight and dbias, both together.
        """

    # ---- convolution fused with what often follows it ------------------------------

    def conv2d_block_forward(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        residual: Array | None,
        geometry: WindowGeometry,
        relu: bool,
        pool: bool,
        out: Array,
        winner: Bytes | None,
    ) -> None:
        """`conv2d_forward` [+ residual], then ReLU if `relu`, then max pooling if `pool`.

        Windows of zeros are exact here too: what follows is computed from bias [+ residual].
        residual and out (N, FN, OH, OW). With `pool`, out (N, FN, OH//2, OW//2) is the maxima
        over windows of 2x2, stride 2; `relu` is then true, and residual None. winner, of the
        pooled shape, says where the gradient goes: the maximum's position 2*y + x, or 4 where
        the maximum is not above 0. It is None without `pool`, and where it is not needed.
        """

    def conv2d_block_backward(
        self,
        dout: Array,
        gate: Array | Bytes,
        x: Array,
        weight: Array,
        geometry: WindowGeometry,
        pool: bool,
        dx: Array | None,
        dweight: Array | None,
        dbias: Array | None,
    ) -> None:
        """Gradients of `conv2d_block_forward` with ReLU; dout has the shape of its output.

        gate is forward's out (dout passes where that is above 0), or with `pool` its winner.
        """

    # ---- max pooling --------------------------------------------------------------

    def maxpool2d_forward(
        self, x: Array, geometry: WindowGeometry, out: Array, winner: Bytes | None
    ) -> None:
        """out and winner (N, C, OH, OW): the maximum, and its position fy*FW + fx.

        The first maximum in row-major order wins, the first NaN before any number. Without
        `winner`, the maximum of 0 and -0 may be either.
        Places outside the image never win, in the padding or beyond it. Each window holds at
        least one pixel (pads above and below < FH, left and right < FW, and no window begins past
        the image).
        """

    def maxpool2d_backward(
        self, dout: Array, winner: Bytes, geometry: WindowGeometry, dx: Array
    ) -> None:
        """Each pixel of dx (N, C, H, W) sums dout over the windows that it won."""

    # ---- fully connected ----------------------------------------------------------

    def affine_forward(self, x: Array, weight: Array, bias: Array, out: Array) -> None:
        """out (N, M) = x (N, D) @ weight (D, M) + bias (M,)."""

    def affine_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        dx: Array | None,
        dweight: Array,
        dbias: Array,
    ) -> None:
        """dx = dout @ weight.T (or None: not needed), dweight = x.T @ dout, dbias = sum of dout."""

    # ---- activations --------------------------------------------------------------

    def relu_forward(self, x: Array, out: Array, mask: Bytes) -> None:
        """1-D: out = 0 where x <= 0, else x (NaN stays); mask = 1 where x > 0, else 0."""

    def relu_backward(self, dout: Array, mask: Bytes, dx: Array) -> None:
        """1-D: dx = dout where mask, else 0 (also where dout is NaN)."""

    def activation_forward(self, x: Array, kind: Activation, slope: float, out: Array) -> None:
        """1-D: out = f(x), NaN where x is NaN. Only the first two kinds use `slope`.

        leaky_relu: x where x > 0, else slope*x; elu: x where x > 0, else slope*(exp(x) - 1);
        gelu: x*P(x) for the normal distribution P; silu: x/(1 + exp(-x)); tanh; sigmoid:
        1/(1 + exp(-x)).
        """

    def activation_backward(
        self, dout: Array, x: Array, kind: Activation, slope: float, dx: Array
    ) -> None:
        """1-D: dx = dout * f'(x); at 0 the first two kinds have the slope of x <= 0."""

    # ---- batch normalisation, of features -----------------------------------------

    def batchnorm_train(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        epsilon: float,
        out: Array,
        normalized: Array,
        mean: Array,
        variance: Array,
    ) -> None:
        """Over axis 0 of x (N, D): mean and biased variance (D,), normalized and out (N, D).

        normalized = (x - mean) / sqrt(variance + epsilon); out = gamma*normalized + beta.
        N is at least 1.
        """

    def batchnorm_infer(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
        out: Array,
    ) -> None:
        """As `batchnorm_train`, by a given mean and variance (D,): out (N, D)."""

    def batchnorm_backward(
        self,
        dout: Array,
        normalized: Array,
        gamma: Array,
        variance: Array,
        epsilon: float,
        dx: Array,
        dgamma: Array,
        dbeta: Array,
    ) -> None:
        """Gradients of `batchnorm_train`: dx (N, D), dgamma and dbeta (D,)."""

    # ---- softmax with cross-entropy -----------------------------------------------

    def softmax_cross_entropy_forward(
        self, scores: Array, labels: Labels, smoothing: float, probabilities: Array
    ) -> float:
        """Mean loss of N (at least 1) samples; probabilities (N, M) is written.

        Without smoothing the loss is -log(p[label] + 1e-7), the book's. With smoothing, 0 to
        below 1, it is -sum(q * log(p)) with q = (1 - smoothing)*onehot(label) + smoothing/M;
        log(p) is computed from the scores, so that it is finite where p is 0.
        """

    def softmax_cross_entropy_backward(
        self,
        probabilities: Array,
        labels: Labels,
        smoothing: float,
        scale: float,
        dscores: Array,
    ) -> None:
        """dscores = (probabilities - q) * scale, with the q of forward."""

    # ---- the optimizer's step -----------------------------------------------------

    def adam_update(
        self,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        lr: float,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> None:
        """Adam's step, 1-D, in place, in this order, with lr already corrected for bias:

        m += (1 - beta1)*(grad - m); v += (1 - beta2)*(grad*grad - v);
        param -= lr*m / (sqrt(v) + epsilon).

        New values of m and v below the smallest normal number of their dtype become 0.
        Otherwise the moments of a weight whose gradient has stopped (its unit is dead) stay
        subnormal for ever, and CPUs are tens of times slower on such numbers.
        """

    # ---- grouped and dilated convolution --------------------------------------------

    def conv2d_grouped_forward(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        geometry: WindowGeometry,
        groups: int,
        out: Array,
    ) -> None:
        """As `conv2d_forward`, for weight (FN, C/groups, FH, FW), any strides and any dilation.

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
        """out (N, C, OH, OW): the sum of each window of x (N, C, H, W), divided by its divisor.

        rows (OH, 3) and cols (OW, 3), int64: where a window begins in the image, where it ends
        (excluded), and one factor of its divisor, which is the product of the row's and the
        column's, both at least 1. Begins and ends never decrease; begin <= end.
        """

    def avgpool2d_backward(self, dout: Array, rows: Bounds, cols: Bounds, dx: Array) -> None:
        """The adjoint: each pixel of dx (N, C, H, W) sums dout/divisor of its windows."""

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
        c + (size - 1)//2 that exist); out = x * scale**-beta.
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

        Sums are as exact as in float64, and a large mean costs the variance no digits.
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
        """out = (x - centre)*scale + shift [+ residual], then ReLU if `relu`.

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
        """Gradients of `batchnorm2d_apply` with x's own statistics; N*H*W is at least 1.

        With g = dout where gate > 0, else 0 (gate is apply's out after a ReLU; None: g = dout),
        P = N*H*W and normalized = (x - mean)*inv_std, which is never stored:
        dbeta = sum of g, dgamma = sum of g*normalized, dresidual = g,
        dx = gamma*inv_std*(g - dbeta/P - normalized*dgamma/P).
        dx and dresidual are None where they are not needed.
        """

    # ---- augmentation: slightly changed copies of a data set's images --------------

    # They run beside training: `threads` limits how many of the backend's threads they use.

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
        likewise between the rows. So pixels at whole places are copied bit for bit. A place
        outside the image, or NaN, gives `fill`.
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
        """out (N, C, H, W) = gain*x + offset, gain and offset (N,), but `fill` inside the boxes.

        boxes (N, 4): first row and column, then last row and column (excluded), all within
        the image; a box without rows or columns is empty.
        """


FAMILIES: dict[str, tuple[str, ...]] = {
    "columns": ("im2col", "col2im"),
    "conv2d": ("conv2d_forward", "conv2d_backward"),
    "conv2d_grouped": ("conv2d_grouped_forward", "conv2d_grouped_backward"),
    "conv2d_block": ("conv2d_block_forward", "conv2d_block_backward"),
    "maxpool2d": ("maxpool2d_forward", "maxpool2d_backward"),
    "avgpool2d": ("avgpool2d_forward", "avgpool2d_backward"),
    "affine": ("affine_forward", "affine_backward"),
    "relu": ("relu_forward", "relu_backward"),
    "activation": ("activation_forward", "activation_backward"),
    "lrn": ("lrn_forward", "lrn_backward"),
    "batchnorm": ("batchnorm_train", "batchnorm_infer", "batchnorm_backward"),
    "batchnorm2d": ("batchnorm2d_statistics", "batchnorm2d_apply", "batchnorm2d_backward"),
    "softmax_cross_entropy": (
        "softmax_cross_entropy_forward",
        "softmax_cross_entropy_backward",
    ),
    "adam": ("adam_update",),
    "augment": ("warp", "smooth", "tone"),
}
"""Kernels that belong together: a backend has all of a family, or the reference replaces it."""

KERNELS: tuple[str, ...] = tuple(kernel for family in FAMILIES.values() for kernel in family)
"""The names of all kernels, in the order of the table."""

CHANNELS_FIRST: tuple[str, ...] = FAMILIES["columns"] + FAMILIES["augment"]
"""Kernels whose 4-D arrays are C-contiguous in every backend."""
