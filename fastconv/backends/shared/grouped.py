"""Grouped and dilated convolution of the fast backends: which way, and its tables.

There are three ways.

depthwise
    One channel and one filter a group. Channels fill the vectors; see the kernels.
phases
    One group, stride 1, dilation d: every d-th pixel makes an image of its own, d*d of them,
    and a plain convolution computes these by its fastest algorithm.
taps
    Everything else: for each group and each tap (place of the window), a matrix product over
    the pixels that the tap reaches. Padding is skipped, not added up.

A backend provides the plain convolution and four kernels (the abstract methods below), which walk
by the tables of `window_tables`. That file also defines **source**, **target** and **tap**.

Notation: N images, C channels, H x W pixels; FN filters of FH x FW; OH x OW windows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ...geometry import NO_PADS, Pads, WindowGeometry
from ..table import Array
from .window_tables import Runs, Table, Tables, bands, runs, tables

__all__ = ["GroupedConvolution"]

BAND_BYTES = 1 << 15
"""Bytes of a group's rows that are worked on at a time, so that they stay in the first cache."""


# ---- weights ------------------------------------------------------------------------------


def up(count: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-count // step) * step


def merged(weight: Array, groups: int, together: int) -> Array:
    """Weights of fewer groups: each `together` become one, with zeros between them."""
    fn, c, fh, fw = weight.shape
    filters = fn // groups
    wide = np.zeros((groups // together, together, filters, together, c, fh, fw), weight.dtype)
    narrow = weight.reshape(groups // together, together, filters, c, fh, fw)
    for i in range(together):
        wide[:, i, :, i] = narrow[:, i]
    return wide.reshape(fn, together * c, fh, fw)


def unmerged(wide: Array, groups: int, together: int, dweight: Array) -> None:
    """The inverse of `merged`: dweight of the single groups."""
    fn, c, fh, fw = dweight.shape
    filters = fn // groups
    wide = wide.reshape(groups // together, together, filters, together, c, fh, fw)
    narrow = dweight.reshape(groups // together, together, filters, c, fh, fw)
    for i in range(together):
        narrow[:, i] = wide[:, i, :, i]


def by_tap(weight: Array, groups: int, lanes: int, gradient: bool) -> Array:
    """Weights as (group, tap, c, filters), filters padded to whole vectors.

    For the input gradient, filters and channels swap places.
    """
    fn, c, fh, fw = weight.shape
    taps = weight.reshape(groups, fn // groups, c, fh * fw)
    taps = taps.transpose((0, 3, 1, 2) if gradient else (0, 3, 2, 1))
    packed = np.zeros((*taps.shape[:3], up(taps.shape[3], lanes)), weight.dtype)
    packed[..., : taps.shape[3]] = taps
    return packed


def all_finite(images: Array) -> bool:
    """Whether channels-last images surely hold no NaN or infinity."""
    # A sum needs no temporary array; finite numbers whose sum overflows count as infinite.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(images.transpose(0, 2, 3, 1).reshape(-1).sum()))


# ---- phases -------------------------------------------------------------------------------


def phase_geometry(g: WindowGeometry) -> WindowGeometry:
    """Geometry of the plain convolution of all phases of all images, already padded."""
    oh, ow = -(-g.oh // g.dilation), -(-g.ow // g.dilation)
    return replace(
        g,
        n=g.n * g.dilation**2,
        h=oh + g.fh - 1,
        w=ow + g.fw - 1,
        pads=NO_PADS,
        oh=oh,
        ow=ow,
        dilation=1,
    )


def first_of(phase: int, pad: int, d: int) -> tuple[int, int]:
    """The first place of a phase that is in the image, along one axis; and the pixel there."""
    place = -(-max(0, pad - phase) // d)
    return place, place * d + phase - pad


Copy = Callable[[Array, Array], None]
"""Called as copy(source, out): out = source."""


def apart(images: Array, d: int, size: tuple[int, int], pads: Pads, copy: Copy) -> Array:
    """Split images (N, C, H, W) into phases of this size: every d-th pixel, zeros around."""
    height, width = size
    n, c = images.shape[:2]
    phases = np.zeros((n, d, d, height, width, c), images.dtype)
    for i in range(d):
        for j in range(d):
            (top, y), (left, x) = first_of(i, pads.top, d), first_of(j, pads.left, d)
            some = images[:, :, y::d, x::d]
            some = some[:, :, : max(0, height - top), : max(0, width - left)]
            rows, columns = some.shape[2:]
            place = phases[:, i, j, top : top + rows, left : left + columns]
            copy(some.transpose(0, 2, 3, 1), place)
    return phases.reshape(n * d * d, height, width, c).transpose(0, 3, 1, 2)


def together_again(phases: Array, d: int, pads: Pads, images: Array, copy: Copy) -> None:
    """The inverse of `apart`: every pixel of images (N, C, H, W) from its phase."""
    n, c = images.shape[:2]
    height, width = phases.shape[2:]
    phases = phases.reshape(n, d, d, c, height, width)
    for i in range(d):
        for j in range(d):
            (top, y), (left, x) = first_of(i, pads.top, d), first_of(j, pads.left, d)
            some = images[:, :, y::d, x::d]
            rows = max(0, min(some.shape[2], height - top))
            columns = max(0, min(some.shape[3], width - left))
            place = phases[:, i, j, :, top : top + rows, left : left + columns]
            copy(place, some[:, :, :rows, :columns])
            # Pixels that no window reaches are in no phase (those of an output all are in one).
            some[:, :, rows:] = 0
            some[:, :, :, columns:] = 0


def empty_last(shape: tuple[int, int, int, int], dtype: Any) -> Array:
    """Images of this (N, C, H, W) shape in channels-last memory."""
    n, c, h, w = shape
    return np.empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


# ---- the kernels ---------------------------------------------------------------------------


class GroupedConvolution(ABC):
    """What the fast backends share of the family `conv2d_grouped`."""

    @abstractmethod
    def _vector(self, itemsize: int) -> int:
        """Elements of a vector."""

    @abstractmethod
    def _most_threads(self) -> int:
        """Threads that may be used."""

    def _copy(self, source: Array, out: Array) -> None:
        """Out = source; recorded, too, while the backend records calls."""
        out[...] = source

    def _by_values(
        self, images: Array, finite: Callable[[], None], otherwise: Callable[[], None]
    ) -> None:
        """Call `finite` where the images are, else `otherwise`; a recording decides at each run."""
        if all_finite(images):
            finite()
        else:
            otherwise()

    @abstractmethod
    def conv2d_forward(
        self, x: Array, weight: Array, bias: Array, geometry: WindowGeometry, out: Array
    ) -> None:
        """See `table.Backend`."""

    @abstractmethod
    def conv2d_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        geometry: WindowGeometry,
        dx: Array | None,
        dweight: Array | None,
        dbias: Array | None,
    ) -> None:
        """See `table.Backend`."""

    @abstractmethod
    def _depthwise(
        self, source: Array, taps: Array, start: Array, r: Runs, lines: int, target: Array
    ) -> None:
        """Target = start + sum over taps of source times taps (FH*FW, C padded to vectors).

        `lines` is FW.
        """

    @abstractmethod
    def _depthwise_sums(self, dout: Array, x: Array, r: Runs, window: tuple[int, int]) -> Array:
        """(parts, FH*FW + 1, C): sums of x times dout by tap, then of dout; `r` is forward's."""

    @abstractmethod
    def _taps(
        self, source: Array, taps: Array, start: Array, t: Tables, cut: Table, target: Array
    ) -> None:
        """Target = start + sum over taps of a group's source channels times taps.

        Taps are (group, tap, source channels, target channels padded to whole vectors), start
        (group, target channels padded to whole vectors).
        """

    @abstractmethod
    def _taps_sums(
        self, dout: Array, x: Array, t: Tables, cut: Table, shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        """Sums of x times dout and of dout, for each of several parts.

        The first is (parts, *shape), where shape is (groups, taps, channels of a group, its
        filters padded to whole vectors), the second (parts, groups, filters). `t` is forward's.
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
        """See `table.Backend`."""
        g = geometry
        if not out.size:
            return
        if groups == g.c == len(weight):
            lanes = self._vector(x.itemsize)
            taps = by_tap(weight.reshape(1, g.c, g.fh, g.fw), 1, lanes, True)[0, :, 0]
            self._depthwise(x, taps, bias, runs(g, False), g.fw, out)
        elif groups == 1 and g.strides == (1, 1):
            phases = phase_geometry(g)
            parts = apart(x, g.dilation, (phases.h, phases.w), g.pads, self._copy)
            scores = empty_last(phases.output_shape(len(weight)), x.dtype)
            self.conv2d_forward(parts, weight, bias, phases, scores)
            together_again(scores, g.dilation, NO_PADS, out, self._copy)
        else:
            self._by_taps(x, weight, bias, groups, tables(g, False), False, out)

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
        """See `table.Backend`."""
        g = geometry
        if not dout.size:
            dweight[...], dbias[...] = 0, 0
        elif groups == g.c == len(weight):
            if dx is not None and g.one_stride:
                lanes = self._vector(x.itemsize)
                taps = by_tap(weight.reshape(1, g.c, g.fh, g.fw), 1, lanes, True)[0, :, 0]
                start = np.zeros(g.c, x.dtype)
                self._depthwise(dout, taps, start, runs(g, True), g.fw, dx)
            elif dx is not None:  # in rows and in columns, taps are not as far apart
                start = np.zeros(g.c, x.dtype)
                self._by_taps(dout, weight, start, groups, tables(g, True), True, dx)
            sums = self._depthwise_sums(dout, x, runs(g, False), (g.fh, g.fw)).sum(axis=0)
            dweight.reshape(g.c, -1)[...] = sums[:-1].T
            dbias[...] = sums[-1]
        elif groups == 1 and g.strides == (1, 1):
            phases = phase_geometry(g)
            parts = apart(x, g.dilation, (phases.h, phases.w), g.pads, self._copy)
            size = phases.oh, phases.ow
            gradient = apart(dout, g.dilation, size, NO_PADS, self._copy)
            dparts = None if dx is None else empty_last(phases.input_shape, x.dtype)
            self.conv2d_backward(gradient, parts, weight, phases, dparts, dweight, dbias)
            if dx is not None and dparts is not None:
                together_again(dparts, g.dilation, g.pads, dx, self._copy)
        else:
            if dx is not None:
                start = np.zeros(g.c, x.dtype)
                self._by_taps(dout, weight, start, groups, tables(g, True), True, dx)
            self._weight_gradient(dout, x, g, groups, dweight, dbias)

    def _together(self, weight: Array, groups: int) -> int:
        """How many groups to merge into one: as many as fit a vector, to fill it better."""
        most = self._vector(weight.itemsize) // max(len(weight) // groups, weight.shape[1])
        return next(n for n in range(max(1, min(most, groups)), 0, -1) if groups % n == 0)

    def _by_taps(
        self,
        source: Array,
        weight: Array,
        start: Array,
        groups: int,
        t: Tables,
        gradient: bool,
        target: Array,
    ) -> None:
        def as_groups(together: int) -> None:
            self._by_merged(source, weight, start, groups, together, t, gradient, target)

        together = self._together(weight, groups)
        if together == 1:
            as_groups(1)
        else:  # NaN or infinity times the zeros between merged groups would be NaN
            self._by_values(source, lambda: as_groups(together), lambda: as_groups(1))

    def _by_merged(
        self,
        source: Array,
        weight: Array,
        start: Array,
        groups: int,
        together: int,
        t: Tables,
        gradient: bool,
        target: Array,
    ) -> None:
        wide = merged(weight, groups, together)
        if gradient and t.joined > 1:
            wide = wide[..., ::-1]  # the source's columns are read from left to right
        taps = by_tap(wide, groups // together, self._vector(weight.itemsize), gradient)
        fewer, _, depth, whole = taps.shape
        begin = np.zeros((fewer, whole), start.dtype)
        begin[:, : len(start) // fewer] = start.reshape(fewer, -1)
        cut = self._bands(source, target, depth, whole, t)
        self._taps(source, taps, begin, t, cut, target)

    def _bands(self, source: Array, target: Array, depth: int, columns: int, t: Tables) -> Table:
        """Bands of target rows: small enough for the first cache, enough for all threads."""
        rows = target.shape[2]
        row_bytes = (t.frame * depth + target.shape[3] * columns) * source.itemsize
        least = -(-self._most_threads() // len(target))
        count = max(-(-rows * row_bytes // BAND_BYTES), min(rows, least))
        return bands(t, -(-rows // min(rows, count)))

    def _weight_gradient(
        self,
        dout: Array,
        x: Array,
        g: WindowGeometry,
        groups: int,
        dweight: Array,
        dbias: Array,
    ) -> None:
        together = self._together(dweight, groups)
        fewer = groups // together
        filters, channels = len(dweight) // fewer, g.c // fewer
        whole = up(filters, self._vector(x.itemsize))
        t = tables(g, False)
        cut = self._bands(x, dout, channels, whole, t)
        shape = (fewer, g.fh * g.fw, channels, whole)
        sums, totals = self._taps_sums(dout, x, t, cut, shape)
        found = sums.sum(axis=0)[..., :filters].transpose(0, 3, 2, 1)
        unmerged(np.ascontiguousarray(found), groups, together, dweight)
        dbias.reshape(fewer, filters)[...] = totals.sum(axis=0)[:, :filters]
