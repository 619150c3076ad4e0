"""The Cython backend: max pooling and average pooling."""

from __future__ import annotations

from ...geometry import WindowGeometry
from ..shared.window_sums import AveragePooling, Axis
from ..table import Array, Bytes
from .compiled import CompiledKernels, is_narrow, last

__all__ = ["PoolKernels"]

NARROW_IN, NARROW_OUT = 1, 2
"""Which images are of bfloat16s, as ``_cython/pairs.h`` says it."""


class PoolKernels(CompiledKernels, AveragePooling):
    """Max pooling and average pooling; see `table.Backend`."""

    winner_is_optional = True

    def maxpool2d_forward(
        self, x: Array, geometry: WindowGeometry, out: Array, winner: Bytes | None
    ) -> None:
        g = geometry
        window = g.fh, g.fw, *g.strides, *g.pads[:2], self._threads
        if winner is None:
            narrow = NARROW_IN * is_narrow(x) + NARROW_OUT * is_narrow(out)
            self._kernels.maxpool2d_largest(last(x), last(out), *window[:-1], narrow, window[-1])
        else:
            self._kernels.maxpool2d_forward(last(x), last(out), last(winner), *window)

    def maxpool2d_backward(
        self, dout: Array, winner: Bytes, geometry: WindowGeometry, dx: Array
    ) -> None:
        g = geometry
        self._kernels.maxpool2d_backward(
            *(last(dout), last(winner), last(dx), g.fh, g.fw, *g.strides, *g.pads[:2]),
            self._threads,
        )

    def _window_sums(self, source: Array, down: Axis, across: Axis, result: Array) -> None:
        self._kernels.window_sums(
            last(source),
            *down,
            *across,
            last(result),
            self._threads,
        )
