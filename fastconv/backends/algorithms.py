"""Which way a convolution is computed: a rule by shape, for every backend that has the choice.

``direct``
    Products of pixels and filters, as the definition says. Any window, any stride.
``winograd2``, ``winograd2x4``, ``winograd4``
    Winograd's F(2x2, 3x3), F(2x4, 3x3) and F(4x4, 3x3) (arXiv:1509.09308): 2.25, 3 and 4
    times fewer multiplications for 3x3 filters of stride 1. The first rounds less than the
    direct way and keeps whole numbers exact; the second rounds twice as much, so its sums are
    cut in shorter parts; the third four times as much, so it runs only in the math mode
    ``fast``. What these two round where a window holds only zeros is not 0 but noise, which a
    ReLU behind it would let pass: forward, such outputs are found, and are their bias.
``sparse``
    Weight gradient behind ReLU and 2x2 max pooling, where at most one of four gradients
    is not zero: exact, four times fewer operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

from ..geometry import WindowGeometry

__all__ = ["ALGORITHMS", "MATH_MODES", "Algorithm", "ConvAlgorithms", "choose"]

Algorithm = Literal["direct", "winograd2", "winograd2x4", "winograd4", "sparse"]

ALGORITHMS = ("auto", "direct", "winograd2", "winograd2x4", "winograd4")
"""What can be asked for; where it does not apply, ``direct`` runs."""

MATH_MODES = ("default", "fast")

LEAST_PAIRS = 256
"""Channels in times channels out, below which transforms cost more than they save."""

LEAST_CHANNELS = 8
"""Channels, in and out, fewer of which leave vectors empty."""

LEAST_TILES = 8
"""Tiles of 4 x 4 outputs, in all images, below which transforming the filters does not pay."""

LEAST_TILES_WIDE = 128
"""The same for F(2x4, 3x3): small problems, made by hand of whole numbers, stay exact."""

LEAST_TILES_FAST = 32
"""The same for the weight gradient by F(4x4, 3x3)."""

CHANNELS_PER_TILE = 4
"""Channels for which one tile more pays for the larger filters of F(4x4, 3x3)."""


@dataclass(frozen=True)
class ConvAlgorithms:
    """How the three parts of a convolution run."""

    forward: Algorithm
    input_gradient: Algorithm
    weight_gradient: Algorithm


@lru_cache(maxsize=1024)
def choose(
    g: WindowGeometry, filters: int, pooled: bool, math_mode: str, forced: str = "auto"
) -> ConvAlgorithms:
    """The algorithms for one shape.

    Parameters
    ----------
    g : WindowGeometry
    filters : int
        Output channels.
    pooled : bool
        Whether ReLU and 2x2 max pooling follow in the same run.
    math_mode : {"default", "fast"}
    forced : {"auto", "direct", "winograd2", "winograd2x4", "winograd4"}
        Use this one wherever it applies.
    """
    forward = _winograd(g, g.c, filters, g.oh, g.ow, math_mode, forced)
    input_gradient = _winograd(g, filters, g.c, g.h, g.w, math_mode, forced)
    weight_gradient = _weight_gradient(g, pooled, math_mode, forced)
    return ConvAlgorithms(forward, input_gradient, weight_gradient)


def _weight_gradient(g: WindowGeometry, pooled: bool, math_mode: str, forced: str) -> Algorithm:
    """The way to sum over all tiles: no filters are transformed before, so few tiles suffice."""
    if pooled and forced == "auto":
        return "sparse"
    if (g.fh, g.fw, g.stride) != (3, 3, 1) or forced == "direct":
        return "direct"
    if forced != "auto":
        return cast("Algorithm", forced)
    if g.c < LEAST_CHANNELS:
        return "direct"
    tiles = g.n * -(-g.oh // 4) * -(-g.ow // 4)
    if math_mode == "fast" and tiles >= LEAST_TILES_FAST:
        return "winograd4"
    return "winograd2x4" if tiles >= LEAST_TILES_WIDE and _wide_saves(g.ow) else "winograd2"


def _winograd(
    g: WindowGeometry,
    depth: int,
    columns: int,
    height: int,
    width: int,
    math_mode: str,
    forced: str,
) -> Algorithm:
    """The way to compute height x width pixels of `columns` channels, each from `depth`."""
    if (g.fh, g.fw, g.stride) != (3, 3, 1) or g.pad > 2 or forced == "direct":
        return "direct"
    if forced != "auto":
        return cast("Algorithm", forced)
    tiles = g.n * -(-height // 4) * -(-width // 4)
    few = min(depth, columns) < LEAST_CHANNELS or depth * columns < LEAST_PAIRS
    if few or tiles < LEAST_TILES:
        return "direct"
    if math_mode == "fast" and tiles * CHANNELS_PER_TILE >= max(depth, columns):
        return "winograd4"
    wide = tiles >= LEAST_TILES_WIDE and _wide_saves(width)
    return "winograd2x4" if wide else "winograd2"


def _wide_saves(width: int) -> bool:
    """Whether tiles of 2 x 4 take fewer multiplications than those of 2 x 2.

    What hangs over the edge of the images counts. Where they save anything, it is a tenth at least.
    """
    return 24 * -(-width // 4) < 16 * -(-width // 2)
