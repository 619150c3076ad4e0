"""Average pooling as sums over ranges, forward and backward alike.

Both fast backends have one kernel for both directions. Along each axis, place i of the result
sums the source over the range [begin, end), each value times `inner` at its place, and
multiplies the sum by `outer` at i. Forward, a window sums its pixels, and divides; backward, a
pixel sums the windows that hold it, each divided.

Notation: H places along an axis, OH windows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..table import Array, Bounds

__all__ = ["AveragePooling", "Axis"]


class Axis(NamedTuple):
    """What each place of the result sums up along one axis.

    Attributes
    ----------
    ranges : int64 array (places of the result, 2)
        Begin and end (excluded) in the source; begin = end where a range is empty.
    inner : array (places of the source,)
    outer : array (places of the result,)
    """

    ranges: Bounds
    inner: Array
    outer: Array


def places_of_windows(bounds: Bounds, size: int, dtype: DTypeLike) -> Axis:
    """Forward: the bounds (OH, 3) of windows over `size` places, begin, end and divisor."""
    ranges = np.ascontiguousarray(bounds[:, :2])
    return Axis(ranges, np.ones(size, dtype), np.asarray(1 / bounds[:, 2], dtype))


def windows_of_places(bounds: Bounds, size: int, dtype: DTypeLike) -> Axis:
    """Backward: for each of `size` places the windows that hold it.

    They are consecutive, since begins and ends of windows never decrease.
    """
    begin, end, divisor = bounds.T
    places = np.arange(size)
    first = np.searchsorted(end, places, side="right")
    past = np.searchsorted(begin, places, side="right")
    ranges = np.stack([first, np.maximum(first, past)], axis=1)
    return Axis(ranges, np.asarray(1 / divisor, dtype), np.ones(size, dtype))


class AveragePooling(ABC):
    """The family `avgpool2d`, as far as the fast backends share it."""

    @abstractmethod
    def _window_sums(self, source: Array, down: Axis, across: Axis, result: Array) -> None:
        """Sum up the source, rows by `down` and columns by `across`."""

    def avgpool2d_forward(self, x: Array, rows: Bounds, cols: Bounds, out: Array) -> None:
        """See `table.Backend`."""
        h, w = x.shape[2:]
        down, across = places_of_windows(rows, h, x.dtype), places_of_windows(cols, w, x.dtype)
        self._window_sums(x, down, across, out)

    def avgpool2d_backward(self, dout: Array, rows: Bounds, cols: Bounds, dx: Array) -> None:
        """See `table.Backend`."""
        h, w = dx.shape[2:]
        down, across = windows_of_places(rows, h, dx.dtype), windows_of_places(cols, w, dx.dtype)
        self._window_sums(dout, down, across, dx)
