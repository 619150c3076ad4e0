"""The Numba backend: augmentation."""

from __future__ import annotations

from .._numba import augment
from .._numba.launch.memory import code, workspace
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
        _memory, (scratch,) = workspace(x.dtype, parts * size)
        sizes = {"images": n, "channels": channels, "height": height, "width": width}
        arrays = {"x": x, "matrix": matrix, "field": field, "out": out}
        frame = {"scratch": scratch, "scratch_size": size, "fill": fill}
        constants = code(x), int(field is not None)
        self._team.run(augment.warp, constants, parts, arrays, sizes, frame)

    def smooth(self, x: Array, taps: Array, threads: int, out: Array) -> None:
        n, channels, height, width = x.shape
        lanes, count = self._team.machine.lanes(x.itemsize), len(taps)
        line = -(-width // lanes) * lanes
        size = line + count - 1 + (height + count - 1) * line
        parts = min(threads, self._team.parts(x.size * count // 4))
        _memory, (scratch,) = workspace(x.dtype, parts * size)
        sizes = {"planes": n * channels, "height": height, "width": width, "count": count}
        lines = {"scratch": scratch, "scratch_size": size, "line": line}
        images = {"x": x, "taps": taps, "out": out}
        self._team.run(augment.smooth, (code(x), lanes), parts, images, sizes, lines)

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
        n, channels, height, width = x.shape
        sizes = {"images": n, "channels": channels, "height": height, "width": width}
        tones = {"gain": gain, "offset": offset, "boxes": boxes, "fill": fill}
        parts = min(threads, self._team.parts(x.size))
        self._team.run(augment.tone, (code(x),), parts, {"x": x, "out": out}, tones, sizes)
