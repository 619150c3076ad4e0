"""Gradient of the convolution's input where it has few channels, as a first layer's.

    for image, and for band of its rows, in parallel:
        dx = 0
        for row of dout that reaches the band:
            T[f] = its pixels, gated, filter by filter
            for K vectors of pixels:  for R of the values (ky, kx, c):
                t = 0;  for f:  t += weight(f, ky, kx, c) * T[f](pixels)
                P[ky, kx, c] = t
            dx(y + ky, x + kx, c) += P[ky, kx, c](pixel)

With channels in the lanes, as elsewhere, one channel would leave fifteen of sixteen lanes empty.
Here pixels are in the lanes, for the price of turning dout and of adding up the taps one by one.
R is that of `product` or half of it; weights go on with zeros up to whole tiles.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from typing import Any

from .gate import gated_window
from .launch.build import Kernel
from .offsets import WINDOWS
from .words.pointer import clear, helper, share, steps
from .words.record import takes
from .words.tile import add, rank1, store, tile

__all__ = ["few_channels"]


def tap_adder(lanes: int) -> Any:
    """target[u*step] += source[u] for `count` u."""

    @helper
    def add_taps(target, source, count, step):
        whole = count // lanes * lanes if step == 1 else 0
        for u in range(0, whole, lanes):
            add(tile(source + u, lanes, 1, 1), target + u, 0)
        for u in range(whole, count):
            target[u * step] = target[u * step] + source[u]

    return add_taps


@takes(
    real="dout gate packed zeros dx scratch",
    uint8="gate_winner",
    integers=f"gate_kind dout_size filters row_width values bands {WINDOWS}",
)
def few_channels(real: int, lanes: int, rows: int, vectors: int) -> Kernel:
    """dx [image][y][x][c] from dout, gated, and weights [f][ky][kx][c]."""
    block_width = lanes * vectors
    put_window, add_taps = gated_window(lanes), tap_adder(lanes)

    def kernel(a, part, parts):
        filters, oh, ow, width, values = a.filters, a.oh, a.ow, a.row_width, a.values
        channels, above, before, fh, stride = a.channels, a.top, a.left, a.fh, a.stride_x
        row = a.scratch + part * (ow * filters + (filters + values) * width)
        turned = row + ow * filters
        taps = turned + filters * width
        clear(turned, filters * width)  # also the pixels behind the last one
        at = steps(1, rows)
        first, last = share(a.images * a.bands, part, parts)
        for unit in range(first, last):
            image = unit // a.bands
            top, end = share(a.height, unit % a.bands, a.bands)
            to = a.dx + image * a.height * a.width * channels
            clear(to + top * a.width * channels, (end - top) * a.width * channels)
            i = image * a.dout_size
            # Row m of dout reaches the rows m*stride - above, ..., + fh - 1.
            first_row = max(0, -((fh - 1 - top - above) // a.stride_y))
            for m in range(first_row, min(oh, (end - 1 + above) // a.stride_y + 1)):
                put_window(
                    *(a.gate_kind, a.dout + i, a.gate + i, a.gate_winner + i),
                    *(oh, ow, filters, m, 0, 1, ow, row, filters),
                )
                for u in range(ow):
                    for f in range(filters):
                        turned[f * width + u] = row[u * filters + f]
                for column in range(0, width, block_width):
                    for r in range(0, values, rows):
                        t = tile(a.zeros, lanes, rows, vectors)
                        for f in range(filters):
                            t = rank1(
                                t, a.packed + r, at, f * values, turned + (f * width + column)
                            )
                        store(t, taps + (r * width + column), steps(width, rows))
                corner = m * a.stride_y - above
                for ky in range(max(0, top - corner), min(fh, end - corner)):
                    y = corner + ky
                    for kx in range(a.fw):
                        # Pixel u goes to u*stride + kx - before, which must lie in the image.
                        first_u = max(0, -((kx - before) // stride))
                        last_u = min(ow, (a.width - 1 + before - kx) // stride + 1)
                        x = first_u * stride + kx - before
                        for c in range(channels):
                            add_taps(
                                to + ((y * a.width + x) * channels + c),
                                taps + (((ky * a.fw + kx) * channels + c) * width + first_u),
                                *(max(0, last_u - first_u), channels * stride),
                            )

    return kernel
