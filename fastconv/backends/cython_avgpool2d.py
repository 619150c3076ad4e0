"""Average pooling in the Cython backend: images as their (N, H, W, C) view."""

from __future__ import annotations

from types import ModuleType

from .base import Array, Labels
from .window_sums import Axis, places_of_windows, windows_of_places

__all__ = ["CythonAvgPool2d"]


class CythonAvgPool2d:
    """The family ``avgpool2d``; see `fastconv.backends.base.Backend` for each contract."""

    _kernels: ModuleType
    _threads: int

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
            source.transpose(0, 2, 3, 1),
            *down,
            *across,
            result.transpose(0, 2, 3, 1),
            self._threads,
        )
