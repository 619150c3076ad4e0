"""The reference backend: plain NumPy, and the definition of every kernel of the table.

Written to be read. A convolution is the book's: unfold the windows into the rows
of a column matrix, multiply by the filters. The matrix is unfolded for a few
images at a time, so that it stays in the cache instead of filling memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np

from ..geometry import WindowGeometry
from .base import KERNELS, Array, Bytes, Labels, Layout
from .numpy_activations import Activations
from .numpy_augment import NumpyAugment
from .numpy_avgpool2d import AvgPool2dReference
from .numpy_batchnorm2d import BatchNorm2dReference
from .numpy_grouped import GroupedConvolution
from .short import NumpyShort, Short

__all__ = ["NumpyBackend", "create"]

COLUMN_BYTES = 1 << 20
"""Upper bound of one tile of the column matrix, unless a single image needs more."""

CLOSED = 4
"""Winner of a 2x2 window that passes no gradient; no place has this number."""


def create() -> NumpyBackend:
    """Return the reference backend."""
    return NumpyBackend()


def unfold(x: Array, g: WindowGeometry) -> Array:
    """Columns of x (N, C, H, W) as (N, OH, OW, C, FH, FW), zeros where windows overhang."""
    padded = np.pad(x, [(0, 0), (0, 0), (g.pad, g.pad), (g.pad, g.pad)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, g.span, axis=(2, 3))
    windows = windows[:, :, :: g.stride, :: g.stride, :: g.dilation, :: g.dilation]
    return windows.transpose(0, 2, 3, 1, 4, 5)


def fold(columns: Array, g: WindowGeometry, x: Array) -> None:
    """Adjoint of `unfold`: sum columns (N, OH, OW, C, FH, FW) into x (N, C, H, W)."""
    images = columns.shape[0]
    height, width = reach(g)
    padded = np.zeros((images, g.c, height, width), columns.dtype)
    by_place = columns.transpose(4, 5, 0, 3, 1, 2)
    for fy in range(g.fh):
        for fx in range(g.fw):
            top, left = g.dilation * fy, g.dilation * fx
            rows = slice(top, top + g.stride * g.oh, g.stride)
            cols = slice(left, left + g.stride * g.ow, g.stride)
            padded[:, :, rows, cols] += by_place[fy, fx]
    x[...] = padded[:, :, g.pad : g.pad + g.h, g.pad : g.pad + g.w]


def reach(g: WindowGeometry) -> tuple[int, int]:
    """Height and width of the padded image, and of what windows hang over it."""
    return (
        max(g.h + 2 * g.pad, g.stride * (g.oh - 1) + g.fh),
        max(g.w + 2 * g.pad, g.stride * (g.ow - 1) + g.fw),
    )


def image_blocks(g: WindowGeometry, itemsize: int) -> Iterator[slice]:
    """Consecutive runs of images whose columns fit `COLUMN_BYTES`."""
    column_bytes = g.oh * g.ow * g.c * g.window * itemsize
    step = max(1, COLUMN_BYTES // column_bytes)
    for start in range(0, g.n, step):
        yield slice(start, min(start + step, g.n))


def halves(images: Array) -> WindowGeometry:
    """Windows of 2x2 that do not overlap."""
    n, c, h, w = images.shape
    return WindowGeometry(n, c, h, w, fh=2, fw=2, stride=2, pad=0, oh=h // 2, ow=w // 2)


def _underflowing(cls: type) -> type:
    """Let each kernel of a class round to 0 what is too small, whatever `np.seterr` says.

    The exponentials of softmax underflow by design. Compiled kernels heed no `np.seterr`; a
    caller who has it raise, to find invalid values and overflows, gets the same from all.
    """
    for name in KERNELS:
        setattr(cls, name, np.errstate(under="ignore")(getattr(cls, name)))
    return cls


@_underflowing
class NumpyBackend(
    Activations, NumpyAugment, AvgPool2dReference, BatchNorm2dReference, GroupedConvolution
):
    """The kernel table in NumPy; see `fastconv.backends.base.Backend` for each contract."""

    name = "numpy"
    layout: Layout = "channels_first"

    def __init__(self) -> None:
        self.short: Short = NumpyShort()

    def configure(self, *, threads: int, math_mode: str, algorithm: str) -> None:
        """Nothing to do: NumPy's own BLAS decides how many threads multiply matrices."""

    def describe(self) -> dict[str, str]:
        return {"numpy": np.__version__, "threads": "decided by NumPy's BLAS"}

    # ---- columns ------------------------------------------------------------------

    def im2col(self, x: Array, geometry: WindowGeometry, col: Array) -> None:
        columns = unfold(x, geometry)
        col.reshape(columns.shape)[...] = columns

    def col2im(self, col: Array, geometry: WindowGeometry, x: Array) -> None:
        g = geometry
        fold(col.reshape(g.n, g.oh, g.ow, g.c, g.fh, g.fw), g, x)

    # ---- convolution --------------------------------------------------------------

    def conv2d_forward(
        self, x: Array, weight: Array, bias: Array, geometry: WindowGeometry, out: Array
    ) -> None:
        g = geometry
        filters = weight.reshape(len(weight), -1).T
        for block in image_blocks(g, x.itemsize):
            columns = unfold(x[block], g)
            images, oh, ow = columns.shape[:3]
            scores = columns.reshape(images * oh * ow, -1) @ filters + bias
            out[block] = scores.reshape(images, oh, ow, -1).transpose(0, 3, 1, 2)

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
        g = geometry
        filters = weight.reshape(len(weight), -1)
        dfilters = np.zeros(filters.shape, x.dtype)
        for block in image_blocks(g, x.itemsize):
            columns = unfold(x[block], g)
            images, oh, ow = columns.shape[:3]
            gradient = dout[block].transpose(0, 2, 3, 1).reshape(images * oh * ow, -1)
            if dweight is not None:
                dfilters += gradient.T @ columns.reshape(images * oh * ow, -1)
            if dx is not None:
                fold((gradient @ filters).reshape(columns.shape), g, dx[block])
        if dweight is not None and dbias is not None:
            dweight[...] = dfilters.reshape(weight.shape)
            dbias[...] = dout.sum(axis=(0, 2, 3))

    # ---- convolution blocks -------------------------------------------------------

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
        images = np.empty(geometry.output_shape(len(weight)), x.dtype)
        self.conv2d_forward(x, weight, bias, geometry, images)
        if residual is not None:
            images += residual
        if relu:
            images[images <= 0] = 0
        if not pool:
            out[...] = images
            return
        position = np.empty(out.shape, np.uint8)
        self.maxpool2d_forward(images, halves(images), out, position)
        if winner is not None:
            winner[...] = np.where(out > 0, position, CLOSED)

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
        images = np.empty(geometry.output_shape(len(weight)), x.dtype)
        if pool:
            self.maxpool2d_backward(dout, cast(Bytes, gate), halves(images), images)
        else:
            images[...] = np.where(gate > 0, dout, 0)
        self.conv2d_backward(images, x, weight, geometry, dx, dweight, dbias)

    # ---- max pooling --------------------------------------------------------------

    def maxpool2d_forward(
        self, x: Array, geometry: WindowGeometry, out: Array, winner: Bytes
    ) -> None:
        # Walk over the places of the window in row-major order, keeping the first that
        # is larger than all before it; a NaN beats every number, and only once.
        g = geometry
        out[...] = -np.inf
        winner[...] = 0
        unset = np.ones(out.shape, bool)
        height, width = reach(g)
        border = [(0, 0), (0, 0), (g.pad, height - g.pad - g.h), (g.pad, width - g.pad - g.w)]
        padded = np.pad(x, border, constant_values=-np.inf)
        inside = np.pad(np.ones((1, 1, g.h, g.w), bool), border)
        for place in range(g.window):
            fy, fx = divmod(place, g.fw)
            rows = slice(fy, fy + g.stride * g.oh, g.stride)
            cols = slice(fx, fx + g.stride * g.ow, g.stride)
            value, real = padded[:, :, rows, cols], inside[:, :, rows, cols]
            better = real & (unset | (value > out) | (np.isnan(value) & ~np.isnan(out)))
            out[better] = value[better]
            winner[better] = place
            unset &= ~real

    def maxpool2d_backward(
        self, dout: Array, winner: Bytes, geometry: WindowGeometry, dx: Array
    ) -> None:
        g = geometry
        places = np.arange(g.window).reshape(g.fh, g.fw)
        won = winner.transpose(0, 2, 3, 1)[..., None, None] == places
        fold(np.where(won, dout.transpose(0, 2, 3, 1)[..., None, None], 0), g, dx)

    # ---- fully connected ----------------------------------------------------------

    def affine_forward(self, x: Array, weight: Array, bias: Array, out: Array) -> None:
        np.matmul(x, weight, out=out)
        out += bias

    def affine_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        dx: Array | None,
        dweight: Array,
        dbias: Array,
    ) -> None:
        if dx is not None:
            np.matmul(dout, weight.T, out=dx)
        np.matmul(x.T, dout, out=dweight)
        np.sum(dout, axis=0, out=dbias)

    # ---- elementwise --------------------------------------------------------------

    def relu_forward(self, x: Array, out: Array, mask: Bytes) -> None:
        mask[...] = x > 0
        out[...] = np.where(x <= 0, 0, x)

    def relu_backward(self, dout: Array, mask: Bytes, dx: Array) -> None:
        dx[...] = np.where(mask, dout, 0)

    # ---- batch normalisation ------------------------------------------------------

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
        np.mean(x, axis=0, out=mean)
        np.subtract(x, mean, out=normalized)
        np.mean(normalized**2, axis=0, out=variance)
        normalized /= np.sqrt(variance + epsilon)
        out[...] = gamma * normalized + beta

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
        out[...] = gamma * ((x - mean) / np.sqrt(variance + epsilon)) + beta

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
        np.sum(dout, axis=0, out=dbeta)
        np.sum(dout * normalized, axis=0, out=dgamma)
        # The mean and the variance depend on x too: their share of the gradient is
        # the part of dout that is constant over the batch, or proportional to normalized.
        centred = dout - (dbeta + normalized * dgamma) / len(dout)
        dx[...] = gamma / np.sqrt(variance + epsilon) * centred

    # ---- softmax with cross-entropy -----------------------------------------------

    def softmax_cross_entropy_forward(
        self, scores: Array, labels: Labels, smoothing: float, probabilities: Array
    ) -> float:
        rows = np.arange(len(labels))
        below = scores - scores.max(axis=1, keepdims=True)
        np.exp(below, out=probabilities)
        totals = probabilities.sum(axis=1, keepdims=True)
        probabilities /= totals
        if smoothing == 0:
            return float(-np.log(probabilities[rows, labels].astype(np.float64) + 1e-7).mean())
        # log(p) = below - log(total), and q sums to 1.
        pulled = (1 - smoothing) * below[rows, labels] + smoothing * below.mean(axis=1)
        return float((np.log(totals[:, 0]) - pulled).mean(dtype=np.float64))

    def softmax_cross_entropy_backward(
        self,
        probabilities: Array,
        labels: Labels,
        smoothing: float,
        scale: float,
        dscores: Array,
    ) -> None:
        rows, everyone = np.arange(len(labels)), smoothing / probabilities.shape[1]
        np.subtract(probabilities, everyone, out=dscores)
        dscores[rows, labels] = probabilities[rows, labels] - (1 - smoothing + everyone)
        dscores *= scale

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
        m += (1 - beta1) * (grad - m)
        v += (1 - beta2) * (grad * grad - v)
        for moment in (m, v):
            moment[np.abs(moment) < np.finfo(moment.dtype).smallest_normal] = 0
        param -= lr * m / (np.sqrt(v) + epsilon)
