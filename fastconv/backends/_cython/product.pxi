# The one product that every convolution and matrix multiplication here is made of.
#
#     for tile of R rows x K vectors of columns:
#         t = start
#         for y:  for i:  t[r] += x[y, i, r] * w[y, i, 0 : K*lanes]      (rank1)
#             (long sums in parts: after each, total += t, t = 0; at last t += total)
#         out[r] = t[r]                  (or t[r] + residual[r], or ReLU of either, or += t[r])
#
# x, w and out are given by their steps, so that the same loops run over
#   a convolution:    r pixels of an output row, y filter rows, i (tap, channel) of a row;
#   its weight sums:  r (tap, channel) of a filter row, y and i the pixels of the image;
#   a matrix product: r rows of the left factor, i their elements.
#
# The tile stays in registers: K vectors of w are loaded once for R rows, R values of x are
# broadcast once for K vectors. 8 x 2 does 16 multiply-adds for 10 loads, enough that none waits
# for another. Columns come in blocks of two vectors; a remainder that fits one vector is a block
# of one, with more rows instead. Rows are cut into tiles of nearly equal height, so that no tile
# is computed for rows that do not exist.
#
# Where the weights of a block are many times the first cache, and rows make several tiles, the loop
# over parts of the sums goes outermost: a part's weights stay in that cache from tile to tile, the
# next part's are prefetched meanwhile, and the sums so far are read from out.
#
# Lines whose first or last x are zeros, beyond the edge of an image, skip these: adding their products
# would change nothing, if the sums start at 0. So where a line lacks any, no residual is added, and
# no ReLU follows.
#
# One sum of n products in float32 is off by about sqrt(n / 2) roundings, n / part sums of `part`
# each by sqrt(part / 2 + n / part / 2). The totals stay in the first cache.

cdef enum:
    LONGEST_SUM = 192  # products of one sum; _numba/conv.py allows 256: each is measured
    LARGE_BLOCK_BYTES = 3 << 15  # of weights that each tile would read from the second cache
    MANY = 16  # units for each thread

cdef struct Product:
    ptrdiff_t rows, run  # how many y and i
    ptrdiff_t part  # i that make a partial sum, 0 for one sum of all
    ptrdiff_t x_y, x_i, x_r  # steps in x, in elements
    ptrdiff_t w_y, w_i  # steps in w
    ptrdiff_t out_r  # step in out
    bint accumulate  # out += t
    bint onto  # t += out first
    bint relu  # out = ReLU(t)
    bint fetching  # whether the weights after a block's own are prefetched meanwhile
    const void* residual  # added to t, or NULL; laid out like the array at `origin` that has out
    const void* origin


cdef struct Lines:
    ptrdiff_t count
    ptrdiff_t x, out  # steps from line to line
    ptrdiff_t rows, tiles  # of one line
    ptrdiff_t first, end  # line l has x that are not zeros for first <= y + l < end alone


cdef inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline ptrdiff_t padded(ptrdiff_t columns, ptrdiff_t width) noexcept nogil:
    """Columns rounded up to whole vectors of this width."""
    return ceil_div(columns, width) * width


cdef inline ptrdiff_t evenly(ptrdiff_t whole, ptrdiff_t most) noexcept nogil:
    """The size of the fewest nearly equal pieces of `whole` that have at most `most`."""
    return ceil_div(whole, ceil_div(whole, most))


cdef inline ptrdiff_t dealt_evenly(ptrdiff_t pieces, ptrdiff_t each, int threads) noexcept nogil:
    """Pieces of each of some things, made more until every thread gets as many.

    Where there are many, one more or less for a thread is little.
    """
    if pieces * each >= MANY * threads:
        return pieces
    while pieces * each % threads != 0:
        pieces += 1
    return pieces


cdef inline ptrdiff_t block_width(ptrdiff_t columns, ptrdiff_t width) noexcept nogil:
    """Width of the next block when this many columns are left: two vectors or one."""
    return 2 * width if columns > width else width


cdef inline Product product_of(ptrdiff_t rows, ptrdiff_t run) noexcept nogil:
    """A product of one sum over `rows` y and `run` i, which overwrites out."""
    cdef Product p
    p.rows, p.run, p.part = rows, run, 0
    p.accumulate, p.onto, p.relu, p.residual, p.fetching = False, False, False, NULL, False
    return p


cdef inline ptrdiff_t part_of(ptrdiff_t rows, ptrdiff_t run, ptrdiff_t most) noexcept nogil:
    """How many i make a part, for sums of at most `most` products; 0 if one sum is short enough."""
    return 0 if rows * run <= most else evenly(run, most)


