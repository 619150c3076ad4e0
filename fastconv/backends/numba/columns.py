"""The Numba backend: im2col and col2im."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...geometry import WindowGeometry
from .._numba import columns
from .._numba.launch.build import Factory
from .._numba.launch.memory import code, workspace
from .._numba.offsets import windows
from ..table import Array
from .launched import LaunchedKernels

__all__ = ["ColumnKernels"]


class ColumnKernels(LaunchedKernels):
    """Im2col and col2im; see `table.Backend`."""

    def im2col(self, x: Array, geometry: WindowGeometry, col: Array) -> None:
        g = geometry
        most = max(1, min(g.ow, columns.STAGE_BYTES // (g.c * g.window * x.itemsize)))
        table = np.empty(self._team.parts(col.size) * most * g.c * g.fh, np.int64)
        past = int(col.nbytes >= columns.STREAM_BYTES)
        self._columns(columns.im2col, (past,), x, g, col, at=table, most=most)

    def col2im(self, col: Array, geometry: WindowGeometry, x: Array) -> None:
        self._columns(columns.col2im, (), x, geometry, col)

    def _columns(
        self,
        factory: Factory,
        own_constants: tuple[int, ...],
        x: Array,
        g: WindowGeometry,
        col: Array,
        **own: Any,
    ) -> None:
        side = g.fh if g.fh == g.fw and g.fh in (3, 5) else 0
        row = g.ow * g.c * g.window
        scratch_size = g.c * math.prod(g.padded) + 2 * columns.SLACK
        stage_size = row + 2 * columns.SLACK
        parts = self._team.parts(col.size)
        _memory, (scratch, stage) = workspace(x.dtype, parts * scratch_size, parts * stage_size)
        memory = {"scratch": scratch, "stage": stage}
        memory |= {"scratch_size": scratch_size, "stage_size": stage_size}
        memory["frame_height"], memory["frame_width"] = g.padded
        constants = (code(x), self._team.machine.lanes(x.itemsize), side, *own_constants)
        images = {"x": x, "col": col}
        self._team.run(factory, constants, parts, images, memory, windows(g), own)
