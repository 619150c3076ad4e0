"""Grouped convolution on the Numba kernels: their glue."""

from __future__ import annotations

import numpy as np

from ._numba import depthwise, grouped
from ._numba.memory import addresses, code
from ._numba.team import Team
from .base import Array
from .grouped import GroupedConvolution, up
from .window_tables import Runs, Tables

__all__ = ["NumbaGrouped"]


class NumbaGrouped(GroupedConvolution):
    """The four kernels that `GroupedConvolution` asks for."""

    _team: Team

    def _vector(self, itemsize: int) -> int:
        return self._team.machine.lanes(itemsize)

    def _depthwise(
        self, source: Array, taps: Array, start: Array, r: Runs, lines: int, target: Array
    ) -> None:
        n, c, height, width = target.shape
        lanes = self._vector(source.itemsize)
        begin = np.zeros(up(c, lanes), source.dtype)
        begin[:c] = start
        row = source.shape[3] * c
        arguments = addresses(source, taps, begin, target, r.rows, r.columns)
        arguments += [n, height, len(r.columns), source.shape[2] * row, width * c]
        arguments += [c, taps.shape[1], lines, row]
        arguments += [r.target_step, r.source_step, r.tap_step, r.tap_source]
        parts = min(self._team.parts(target.size), n * height)
        self._team.run(depthwise.depthwise, (code(source), lanes), arguments, parts)

    def _depthwise_sums(self, dout: Array, x: Array, r: Runs, window: tuple[int, int]) -> Array:
        n, c, height, width = dout.shape
        taps = window[0] * window[1]
        lanes = self._vector(x.itemsize)
        parts = min(self._team.parts(dout.size * taps // lanes), n * height)
        images, totals = np.empty((2, parts, taps + 1, up(c, lanes)), x.dtype)
        row = x.shape[3] * c
        arguments = addresses(dout, x, images, totals, r.rows, r.columns)
        arguments += [n, height, len(r.columns), x.shape[2] * row, width * c, totals[0].size]
        arguments += [c, totals.shape[2], window[1], row, r.source_step, r.tap_source]
        self._team.run(depthwise.depthwise_sums, (code(x), lanes), arguments, parts)
        return totals[:, :, :c]

    def _taps(self, source: Array, taps: Array, start: Array, t: Tables, target: Array) -> None:
        n, channels, height, width = target.shape
        shape = self._team.machine.tile(channels // len(taps), source.itemsize)
        parts = min(self._team.parts(n * height * width * taps.size // shape[0]), n * height)
        zeros, spare = self._tile_memory(source, shape, parts)
        row = source.shape[1] * source.shape[3]
        arguments = addresses(source, taps, start, zeros, spare, target, t.rows, t.columns)
        arguments += [n, height, width, len(taps), t.rows.shape[1], len(t.columns)]
        arguments += [taps.shape[3], source.shape[1], row, source.shape[2] * row, channels]
        arguments += [t.source_step, t.target_step]
        self._team.run(grouped.grouped, (code(source), *shape), arguments, parts)

    def _taps_sums(self, dout: Array, x: Array, groups: int, t: Tables) -> tuple[Array, Array]:
        n, filters, height, width = dout.shape
        lanes, rows, vectors = self._team.machine.tile(filters // groups, x.itemsize)
        if filters // groups % (lanes * vectors):  # vectors of dout are read whole
            vectors = 1
        volume = x.shape[1] // groups * filters * t.rows.shape[1] * len(t.columns)
        parts = min(self._team.parts(n * height * width * volume // lanes), n * height)
        sums, totals = np.empty((parts, volume), x.dtype), np.empty((parts, filters), x.dtype)
        shape = (lanes, rows, vectors)
        zeros, spare = self._tile_memory(x, shape, parts)
        row = x.shape[1] * x.shape[3]
        arguments = addresses(dout, x, zeros, spare, sums, totals, t.rows, t.columns)
        arguments += [n, height, width, groups, t.rows.shape[1], len(t.columns)]
        arguments += [x.shape[1], row, x.shape[2] * row, filters, t.source_step]
        self._team.run(grouped.grouped_sums, (code(x), *shape), arguments, parts)
        return sums, totals

    def _tile_memory(
        self, like: Array, shape: tuple[int, int, int], parts: int
    ) -> tuple[Array, Array]:
        """Zeros to start a tile from, and for each part memory of a tile."""
        lanes, rows, vectors = shape
        width = lanes * vectors
        return np.zeros(width, like.dtype), np.empty((parts, rows, width), like.dtype)
