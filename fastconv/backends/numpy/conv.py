"""The reference: convolution, and convolution fused with what follows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np

from ...geometry import NO_PADS, WindowGeometry
from ..table import Array, Bytes
from .columns import fold, unfold
from .operands import Operands
from .pool import PoolKernels

__all__ = ["ConvKernels"]

COLUMN_BYTES = 1 << 20
"""Most of the column matrix that is unfolded at a time, unless a single image needs more."""


CLOSED = 4
"""Winner of a 2x2 window that passes no gradient; no place has this number."""


def image_blocks(g: WindowGeometry, itemsize: int) -> Iterator[slice]:
    """Slices of consecutive images whose columns fit `COLUMN_BYTES`."""
    column_bytes = g.oh * g.ow * g.c * g.window * itemsize
    step = max(1, COLUMN_BYTES // column_bytes)
    for start in range(0, g.n, step):
        yield slice(start, min(start + step, g.n))


def halves(images: Array) -> WindowGeometry:
    """Windows of 2x2 that do not overlap."""
    n, c, h, w = images.shape
    return WindowGeometry(n, c, h, w, 2, 2, (2, 2), NO_PADS, oh=h // 2, ow=w // 2)


class ConvKernels(PoolKernels, Operands):
    """Convolution, and convolution fused with what follows it; see `table.Backend`."""

    def conv2d_forward(
        self, x: Array, weight: Array, bias: Array, geometry: WindowGeometry, out: Array
    ) -> None:
        g = geometry
        x, weight = self._operand(x), self._operand(weight)
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
        x, weight, factor = self._operand(x), self._operand(weight), self._operand(dout)
        filters = weight.reshape(len(weight), -1)
        dfilters = np.zeros(filters.shape, x.dtype)
        for block in image_blocks(g, x.itemsize):
            columns = unfold(x[block], g)
            images, oh, ow = columns.shape[:3]
            gradient = factor[block].transpose(0, 2, 3, 1).reshape(images * oh * ow, -1)
            if dweight is not None:
                dfilters += gradient.T @ columns.reshape(images * oh * ow, -1)
            if dx is not None:
                fold((gradient @ filters).reshape(columns.shape), g, dx[block])
        if dweight is not None and dbias is not None:
            dweight[...] = dfilters.reshape(weight.shape)
            dbias[...] = dout.sum(axis=(0, 2, 3))

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
