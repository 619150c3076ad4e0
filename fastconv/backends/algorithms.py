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

In the math mode ``bf16`` the choice is between ``direct`` and ``winograd2``. There the transforms
are rounded, and errors are up to 1.7 times those of the direct way; with tiles of 2 x 4 they would
be up to 3 times as large, with 4 x 4 ten times. Where the CPU multiplies bfloat16s by tiles (AMX),
all convolutions are direct: transforms would cost more than they save.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, cast

from ..geometry import WindowGeometry

__all__ = [
    *("ALGORITHMS", "CONSTANT", "MATH_MODES", "Algorithm", "ConvAlgorithms", "choose"),
    *("directly", "forward_algorithms", "forward_by", "named_forward"),
]

Algorithm = Literal["direct", "winograd2", "winograd2x4", "winograd4", "sparse"]

ALGORITHMS = ("auto", "direct", "winograd2", "winograd2x4", "winograd4")
"""What can be asked for; where it does not apply, ``direct`` runs."""

MATH_MODES = ("default", "fast", "bf16")
"""How exact convolutions and affine layers must be; see `fastconv.set_math_mode`."""

LEAST_PAIRS = 256
"""Channels in times channels out, below which transforms cost more than they save."""

LEAST_CHANNELS = 8
"""Channels, in and out, fewer of which leave vectors empty."""

LEAST_TILES = 8
"""Tiles of 4 x 4 outputs, in all images, below which transforming the filters does not pay."""

LEAST_TILES_CONSTANT = 4
"""`LEAST_TILES` where filters are transformed once."""

MOST_CHANNELS_PER_TILE = 24
"""Channels, in or out, for each tile, more of which make filters that take longer to read."""

FEW_CHANNELS = 32
"""Channels, in or out, fewer of which leave little to save beside the transforms but F(4x4)'s."""

LEAST_TILES_FEW = 128
"""Tiles below which nothing is saved with few channels."""

LEAST_TILES_FEW_CONSTANT = 48
"""`LEAST_TILES_FEW` where filters are transformed once."""

LEAST_TILES_WIDE = 32
"""Tiles from which larger filters, those of F(2x4, 3x3), pay."""

MOST_PAIRS_CONSTANT = 1 << 14
"""Channels in times channels out, up to which the second cache keeps such filters.

Then they pay for any number of tiles, if they are transformed once.
"""

LEAST_TILES_WIDE_SUMS = 128
"""`LEAST_TILES_WIDE` for the weight gradient."""

LEAST_TILES_FAST = 32
"""`LEAST_TILES_WIDE` for the weight gradient by F(4x4, 3x3)."""

CHANNELS_PER_TILE = 2
"""Channels for which one tile more pays for the larger filters of F(4x4, 3x3)."""


@dataclass(frozen=True)
class ConvAlgorithms:
    """How the three parts of a convolution run."""

    forward: Algorithm
    input_gradient: Algorithm
    weight_gradient: Algorithm


CONSTANT = "constant"
"""By the rule for filters that a network in use transforms once, not at every call."""

_forward: ContextVar[str] = ContextVar("fastconv_forward_algorithm", default="auto")
"""The algorithm of the convolutions that this thread computes forward now; ``auto``: the rule's."""


@contextmanager
def forward_by(algorithm: str) -> Iterator[None]:
    """Inside, this thread's convolutions are computed forward by this algorithm.

    Only where it may compute them (`forward_algorithms`) and none is forced; ``auto`` leaves them
    to the rule, and `CONSTANT` to the rule for filters that stay as they are.
    """
    before = _forward.set(algorithm)
    try:
        yield
    finally:
        _forward.reset(before)


_directly: ContextVar[bool] = ContextVar("fastconv_directly", default=False)


@contextmanager
def directly() -> Iterator[None]:
    """Inside, this thread's convolutions are direct: for operands that are rounded already.

    Transforms of these would be rounded again.
    """
    before = _directly.set(True)
    try:
        yield
    finally:
        _directly.reset(before)


def named_forward() -> str:
    """What `forward_by` says here: an algorithm, `CONSTANT`, or ``auto``."""
    return _forward.get()


def forward_algorithms(g: WindowGeometry, math_mode: str) -> tuple[Algorithm, ...]:
    """The algorithms that may compute a convolution of this shape forward, in this math mode."""
    if not _has_winograd(g):
        return ("direct",)
    if math_mode == "bf16":
        return ("direct", "winograd2")
    return ("direct", "winograd2", "winograd2x4", *(("winograd4",) if math_mode == "fast" else ()))


