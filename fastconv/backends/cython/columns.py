"""The Cython backend: im2col and col2im."""

from __future__ import annotations

from ...geometry import WindowGeometry
from ..table import Array
from .compiled import CompiledKernels

__all__ = ["ColumnKernels"]


class ColumnKernels(CompiledKernels):
    """Im2col and col2im; see `table.Backend`."""

    def im2col(self, x: Array, geometry: WindowGeometry, col: Array) -> None:
        g = geometry
        self._kernels.im2col(x, col, g.fh, g.fw, g.stride, g.pad, g.oh, g.ow, self._threads)

    def col2im(self, col: Array, geometry: WindowGeometry, x: Array) -> None:
        g = geometry
        self._kernels.col2im(col, x, g.fh, g.fw, g.stride, g.pad, g.oh, g.ow, self._threads)
