"""Grouped convolution on the Cython kernels: their glue."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np

from ...geometry import WindowGeometry
from ..algorithms import directly
from ..shared.grouped import GroupedConvolution, up
from ..shared.window_tables import Runs, Table, Tables
from ..shared.work import worth
from ..table import Array
from .compiled import last
from .program import Programs

__all__ = ["GroupedKernels"]


class GroupedKernels(Programs, GroupedConvolution):
    """The four kernels that `GroupedConvolution` asks for, on rounded operands where asked to.

    Most groups are too narrow to gain by pairs: products of floats that are bfloat16s are the same.
    """

    def conv2d_grouped_forward(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        geometry: WindowGeometry,
        groups: int,
        out: Array,
    ) -> None:
        x, weight = self._operand(x), self._operand(weight)
        with directly() if self._pairs else nullcontext():
            super().conv2d_grouped_forward(x, weight, bias, geometry, groups, out)

    def conv2d_grouped_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        geometry: WindowGeometry,
        groups: int,
        dx: Array | None,
        dweight: Array,
        dbias: Array,
    ) -> None:
        factor, x, weight = self._operand(dout), self._operand(x), self._operand(weight)
        with directly() if self._pairs else nullcontext():
            super().conv2d_grouped_backward(factor, x, weight, geometry, groups, dx, dweight, dbias)
        if factor is not dout:
            dbias[...] = dout.sum(axis=(0, 2, 3), dtype=np.float64)

    def _operand(self, values: Array) -> Array:
        """`values`, channels-last or contiguous, as they are multiplied."""
        if not self._pairs or values.itemsize > 4:
            return values
        to = np.empty_like(values)
        given, wanted = (
            (a.reshape(-1) if a.flags.c_contiguous else last(a).reshape(-1)) for a in (values, to)
        )
        self._kernels.rounded(given, wanted, self._threads)
        return to

    def _vector(self, itemsize: int) -> int:
        return int(self._kernels.build_facts()["vector_bytes"]) // itemsize

    def _most_threads(self) -> int:
        return self._threads

    def _copy(self, source: Array, out: Array) -> None:
        if self._records:
            self._move(source, 1, out)
        else:
            super()._copy(source, out)

    def _by_values(
        self, images: Array, finite: Callable[[], None], otherwise: Callable[[], None]
    ) -> None:
        if not self._records:
            super()._by_values(images, finite, otherwise)
            return
        # Record both; at each run a flag decides which of them runs.
        flag = np.ones(1, np.intp)
        self._kernels.look_for_others(last(images).reshape(-1), flag, self._threads)
        self._kernels.only_if(flag, 1)
        finite()
        self._kernels.only_if(flag, 0)
        otherwise()
        self._kernels.only_if(None, 0)

    def _depthwise(
        self, source: Array, taps: Array, start: Array, r: Runs, lines: int, target: Array
    ) -> None:
        steps = (r.target_step, r.source_step, r.tap_step, r.tap_source)
        self._kernels.depthwise(
            *(last(source), taps, start, r.rows, r.columns, lines, *steps, last(target)),
            self._threads,
        )

    def _depthwise_sums(self, dout: Array, x: Array, r: Runs, window: tuple[int, int]) -> Array:
        n, c, oh, _ = dout.shape
        taps = window[0] * window[1]
        lanes = self._vector(x.itemsize)
        parts = worth(self._threads, dout.size * taps // lanes, n * oh)
        sums = np.empty((parts, taps + 1, up(c, lanes)), x.dtype)
        self._kernels.depthwise_sums(
            *(last(dout), last(x), r.rows, r.columns, window[1], r.source_step, r.tap_source),
            *(sums, self._threads),
        )
        return sums[:, :, :c]

    def _taps(
        self, source: Array, taps: Array, start: Array, t: Tables, cut: Table, target: Array
    ) -> None:
        self._kernels.grouped(
            *(last(source), taps, start, t.rows, t.columns, cut, t.target_step, t.source_step),
            *(t.joined, t.left, t.frame, last(target), self._threads),
        )

    def _taps_sums(
        self, dout: Array, x: Array, t: Tables, cut: Table, shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        groups, taps, channels, filters = shape
        pixels = dout.size // dout.shape[1]
        work = pixels * groups * taps * channels * filters // self._vector(x.itemsize)
        parts = worth(self._threads, work, len(dout) * len(cut))
        sums = np.empty((parts, *shape), x.dtype)
        totals = np.empty((parts, groups, filters), x.dtype)
        self._kernels.grouped_sums(
            *(last(dout), last(x), t.rows, t.columns, cut, t.source_step),
            *(t.joined, t.left, t.frame, sums, totals, self._threads),
        )
        return sums, totals
