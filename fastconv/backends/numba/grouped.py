"""Grouped convolution on the Numba kernels: their glue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._numba import grouped, grouped_depthwise
from .._numba.launch.memory import code, workspace
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
        self._run_on(images, grouped.look_for_others, values=images, flag=flag, count=images.size)
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
        read = {"source": source, "source_size": source.shape[2] * row, "source_row": row}
        read |= {"images": n, "height": height, "channels": c}
        written = {"target": target, "target_row": width * c}
        weights = {"taps": taps, "width": taps.shape[1], "lines": lines, "start": begin}
        steps = {"target_step": r.target_step, "tap_step": r.tap_step, **run_fields(r)}
        fields = read, written, weights, steps
        parts = min(self._team.parts(target.size), n * height)
        self._team.run(grouped_depthwise.depthwise, (code(source), lanes), parts, *fields)

    def _depthwise_sums(self, dout: Array, x: Array, r: Runs, window: tuple[int, int]) -> Array:
        n, c, height, width = dout.shape
        taps = window[0] * window[1]
        lanes = self._vector(x.itemsize)
        parts = min(self._team.parts(dout.size * taps // lanes), n * height)
        images, totals = np.empty((2, parts, taps + 1, up(c, lanes)), x.dtype)
        row = x.shape[3] * c
        read = {"x": x, "source_size": x.shape[2] * row, "source_row": row, "channels": c}
        gradient = {"dout": dout, "dout_row": width * c, "images": n, "height": height}
        sums = {"sums": images, "totals": totals, "volume": totals[0].size}
        window_sizes = {"width": totals.shape[2], "lines": window[1]}
        fields = read, gradient, sums, window_sizes, run_fields(r)
        self._team.run(grouped_depthwise.depthwise_sums, (code(x), lanes), parts, *fields)
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
        _memory, (scratch,) = workspace(source.dtype, parts * size)
        read = {"source": source, "source_pixels": source_pixels, "scratch": scratch}
        weights = {"taps": taps, "groups": groups, "width": width, "start": start, "zeros": zeros}
        written = {"target": target, "target_size": target[0].size, "target_step": t.target_step}
        sizes = {"target_c": channels, "target_w": columns, "target_pixels": target_pixels}
        fields = read, table_fields(source, t, cut), weights, written, sizes
        self._team.run(grouped.grouped, (code(source), *shape), parts, *fields)

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
        read = {"x": x, "source_pixels": source_pixels}
        gradient = {"dout": dout, "dout_c": filters, "dout_w": columns, "dout_size": dout[0].size}
        results = {"sums": sums, "totals": totals, "groups": groups, "width": width}
        memory = {"zeros": zeros, "scratch": scratch, "dout_pixels": dout_pixels}
        fields = read, table_fields(x, t, cut), gradient, results, memory
        self._team.run(grouped.grouped_sums, (code(x), *tile), parts, *fields)
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


def run_fields(r: Runs) -> dict[str, Any]:
    """What both depthwise kernels take of runs."""
    tables = {"rows": r.rows, "columns": r.columns, "runs": len(r.columns)}
    return {**tables, "source_step": r.source_step, "tap_source": r.tap_source}


def table_fields(source: Array, t: Tables, cut: Table) -> dict[str, Any]:
    """What both other kernels take of the source and of the tables."""
    sizes = {"images": len(source), "source_c": source.shape[1], "source_w": source.shape[3]}
    sizes["source_size"] = source[0].size
    tables = {"row_table": t.rows, "column_table": t.columns, "bands": cut, "count": len(cut)}
    window = {"fh": t.rows.shape[1], "fw": len(t.columns), "source_step": t.source_step}
    return {**sizes, **tables, **window, "joined": t.joined, "left": t.left, "frame": t.frame}
