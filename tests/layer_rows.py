"""Rows of layers with weights as training leaves them: each layer, and each way of the kernels."""

from __future__ import annotations

import numpy as np

from fastconv.layers import (
    AdaptiveAveragePooling,
    Affine,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Branches,
    Chain,
    Convolution,
    Dropout,
    Elu,
    Gelu,
    GlobalAveragePooling,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Relu,
    Shortcut,
    Sigmoid,
    Silu,
    Subsampling,
    Tanh,
)

__all__ = ["ROWS", "SHAPE", "Draw", "convolutions", "dense", "grouped"]


class Draw:
    """Layers with weights as training leaves them."""

    def __init__(self, dtype) -> None:
        self.dtype = np.dtype(dtype)
        self.rng = np.random.default_rng(3)

    def numbers(self, *shape, low=None):
        if low is None:
            return self.rng.standard_normal(shape).astype(self.dtype)
        return self.rng.uniform(low, low + 1, shape).astype(self.dtype)

    def conv(self, filters, channels, size=3, stride=1, pad=1, **more):
        per_group = channels // more.get("groups", 1)
        weight = self.numbers(filters, per_group, size, size) / self.dtype.type(size**2)
        return Convolution(weight, self.numbers(filters), stride, pad, **more)

    def norm(self, c, kind=BatchNormalization2d):
        layer = kind(self.numbers(c, low=0.5), self.numbers(c))
        layer.running_mean, layer.running_var = self.numbers(c), self.numbers(c, low=0.5)
        return layer

    def affine(self, features, units):
        return Affine(
            self.numbers(features, units) / self.dtype.type(features), self.numbers(units)
        )


def convolutions(draw):
    """Alone, with a ReLU, with pooling too, with a sum; directly only, and by any algorithm."""
    return [
        draw.conv(18, 3, 5, 2, 2),
        draw.conv(17, 18, pad=((0, 2), (1, 1))),
        *(draw.conv(18, 17, pad="same"), Relu()),
        *(draw.conv(19, 18), Relu(), Pooling(2, 2, 2)),
        *(draw.conv(19, 19), draw.norm(19), Relu()),
        *(Shortcut([Chain([draw.conv(19, 19), draw.norm(19)])]), Relu()),
        draw.conv(21, 19, 1, 1, 0),
    ]


def pools(draw):
    return [
        Pooling(2, 2, 2),
        Pooling(3, 3, (2, 1), ((1, 2), (0, 2))),
        AveragePooling(2, 2, 1, "same", count_padding=False),
        AveragePooling(3, 3, 2, 1, ceil_mode=True, count_padding=False),
        AdaptiveAveragePooling(3, 2),
        GlobalAveragePooling(),
    ]


def joins(draw):
    """Branches, also of what moves numbers alone, and shortcuts of several kinds."""
    return [
        Branches(
            [
                draw.conv(5, 3, 1, 1, 0),
                Chain([draw.conv(4, 3), Relu(), draw.conv(3, 4), Relu()]),
                Chain([Pooling(3, 3, 1, 1), Dropout(0.3)]),
                Subsampling(1, 2),
            ]
        ),
        Dropout(0.5),
        Shortcut([Chain([draw.conv(20, 16, 3, 2), draw.norm(20)]), Subsampling(2, 4)]),
        Relu(),
        draw.norm(20),
        Relu(),
        Shortcut([draw.norm(20)]),
        Dropout(0.25),
    ]


def grouped(draw):
    """Groups merged and not, depthwise, phases, and taps of one group; two strides."""
    return [
        draw.conv(32, 3),
        draw.conv(32, 32, groups=8),
        draw.conv(64, 32, 3, 2, groups=2),
        draw.conv(64, 64, groups=64),
        draw.conv(6, 64, pad=2, dilation=2),
        draw.conv(5, 6, 3, 2, 2, dilation=2),
        draw.conv(7, 5, 3, (1, 2), "same"),
    ]


def elementwise(draw):
    return [
        LocalResponseNormalization(),
        *(LeakyRelu(0.1), Elu(0.7), Gelu(), Silu(), Tanh(), Sigmoid(), Relu()),
        LocalResponseNormalization(3, 0.2, 0.5, 2.0),
        draw.norm(3 * 13 * 11, BatchNormalization),
    ]


def dense(draw):
    """A long sum, which is cut, and a short one; a shortcut of features."""
    return [
        draw.affine(3 * 13 * 11, 33),
        draw.norm(33, BatchNormalization),
        *(Relu(), Dropout(0.5), draw.affine(33, 10)),
        *(Shortcut([draw.affine(10, 10)]), Dropout(0.5, inverted=True)),
    ]


ROWS = [convolutions, pools, joins, grouped, elementwise, dense]

SHAPE = (2, 3, 13, 11)
"""Of the images that all rows take."""
