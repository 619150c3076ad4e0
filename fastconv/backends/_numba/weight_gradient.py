"""Weight gradients of convolutions and fully connected layers, as calls of kernels."""

from __future__ import annotations

import numpy as np

from ...geometry import WindowGeometry
from ..algorithms import Algorithm
from ..base import Array
from . import gate, plan, product
from .gate import Incoming
from .memory import addresses, code, workspace
from .plan import WeightLayout
from .team import Team

__all__ = ["weight_gradient"]

SUMS_BYTES = 1 << 26
"""Memory for the threads' own sums of a weight gradient; where it is full, they share."""


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
    if incoming.kind != gate.NO_GATE:
        incoming = opened(team, incoming, g, layout.filters)
    _direct(team, incoming.dout, x, g, layout, dweight, dbias)


def opened(team: Team, incoming: Incoming, g: WindowGeometry, filters: int) -> Incoming:
    """The gradient with its gate applied."""
    dout, closed, kind = incoming
    images = np.empty((g.n, g.oh, g.ow, filters), dout.dtype)
    arguments = [*addresses(dout, closed, images), kind]
    arguments += [g.n, g.oh, g.ow, filters, dout.size // max(g.n, 1)]
    constants = (code(dout), team.machine.lanes(dout.itemsize))
    team.run(gate.gated_images, constants, arguments, team.parts(images.size))
    return Incoming(images)


def _direct(
    team: Team,
    dout: Array,
    x: Array,
    g: WindowGeometry,
    layout: WeightLayout,
    dweight: Array,
    dbias: Array,
) -> None:
    """Sums of the products of taps and filters over all pixels of all images."""
    shape = lanes, rows, vectors = team.machine.tile(layout.filters, x.itemsize)
    p = plan.forward(g, layout, rows)
    width = lanes * vectors
    whole = -(-p.columns // width) * width
    tiles = len(p.along) // rows
    parts = team.parts(g.n * p.rows * len(p.along) * whole // lanes)
    right_size = p.rows * whole if whole > p.columns else 0
    group_size = (len(p.along) + 1) * whole
    groups = max(1, min(parts, g.n, SUMS_BYTES // (group_size * x.itemsize)))
    _memory, (scratch, right, sums) = workspace(
        x.dtype, parts * p.frame.size, parts * right_size, groups * group_size
    )
    zeros = np.zeros(width, x.dtype)
    at, along, _, weights = p.addresses
    arguments = [x.ctypes.data, scratch, dout.ctypes.data, right, zeros.ctypes.data, sums]
    arguments += [along, at]
    arguments += [g.n, tiles, p.columns, p.rows, groups, *p.frame.numbers]
    team.run(product.accumulate, (code(x), *shape), arguments, parts)
    arguments = [sums, *addresses(dweight, dbias), weights]
    arguments += [groups, group_size, p.terms, p.columns, whole, p.column_step]
    team.run(product.collect, (code(x),), arguments, team.parts(groups * group_size))