cdef inline void product_tiles(
    int R, int K, ptrdiff_t tiles, const Product* p, const real* x, const real* w,
    const real* start, real* out, ptrdiff_t columns,
) noexcept nogil:
    """Tiles of R rows, one below the other."""
    cdef vec[real] t[TILE]
    cdef vec[real] total[TILE]
    cdef ptrdiff_t part = p.part if p.part > 0 else p.run
    cdef ptrdiff_t tile, y, first, i
    cdef const real* x_y
    cdef const real* w_y
    for tile in range(tiles):
        fill_rows[real](t, R, K, start)
        x_y, w_y = x, w
        if p.part > 0:
            clear[real](total, R, K)
        for y in range(p.rows):
            for first from 0 <= first < p.run by part:
                if p.part > 0 and y + first > 0:
                    plus_tile[real](total, R, K, t)
                    clear[real](t, R, K)
                for i in range(first, min(first + part, p.run)):
                    rank1[real](t, R, K, x_y + i * p.x_i, p.x_r, w_y + i * p.w_i)
            x_y += p.x_y
            w_y += p.w_y
        if p.part > 0:
            plus_tile[real](t, R, K, total)
        if p.onto:
            plus_rows[real](t, R, K, out, p.out_r, columns)
        if p.residual != NULL:
            plus_rows[real](
                t, R, K, <const real*> p.residual + (out - <const real*> p.origin), p.out_r, columns
            )
        if p.relu:
            relu_all[real](t, R, K)
        if p.accumulate:
            add_rows[real](t, R, K, out, p.out_r, columns)
        else:
            store_rows[real](t, R, K, out, p.out_r, columns)
        x += R * p.x_r
        out += R * p.out_r


cdef void product_tiles_1(
    ptrdiff_t R, ptrdiff_t tiles, const Product* p, const real* x, const real* w,
    const real* start, real* out, ptrdiff_t columns,
) noexcept nogil:
    """One vector of columns; R becomes a literal."""
    if R == 1:
        product_tiles[real](1, 1, tiles, p, x, w, start, out, columns)
    elif R == 2:
        product_tiles[real](2, 1, tiles, p, x, w, start, out, columns)
    elif R == 3:
        product_tiles[real](3, 1, tiles, p, x, w, start, out, columns)
    elif R == 4:
        product_tiles[real](4, 1, tiles, p, x, w, start, out, columns)
    elif R == 5:
        product_tiles[real](5, 1, tiles, p, x, w, start, out, columns)
    elif R == 6:
        product_tiles[real](6, 1, tiles, p, x, w, start, out, columns)
    elif R == 7:
        product_tiles[real](7, 1, tiles, p, x, w, start, out, columns)
    elif R == 8:
        product_tiles[real](8, 1, tiles, p, x, w, start, out, columns)
    elif R == 9:
        product_tiles[real](9, 1, tiles, p, x, w, start, out, columns)
    elif R == 10:
        product_tiles[real](10, 1, tiles, p, x, w, start, out, columns)
    elif R == 11:
        product_tiles[real](11, 1, tiles, p, x, w, start, out, columns)
    else:
        product_tiles[real](12, 1, tiles, p, x, w, start, out, columns)


cdef void product_tiles_2(
    ptrdiff_t R, ptrdiff_t tiles, const Product* p, const real* x, const real* w,
    const real* start, real* out, ptrdiff_t columns,
) noexcept nogil:
    """Two vectors of columns; R becomes a literal."""
    if R == 1:
        product_tiles[real](1, 2, tiles, p, x, w, start, out, columns)
    elif R == 2:
        product_tiles[real](2, 2, tiles, p, x, w, start, out, columns)
    elif R == 3:
        product_tiles[real](3, 2, tiles, p, x, w, start, out, columns)
    elif R == 4:
        product_tiles[real](4, 2, tiles, p, x, w, start, out, columns)
    elif R == 5:
        product_tiles[real](5, 2, tiles, p, x, w, start, out, columns)
    elif R == 6:
        product_tiles[real](6, 2, tiles, p, x, w, start, out, columns)
    elif ROWS_2 > 6:
        if R == 7:
            product_tiles[real](7, 2, tiles, p, x, w, start, out, columns)
        else:
            product_tiles[real](8, 2, tiles, p, x, w, start, out, columns)


cdef inline bint lack_rows(const Lines* l, ptrdiff_t rows) noexcept nogil:
    """Whether some lines have products for some of the y alone."""
    return l.first > 0 or l.end < l.count - 1 + rows


