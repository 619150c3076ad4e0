"""The Numba backend: max pooling and average pooling."""

from __future__ import annotations

from ...geometry import WindowGeometry
from .._numba import pool
from .._numba.launch.build import Factory
from .._numba.launch.memory import code
from .._numba.offsets import windows
from .._numba.pool_average import window_sums
from ..shared.window_sums import AveragePooling, Axis
from ..table import Array, Bytes
from .launched import LaunchedKernels

__all__ = ["PoolKernels"]


class PoolKernels(LaunchedKernels, AveragePooling):
    """Max pooling and average pooling; see `table.Backend`."""

    def maxpool2d_forward(
        self, x: Array, geometry: WindowGeometry, out: Array, winner: Bytes
    ) -> None:
        self._pool(pool.pool_forward, winner, geometry, out.size, x=x, out=out)

    def maxpool2d_backward(
        self, dout: Array, winner: Bytes, geometry: WindowGeometry, dx: Array
    ) -> None:
        self._pool(pool.pool_backward, winner, geometry, dx.size, dout=dout, dx=dx)

    def _pool(
        self, factory: Factory, winner: Bytes, g: WindowGeometry, work: int, **images: Array
    ) -> None:
        tiled = (g.fh, g.fw) == g.strides and g.fh == g.fw <= 3 and not any(g.pads)
        side = g.fh if tiled and (g.oh * g.fh, g.ow * g.fw) == (g.h, g.w) else 0
        source, *_ = images.values()
        constants = (code(source), code(winner), self._team.machine.lanes(source.itemsize), side)
        self._run(factory, constants, work, images, {"winner": winner}, windows(g))

    def _window_sums(self, source: Array, down: Axis, across: Axis, result: Array) -> None:
        n, channels, height, width = source.shape
        sizes = {"images": n, "channels": channels, "height": height, "width": width}
        sizes |= {"oh": result.shape[2], "ow": result.shape[3]}
        rows = {"rows": down.ranges, "inner_rows": down.inner, "outer_rows": down.outer}
        columns = {"inner_columns": across.inner, "outer_columns": across.outer}
        images = {"source": source, "columns": across.ranges, "result": result}
        constants = code(source), self._team.machine.lanes(source.itemsize)
        work = max(source.size, result.size)
        self._run(window_sums, constants, work, images, sizes, rows, columns)
