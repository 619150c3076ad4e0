"""Average pooling in the Numba backend."""

from __future__ import annotations

from ._numba.average import window_sums
from ._numba.memory import addresses, code
from ._numba.team import Team
from .base import Array, Labels
from .window_sums import Axis, places_of_windows, windows_of_places

__all__ = ["NumbaAvgPool2d"]


class NumbaAvgPool2d:
    """The family ``avgpool2d``; see `fastconv.backends.base.Backend` for each contract."""

    _team: Team

    def avgpool2d_forward(self, x: Array, rows: Labels, cols: Labels, out: Array) -> None:
        h, w = x.shape[2:]
        down, across = places_of_windows(rows, h, x.dtype), places_of_windows(cols, w, x.dtype)
        self._window_sums(x, down, across, out)

    def avgpool2d_backward(self, dout: Array, rows: Labels, cols: Labels, dx: Array) -> None:
        h, w = dx.shape[2:]
        down, across = windows_of_places(rows, h, dx.dtype), windows_of_places(cols, w, dx.dtype)
        self._window_sums(dout, down, across, dx)

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
