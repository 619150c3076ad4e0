"""Grouped convolution on the Numba kernels: their glue."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._numba import grouped, grouped_depthwise
from .._numba.launch.memory import addresses, code, workspace
from .._numba.launch.recording import recording
from .._numba.move import move_to
from ..shared.grouped import GroupedConvolution, up
from ..shared.window_tables import Runs, Table, Tables
from ..table import Array
from .launched import LaunchedKernels

__all__ = ["GroupedKernels"]


class GroupedKernels(LaunchedKernels, GroupedConvolution):
    """The four kernels that `GroupedConvolution` asks for."""

    def _vector(self, itemsize: int) -> int:
        return self._team.machine.lanes(itemsize)

    def _most_threads(self) -> int:
        return self._team.threads

    def _copy(self, source: Array, out: Array) -> None:
        if recording() is None:
            super()._copy(source, out)
        else:
            move_to(self._team, out, source)

    def _by_values(
        self, images: Array, finite: Callable[[], None], otherwise: Callable[[], None]
    ) -> None:
        to = recording()
        if to is None:
            super()._by_values(images, finite, otherwise)
            return
        # Record both; at each run a flag decides which of them runs.
        flag = np.ones(1, np.int64)
        to.put_back(flag)
        self._run(
            *(grouped.look_for_others, (code(images),), images.size),
            *(*addresses(images, flag), images.size),
        )
        with to.only_if(flag, 1):
            finite()
        with to.only_if(flag, 0):
            otherwise()

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
        self._team.run(grouped_depthwise.depthwise, (code(source), lanes), arguments, parts)

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
        self._team.run(grouped_depthwise.depthwise_sums, (code(x), lanes), arguments, parts)
        return totals[:, :, :c]

    def _taps(
        self, source: Array, taps: Array, start: Array, t: Tables, cut: Table, target: Array
    ) -> None:
        images, channels, _, columns = target.shape
        groups, _, depth, width = taps.shape
        shape = self._tile(width, source.itemsize)
        work = target.size // channels * taps.size // shape[0]
        parts = min(self._team.parts(work), images * len(cut))
        source_pixels, target_pixels = band_pixels(cut, t, target)
        size = source_pixels * depth + target_pixels * width
        zeros = np.zeros(width, source.dtype)
        _memory, scratch = workspace(source.dtype, parts * size)
        arguments = [*addresses(source, taps, start, zeros), *scratch, *addresses(target)]
        arguments += addresses(t.rows, t.columns, cut)
        arguments += [images, len(cut), groups, t.rows.shape[1], len(t.columns), width]
        arguments += [source.shape[1], source.shape[3], source[0].size, t.source_step]
        arguments += [channels, columns, target[0].size, t.target_step]
        arguments += [source_pixels, target_pixels, t.joined, t.left, t.frame]
        self._team.run(grouped.grouped, (code(source), *shape), arguments, parts)

    def _taps_sums(
        self, dout: Array, x: Array, t: Tables, cut: Table, shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        images, filters, _, columns = dout.shape
        groups, taps, depth, width = shape
        tile = self._tile(width, x.itemsize)
        work = dout.size // filters * groups * taps * depth * width // tile[0]
        parts = min(self._team.parts(work), images * len(cut))
        sums, totals = np.empty((parts, *shape), x.dtype), np.empty((parts, groups, width), x.dtype)
        source_pixels, dout_pixels = band_pixels(cut, t, dout)
        size = source_pixels * depth + dout_pixels * width
        zeros, scratch = np.zeros(width, x.dtype), np.empty((parts, size), x.dtype)
        arguments = addresses(dout, x, zeros, scratch, sums, totals, t.rows, t.columns, cut)
        arguments += [images, len(cut), groups, t.rows.shape[1], len(t.columns), width]
        arguments += [x.shape[1], x.shape[3], x[0].size, t.source_step]
        arguments += [filters, columns, dout[0].size, source_pixels, dout_pixels]
        arguments += [t.joined, t.left, t.frame]
        self._team.run(grouped.grouped_sums, (code(x), *tile), arguments, parts)
        return sums, totals

    def _tile(self, width: int, itemsize: int) -> tuple[int, int, int]:
        """Lanes, rows and vectors of the register tile for `width` columns."""
        machine = self._team.machine
        lanes, rows, vectors = machine.tile(width, itemsize)
        return (
            (lanes, rows, vectors) if width % (lanes * vectors) == 0 else machine.tile(1, itemsize)
        )


def band_pixels(cut: Table, t: Tables, target: Array) -> tuple[int, int]:
    """Pixels of the largest band, in the source's frames and in the target."""
    rows = (cut[:, 1::2] - cut[:, ::2]).max(axis=0)
    return int(rows[1]) * t.frame, int(rows[0]) * target.shape[3]
