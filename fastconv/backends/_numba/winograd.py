"""Winograd's convolution by 3x3 filters, stride 1, forward and for the input gradient.

    U = transformed filters, [block of columns][f][c][lanes of the block]
    for block of tiles, in parallel:  (each taken by the next free thread)
        for image of the block:
            its pixels, padded and gated, into this thread's scratch
            for tile:  for vector of c:  V[vector][f][tile] = transform of the tile's patch
            for tile:  empty[tile] = which of its windows hold only zeros
        for block of columns:
            for f:  for R tiles:  (meanwhile the next block's pixels are prefetched, and the
                                   memory that this one will fill: tiles fill it in an
                                   order that no processor predicts)
                t = 0;  for c:  t += V[.][f](tile, c) * U[f](c)
                M[f][tile] = t
            for tile:  for vector of the block:
                my x mx outputs = transform of M[.](tile) + bias, or in empty windows the bias,
                                  [+ residual], ReLU, pool

f counts the (my+2)(mx+2) frequencies. V and M hold the tiles of one block only, and stay in the
second cache. A block is a piece of a row of tiles, or some rows, or some images, so that the
pixels in scratch serve all its tiles. The input gradient is the same with flipped filters and
padding 2 - pad. The sum over c is cut into chunks (see `CHUNKS`), as in `product`.

Empty windows hold only zeros, but the other pixels of their tile enter the outputs in sums that
should cancel, and with a side of 4 roundings are left. They are far below any rounding that
matters, but not 0: a ReLU lets half of them pass, and where an image has a background of zeros
the gradients of the biases are wrong by as many pixels as that has. So forward looks for empty
windows. Each window has one of the pixels in the middle of the patch: if none of these is zero in
all channels, no window is empty. One load of each mostly shows that; the other tiles are few, or
their products cost more. Tiles of 2 x 2 need none of this, since an output is made of its own
window's pixels alone. In gradients nothing depends on such values.

The register tile is that of `product`, and one of half its rows for what is left over. V and M
have room for `CAPACITY` tiles, so that the steps from row to row and from frequency to frequency
are constants of the machine code. These are an odd number of vectors, so that frequencies hit
different sets of a cache. (2 x 2: V of 16 channels takes 66 KB.)
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from functools import cache
from typing import Any

from .gate import gated_window
from .launch.build import Kernel
from .winograd_transform import (
    output_lines,
    pooled_lines,
    relu_lines,
    transform_filter,
    transform_input,
)
from .words.lanewise import rows_of
from .words.pointer import FLOAT, clear, copy, fetch, helper, next_unit, settle, share, steps
from .words.record import takes
from .words.residual import plus_residual_lines
from .words.square import square, store_square
from .words.tile import add, all_zero, fill, rank1, scaled, store, tile

__all__ = ["CAPACITY", "room", "transform_filters", "winograd"]

CAPACITY = 64
"""Most tiles of a block."""

CHUNKS = {(2, 2): 64, (2, 4): 32, (4, 4): 64}
"""Channels of one sum, by the sides of a tile; whole vectors.

Those of _cython/winograd.pxi (tests/test_twins.py).