cdef void product_part(
    const Product* p, const Lines* l, const real* x, const real* w, const real* start, real* out,
    ptrdiff_t columns,
) noexcept nogil:
    """One part of the sums of all tiles, or the whole sums; prefetches the weights after its own."""
    cdef bint wide = columns > lanes(out)
    cdef const real* behind = w + p.run * p.w_i
    cdef ptrdiff_t fetched = 0, done = 0
    cdef ptrdiff_t line, tile, R
    cdef const real* x_tile
    cdef real* out_tile
    for line in range(l.count):
        x_tile, out_tile = x + line * l.x, out + line * l.out
        for tile in range(l.tiles):
            R = l.rows // l.tiles + (tile < l.rows % l.tiles)
            done += p.run * p.w_i
            fetch(behind + fetched, done // (l.count * l.tiles) - fetched)
            fetched = done // (l.count * l.tiles)
            if wide:
                product_tiles_2[real](R, 1, p, x_tile, w, start, out_tile, columns)
            else:
                product_tiles_1[real](R, 1, p, x_tile, w, start, out_tile, columns)
            x_tile += R * p.x_r
            out_tile += R * p.out_r


cdef void product_by_parts(
    const Product* p, const Lines* l, const real* x, const real* w, const real* start, real* out,
    ptrdiff_t columns,
) noexcept nogil:
    """The parts of the sums one after another, each for all tiles that have it."""
    cdef Product q = p[0]
    cdef Lines some = l[0]
    cdef ptrdiff_t y, first, skipped
    q.rows, q.part, q.residual, q.relu = 0, 0, NULL, False
    if lack_rows(l, p.rows):  # what each sum starts with
        q.run = 0
        product_part[real](&q, l, x, w, start, out, columns)
        start, q.onto = zeros(out), True
    q.rows = 1
    for y in range(p.rows):
        skipped = max(0, l.first - y)
        some.count = min(l.count, l.end - y) - skipped
        for first from 0 <= first < p.run by p.part:
            q.run = min(p.part, p.run - first)
            if y + 1 == p.rows and first + q.run == p.run:
                q.residual, q.relu = p.residual, p.relu
            product_part[real](
                &q, &some, x + y * p.x_y + first * p.x_i + skipped * l.x,
                w + y * p.w_y + first * p.w_i, start, out + skipped * l.out, columns,
            )
            start, q.onto = zeros(out), True


cdef void product_lines(
    const Product* p, Lines l, const real* x, const real* w, const real* start, real* out,
    ptrdiff_t columns,
) noexcept nogil:
    """One block of columns for lines of any number of rows, each cut into tiles."""
    cdef bint wide = columns > lanes(out)
    cdef ptrdiff_t line, R, count
    cdef const real* x_tile
    cdef real* out_tile
    cdef Product q = p[0]
    cdef ptrdiff_t skipped = 0
    cdef bint lacking = lack_rows(&l, p.rows)
    l.tiles = ceil_div(l.rows, ROWS_2 if wide else ROWS_1)
    if l.tiles == 0:
        return
    if (
        p.part > 0 and l.count * l.tiles > 1 and not p.accumulate
        and p.rows * p.run * p.w_i * <ptrdiff_t> sizeof(real) > LARGE_BLOCK_BYTES
    ):
        product_by_parts[real](p, &l, x, w, start, out, columns)
        return
    if p.fetching and l.tiles > 1:  # of one line
        product_part[real](p, &l, x, w, start, out, columns)
        return
    for line in range(l.count):
        if lacking:
            skipped = min(max(0, l.first - line), p.rows)
            q.rows = max(0, min(p.rows, l.end - line) - skipped)
        x_tile, out_tile = x + line * l.x + skipped * p.x_y, out + line * l.out
        for R from ceil_div(l.rows, l.tiles) >= R >= l.rows // l.tiles:
            count = l.rows % l.tiles if R > l.rows // l.tiles else l.tiles - l.rows % l.tiles
            if wide:
                product_tiles_2[real](
                    R, count, &q, x_tile, w + skipped * p.w_y, start, out_tile, columns
                )
            else:
                product_tiles_1[real](
                    R, count, &q, x_tile, w + skipped * p.w_y, start, out_tile, columns
                )
            x_tile += count * R * p.x_r
            out_tile += count * R * p.out_r


cdef inline void product_rows(
    const Product* p, ptrdiff_t rows, const real* x, const real* w, const real* start, real* out,
    ptrdiff_t columns,
) noexcept nogil:
    """One block of columns for any number of rows."""
    product_lines[real](p, Lines(1, 0, 0, rows, 0, 0, p.rows), x, w, start, out, columns)


cdef void pack_turned(
    const real* weight, ptrdiff_t window, ptrdiff_t depth, ptrdiff_t step, ptrdiff_t columns,
    real* packed,
) noexcept nogil:
    """`pack_block` of columns (depth, window) that are contiguous, `step` apart.

    It transposes squares, each a whole cache line of each column: read value by value, columns a
    power of two apart would evict each other from the first cache.
    """
    cdef ptrdiff_t width = block_width(columns, lanes(weight))
    cdef ptrdiff_t volume = window * depth
    cdef char[MOST_LANES * VECTOR_BYTES] memory
    cdef real* square = <real*> memory
    cdef real* row
    cdef ptrdiff_t first, i, tap, d, j
    for first from 0 <= first < width by lanes(weight):
        tap, d = 0, 0
        for i in range(volume):
            row = packed + (tap * depth + d) * width + first
            if columns - first >= lanes(weight) and i < volume - volume % lanes(weight):
                j = i % lanes(weight)
                if j == 0:
                    transpose(square, weight + first * step + i, step)
                store(row, load(square + j * lanes(weight)))
            else:
                for j in range(lanes(weight)):
                    row[j] = weight[(first + j) * step + i] if first + j < columns else 0
            tap += 1
            if tap == window:
                tap, d = 0, d + 1


cdef void pack_block(
    const real* weight, const ptrdiff_t* shape, const ptrdiff_t* strides, ptrdiff_t columns,
    real* packed,
) noexcept nogil:
    """One block [filter row][tap][depth][lanes of the block] of weights, zeros after `columns`.

    `shape` counts filter rows, taps and depth; `strides` are those of weight along
    filter row, tap, depth and column, in elements.
    """
    cdef ptrdiff_t width = block_width(columns, lanes(weight))
    cdef ptrdiff_t y, i, d, j
    cdef const real* value
    columns = min(columns, width)
    if strides[1] == 1 and strides[0] == shape[1] and strides[2] == shape[0] * shape[1]:
        pack_turned(weight, strides[2], shape[2], strides[3], columns, packed)
        return
    for y in range(shape[0]):
        for i in range(shape[1]):
            for d in range(shape[2]):
                value = weight + y * strides[0] + i * strides[1] + d * strides[2]
                if strides[3] == 1:
                    memcpy(packed, value, columns * sizeof(real))
                else:
                    for j in range(columns):
                        packed[j] = value[j * strides[3]]
                for j in range(columns, width):
                    packed[j] = 0
                packed += width


cdef void pad_rows(
    const real* source, ptrdiff_t rows, ptrdiff_t columns, real* to
) noexcept nogil:
    """Rows of `columns` values, each padded with zeros to whole vectors."""
    cdef ptrdiff_t width = padded(columns, lanes(source))
    cdef ptrdiff_t r
    for r in range(rows):
        memcpy(to, source, columns * sizeof(real))
        memset(to + columns, 0, (width - columns) * sizeof(real))
        source += columns
        to += width


cdef struct Bias:
    const void* bias
    ptrdiff_t columns, room
    void* to


cdef void pad_bias_part(
    const real* type_of, const Bias* w, int t, const Crew* crew
) noexcept nogil:
    memset(w.to, 0, w.room * sizeof(real))
    if w.bias != NULL:
        memcpy(w.to, w.bias, w.columns * sizeof(real))


cdef void pad_bias(
    const real* bias, ptrdiff_t columns, ptrdiff_t room, real* to
) noexcept nogil:
    """`room` values: the bias (no values if NULL), then zeros."""
    cdef Bias w = Bias(bias, columns, room, to)
    run_on_weights(<Part> pad_bias_part[real], &w, 1, 0)


cdef void add_column_sums(
    const real* rows, ptrdiff_t count, ptrdiff_t columns, real* sums
) noexcept nogil:
    """sums += the sum of `count` rows, in four partial sums that do not wait for each other."""
    cdef vec[real] t[4]
    cdef ptrdiff_t c, r, left
    cdef int i
    for c from 0 <= c < columns by lanes(rows):
        left = columns - c
        clear[real](t, 4, 1)
        r = 0
        while r + 4 <= count:
            for i in range(4):
                t[i] = add(t[i], load_part(rows + (r + i) * columns + c, left))
            r += 4
        while r < count:
            t[0] = add(t[0], load_part(rows + r * columns + c, left))
            r += 1
        t[0] = add(add(t[0], t[1]), add(t[2], t[3]))
        store_part(sums + c, add(load_part(sums + c, left), t[0]), left)
