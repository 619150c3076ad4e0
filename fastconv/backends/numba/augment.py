"""The Numba backend: augmentation."""

from __future__ import annotations

import numpy as np

from .._numba import augment
from .._numba.launch.memory import addresses, code, workspace
from ..table import Array, Boxes
from .launched import LaunchedKernels

__all__ = ["AugmentKernels"]


class AugmentKernels(LaunchedKernels):
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
        n, channels, height, width = x.shape
        size = channels * (height + augment.FRAME) * (width + augment.FRAME)
        parts = min(threads, self._team.parts(augment.WARP_WORK * x.size))
        _memory, places = workspace(x.dtype, parts * size)
        value = np.array([fill], x.dtype)
        arguments = [*addresses(x, matrix, field, out, value), *places]
        arguments += [n, channels, height, width, size]
        self._team.run(augment.warp, (code(x), int(field is not None)), arguments, parts)

    def smooth(self, x: Array, taps: Array, threads: int, out: Array) -> None:
        n, channels, height, width = x.shape
        lanes, count = self._team.machine.lanes(x.itemsize), len(taps)
        line = -(-width // lanes) * lanes
        size = line + count - 1 + (height + count - 1) * line
        parts = min(threads, self._team.parts(x.size * count // 4))
        _memory, places = workspace(x.dtype, parts * size)
        arguments = [*addresses(x, taps, out), *places]
        arguments += [n * channels, height, width, count, line, size]
        self._team.run(augment.smooth, (code(x), lanes), arguments, parts)

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
        value = np.array([fill], x.dtype)
        arguments = [*addresses(x, gain, offset, out, value, boxes), *x.shape]
        self._team.run(augment.tone, (code(x),), arguments, min(threads, self._team.parts(x.size)))
