"""The Cython backend: im2col and col2im."""

from __future__ import annotations

from ...geometry import WindowGeometry
from ..table import Array
from .compiled import CompiledKernels

__all__ = ["ColumnKernels"]


class ColumnKernels(CompiledKernels):
    """Im2col and col2im; see `table.Backend`."""

    def im2col(self, x: Array, geometry: WindowGeometry, col: Array) -> None:
        self._kernels.im2col(x, col, *_numbers(geometry), self._threads)

    def col2im(self, col: Array, geometry: WindowGeometry, x: Array) -> None:
        self._kernels.col2im(col, x, *_numbers(geometry), self._threads)


def _numbers(g: WindowGeometry) -> tuple[int, ...]:
    return g.fh, g.fw, *g.strides, *g.pads[:2], g.oh, g.ow, *g.padded
