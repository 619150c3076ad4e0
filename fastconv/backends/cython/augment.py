"""The Cython backend: augmentation."""

from __future__ import annotations

from ..table import Array, Boxes
from .compiled import CompiledKernels

__all__ = ["AugmentKernels"]


class AugmentKernels(CompiledKernels):
    """Augmentation; see `table.Backend`."""

    def warp(
        self,
        x: Array,
        matrix: Array,
        field: Array | None,
        fill: float,
        threads: int,
        out: Array,
    ) -> None:
        self._kernels.warp(x, matrix, field, fill, out, min(threads, self._threads))

    def smooth(self, x: Array, taps: Array, threads: int, out: Array) -> None:
        self._kernels.smooth(x, taps, out, min(threads, self._threads))

    def tone(
        self,
        x: Array,
        gain: Array,
        offset: Array,
        boxes: Boxes,
        fill: float,
        threads: int,
        out: Array,
    ) -> None:
        self._kernels.tone(x, gain, offset, boxes, fill, out, min(threads, self._threads))
