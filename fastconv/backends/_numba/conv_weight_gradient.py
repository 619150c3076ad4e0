"""Weight gradients of convolutions and fully connected layers, as calls of kernels."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ...geometry import WindowGeometry
from ..algorithms import Algorithm
from ..table import Array
from . import conv_sparse_gradient, offsets, product, winograd_gradient
from .conv import SIDES
from .gate import Incoming
from .launch.machine import Machine
from .launch.memory import code, workspace
from .launch.team import Team
from .move import clear
from .offsets import Product, Table, WeightLayout
from .words.pointer import LINE

__all__ = ["weight_gradient"]

SUMS_BYTES = 1 << 22
"""Memory for separate sums of each thread in a weight gradient; beyond it, threads share sums.

Each thread then lays out every image for itself, which takes less time than going through
twice as many sums for every image.
"""

LEAST_CHUNK, MOST_CHUNK = 96, 128
"""Tiles in one partial sum of Winograd's algorithm."""

CHUNK_BYTES = 1 << 19
"""For the transformed tiles of one chunk, which must leave space in the second cache."""

WINDOW_BYTES = 1 << 16
"""For the pixels of adjacent tiles, before they are transformed."""

FRAME_BYTES = 20 << 10
"""For what the sparse kernel reads repeatedly, which must leave space in the first cache."""


def weight_gradient(
    team: Team,
    algorithm: Algorithm,
    incoming: Incoming,
    x: Array,
    g: WindowGeometry,
    layout: WeightLayout,
    dweight: Array,
    dbias: Array,
) -> None:
    """Gradients of a convolution's weights and bias."""
    if not incoming.dout.size:
        clear(team, dweight, dbias)
    elif algorithm == "sparse":
        _sparse(team, incoming, x, g, layout, dweight, dbias)
    elif algorithm in SIDES:
        _winograd(team, *SIDES[algorithm], incoming, x, g, layout, dweight, dbias)
    else:
        _direct(team, incoming, x, g, layout, dweight, dbias)