def choose(
    g: WindowGeometry,
    filters: int,
    pooled: bool,
    math_mode: str,
    forced: str = "auto",
    by_tiles: bool = False,
) -> ConvAlgorithms:
    """The algorithms for one shape: by the rule, but for what `forward_by` says.

    Parameters
    ----------
    g : WindowGeometry
    filters : int
        Output channels.
    pooled : bool
        Whether ReLU and 2x2 max pooling follow in the same run.
    math_mode : {"default", "fast", "bf16"}
    forced : {"auto", "direct", "winograd2", "winograd2x4", "winograd4"}
        Use this one wherever it applies.
    by_tiles : bool
        Whether these products of bfloat16s are made by tiles (AMX).
    """
    if by_tiles or _directly.get():
        return ConvAlgorithms("direct", "direct", "direct")
    named = named_forward()
    by_rule = _by_rule(g, filters, pooled, math_mode, forced, named == CONSTANT)
    if named == "auto" or forced != "auto" or named not in forward_algorithms(g, math_mode):
        return by_rule
    return replace(by_rule, forward=named)


@lru_cache(maxsize=1024)
def _by_rule(
    g: WindowGeometry, filters: int, pooled: bool, math_mode: str, forced: str, constant: bool
) -> ConvAlgorithms:
    if math_mode == "bf16" and forced not in ("auto", "winograd2"):
        return ConvAlgorithms("direct", "direct", "direct")
    forward = _winograd(g, g.c, filters, g.oh, g.ow, math_mode, forced, constant)
    input_gradient = _winograd(g, filters, g.c, g.h, g.w, math_mode, forced)
    weight_gradient = _weight_gradient(g, pooled, math_mode, forced)
    return ConvAlgorithms(forward, input_gradient, weight_gradient)


def _weight_gradient(g: WindowGeometry, pooled: bool, math_mode: str, forced: str) -> Algorithm:
    """The way to sum over all tiles: no filters are transformed before, so few tiles suffice."""
    if pooled and forced == "auto" and math_mode != "bf16":
        return "sparse"
    if not _is_three_by_three(g) or forced == "direct":
        return "direct"
    if forced != "auto":
        return cast("Algorithm", forced)
    if g.c < LEAST_CHANNELS:
        return "direct"
    if math_mode == "bf16":
        return "winograd2"
    tiles = g.n * -(-g.oh // 4) * -(-g.ow // 4)
    if math_mode == "fast" and tiles >= LEAST_TILES_FAST:
        return "winograd4"
    wide = tiles >= LEAST_TILES_WIDE_SUMS and _wide_saves(g.ow)
    return "winograd2x4" if wide else "winograd2"


def _winograd(
    g: WindowGeometry,
    depth: int,
    columns: int,
    height: int,
    width: int,
    math_mode: str,
    forced: str,
    constant: bool = False,
) -> Algorithm:
    """The way to compute height x width pixels of `columns` channels, each from `depth`."""
    if not _has_winograd(g) or forced == "direct":
        return "direct"
    if forced != "auto":
        return cast("Algorithm", forced)
    tiles = g.n * -(-height // 4) * -(-width // 4)
    channels = min(depth, columns)
    if channels < LEAST_CHANNELS or depth * columns < LEAST_PAIRS:
        return "direct"
    least, few = LEAST_TILES, LEAST_TILES_FEW
    if constant:
        least, few = LEAST_TILES_CONSTANT, LEAST_TILES_FEW_CONSTANT
    if tiles < (few if channels < FEW_CHANNELS and math_mode != "fast" else least):
        return "direct"
    if tiles * MOST_CHANNELS_PER_TILE < max(depth, columns):
        return "direct"
    if math_mode == "bf16":
        return "winograd2"
    if math_mode == "fast" and tiles * CHANNELS_PER_TILE >= max(depth, columns):
        return "winograd4"
    wide = tiles >= LEAST_TILES_WIDE or (constant and depth * columns <= MOST_PAIRS_CONSTANT)
    return "winograd2x4" if wide and _wide_saves(width) else "winograd2"


def _has_winograd(g: WindowGeometry) -> bool:
    """Whether Winograd's algorithms compute outputs, or gradients of inputs, of such windows."""
    return _is_three_by_three(g) and max(g.pads[:2]) <= 2


def _is_three_by_three(g: WindowGeometry) -> bool:
    """Whether windows are 3x3, of stride 1."""
    return (g.fh, g.fw, g.strides) == (3, 3, (1, 1))


def _wide_saves(width: int) -> bool:
    """Whether tiles of 2 x 4 take fewer multiplications than those of 2 x 2.

    What hangs over the edge of the images counts. Where they save anything, it is a tenth at least.
    """
    return 24 * -(-width // 4) < 16 * -(-width // 2)
