"""Matrix product through tables of offsets: convolution and fully connected layers.

A convolution is a product whose left factor is read in place, through two tables: element
(row, k) is x[at[row] + along[k]]. Three products differ in what a row, a k and a column are:

    ==============  ===================  =====================  ============
    result          row                  k                      column
    ==============  ===================  =====================  ============
    output          pixel of the output  tap: (fy, fx, c)       filter
    input gradient  pixel of the input   tap: (fy, fx, filter)  channel
    weight gradient tap: (fy, fx, c)     pixel of the output    filter
    ==============  ===================  =====================  ============

A fully connected layer is the same with at = row*D and along = k. `multiply` runs

    for image:  pad it into this thread's scratch, through its gate if it has one
        for block of columns:  for tile of R rows:
            t = bias;  for k:  t[r] += x[at[r] + along[k]] * w[k];  result[r] = t

with the residual and ReLU before the store. `multiply_pooled` does the same without a residual,
but every four rows are a window of 2x2 pixels, and only the largest is stored. `accumulate`, whose
k runs over the pixels, adds t to sums of its thread instead. All three cut long sums into chunks
of terms, since long sums lose digits. Between chunks `multiply` keeps its total in memory, so that
the loop over k has the registers to itself.

The register tile: R rows of K vectors of columns. Each k loads K vectors and broadcasts R
values for R*K multiply-adds; R*K accumulators hide the latency of the multiply-add and
leave registers for the rest: 8 x 2 or 14 x 1 of 32, 6 x 2 or 8 x 1 of 16. The right factor
is packed, or read in place, so that a block's columns are contiguous; columns missing in the
last block are zeros. Tables repeat their last row to fill whole tiles.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

from typing import Any

from .gate import gated_window
from .launch.build import Kernel
from .offsets import FRAME
from .words.pointer import clear, copy, helper, offsets, settle, share, steps
from .words.record import takes
from .words.residual import plus_residual, plus_rows
from .words.tile import add, best_of_four, every, plus, rank1, relu, store, store_part, tile

__all__ = ["CHUNK", "accumulate", "add_rows", "collect", "multiply", "multiply_pooled", "pack"]

CHUNK = 512
"""Terms of one partial sum in `accumulate`: long sums lose digits."""

COLUMNS = 16
"""Columns that `collect` moves to their places at a time."""


@helper
def product(t, x, at, along, count, w, step):
    """t[r] += sum over k < count of x[at[r] + along[k]] * w[k*step : k*step + K*lanes]."""
    for k in range(count):
        t = rank1(t, x, at, along[k], w + k * step)
    return t


def product_in_chunks(lanes: int, rows: int, vectors: int) -> Any:
    """As `product`, in so many `chunks` of `chunk` terms, each a sum from zeros.

    Between chunks the sum so far is at `total`: the loop over k needs the registers.
    """
    width = lanes * vectors

    @helper
    def words(t, zeros, total, x, at, along, count, w, chunks, chunk):
        t = product(t, x, at, along, min(count, chunk), w, width)
        for _ in range(1, chunks):
            store(t, total, steps(width, rows))
            settle()
            along, w, count = along + chunk, w + chunk * width, count - chunk
            t = tile(zeros, lanes, rows, vectors)
            t = product(t, x, at, along, min(count, chunk), w, width)
            t = plus_rows(t, total, steps(width, rows))
        return t

    return words


@helper
def frame(scratch, image, channels, height, width, top, left, frame_height, frame_width):
    """Put an image into a frame of zeros, its corner at (top, left); what overhangs is cut off."""
    first, last = max(0, -left), min(width, frame_width - left)
    for y in range(max(0, -top), min(height, frame_height - top)):
        target = scratch + ((y + top) * frame_width + left + first) * channels
        copy(target, image + (y * width + first) * channels, max(0, last - first) * channels)


@takes(real="source packed", int64="along", integers="columns count column_step width")
def pack(real: int) -> Kernel:
    """The right factor, [block of columns][k][width], zeros in columns that do not exist.

    Element (k, column) of the source is source[along[k] + column*column_step].
    """

    def kernel(a, part, parts):
        along, width = a.along, a.width
        first, last = share(a.count, part, parts)
        for start in range(0, a.columns, width):
            there = min(width, a.columns - start)
            target = a.packed + start * a.count
            if there < width:
                clear(target + first * width, (last - first) * width)
            if a.column_step == 1:
                for k in range(first, last):
                    copy(target + k * width, a.source + (along[k] + start), there)
            else:
                for j in range(there):
                    column = a.source + (start + j) * a.column_step
                    for k in range(first, last):
                        target[k * width + j] = column[along[k]]

    return kernel


def put(rows: int, width: int) -> Any:
    """Store a tile at the places of a table; `left` columns exist from here on."""

    @helper
    def words(t, target, goes, left):
        if left >= width:
            store(t, target, offsets(goes, rows))
        else:
            store_part(t, target, offsets(goes, rows), left)

    return words


PRODUCT = takes(
    real="x gate scratch packed bias out residual zeros total",
    uint8="gate_winner winner",
    int64="at along goes",
    integers=f"images tiles columns count x_size out_size gate_kind kind chunks chunk {FRAME}",
    flags="framed has_more",
)
"""Of `multiply` and `multiply_pooled`."""


@PRODUCT
def multiply(real: int, lanes: int, rows: int, vectors: int) -> Kernel:
    """result[goes[row] + column] = bias[column] + sum over k of x[at[row] + along[k]]*w[k].

    A residual with the result's layout may be added, and a ReLU may follow.
    """
    width = lanes * vectors
    put_tile, with_residual = put(rows, width), plus_residual(rows, width)

    @helper
    def end(t, result, residual, winner, goes, i, left, kind, has_more):
        if has_more:
            t = with_residual(t, residual, goes + i * rows, left)
        if kind == 1:
            t = relu(t)
        put_tile(t, result, goes + i * rows, left)

    return product_of_images(real, lanes, rows, vectors, end)


@PRODUCT
def multiply_pooled(real: int, lanes: int, rows: int, vectors: int) -> Kernel:
    """As `multiply`, but stores the largest of every four rows after ReLU, and which it was."""
    put_windows = put(rows // 4, lanes * vectors)

    @helper
    def end(t, result, residual, winner, goes, i, left, kind, has_more):
        places = goes + i * (rows // 4)
        best, place = best_of_four(every(t, 0, 4), every(t, 1, 4), every(t, 2, 4), every(t, 3, 4))
        put_windows(relu(best), result, places, left)
        if has_more:
            put_windows(place, winner, places, left)

    return product_of_images(real, lanes, rows, vectors, end)


def product_of_images(real: int, lanes: int, rows: int, vectors: int, end: Any) -> Kernel:
    """The loops of `multiply`; `end` is done to each tile.

    `has_more` says whether there is a residual, or with pooling whether a winner is kept.
    """
    width = lanes * vectors
    put_window, sums = gated_window(lanes), product_in_chunks(lanes, rows, vectors)

    def kernel(a, part, parts):
        tiles, count = a.tiles, a.count
        scratch = a.scratch + part * a.frame_height * a.frame_width * a.channels
        total = a.total + part * rows * width
        first, last = share(a.images * tiles, part, parts)
        for image in range(first // tiles, (last + tiles - 1) // tiles):
            at_x = image * a.x_size
            source = a.x + at_x
            if a.framed:
                put_window(
                    *(a.gate_kind, source, a.gate + at_x, a.gate_winner + at_x),
                    *(a.height, a.width, a.channels),
                    *(-a.top, -a.left, a.frame_height, a.frame_width, scratch, a.channels),
                )
                source = scratch
            at_out = image * a.out_size
            out, added, won = a.out + at_out, a.residual + at_out, a.winner + at_out
            mine = range(max(0, first - image * tiles), min(tiles, last - image * tiles))
            for column in range(0, a.columns, width):
                w = a.packed + column * count
                for i in mine:
                    t = tile(a.bias + column, lanes, rows, vectors)
                    pixels = offsets(a.at + i * rows, rows)
                    terms = source, pixels, a.along, count, w
                    t = sums(t, a.zeros, total, *terms, a.chunks, a.chunk)
                    there = a.columns - column
                    places = out + column, added + column, won + column
                    end(t, *places, a.goes, i, there, a.kind, a.has_more)

    return kernel


def add_rows(lanes: int, vectors: int) -> Any:
    """total[0 : K*lanes] += sum over k < count of source[k*step : ... + K*lanes]."""

    @helper
    def words(total, source, step, count, zeros):
        # Two sums at a time: each addition waits for the one before it.
        even = tile(zeros, lanes, 1, vectors)
        odd = even
        for k in range(0, count - 1, 2):
            even = plus(even, source + k * step)
            odd = plus(odd, source + (k + 1) * step)
        if count % 2:
            even = plus(even, source + (count - 1) * step)
        add(even + odd, total, 0)

    return words


@takes(
    real="x scratch dout gate gated zeros sums",
    uint8="gate_winner",
    int64="at along",
    integers=f"images tiles columns groups gate_kind dout_size oh ow band across {FRAME}",
    flags="framed",
)
def accumulate(real: int, lanes: int, rows: int, vectors: int) -> Kernel:
    """sums[group][row][column]: the product over all pixels of the images of a group.

    The parts form groups: a group takes some of the images, each of its parts some tiles. The
    last row is the sum of the right factor itself, which is dout, gated. A chunk of terms is
    `band` x `across` pixels.
    """
    width = lanes * vectors
    put_window, add_to_total = gated_window(lanes), add_rows(lanes, vectors)

    def kernel(a, part, parts):
        tiles, columns, oh, ow = a.tiles, a.columns, a.oh, a.ow
        members = parts // a.groups
        group, member = part // members, part % members
        if group >= a.groups:
            return
        size = a.frame_height * a.frame_width * a.channels
        scratch = a.scratch + part * size
        if a.framed:
            clear(scratch, size)
        whole = (columns + width - 1) // width * width
        as_it_lies = a.gate_kind == 0 and whole == columns
        gated = a.gated + part * a.band * a.across * whole
        first, last = share(tiles, member, members)
        sums = a.sums + group * (tiles * rows + 1) * whole
        clear(sums + first * rows * whole, (last - first) * rows * whole)
        total = sums + tiles * rows * whole
        if member == 0:
            clear(total, whole)
        first_image, last_image = share(a.images, group, a.groups)
        for image in range(first_image, last_image):
            source = a.x + image * a.height * a.width * a.channels
            if a.framed:
                frame(
                    *(scratch, source, a.channels, a.height, a.width),
                    *(a.top, a.left, a.frame_height, a.frame_width),
                )
                source = scratch
            i = image * a.dout_size
            for v in range(0, oh, a.band):
                for u in range(0, ow, a.across):
                    down, right = min(a.band, oh - v), min(a.across, ow - u)
                    start, terms = v * ow + u, down * right
                    w = a.dout + (i + start * columns)
                    if not as_it_lies:
                        put_window(
                            *(a.gate_kind, a.dout + i, a.gate + i, a.gate_winner + i),
                            *(oh, ow, columns, v, u, down, right, gated, whole),
                        )
                        w = gated
                    for column in range(0, whole, width):
                        w_block = w + column
                        for j in range(first, last):
                            t = tile(a.zeros, lanes, rows, vectors)
                            places = offsets(a.at + j * rows, rows)
                            t = product(t, source, places, a.along + start, terms, w_block, whole)
                            add(t, sums + (j * rows * whole + column), whole)
                        if member == 0:
                            add_to_total(total + column, w_block, whole, terms, a.zeros)

    return kernel


@takes(
    real="sums dweight dbias",
    int64="at places",
    integers="groups group_size count columns step bias column_step",
)
def collect(real: int) -> Kernel:
    """Weight gradient and bias gradient: the groups' sums, added in order.

    Element (row, column) of a group's sums is at at[row] + column*step; the bias gradient
    begins at `bias`. Columns go `COLUMNS` at a time, so that neither side leaves the cache.
    """

    def kernel(a, part, parts):
        sums, groups, group_size, bias = a.sums, a.groups, a.group_size, a.bias
        first, last = share(a.columns, part, parts)
        for start in range(first, last, COLUMNS):
            end = min(last, start + COLUMNS)
            for row in range(a.count):
                for column in range(start, end):
                    source = sums + (a.at[row] + column * a.step)
                    total = source[0]
                    for group in range(1, groups):
                        total += source[group * group_size]
                    a.dweight[column * a.column_step + a.places[row]] = total
            for column in range(start, end):
                total = sums[bias + column]
                for group in range(1, groups):
                    total += sums[group * group_size + bias + column]
                a.dbias[column] = total

    return kernel
