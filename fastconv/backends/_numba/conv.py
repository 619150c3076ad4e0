"""Convolutions and fully connected layers, forward and input gradient, as calls of kernels.

A fully connected layer is a convolution of 1 x 1 over one image of 1 x N pixels, whose
channels are the features.
"""

from __future__ import annotations

import numpy as np

from ...geometry import NO_PADS, WindowGeometry
from ..algorithms import Algorithm
from ..table import Array
from . import offsets, product
from . import winograd as kernels
from .conv_few_channels import few_channels
from .gate import NO_GATE, POOL_GATE, Incoming, Outgoing
from .launch.memory import code, deal, lasting, workspace
from .launch.team import Team
from .move import clear, put
from .offsets import Product, WeightLayout
from .winograd import transform_filters
from .winograd_tiling import tiling

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
    return WindowGeometry(1, d, 1, n, 1, 1, (1, 1), NO_PADS, oh=1, ow=n)


SIDES = {"winograd2": (2, 2), "winograd2x4": (2, 4), "winograd4": (4, 4)}
"""Height and width of the tiles, by algorithm."""

LONGEST_SUM = 256
"""Products of one sum: longer sums lose digits, and are cut.

Cython's may have 192 (`_cython/product.pxi`): each limit was measured on its own kernels.
"""

LONGEST_PART = 128
"""Most products of each part that a longer sum is cut into."""


def forward(
    team: Team,
    algorithm: Algorithm,
    x: Array,
    weight: Array,
    bias: Array,
    g: WindowGeometry,
    layout: WeightLayout,
    outgoing: Outgoing,
) -> None:
    """Output of a convolution of `g`, whose weights have this layout."""
    if algorithm in SIDES:
        p = offsets.forward(g, layout, 1)
        size = g.oh, g.ow
        winograd(team, SIDES[algorithm], p, size, g.n, Incoming(x), weight, bias, outgoing)
        return
    pooled = outgoing.kind == POOL_GATE
    lanes, rows, vectors = team.machine.tile(layout.filters, x.itemsize)
    if pooled:
        rows -= rows % 4
    p = offsets.forward(g, layout, rows, pooled)
    multiply(team, p, (lanes, rows, vectors), g.n, Incoming(x), weight, bias, outgoing)


def input_gradient(
    team: Team,
    algorithm: Algorithm,
    incoming: Incoming,
    weight: Array,
    g: WindowGeometry,
    layout: WeightLayout,
    dx: Array,
) -> None:
    """Gradient of a convolution's input."""
    if algorithm in SIDES:
        (p,) = offsets.input_gradient(g, layout, 1)
        size = g.h, g.w
        winograd(team, SIDES[algorithm], p, size, g.n, incoming, weight, None, Outgoing(dx))
        return
    # As in _cython/conv_input_gradient.pxi, except for 1 x 1, which has no taps to add up.
    if 2 * g.c <= team.machine.lanes(dx.itemsize) and g.window > 1:
        few_channels_gradient(team, incoming, weight, g, dx)
        return
    shape = team.machine.tile(g.c, dx.itemsize)
    products = offsets.input_gradient(g, layout, shape[1])
    if sum(part.rows for part in products) < g.h * g.w:
        clear(team, dx)
    for part in products:
        multiply(team, part, shape, g.n, incoming, weight, None, Outgoing(dx))


