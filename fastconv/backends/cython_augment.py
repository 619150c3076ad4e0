"""The Cython backend's part for augmentation."""

from __future__ import annotations

from types import ModuleType

from .base import Array, Boxes

__all__ = ["CythonAugment"]


class CythonAugment:
    """The family "augment" of the kernel table."""

    _kernels: ModuleType
    _threads: int

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
