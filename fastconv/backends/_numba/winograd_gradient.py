"""Weight gradient by Winograd's algorithm: 3x3 filters, stride 1, tiles of my x mx outputs.

    for chunk of the tiles of my images:
        for run of adjacent tiles:
            the pixels they need, padded, and their dout, gated, into this thread's scratch
            for tile:  for vector of channels:  V[frequency][tile] = Bt patch B
                       for vector of filters:   D[frequency][tile] = A dout At
        for frequency:
            for block of filters:  for R channels:
                t = 0;  for tile:  t[r] += V[tile][channel r] * D[tile][block]
                sums[frequency][channels][block] += t
    then dweight = Gt (sums of all groups) G

For each pair of a channel and a filter, the 9*my*mx products of a tile become (my+2)(mx+2): 2.25
times fewer for 2 x 2, 3 times for 2 x 4, 4 times for 4 x 4. The transforms are shared by all
pairs. V and D of a chunk should fit the second cache, but short chunks pass too often over the
sums, which are large where channels are many. Each chunk adds one partial sum, which keeps float32
accurate over many tiles.

The register tile is that of `product` with 8 rows at most, or 4 where 6 would leave much over:
here rows are channels, and they come in multiples of 8.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from typing import Any

from .gate import gated_window
from .launch.build import Kernel
from .product import add_rows
from .winograd_transform import HALF_ROOT, ROOT, transform_input
from .words.pointer import clear, helper, share, steps
from .words.record import takes
from .words.square import square, store_square, turned
from .words.tile import add, muladd, rank1, scaled, store, tile

__all__ = ["accumulate_winograd", "gather_winograd"]


# ---- transforms ---------------------------------------------------------------------------------


@helper
def spread_line_2(d0, d1):
    """A times the values of a line; the sign of the last is left to `gathered_line_2`."""
    return d0, d0 + d1, d0 - d1, d1


@helper
def spread_line_4(d0, d1, d2, d3):
    """A times the values of a line."""
    even, odd = muladd(0.5, d2, d0), muladd(0.5, d3, d1)
    even2, odd2 = muladd(2, d2, d0), muladd(2, d3, d1)
    near, minus_near = muladd(HALF_ROOT, odd, even), muladd(-HALF_ROOT, odd, even)
    return d0, near, minus_near, muladd(ROOT, odd2, even2), muladd(-ROOT, odd2, even2), d3


@helper
def gathered_line_2(s0, s1, s2, s3):
    """Gt times the values of a line."""
    half = scaled(0.5, s1 + s2)
    return s0 + half, scaled(0.5, s1 - s2), half - s3


@helper
def gathered_line_4(s0, s1, s2, s3, s4, s5):
    """Gt times the values of a line."""
    even, odd = scaled(-2 / 3, s1 + s2), scaled(-2 * HALF_ROOT / 3, s1 - s2)
    even2, odd2 = scaled(1 / 6, s3 + s4), scaled(ROOT / 6, s3 - s4)
    return s0 + even + even2, odd + odd2, muladd(2, even2, muladd(0.5, even, s5))


SPREAD_LINE = {2: spread_line_2, 4: spread_line_4}
GATHERED_LINE = {2: gathered_line_2, 4: gathered_line_4}


def spread(my: int, mx: int, lanes: int) -> Any:
    """D of one vector of filters, from a tile; to as in `transform_input`."""
    k, down, along = mx + 2, SPREAD_LINE[my], SPREAD_LINE[mx]

    @helper
    def words(dout, row, pixel, to, step):
        columns = down(*square(dout, row, pixel, lanes, my, mx))
        store_square(turned(along(*turned(columns))), to, k * step, step)

    return words


def gathered(my: int, mx: int, lanes: int) -> Any:
    """The 3x3 taps of one vector of filters, from sums[f*step], written over the first nine."""
    n, k, down, along = my + 2, mx + 2, GATHERED_LINE[my], GATHERED_LINE[mx]

    @helper
    def words(sums, step):
        columns = down(*square(sums, k * step, step, lanes, n, k))
        store_square(turned(along(*turned(columns))), sums, 3 * step, step)

    return words


# ---- kernels ------------------------------------------------------------------------------------


@takes(
    real="x dout gate patches v d zeros sums",
    uint8="gate_winner",
    integers="gate_kind images channels height width top left filters oh ow dout_size"
    " groups depth whole chunk run patch_size line",
)
def accumulate_winograd(real: int, lanes: int, rows: int, vectors: int, my: int, mx: int) -> Kernel:
    """sums[group][frequency][channel][filter], then a row of dout alone, by group of images.

    The parts form groups: a group takes some of the images, each of its parts some blocks of
    filters. `depth` and `whole` are channels and filters, padded to whole tiles.
    """
    width = lanes * vectors
    frequencies = (my + 2) * (mx + 2)
    one_by_one = tuple(range(rows))
    put_window, add_to_total = gated_window(lanes), add_rows(lanes, vectors)
    transform_patch, spread_tile = transform_input(my, mx, lanes), spread(my, mx, lanes)

    def kernel(a, part, parts):
        x, dout, gate, gate_winner = a.x, a.dout, a.gate, a.gate_winner
        depth, whole, channels, chunk = a.depth, a.whole, a.channels, a.chunk
        members = parts // a.groups
        group, member = part // members, part % members
        if group >= a.groups:
            return
        first, last = share(whole // width, member, members)
        first, last = first * width, last * width
        pixels = a.patches + part * a.patch_size
        gated = pixels + (my + 2) * (mx * a.run + 2) * depth
        # One cache line more, lest all frequencies hit the same few sets of a cache.
        v_step, d_step = chunk * depth + a.line, chunk * whole + a.line
        v = a.v + part * frequencies * v_step
        d = a.d + part * frequencies * d_step
        sums = a.sums + group * (frequencies * depth + 1) * whole
        total = sums + frequencies * depth * whole
        clear(total + first, last - first)
        across = (a.ow + mx - 1) // mx
        tiles = (a.oh + my - 1) // my * across
        first_image, last_image = share(a.images, group, a.groups)
        first_tile = first_image * tiles
        for start in range(first_tile, last_image * tiles, chunk):
            count = min(chunk, last_image * tiles - start)
            k = 0
            while k < count:
                image, place = (start + k) // tiles, (start + k) % tiles
                top, left = place // across * my, place % across * mx
                here = min(a.run, count - k, across - place % across)
                i = image * a.height * a.width * channels
                put_window(
                    *(0, x + i, x, gate_winner, a.height, a.width, channels),
                    *(top - a.top, left - a.left, my + 2, mx * here + 2, pixels, depth),
                )
                i = image * a.dout_size
                put_window(
                    *(a.gate_kind, dout + i, gate + i, gate_winner + i, a.oh, a.ow, a.filters),
                    *(top, left, my, mx * here, gated, whole),
                )
                for c in range(first, last, width):
                    add_to_total(total + c, gated + c, whole, my * mx * here, a.zeros)
                for t in range(here):
                    row = (mx * here + 2) * depth
                    for c in range(0, channels, lanes):
                        patch = pixels + (mx * t * depth + c)
                        transform_patch(patch, row, depth, v + ((k + t) * depth + c), v_step)
                    row = mx * here * whole
                    for c in range(first, last, lanes):
                        patch = gated + (mx * t * whole + c)
                        spread_tile(patch, row, whole, d + ((k + t) * whole + c), d_step)
                k += here
            for f in range(frequencies):
                for column in range(first, last, width):
                    w = d + (f * d_step + column)
                    for c in range(0, channels, rows):
                        t = tile(a.zeros, lanes, rows, vectors)
                        channel = v + (f * v_step + c)
                        for k in range(count):
                            t = rank1(t, channel, one_by_one, k * depth, w + k * whole)
                        to = sums + ((f * depth + c) * whole + column)
                        if start == first_tile:
                            store(t, to, steps(whole, rows))
                        else:
                            add(t, to, whole)

    return kernel


def add_groups(lanes: int) -> Any:
    """Add elements first, ..., last - 1 of all groups' sums to those of the first group."""

    @helper
    def words(sums, first, last, groups, group_size):
        for i in range(first, last, lanes):
            t = tile(sums + i, lanes, 1, 1)
            for group in range(1, groups):
                t = t + tile(sums + (group * group_size + i), lanes, 1, 1)
            store(t, sums + i, (0,))

    return words


@takes(real="sums", integers="groups depth whole")
def gather_winograd(real: int, lanes: int, my: int, mx: int) -> Kernel:
    """All groups' sums[tap][channel][filter] and row of dout, in the first group's place."""
    frequencies = (my + 2) * (mx + 2)
    gather, add_up = gathered(my, mx, lanes), add_groups(lanes)

    def kernel(a, part, parts):
        sums, groups, row, frequency = a.sums, a.groups, a.whole, a.depth * a.whole
        group_size = frequencies * frequency + row
        first, last = share(a.depth, part, parts)
        if groups > 1:
            for f in range(frequencies):
                start = f * frequency
                add_up(sums, start + first * row, start + last * row, groups, group_size)
            if part == 0:
                add_up(sums, group_size - row, group_size, groups, group_size)
        for i in range(first * row, last * row, lanes):
            gather(sums + i, frequency)

    return kernel