def few_channels_gradient(
    team: Team, incoming: Incoming, weight: Array, g: WindowGeometry, dx: Array
) -> None:
    """`input_gradient` where the input's channels fill less than half a vector."""
    if not dx.size:
        return
    lanes, most, vectors = team.machine.tile(g.ow, dx.itemsize)
    taps, filters = g.window * g.c, len(weight)
    # One of two numbers of rows, so that not every window has a kernel of its own to be compiled.
    rows = min(most, most // 2, key=lambda rows: -(-taps // rows) * rows)
    width, values = -(-g.ow // (lanes * vectors)) * lanes * vectors, -(-taps // rows) * rows
    packed = np.zeros((filters, values), dx.dtype)
    filter_shape = filters, g.fh, g.fw, g.c
    put(team, packed[:, :taps].reshape(filter_shape), weight.transpose(0, 2, 3, 1))
    zeros = np.zeros(lanes * vectors, dx.dtype)
    bands = -(-team.threads // g.n)
    work = g.n * g.oh * width * filters * values // lanes
    parts = min(team.parts(work), g.n * bands)
    scratch_size = g.ow * filters + (filters + values) * width
    _memory, (scratch,) = workspace(dx.dtype, parts * scratch_size)
    dout, constants = incoming.dout, (code(dx), lanes, rows, vectors)
    images = {"dout": dout, "dout_size": dout.size // g.n, "dx": dx}
    weights = {"packed": packed, "filters": filters, "values": values, "zeros": zeros}
    cut = {"scratch": scratch, "row_width": width, "bands": bands, **offsets.windows(g)}
    team.run(few_channels, constants, parts, images, incoming.fields, weights, cut)


def winograd(
    team: Team,
    sides: tuple[int, int],
    p: Product,
    size: tuple[int, int],
    images: int,
    incoming: Incoming,
    weight: Array,
    bias: Array | None,
    outgoing: Outgoing,
) -> None:
    """Product `p` of 3x3 filters for each image of `size` outputs, in tiles of these sides."""
    x, out, frame = incoming.dout, outgoing.out, p.frame
    if not out.size:
        return
    shape = lanes, _, vectors = team.machine.tile(p.columns, x.itemsize)
    width, depth, frequencies = lanes * vectors, frame.channels, (sides[0] + 2) * (sides[1] + 2)
    height, across = size
    if outgoing.kind == POOL_GATE:
        height, across = height // 2 * 2, across // 2 * 2
    blocks = -(-p.columns // width)
    cut = tiling(sides, images, height, across, depth, blocks, shape, x.itemsize, team.threads)
    work = images * cut.down * cut.across * frequencies * depth * blocks * vectors
    parts = min(team.parts(work), cut.units)
    start = np.zeros((3, blocks * width), x.dtype)  # bias, what empty windows give, zeros
    if bias is not None:
        put(team, start[:2, : p.columns], np.broadcast_to(bias, (2, p.columns)))
    looking = bias is not None and sides != (2, 2)  # for empty windows
    filters_size = frequencies * blocks * width * depth
    transforming = team.parts(filters_size)
    _filters, filters = lasting(x.dtype, filters_size)
    _memory, (taps, scratch) = workspace(x.dtype, transforming * 9 * width, parts * cut.scratch)
    transformed = {"filters": filters, "columns": p.columns, "depth": depth}
    empty = {"looking": looking, "of_empty": start[1]}
    given = {"weight": weight, "along": p.tables["weights"], "column_step": p.column_step}
    given["taps"] = taps
    constants, of_weights = (code(x), lanes, vectors, *sides), (given, transformed, empty)
    team.run(transform_filters, constants, transforming, *of_weights, of_weights=True)
    read = {"x": x, "x_size": x.size // images, "images": images}
    window = {"height": frame.height, "width": frame.width, "top": frame.top, "left": frame.left}
    sums = {"bias": start[0], "zeros": start[2]}
    memory = {"scratch": scratch, "scratch_bytes": scratch, "scratch_ints": scratch}
    shares = {"shares": deal(cut.units, parts), **cut.fields}
    written = {"out_height": out.shape[2], "out_width": out.shape[3], **outgoing.fields}
    team.run(
        *(kernels.winograd, (code(x), *shape, *sides), parts),
        *(read, incoming.fields, window, transformed, sums, empty, memory, shares, written),
        note="input_gradient" if bias is None else "forward",
    )


def multiply(
    team: Team,
    p: Product,
    shape: tuple[int, int, int],
    images: int,
    incoming: Incoming,
    weight: Array,
    bias: Array | None,
    outgoing: Outgoing,
) -> None:
    """Product `p` for each image, in tiles of this shape (lanes, rows, vectors)."""
    x, out = incoming.dout, outgoing.out
    if not out.size:
        return
    lanes, rows, vectors = shape
    width = lanes * vectors
    start, zeros = np.zeros(-(-p.columns // width) * width, x.dtype), np.zeros(width, x.dtype)
    if bias is not None:
        put(team, start[: p.columns], bias)
    tiles = len(p.at) // rows
    parts = team.parts(images * tiles * len(start) // lanes * p.terms)
    framed = p.frame.size > 0 or incoming.kind != NO_GATE
    frame_size = p.frame.area * p.frame.channels if framed else 0
    _packed, packed = lasting(x.dtype, len(start) * p.terms)
    _memory, (scratch, total) = workspace(x.dtype, parts * frame_size, parts * rows * width)
    tables = dict(p.tables)
    block = {"packed": packed, "columns": p.columns, "count": p.terms}
    given = {"source": weight, "along": tables.pop("weights"), "column_step": p.column_step}
    packing = team.parts(len(start) * p.terms)
    given["width"] = width
    team.run(product.pack, (code(x),), packing, given, block, of_weights=True)
    read = {"x": x, "x_size": x.size // images, "images": images}
    frame = {"framed": framed, "scratch": scratch, **p.frame.fields}
    chunks = -(-p.terms // LONGEST_PART) if p.terms > LONGEST_SUM else 1
    sums = {"bias": start, "zeros": zeros, "total": total}
    sums |= {"chunks": chunks, "chunk": -(-p.terms // chunks)}
    written = {"tiles": tiles, "out_size": out.size // images, **outgoing.fields}
    factory = product.multiply_pooled if outgoing.kind == POOL_GATE else product.multiply
    team.run(
        *(factory, (code(x), *shape), parts),
        *(read, incoming.fields, frame, tables, block, sums, written),
        note="input_gradient" if bias is None else "forward",
    )
