"""How images reach a convolution, and how they leave it through the ReLU and pooling fused to it.

Incoming: images, or the gradient that comes back through ReLU and pooling.

    for row:  for pixel:  for vector of channels:
        no gate:    to = dout(y, x)
        ReLU:       to = dout(y, x)          where out(y, x) > 0,                    else 0
        and pool:   to = dout(y//2, x//2)    where winner(y//2, x//2) = 2*(y%2) + x%2, else 0

Outgoing: the convolution's output, perhaps plus a residual, then perhaps ReLU, then perhaps the
maxima of 2x2 windows.

The output before ReLU and pooling is never an array, nor is its gradient: kernels hold the
window they work on in scratch or in registers anyway, and apply the gate there. Channels that do
not fill a vector go one by one, through the same code.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from ..table import Array, Bytes
from .words.pointer import clear, copy, helper
from .words.tile import fill, store, tile, where_equal, where_positive

__all__ = ["NO_GATE", "POOL_GATE", "RELU_GATE", "Incoming", "Outgoing", "gated_window"]

NO_GATE, RELU_GATE, POOL_GATE = 0, 1, 2


class Incoming(NamedTuple):
    """Images, or the gradient that comes back through ReLU and pooling.

    Attributes
    ----------
    dout : array
        (N, C, H, W); with pooling (N, C, H//2, W//2).
    gate : array or None
        Of dout's shape: with ``RELU_GATE`` the output of the ReLU, with ``POOL_GATE`` the
        winners of the windows.
    kind : int
    """

    dout: Array
    gate: Array | Bytes | None = None
    kind: int = NO_GATE

    @property
    def fields(self) -> dict[str, Any]:
        """The gate, as kernels take it."""
        _, gate, kind = self
        relu, winner = (None, gate) if kind == POOL_GATE else (gate, None)
        return {"gate": relu, "gate_winner": winner, "gate_kind": kind}


class Outgoing(NamedTuple):
    """Where a convolution's output goes, through ReLU and pooling.

    Attributes
    ----------
    out : array
        (N, C, H, W); with pooling (N, C, H//2, W//2).
    winner : array or None
        With pooling: receives the winners, where they are needed.
    kind : int
    residual : array or None
        Of out's shape: added to the output; not with pooling.
    """

    out: Array
    winner: Bytes | None = None
    kind: int = NO_GATE
    residual: Array | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """As kernels take it; `has_more`: there is a residual, or with pooling a winner."""
        out, winner, kind, residual = self
        has_more = (winner if kind == POOL_GATE else residual) is not None
        images = {"out": out, "winner": winner, "residual": residual}
        return {**images, "kind": kind, "has_more": has_more}


@cache
def relu_pixels(lanes: int) -> Any:
    """`count` elements of dout, 0 where the gate is not above 0."""

    @helper
    def words(to, dout, gate, count):
        whole = count // lanes * lanes
        for c in range(0, whole, lanes):
            passed, nothing = tile(dout + c, lanes, 1, 1), fill(dout, 0, lanes)
            store(where_positive(tile(gate + c, lanes, 1, 1), passed, nothing), to + c, (0,))
        for c in range(whole, count):
            passed, nothing = tile(dout + c, 1, 1, 1), fill(dout, 0, 1)
            store(where_positive(tile(gate + c, 1, 1, 1), passed, nothing), to + c, (0,))

    return words


@cache
def pool_pixel(lanes: int) -> Any:
    """One pixel of `count` channels: dout of its window where `place` is the winner, else 0."""

    @helper
    def words(to, dout, winner, place, count):
        whole = count // lanes * lanes
        for c in range(0, whole, lanes):
            passed, nothing = tile(dout + c, lanes, 1, 1), fill(dout, 0, lanes)
            won, here = tile(winner + c, lanes, 1, 1), fill(winner, place, lanes)
            store(where_equal(won, here, passed, nothing), to + c, (0,))
        for c in range(whole, count):
            passed, nothing = tile(dout + c, 1, 1, 1), fill(dout, 0, 1)
            won, here = tile(winner + c, 1, 1, 1), fill(winner, place, 1)
            store(where_equal(won, here, passed, nothing), to + c, (0,))

    return words


@cache  # compiled once, for all kernels
def gated_window(lanes: int) -> Any:
    """Words for rows x columns pixels of one image from (top, left) on, gated.

    They take ``(kind, dout, gate, winner, height, width, channels, top, left, rows, columns, to,
    to_pixel)``. dout, and the gate (`winner`, where it is one), are those of the image; height
    and width are those of the convolution's output, also where dout is pooled. Pixels are
    `to_pixel` >= channels elements apart in `to`, with zeros after the channels, and are zeros
    outside the image.
    """
    relu_words, pool_words = relu_pixels(lanes), pool_pixel(lanes)

    @helper
    def words(
        kind,
        dout,
        gate,
        winner,
        height,
        width,
        channels,
        top,
        left,
        rows,
        columns,
        to,
        to_pixel,
    ):
        step = width
        if kind == 2:
            # With pooling, an odd last row or column belongs to no window.
            step, height, width = width // 2, height // 2 * 2, width // 2 * 2
        first = min(max(-left, 0), columns)
        last = max(min(width - left, columns), first)
        for y in range(top, top + rows):
            if y < 0 or y >= height:
                clear(to, columns * to_pixel)
                to = to + columns * to_pixel
                continue
            clear(to, first * to_pixel)
            row = to + first * to_pixel
            if kind < 2:
                at = (y * step + left + first) * channels
                # Without gaps between pixels, a row is one long pixel.
                joined = last - first if channels == to_pixel else 1
                for x in range(0, last - first, max(joined, 1)):
                    here, i = row + x * to_pixel, at + x * channels
                    if kind == 0:
                        copy(here, dout + i, joined * channels)
                    else:
                        relu_words(here, dout + i, gate + i, joined * channels)
            else:
                for x in range(left + first, left + last):
                    at = (y // 2 * step + x // 2) * channels
                    here = row + (x - left - first) * to_pixel
                    pool_words(here, dout + at, winner + at, y % 2 * 2 + x % 2, channels)
            if channels < to_pixel:
                for x in range(last - first):
                    clear(row + x * to_pixel + channels, to_pixel - channels)
            clear(to + last * to_pixel, (columns - last) * to_pixel)
            to = to + columns * to_pixel

    return words
