"""The Numba backend: max pooling and average pooling."""

from __future__ import annotations

from ...geometry import WindowGeometry
from .._numba import pool
from .._numba.launch.build import Factory
from .._numba.launch.memory import addresses, code
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
        self._pool(pool.pool_forward, x, out, winner, geometry, out.size)

    def maxpool2d_backward(
        self, dout: Array, winner: Bytes, geometry: WindowGeometry, dx: Array
    ) -> None:
        self._pool(pool.pool_backward, dout, dx, winner, geometry, dx.size)

    def _pool(
        self,
        factory: Factory,
        source: Array,
        target: Array,
        winner: Bytes,
        g: WindowGeometry,
        work: int,
    ) -> None:
        tiled = g.fh == g.fw == g.stride <= 3 and g.pad == 0
        side = g.fh if tiled and (g.oh * g.fh, g.ow * g.fw) == (g.h, g.w) else 0
        constants = (code(source), code(winner), self._team.machine.lanes(source.itemsize), side)
        sizes = (g.n, g.c, g.h, g.w, g.fh, g.fw, g.stride, g.pad, g.oh, g.ow)
        self._run(factory, constants, work, *addresses(source, target, winner), *sizes)

    def _window_sums(self, source: Array, down: Axis, across: Axis, result: Array) -> None:
        arrays = source, result, down.ranges, across.ranges
        weights = down.inner, down.outer, across.inner, across.outer
        sizes = *source.shape, *result.shape[2:]
        self._team.run(
            window_sums,
            (code(source), self._team.machine.lanes(source.itemsize)),
            [*addresses(*arrays, *weights), *sizes],
            self._team.parts(max(source.size, result.size)),
        )