def up(count: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-count // step) * step


def teams(parts: int, images: int, group_bytes: int) -> int:
    """How many groups of threads have separate sums, each over some of the images."""
    return max(1, min(parts, images, SUMS_BYTES // group_bytes))


# ---- all gradients ----------------------------------------------------------------------


def taps_tile(machine: Machine, filters: int, taps: int, itemsize: int) -> tuple[int, int, int]:
    """Lanes, rows and vectors of the register tile for a product of `taps` rows."""
    lanes, rows, vectors = machine.tile(filters, itemsize)
    # With few channels, rows missing in the last tile cost much. 3 x 3 filters fill 9 rows.
    if 10 * vectors < machine.registers and -taps % 9 < -taps % rows:
        rows = 9
    return lanes, rows, vectors


@lru_cache(maxsize=256)
def dense_rows(count: int, whole: int) -> Table:
    """Where the rows of a matrix of `whole` columns begin."""
    return np.arange(count) * whole


def _direct(
    team: Team,
    incoming: Incoming,
    x: Array,
    g: WindowGeometry,
    layout: WeightLayout,
    dweight: Array,
    dbias: Array,
) -> None:
    """Sums of the products of taps and filters over all pixels of all images."""
    shape = taps_tile(team.machine, layout.filters, g.c * g.window, x.itemsize)
    lanes, rows, vectors = shape
    p = offsets.forward(g, layout, rows)
    width = lanes * vectors
    whole = up(p.columns, width)
    tiles = len(p.along) // rows
    parts = team.parts(g.n * p.rows * len(p.along) * whole // lanes)
    group_size = (len(p.along) + 1) * whole
    groups = teams(parts, g.n, group_size * x.itemsize)
    # A chunk of pixels: rows of about equal number, or a piece of one row.
    across = min(g.ow, product.CHUNK)
    band = -(-g.oh // -(-g.oh * across // product.CHUNK)) if across == g.ow else 1
    _memory, (scratch, gated, sums) = workspace(
        x.dtype, parts * p.frame.size, parts * band * across * whole, groups * group_size
    )
    zeros = np.zeros(width, x.dtype)
    frame = {"x": x, "framed": p.frame.size > 0, "scratch": scratch, **p.frame.fields}
    # A row of this product is a tap, and a term a pixel.
    taps = {"tiles": tiles, "at": p.tables["along"], "along": p.tables["at"]}
    cut = {"gated": gated, "band": band, "across": across, "columns": p.columns}
    kept: dict[str, Any] = {"sums": sums, "groups": groups}
    fields = frame, taps, dout_fields(incoming, g), cut, kept, {"zeros": zeros}
    team.run(product.accumulate, (code(x), *shape), parts, *fields)
    kept |= {"group_size": group_size, "step": 1, "bias": group_size - whole}
    kept["at"] = dense_rows(p.terms, whole)
    put_gradients(team, p, kept, dweight, dbias, team.parts(groups * group_size))


def dout_fields(incoming: Incoming, g: WindowGeometry) -> dict[str, Any]:
    """What kernels take of the gradient of all images."""
    dout, sizes = incoming.dout, {"images": g.n, "oh": g.oh, "ow": g.ow}
    return {"dout": dout, "dout_size": dout.size // g.n, **sizes, **incoming.fields}


def put_gradients(
    team: Team, p: Product, sums: dict[str, Any], dweight: Array, dbias: Array, parts: int
) -> None:
    """Put the groups' sums where the gradients are."""
    gradients = {"dweight": dweight, "dbias": dbias, "places": p.tables["weights"]}
    sizes = {"count": p.terms, "columns": p.columns, "column_step": p.column_step}
    team.run(product.collect, (code(dweight),), parts, sums, gradients, sizes)


# ---- Winograd's algorithm ---------------------------------------------------------------


def channels_tile(
    machine: Machine, filters: int, channels: int, itemsize: int
) -> tuple[int, int, int]:
    """Lanes, rows and vectors of the register tile for a product of `channels` rows."""
    lanes, rows, vectors = machine.tile(filters, itemsize)
    rows = min(rows, 8)
    # Common numbers of channels are multiples of 4 and 8; 6 rows must not leave much over.
    if 20 * up(channels, rows) > 21 * up(channels, 4):
        rows = 4
    return lanes, rows, vectors


def _winograd(
    team: Team,
    my: int,
    mx: int,
    incoming: Incoming,
    x: Array,
    g: WindowGeometry,
    layout: WeightLayout,
    dweight: Array,
    dbias: Array,
) -> None:
    """Sums over tiles of my x mx pixels, transformed."""
    lanes, rows, vectors = channels_tile(team.machine, layout.filters, g.c, x.itemsize)
    frequencies = (my + 2) * (mx + 2)
    width = lanes * vectors
    whole = up(layout.filters, width)
    depth = up(up(g.c, rows), lanes)
    tiles = -(-g.oh // my) * -(-g.ow // mx)
    parts = team.parts(g.n * tiles * frequencies * g.c * whole // lanes)
    group_size = (frequencies * depth + 1) * whole
    groups = teams(parts, g.n, group_size * x.itemsize)
    most = -(-g.n // groups) * tiles
    chunk = CHUNK_BYTES // (frequencies * (depth + whole) * x.itemsize)
    chunk = min(max(LEAST_CHUNK, min(chunk, MOST_CHUNK)), most)
    chunk = -(-most // -(-most // chunk))
    line = LINE // x.itemsize
    # Adjacent tiles that share one stretch of pixels.
    pixel_bytes = ((my + 2) * depth + my * whole) * x.itemsize
    run = max(1, min(WINDOW_BYTES // (mx * pixel_bytes), -(-g.ow // mx)))
    patch_size = (my + 2) * (mx * run + 2) * depth + my * mx * run * whole
    _memory, (patches, v, d, sums) = workspace(
        x.dtype,
        parts * patch_size,
        parts * frequencies * (chunk * depth + line),
        parts * frequencies * (chunk * whole + line),
        groups * group_size,
    )
    zeros = np.zeros(width, x.dtype)
    images = {"x": x, "channels": g.c, "height": g.h, "width": g.w}
    images |= {"top": g.pads.top, "left": g.pads.left}
    memory = {"patches": patches, "v": v, "d": d, "zeros": zeros, "filters": layout.filters}
    cut = {"chunk": chunk, "run": run, "patch_size": patch_size, "line": line}
    kept = {"sums": sums, "groups": groups, "depth": depth, "whole": whole}
    fields = images, dout_fields(incoming, g), memory, cut, kept
    constants = (code(x), lanes, rows, vectors, my, mx)
    team.run(winograd_gradient.accumulate_winograd, constants, parts, *fields)
    parts = team.parts(groups * group_size)
    team.run(winograd_gradient.gather_winograd, (code(x), lanes, my, mx), parts, kept)
    p, rows_at = offsets.forward(g, layout, 1), winograd_rows(g.c, depth, whole)
    gathered: dict[str, Any] = {"sums": sums, "groups": 1, "group_size": group_size}
    gathered |= {"at": rows_at, "step": 1, "bias": group_size - whole}
    put_gradients(team, p, gathered, dweight, dbias, team.parts(p.terms * whole))


@lru_cache(maxsize=256)
def winograd_rows(channels: int, depth: int, whole: int) -> Table:
    """Where the taps (fy, fx, c) are in [tap][depth][whole]."""
    return np.add.outer(np.arange(9) * depth * whole, np.arange(channels) * whole).ravel()


# ---- winners alone ----------------------------------------------------------------------


@lru_cache(maxsize=256)
def sparse_rows(channels: int, width: int) -> Table:
    """Where the taps (fy, fx, c) are in one filter's sums, [block][fy][fx][width]."""
    block, lane = np.divmod(np.arange(channels), width)
    return np.add.outer(np.arange(9) * width, block * 9 * width + lane).ravel()


def _sparse(
    team: Team,
    incoming: Incoming,
    x: Array,
    g: WindowGeometry,
    layout: WeightLayout,
    dweight: Array,
    dbias: Array,
) -> None:
    """Sums over the winners of 2x2 windows."""
    n, filters, down, across = incoming.dout.shape
    lanes = team.machine.lanes(x.itemsize)
    vectors = 2 if team.machine.registers == 32 and g.c > lanes else 1
    width = lanes * vectors
    blocks = -(-g.c // width)
    parts = team.parts(incoming.dout.size * 9 * blocks * vectors)
    group_size = filters * (blocks * 9 * width + 1)
    groups = teams(parts, n, group_size * x.itemsize)
    # As many windows as fit a frame of FRAME_BYTES: rows of one image, or several images.
    row_bytes = (2 * g.stride * across - g.stride + 3) * width * x.itemsize
    whole_bytes = (2 * g.stride * down - g.stride + 3) * row_bytes
    together = max(1, min(FRAME_BYTES // whole_bytes, n // groups))
    band = max(1, (FRAME_BYTES // row_bytes + g.stride - 3) // (2 * g.stride))
    band = -(-down // -(-down // band))
    frame_size = (2 * g.stride * band - g.stride + 3) * row_bytes // x.itemsize
    entries = parts * (together * band * across + lanes) * filters
    _memory, (frames, gradients, sums) = workspace(
        x.dtype, parts * together * frame_size, entries, groups * group_size
    )
    _memory_of_ints, (places, counts) = workspace(
        np.dtype(np.int32), entries, parts * (filters + conv_sparse_gradient.PLACES)
    )
    zeros = np.zeros(width, x.dtype)
    images = {"x": x, "images": n, "channels": g.c, "height": g.h, "width": g.w}
    images |= {"stride": g.stride, "top": g.pads.top, "left": g.pads.left, "zeros": zeros}
    windows = {"dout": incoming.dout, "winner": incoming.gate, "down": down, "across": across}
    memory = {"frames": frames, "gradients": gradients, "places": places, "counts": counts}
    cut = {"filters": filters, "band": band, "together": together}
    kept: dict[str, Any] = {"sums": sums, "groups": groups}
    fields = images, windows, memory, cut, kept
    team.run(conv_sparse_gradient.accumulate_sparse, (code(x), lanes, vectors), parts, *fields)
    p, step = offsets.forward(g, layout, 1), blocks * 9 * width
    kept |= {"group_size": group_size, "step": step, "bias": filters * step}
    kept["at"] = sparse_rows(g.c, width)
    put_gradients(team, p, kept, dweight, dbias, team.parts(groups * group_size))