The rounding error of a sum grows with its length. The transforms of 2 x 4 amplify it, so that
their sums must be shorter than those of 2 x 2 for outputs as good as PyTorch's. Those of 4 x 4
amplify it more, but run only where less accuracy is asked for.
"""


def room(rows: int) -> int:
    """Tiles that V and M have room for: whole register tiles, and an odd number."""
    return -(-CAPACITY // rows) * rows | 1


@cache  # compiled once, for all kernels
def zero_times(lanes: int) -> Any:
    """Sum of 0 times each of `count` values: 0, or NaN where one is NaN or infinite."""

    @helper
    def words(values, count, spare):
        whole, products = count // lanes * lanes, fill(values, 0, lanes)
        for i in range(0, whole, lanes):
            products = products + scaled(0, tile(values + i, lanes, 1, 1))
        store(products, spare, (0,))
        total = 0.0
        for lane in range(lanes):
            total += spare[lane]
        for i in range(whole, count):
            total += 0 * values[i]
        return total

    return words


@takes(
    real="weight taps filters of_empty",
    int64="along",
    integers="columns depth column_step",
    flags="looking",
)
def transform_filters(real: int, lanes: int, vectors: int, my: int, mx: int) -> Kernel:
    """U, [block][f][c][width], zeros in columns that do not exist.

    Tap (ky, kx) of channel c and a column is weight[along[(3*ky + kx)*depth + c] + column*step].
    Where the kernel is `looking` for empty windows, columns are contiguous, and `of_empty`, which
    holds the bias, receives what such a window gives.
    """
    width, frequencies = lanes * vectors, (my + 2) * (mx + 2)
    transform, nothing = transform_filter(my, mx, lanes), zero_times(lanes)

    def kernel(a, part, parts):
        columns, depth = a.columns, a.depth
        taps = a.taps + part * 9 * width
        first, last = share((columns + width - 1) // width * depth, part, parts)
        for i in range(first, last):
            j, c = i // depth, i % depth
            there = min(width, columns - j * width)
            if there < width:
                clear(taps, 9 * width)
            for lane in range(there):
                column = a.weight + (j * width + lane) * a.column_step
                for tap in range(9):
                    taps[tap * width + lane] = column[a.along[tap * depth + c]]
            to = a.filters + (j * frequencies * depth + c) * width
            for lane in range(0, width, lanes):
                transform(taps + lane, width, to + lane, depth * width)
        if a.looking:
            first, last = share(columns, part, parts)
            for i in range(first, last):
                a.of_empty[i] += nothing(a.weight + i * a.column_step, 9 * depth, taps)

    return kernel


def empty_windows(my: int, mx: int, lanes: int) -> Any:
    """For a patch: bit mx*i + j says that the window of output (i, j) holds only zeros."""

    def empty_pixels(count):
        # Whether so many pixels of a row are 0 in all channels.
        @helper
        def words(pixels, width):
            empty = True
            for c in range(0, width, lanes):
                empty = all_zero(rows_of(pixels + c, steps(width, count), lanes))
                if not empty:
                    break
            return empty

        return words

    is_empty, row_is_empty = empty_pixels(1), empty_pixels(mx + 2)

    @helper
    def may_be(patch, row, pixel):
        # Each window holds one of these.
        for y in range(my // 2, my):
            for x in range(mx // 2, mx):
                if is_empty(patch + y * row + x * pixel, pixel):
                    return True
        return False

    @helper
    def along(pixels, pixel):
        # Bit j says that pixels j, j + 1 and j + 2 of a row are empty.
        found = 0
        if row_is_empty(pixels, pixel):  # most rows that hold empty pixels hold no others
            return (1 << mx) - 1
        for x in range(mx + 2):
            if is_empty(pixels + x * pixel, pixel):
                found |= 1 << x
        return found & found >> 1 & found >> 2

    @helper
    def words(patch, row, pixel):
        found = 0
        if may_be(patch, row, pixel):
            above, here = along(patch, pixel), along(patch + row, pixel)
            for y in range(my):
                below = along(patch + (y + 2) * row, pixel)
                found |= (above & here & below) << mx * y
                above, here = here, below
        return found

    return words


def product_of_tiles(lanes: int, rows: int, vectors: int, chunk: int) -> Any:
    """M of `rows` tiles and one frequency."""
    width = lanes * vectors

    @helper
    def sums(zeros, v, v_plane, depth, w):
        t = tile(zeros, lanes, rows, vectors)
        at = steps(lanes, rows)
        for c in range(0, depth, lanes):
            for k in range(min(lanes, depth - c)):
                t = rank1(t, v, at, k, w + (c + k) * width)
            v = v + v_plane
        return t

    @helper
    def words(zeros, v, v_plane, depth, w, to):
        store(sums(zeros, v, v_plane, min(depth, chunk), w), to, steps(width, rows))
        for c in range(chunk, depth, chunk):
            settle()
            v, w = v + chunk // lanes * v_plane, w + chunk * width
            add(sums(zeros, v, v_plane, min(chunk, depth - c), w), to, width)

    return words


@cache  # compiled once, for all kernels
def store_lines(high: int, wide: int, lanes: int) -> Any:
    """Store `high` x `wide` pixels, as far as they exist."""

    @helper
    def words(lines, target, row, pixel, rows, columns, channels, spare):
        if rows >= high and columns >= wide and channels >= lanes:
            store_square(lines, target, row, pixel)
        else:
            store_square(lines, spare, wide * lanes, lanes)
            for y in range(min(rows, high)):
                for x in range(min(columns, wide)):
                    to, pixels = target + (y * row + x * pixel), spare + (y * wide + x) * lanes
                    copy(to, pixels, min(channels, lanes))

    return words


@helper
def begin_of(block, blocks_x, blocks_y, images, groups, image_size, row_size, first_row):
    """The first element that a block reads and the one before does not, except at its edge."""
    step, pad, pooled = first_row
    image = min(images, block // (blocks_x * blocks_y) * images // groups)
    row = max(0, block // blocks_x % blocks_y * step - pad) // pooled if image < images else 0
    return image * image_size + row * row_size


def tiles_out(lanes: int, vectors: int, my: int, mx: int, m_step: int) -> Any:
    """The outputs of one tile and block of columns, from its products."""
    width = lanes * vectors
    lines_of, after_relu, after_pool = output_lines(my, mx, lanes), relu_lines[my], pooled_lines[my]
    store_tile, store_windows = store_lines(my, mx, lanes), store_lines(my // 2, mx // 2, lanes)
    plus_residual = plus_residual_lines(my, mx, lanes)

    @helper
    def words(
        products,
        bias,
        of_empty,
        empty,
        kind,
        out,
        residual,
        winner,
        has_more,
        row,
        pixel,
        rows,
        columns,
        channels,
        spare,
    ):
        for lane in range(0, min(width, channels), lanes):
            there, to = (rows, columns, channels - lane), out + lane
            lines = lines_of(products + lane, m_step, bias + lane)
            if empty != 0:
                # Through memory: otherwise LLVM would select for each output of every tile.
                store_square(lines, spare[0], mx * lanes, lanes)
                for i in range(my * mx):
                    if empty >> i & 1:
                        copy(spare[0] + i * lanes, of_empty + lane, lanes)
                lines = square(spare[0], mx * lanes, lanes, lanes, my, mx)
            if kind == 2:
                best, place = after_pool(*lines)
                store_windows(best, to, row, pixel, *there, spare[0])
                if has_more:
                    store_windows(place, winner + lane, row, pixel, *there, spare[1])
            else:
                if has_more:
                    lines = plus_residual(lines, residual + lane, row, pixel, *there, spare[0])
                if kind == 1:
                    lines = after_relu(*lines)
                store_tile(lines, to, row, pixel, *there, spare[0])

    return words


@takes(
    real="x gate filters bias zeros out scratch residual of_empty",
    uint8="gate_winner winner scratch_bytes",
    int32="scratch_ints",
    int64="shares",
    integers="gate_kind height width depth x_size top left kind out_height out_width columns"
    " images tiles_y tiles_x groups most_y most_x pieces scratch_size",
    flags="has_more looking",
)
def winograd(real: int, lanes: int, rows: int, vectors: int, my: int, mx: int) -> Kernel:
    """Outgoing images from incoming ones, by transformed filters."""
    width, frequencies, few = lanes * vectors, (my + 2) * (mx + 2), rows // 2
    v_step, m_step = room(rows) * lanes, room(rows) * width
    v_plane, bytes_ = frequencies * v_step, 4 if real == FLOAT else 8
    put_window, transform_patch = gated_window(lanes), transform_input(my, mx, lanes)
    chunk, windows_of = CHUNKS[my, mx], empty_windows(my, mx, lanes)
    product, product_of_few = (product_of_tiles(lanes, r, vectors, chunk) for r in (rows, few))
    put_tile = tiles_out(lanes, vectors, my, mx, m_step)

    def kernel(a, part, parts):
        gate_kind, depth, kind, columns, images = a.gate_kind, a.depth, a.kind, a.columns, a.images
        out_height, out_width, most_y, most_x = a.out_height, a.out_width, a.most_y, a.most_x
        planes = (depth + lanes - 1) // lanes
        whole = planes * lanes
        v = a.scratch + part * a.scratch_size
        products = v + planes * v_plane
        spare_at = part * a.scratch_size + planes * v_plane + frequencies * m_step
        spare = a.scratch + spare_at, a.scratch_bytes + spare_at * bytes_
        empty_at = spare_at + my * mx * lanes
        empty = a.scratch_ints + empty_at * bytes_ // 4
        window = a.scratch + (empty_at + CAPACITY)
        blocks_y, blocks_x = (a.tiles_y + most_y - 1) // most_y, (a.tiles_x + most_x - 1) // most_x
        high, wide = (my // 2, mx // 2) if kind == 2 else (my, mx)
        row_pixels = a.width // 2 if gate_kind == 2 else a.width
        first_row = most_y * my, a.top, 2 if gate_kind == 2 else 1
        cut = blocks_x, blocks_y, images, a.groups, a.x_size, row_pixels * depth, first_row
        unit = next_unit(a.shares, part, parts)
        while unit >= 0:
            piece, b = unit % a.pieces, unit // a.pieces
            left, top = b % blocks_x * most_x, b // blocks_x % blocks_y * most_y
            image, end_image = share(images, b // (blocks_x * blocks_y), a.groups)
            here_n, here_y = end_image - image, min(most_y, a.tiles_y - top)
            here_x = min(most_x, a.tiles_x - left)
            fill_y = min(high * here_y, out_height - high * top)
            fill_x = min(wide * here_x, out_width - wide * left) * columns
            tiles, row = here_n * here_y * here_x, (mx * here_x + 2) * whole

            to, t = v, 0
            for i in range(image, image + here_n):
                at = i * a.x_size
                put_window(
                    *(gate_kind, a.x + at, a.gate + at, a.gate_winner + at),
                    *(a.height, a.width, depth, my * top - a.top, mx * left - a.left),
                    *(my * here_y + 2, mx * here_x + 2, window, whole),
                )
                for ty in range(here_y):
                    for tx in range(here_x):
                        patch = window + (my * ty * row + mx * tx * whole)
                        for c in range(planes):
                            transform_patch(patch + c * lanes, row, whole, to + c * v_plane, v_step)
                        empty[t] = windows_of(patch, row, whole) if a.looking else 0
                        to, t = to + lanes, t + 1

            ahead, after = begin_of(b + 1, *cut), begin_of(b + 2, *cut)
            first_block, last_block = share((columns + width - 1) // width, piece, a.pieces)
            for j in range(first_block, last_block):
                w = a.filters + j * width * frequencies * depth
                for f in range(frequencies):
                    if j == first_block:
                        near, end = share(after - ahead, f, frequencies)
                        fetch(a.x + (ahead + near), (end - near) * bytes_)
                        if gate_kind == 1:
                            fetch(a.gate + (ahead + near), (end - near) * bytes_)
                        elif gate_kind == 2:
                            fetch(a.gate_winner + (ahead + near), end - near)
                        if piece == 0:
                            near, end = share(here_n * fill_y, f, frequencies)
                            for y in range(near, end):
                                at = (image + y // fill_y) * out_height + high * top + y % fill_y
                                at = (at * out_width + wide * left) * columns
                                fetch(a.out + at, fill_x * bytes_)
                                if kind == 2 and a.has_more:
                                    fetch(a.winner + at, fill_x)
                    v_f, m_f = v + f * v_step, products + f * m_step
                    for t in range(0, tiles, rows):
                        if tiles - t > few:
                            product(a.zeros, v_f, v_plane, depth, w, m_f)
                        else:
                            product_of_few(a.zeros, v_f, v_plane, depth, w, m_f)
                        v_f, m_f = v_f + rows * lanes, m_f + rows * width
                    w = w + depth * width

                m_t, t = products, 0
                for i in range(image, image + here_n):
                    for ty in range(top, top + here_y):
                        for tx in range(left, left + here_x):
                            y, x_ = ty * high, tx * wide
                            at = ((i * out_height + y) * out_width + x_) * columns + j * width
                            put_tile(
                                *(m_t, a.bias + j * width, a.of_empty + j * width, empty[t], kind),
                                *(a.out + at, a.residual + at, a.winner + at, a.has_more),
                                *(out_width * columns, columns, out_height - y, out_width - x_),
                                *(columns - j * width, spare),
                            )
                            m_t, t = m_t + width, t + 1
            unit = next_unit(a.shares, part, parts)

    return kernel
