"""Max pooling.

    for image, v:  for u:  for channels, one vector at a time:
        best = first real place of the window;  for each place:  keep the better, and where

The tile is one vector of channels and the positions of their maxima, a byte each, kept in
registers over the window, which is read once and written once. Channels that do not fill a
vector go one by one, through the same code. Backward has the same loops, and adds the gradient
to the place that won and zero to the others: a masked add has no branch to mispredict.

Where square windows tile the image, which is the usual case, their side is a constant: their
places unroll, and backward writes each place once, without clearing or reading it.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from typing import Any

from .launch.build import Kernel
from .offsets import WINDOWS
from .words.pointer import clear, helper, share
from .words.record import takes
from .words.tile import add, fill, store, tile, where_better, where_equal

__all__ = ["pool_backward", "pool_forward"]


@helper
def real_places(start, window, size):
    """First and last (excluded) place inside the image of a window that begins at `start`."""
    return max(0, -start), min(window, size - start)


def keep_best(lanes: int) -> Any:
    """The window's maximum and its place, for `lanes` channels."""

    @helper
    def words(x, out, winner, down, across, fw, row_step, step):
        first = x + (down[0] * row_step + across[0] * step)
        best = tile(first, lanes, 1, 1)
        place = fill(winner, down[0] * fw + across[0], lanes)
        for fy in range(down[0], down[1]):
            for fx in range(across[0], across[1]):
                value = tile(x + (fy * row_step + fx * step), lanes, 1, 1)
                here = fill(winner, fy * fw + fx, lanes)
                place = where_better(value, best, here, place)
                best = where_better(value, best, value, best)
        store(best, out, (0,))
        store(place, winner, (0,))

    return words


def give_back(lanes: int, fresh: bool) -> Any:
    """Give the gradient of one window to the place that won, for `lanes` channels.

    It is added to what is there, unless the memory is `fresh`.
    """

    @helper
    def words(dx, dout, winner, down, across, fw, row_step, step):
        gradient = tile(dout, lanes, 1, 1)
        place = tile(winner, lanes, 1, 1)
        nothing = fill(dout, 0, lanes)
        for fy in range(down[0], down[1]):
            for fx in range(across[0], across[1]):
                here = fill(winner, fy * fw + fx, lanes)
                target = dx + (fy * row_step + fx * step)
                if fresh:
                    store(where_equal(place, here, gradient, nothing), target, (0,))
                else:
                    add(where_equal(place, here, gradient, nothing), target, 0)

    return words


@takes(real="x out", index="winner", integers=WINDOWS)
def pool_forward(real: int, index: int, lanes: int, side: int) -> Kernel:
    """out and winner [image][v][u][channel] from x [image][y][x][channel].

    `side` is that of windows that tile the image, or 0.
    """
    whole_vector, one_channel = keep_best(lanes), keep_best(1)

    def kernel(a, part, parts):
        fw, channels = side or a.fw, a.channels
        whole = channels // lanes * lanes
        row_step = a.width * channels
        first, last = share(a.images * a.oh, part, parts)
        for row in range(first, last):
            image, v = row // a.oh, row % a.oh
            y = v * a.stride_y - a.top
            down = (0, side) if side else real_places(y, a.fh, a.height)
            for u in range(a.ow):
                left, at = u * a.stride_x - a.left, (row * a.ow + u) * channels
                across = (0, side) if side else real_places(left, fw, a.width)
                window = a.x + (image * a.height + y) * row_step + left * channels
                o, w = a.out + at, a.winner + at
                for c in range(0, whole, lanes):
                    whole_vector(window + c, o + c, w + c, down, across, fw, row_step, channels)
                for c in range(whole, channels):
                    one_channel(window + c, o + c, w + c, down, across, fw, row_step, channels)

    return kernel


@takes(real="dout dx", index="winner", integers=WINDOWS)
def pool_backward(real: int, index: int, lanes: int, side: int) -> Kernel:
    """dx [image][y][x][channel] from dout and winner [image][v][u][channel].

    `side` is that of windows that tile the image, or 0.
    """
    whole_vector, one_channel = give_back(lanes, side > 0), give_back(1, side > 0)

    def kernel(a, part, parts):
        fw, channels = side or a.fw, a.channels
        whole = channels // lanes * lanes
        row_step = a.width * channels
        first, last = share(a.images, part, parts)
        if not side:
            clear(a.dx + first * a.height * row_step, (last - first) * a.height * row_step)
        for row in range(first * a.oh, last * a.oh):
            image, v = row // a.oh, row % a.oh
            y = v * a.stride_y - a.top
            down = (0, side) if side else real_places(y, a.fh, a.height)
            for u in range(a.ow):
                left, at = u * a.stride_x - a.left, (row * a.ow + u) * channels
                across = (0, side) if side else real_places(left, fw, a.width)
                window = a.dx + (image * a.height + y) * row_step + left * channels
                o, w = a.dout + at, a.winner + at
                for c in range(0, whole, lanes):
                    whole_vector(window + c, o + c, w + c, down, across, fw, row_step, channels)
                for c in range(whole, channels):
                    one_channel(window + c, o + c, w + c, down, across, fw, row_step, channels)

    return kernel
