"""Which way a convolution is computed: a rule by shape, for every backend that has the choice.

``direct``
    Products of pixels and filters, as the definition says. Any window, any stride.
``winograd2``, ``winograd4``
    Winograd's F(2x2, 3x3) and F(4x4, 3x3) (arXiv:1509.09308): 2.25 and 4 times fewer
    multiplications for 3x3 filters of stride 1. The first has the direct way's rounding
    error; the second about four times that, so it runs only in the math mode ``fast``.
``sparse``
    Weight gradient behind ReLU and 2x2 max pooling, where at most one of four gradients
    is not zero: exact, four times fewer operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..geometry import WindowGeometry

__all__ = ["ALGORITHMS", "MATH_MODES", "Algorithm", "ConvAlgorithms", "choose"]

Algorithm = Literal["direct", "winograd2", "winograd4", "sparse"]

ALGORITHMS = ("auto", "direct", "winograd2", "winograd4")
"""What can be asked for; where it does not apply, ``direct`` runs."""

MATH_MODES = ("default", "fast")

LEAST_PAIRS = 256
"""Channels in times channels out, below which transforms cost more than they save."""

LEAST_CHANNELS = 8
"""Channels, in and out, fewer of which leave vectors empty."""

LEAST_TILES = 8
"""Tiles of 4 x 4 outputs, in all images, below which transforming the filters does not pay."""

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
    forced : {"auto", "direct", "winograd2", "winograd4"}
        Use this one wherever it applies.
    """
    forward = _winograd(g, filters, g.oh, g.ow, math_mode, forced)
    input_gradient = _winograd(g, filters, g.h, g.w, math_mode, forced)
    weight_gradient = _weight_gradient(g, pooled, math_mode, forced)
    return ConvAlgorithms(forward, input_gradient, weight_gradient)


def _weight_gradient(g: WindowGeometry, pooled: bool, math_mode: str, forced: str) -> Algorithm:
    """The way to sum over all tiles: no filters are transformed before, so few tiles suffice."""
    if pooled and forced == "auto":
        return "sparse"
    if (g.fh, g.fw, g.stride) != (3, 3, 1) or forced == "direct":
        return "direct"
    if forced != "auto":
        return "winograd4" if forced == "winograd4" else "winograd2"
    if g.c < LEAST_CHANNELS:
        return "direct"
    tiles = g.n * -(-g.oh // 4) * -(-g.ow // 4)
    return "winograd4" if math_mode == "fast" and tiles >= LEAST_TILES_FAST else "winograd2"


def _winograd(
    g: WindowGeometry, filters: int, height: int, width: int, math_mode: str, forced: str
) -> Algorithm:
    """The way to compute images of height x width by this filter."""
    if (g.fh, g.fw, g.stride) != (3, 3, 1) or g.pad > 2 or forced == "direct":
        return "direct"
    if forced != "auto":
        return "winograd4" if forced == "winograd4" else "winograd2"
    tiles = g.n * -(-height // 4) * -(-width // 4)
    if min(g.c, filters) < LEAST_CHANNELS or g.c * filters < LEAST_PAIRS or tiles < LEAST_TILES:
        return "direct"
    if math_mode == "fast" and tiles * CHANNELS_PER_TILE >= max(g.c, filters):
        return "winograd4"
    return "winograd2"
