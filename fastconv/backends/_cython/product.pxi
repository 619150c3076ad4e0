# The one product that every convolution and matrix multiplication here is made of.
#
#     for tile of R rows x K vectors of columns:
#         t = start
#         for y:  for i:  t[r] += x[y, i, r] * w[y, i, 0 : K*lanes]      (rank1)
#             (long sums in parts: behind each, total += t, t = 0; at last t += total)
#         out[r] = t[r]                  (or t[r] + residual[r], or ReLU of either, or += t[r])
#
# x, w and out are given by their steps, so that the same loops run over
#   a convolution:    r pixels of an output row, y filter rows, i (tap, channel) of a row;
#   its weight sums:  r (tap, channel) of a filter row, y and i the pixels of the image;
#   a matrix product: r rows of the left factor, i their elements.
#
# The tile stays in registers: K vectors of w are loaded once for R rows, R values of x are
# broadcast once for K vectors. 8 x 2 does 16 multiply-adds for 10 loads, and they are enough
# for none to wait for another. Columns come in blocks of two vectors; a remainder that
# fits one vector is a block of one, with more rows instead. Rows are cut into tiles of nearly
# equal height, so that no tile is computed for rows that do not exist.
#
# One sum of n products in float32 is off by about sqrt(n / 2) roundings, n / part sums of `part`
# each by sqrt(part / 2 + n / part / 2). The totals lie in the first cache.

cdef enum:
    LONGEST_SUM = 192  # products of one sum; Numba's, in _numba/conv.py, may have 256

cdef struct Product:
    ptrdiff_t rows, run  # how many y and i
    ptrdiff_t part  # i that make a partial sum, 0 for one sum of all
    ptrdiff_t x_y, x_i, x_r  # steps in x, in elements
    ptrdiff_t w_y, w_i  # steps in w
    ptrdiff_t out_r  # step in out
    bint accumulate  # out += t
    bint relu  # out = ReLU(t)
    const void* residual  # added to t, or NULL; it lies as what begins at `origin`, which out is in
    const void* origin


cdef inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline ptrdiff_t padded(ptrdiff_t columns, ptrdiff_t width) noexcept nogil:
    """Columns, rounded up to whole vectors of this width."""
    return ceil_div(columns, width) * width


cdef inline ptrdiff_t evenly(ptrdiff_t whole, ptrdiff_t most) noexcept nogil:
    """Size of the pieces when whole is cut into the fewest nearly equal ones of at most this."""
    return ceil_div(whole, ceil_div(whole, most))


cdef inline ptrdiff_t block_width(ptrdiff_t columns, ptrdiff_t width) noexcept nogil:
    """Width of the next block when so many columns are left: two vectors or one."""
    return 2 * width if columns > width else width


cdef inline Product product_of(ptrdiff_t rows, ptrdiff_t run) noexcept nogil:
    """So many y and i in one sum, which takes the place of what was in out."""
    cdef Product p
    p.rows, p.run, p.part = rows, run, 0
    p.accumulate, p.relu, p.residual = False, False, NULL
    return p


cdef inline ptrdiff_t part_of(ptrdiff_t rows, ptrdiff_t run, ptrdiff_t most) noexcept nogil:
    """The part of a run for sums of at most so many products, 0 where one sum is no longer."""
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


cdef void product_rows(
    const Product* p, ptrdiff_t rows, const real* x, const real* w, const real* start, real* out,
    ptrdiff_t columns,
) noexcept nogil:
    """One block of columns for any number of rows, cut into tiles."""
    cdef bint wide = columns > lanes(out)
    cdef ptrdiff_t tiles = ceil_div(rows, ROWS_2 if wide else ROWS_1)
    cdef ptrdiff_t R, count
    if tiles == 0:
        return
    for R from ceil_div(rows, tiles) >= R >= rows // tiles:
        count = rows % tiles if R > rows // tiles else tiles - rows % tiles
        if wide:
            product_tiles_2[real](R, count, p, x, w, start, out, columns)
        else:
            product_tiles_1[real](R, count, p, x, w, start, out, columns)
        x += count * R * p.x_r
        out += count * R * p.out_r


cdef void pack_turned(
    const real* weight, ptrdiff_t window, ptrdiff_t depth, ptrdiff_t step, ptrdiff_t columns,
    real* packed,
) noexcept nogil:
    """`pack_block` of columns (depth, window) that lie in one piece each, `step` apart.

    Squares of a whole cache line from each column: line by line, columns that are a power of
    two apart would drive each other from the first cache.
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
    """One block [filter row][tap][depth][lanes of the block] of weights, zeros behind `columns`.

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
    """Rows of `columns` values, each brought to whole vectors by zeros behind it."""
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
    """`room` values: those of the bias, of which NULL has none, and zeros behind them."""
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
