"""The reference: augmentation, the definition of `warp`, `smooth` and `tone`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..table import Array, Boxes

__all__ = ["AugmentKernels"]


def between(s: Array, t: Array, share: Array) -> Array:
    """s + share*(t - s), but s where `share` is 0: there a NaN in t does not count."""
    return np.where(share == 0, s, s + share * (t - s))


def whole_and_share(place: Array, size: int) -> tuple[NDArray[np.intp], Array]:
    """Whole part and fraction of places along one axis, clipped to -1..size.

    All places beyond read the fill value, as -1 and `size` do. NaN becomes -1.
    """
    place = np.where(place > -1, np.minimum(place, size), place.dtype.type(-1))
    whole = np.floor(place)
    return whole.astype(np.intp), place - whole


class AugmentKernels:
    """Augmentation; see `table.Backend`."""

    @np.errstate(invalid="ignore", over="ignore")  # in values not chosen, and at far places
    def warp(
        self,
        x: Array,
        matrix: Array,
        field: Array | None,
        fill: float,
        threads: int,
        out: Array,
    ) -> None:
        height, width = x.shape[2:]
        v, u = np.indices((height, width), x.dtype)
        m = matrix[:, :, :, None, None]
        a = m[:, 0, 0] * u + (m[:, 0, 1] * v + m[:, 0, 2])
        b = m[:, 1, 0] * u + (m[:, 1, 1] * v + m[:, 1, 2])
        if field is not None:
            a, b = a + field[:, 0], b + field[:, 1]
        column, right = whole_and_share(a, width)
        row, down = whole_and_share(b, height)
        # One place more before, two after: the places -1 and `size` look up a neighbour, too.
        framed = np.pad(x, [(0, 0), (0, 0), (1, 2), (1, 2)], constant_values=fill)
        image = np.arange(len(x))[:, None, None]
        top, bottom = (
            between(
                framed[image, :, row + 1 + below, column + 1],
                framed[image, :, row + 1 + below, column + 2],
                right[..., None],
            )
            for below in (0, 1)
        )
        out[...] = between(top, bottom, down[..., None]).transpose(0, 3, 1, 2)

    def smooth(self, x: Array, taps: Array, threads: int, out: Array) -> None:
        height, width = x.shape[2:]
        radius = len(taps) // 2
        across = np.pad(x, [(0, 0), (0, 0), (0, 0), (radius, radius)])
        rows = np.zeros_like(x)
        for k, tap in enumerate(taps):
            rows += tap * across[:, :, :, k : k + width]
        down = np.pad(rows, [(0, 0), (0, 0), (radius, radius), (0, 0)])
        out[...] = 0
        for k, tap in enumerate(taps):
            out += tap * down[:, :, k : k + height]

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
        out[...] = gain[:, None, None, None] * x + offset[:, None, None, None]
        for image, (top, left, bottom, right) in zip(out, boxes, strict=True):
            image[:, top:bottom, left:right] = fill
