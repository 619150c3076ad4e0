"""Convolutions and fully connected layers, forward and input gradient, as calls of kernels.

A fully connected layer is a convolution of 1 x 1 over one image of 1 x N pixels, whose
channels are the features.
"""

from __future__ import annotations

import numpy as np

from ...geometry import WindowGeometry
from ..base import Array
from . import plan, product
from .gate import Gradient
from .memory import addresses, code, workspace
from .plan import Product, WeightLayout
from .team import Team

__all__ = ["affine_geometry", "affine_layout", "conv_layout", "forward", "input_gradient"]


def conv_layout(weight: Array) -> WeightLayout:
    """Layout of (FN, C, FH, FW)."""
    return WeightLayout(len(weight), weight[0].size, 1)


def affine_layout(weight: Array) -> WeightLayout:
    """Layout of (D, M): a column is a filter."""
    return WeightLayout(weight.shape[1], 1, weight.shape[1])


def affine_geometry(x: Array) -> WindowGeometry:
    """x (N, D) as one image of 1 x N pixels."""
    n, d = x.shape
    return WindowGeometry(1, d, 1, n, fh=1, fw=1, stride=1, pad=0, oh=1, ow=n)


def forward(
    team: Team,
    x: Array,
    weight: Array,
    bias: Array,
    g: WindowGeometry,
    layout: WeightLayout,
    out: Array,
) -> None:
    """Output of a convolution of `g`, whose weights lie as `layout` says."""
    shape = team.machine.tile(layout.filters, x.itemsize)
    multiply(team, plan.forward(g, layout, shape[1]), shape, g.n, x, weight, bias, out)


def input_gradient(
    team: Team,
    gradient: Gradient,
    weight: Array,
    g: WindowGeometry,
    layout: WeightLayout,
    dx: Array,
) -> None:
    """Gradient of a convolution's input."""
    shape = team.machine.tile(g.c, dx.itemsize)
    products = plan.input_gradient(g, layout, shape[1])
    if sum(part.rows for part in products) < g.h * g.w:
        dx[...] = 0
    for part in products:
        multiply(team, part, shape, g.n, gradient.dout, weight, None, dx)


def multiply(
    team: Team,
    p: Product,
    shape: tuple[int, int, int],
    images: int,
    x: Array,
    weight: Array,
    bias: Array | None,
    result: Array,
) -> None:
    """Product `p` for each image, in tiles of this shape (lanes, rows, vectors)."""
    lanes, rows, vectors = shape
    width = lanes * vectors
    start = np.zeros(-(-p.columns // width) * width, x.dtype)
    if bias is not None:
        start[: p.columns] = bias
    tiles = len(p.at) // rows
    parts = team.parts(images * tiles * len(start) // lanes * p.terms)
    packed_size = len(start) * p.terms
    _memory, (packed, scratch) = workspace(x.dtype, packed_size, parts * p.frame.size)
    *tables, weights = p.addresses
    arguments = [weight.ctypes.data, packed, weights]
    arguments += [p.columns, p.terms, p.column_step, width]
    team.run(product.pack, (code(x),), arguments, team.parts(packed_size))
    arguments = [x.ctypes.data, scratch, packed, *addresses(start, result), *tables]
    arguments += [images, tiles, p.columns, p.terms, result.size // max(images, 1)]
    arguments += p.frame.numbers
    team.run(product.multiply, (code(x), *shape), arguments, parts)
