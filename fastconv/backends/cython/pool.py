"""The Cython backend: max pooling and average pooling."""

from __future__ import annotations

from ...geometry import WindowGeometry
from ..shared.window_sums import Axis, places_of_windows, windows_of_places
from ..table import Array, Bytes, Labels
from .compiled import CompiledKernels, last

__all__ = ["PoolKernels"]


class PoolKernels(CompiledKernels):
    """Max pooling and average pooling; see `table.Backend`."""

    def maxpool2d_forward(
        self, x: Array, geometry: WindowGeometry, out: Array, winner: Bytes
    ) -> None:
        g = geometry
        self._kernels.maxpool2d_forward(
            last(x), last(out), last(winner), g.fh, g.fw, g.stride, g.pad, self._threads
        )

    def maxpool2d_backward(
        self, dout: Array, winner: Bytes, geometry: WindowGeometry, dx: Array
    ) -> None:
        g = geometry
        self._kernels.maxpool2d_backward(
            last(dout), last(winner), last(dx), g.fh, g.fw, g.stride, g.pad, self._threads
        )

    def avgpool2d_forward(self, x: Array, rows: Labels, cols: Labels, out: Array) -> None:
        h, w = x.shape[2:]
        down, across = places_of_windows(rows, h, x.dtype), places_of_windows(cols, w, x.dtype)
        self._window_sums(x, down, across, out)

    def avgpool2d_backward(self, dout: Array, rows: Labels, cols: Labels, dx: Array) -> None:
        h, w = dx.shape[2:]
        down, across = windows_of_places(rows, h, dx.dtype), windows_of_places(cols, w, dx.dtype)
        self._window_sums(dout, down, across, dx)

    def _window_sums(self, source: Array, down: Axis, across: Axis, result: Array) -> None:
        self._kernels.window_sums(
            last(source),
            *down,
            *across,
            last(result),
            self._threads,
        )
