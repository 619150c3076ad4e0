"""The Numba backend: im2col and col2im."""

from __future__ import annotations

import numpy as np

from ...geometry import WindowGeometry
from .._numba import columns
from .._numba.launch.build import Factory
from .._numba.launch.memory import addresses, code, workspace
from ..table import Array
from .launched import LaunchedKernels

__all__ = ["ColumnKernels"]


class ColumnKernels(LaunchedKernels):
    """Im2col and col2im; see `table.Backend`."""

    def im2col(self, x: Array, geometry: WindowGeometry, col: Array) -> None:
        self._columns(columns.im2col, x, geometry, col)

    def col2im(self, col: Array, geometry: WindowGeometry, x: Array) -> None:
        self._columns(columns.col2im, x, geometry, col)

    def _columns(self, factory: Factory, x: Array, g: WindowGeometry, col: Array) -> None:
        side = g.fh if g.fh == g.fw and g.fh in (3, 5) else 0
        row = g.ow * g.c * g.window
        most = max(1, min(g.ow, columns.STAGE_BYTES // (g.c * g.window * x.itemsize)))
        scratch_size = g.c * (g.h + 2 * g.pad) * (g.w + 2 * g.pad) + 2 * columns.SLACK
        stage_size = row + 2 * columns.SLACK
        parts = self._team.parts(col.size)
        _memory, places = workspace(x.dtype, parts * scratch_size, parts * stage_size)
        table = np.empty(parts * most * g.c * g.fh, np.int64)
        arguments = [x.ctypes.data, *places, *addresses(col, table)]
        arguments += [g.n, g.c, g.h, g.w, g.fh, g.fw, g.stride, g.pad, g.oh, g.ow]
        streamed = col.nbytes >= columns.STREAM_BYTES
        arguments += [scratch_size, stage_size, most, int(streamed)]
        constants = (code(x), self._team.machine.lanes(x.itemsize), side)
        note = "streamed" if streamed else "cached"
        self._team.run(factory, constants, arguments, parts, note)
