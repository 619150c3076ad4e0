# Gradient of the weights of 3x3 filters of stride 1, by Winograd's F(3x3, my x mx), 2 or 4 each.
#
#     for block of channels and filters, and part of the tiles, in parallel:
#         S = 0
#         for batch of tiles:
#             for piece of an image:  pad its pixels into this thread's scratch
#                 for tile:  V[f](tile) = transform of its (my+2) x (mx+2) pixels
#             for piece of an image:  gate its gradients into this thread's scratch
#                 for tile:  D[f](tile) = transform of its my x mx gradients
#             for f:  for R channels x K vectors of filters:
#                 t = 0;  for tile:  t += V[f](tile, channel) * D[f](tile, filters)
#                 S[f] += t
#         dweight of the block = transform of S, after adding its parts in order
#
# The filter's gradient is a correlation of the pixels with the gradients, so a tile of my x
# mx gradients takes a filter's place: (my+2)(mx+2) products for its 9 sums instead of 9 my mx. V is
# the same as forward's. The denominators of D are applied at the end, so that for 2 it has no
# fractions. V and D are transformed again for every block. S of a small block stays in the second
# cache; with many tiles, transforming them for many small blocks costs more than reading S in
# order from the third cache.
# Each batch adds a partial sum, which keeps float32 accurate over many images.
#
# By pairs of bfloat16s, two neighbouring tiles of a row of tiles are a pair: V[f](pair, channel) and
# D[f](pair, filter) are two rounded values in the place of a float. A row of an odd number of tiles
# ends with half a pair, where D is zeros.
# Tiles of the products: see product.pxi.

cdef enum:
    PIECE_SIDE = 16  # pixels of a piece of an image along each side, at most
    BATCH = 64  # tiles
    BLOCK_SIDE = 64  # channels of a block, and filters: more of these where channels are fewer
    LONG_BLOCK_SIDE = 128  # BLOCK_SIDE where all images have MANY_TILES or more
    MANY_TILES = 192

cdef struct TileSums:
    bint paired
    ptrdiff_t tiles_y, tiles_x  # of an image
    ptrdiff_t rows, cols  # tiles of a piece of an image
    ptrdiff_t pieces_y, pieces_x  # of an image
    ptrdiff_t batch  # pieces of a batch, at most
    ptrdiff_t tiles  # or pairs of tiles, of a batch, at most
    ptrdiff_t channels, filters  # of a block, whole vectors
    ptrdiff_t blocks_c, blocks_f
    ptrdiff_t parts  # of the pieces
    ptrdiff_t volume  # of S and the bias gradient
    ptrdiff_t v_tile, d_tile  # from tile to tile
    ptrdiff_t v_step, d_step, s_step  # from frequency to frequency


cdef inline ptrdiff_t places_of(const TileSums* s, ptrdiff_t tiles) noexcept nogil:
    """What so many tiles of a row are: tiles, or pairs."""
    return ceil_div(tiles, 2) if s.paired else tiles


cdef TileSums tile_sums_of(
    const Conv* g, int my, int mx, ptrdiff_t lane_count, int threads
) noexcept nogil:
    """How to cut the work; by pairs of tiles, where g has pairs."""
    cdef TileSums s
    cdef ptrdiff_t pieces, blocks, side
    s.tiles_y, s.tiles_x = ceil_div(g.oh, my), ceil_div(g.ow, mx)
    s.rows, s.cols = evenly(s.tiles_y, PIECE_SIDE // my), evenly(s.tiles_x, PIECE_SIDE // mx)
    s.paired = g.pairs != NO_PAIRS
    if s.paired and s.cols < s.tiles_x:
        s.cols = padded(s.cols, 2)
    s.pieces_y, s.pieces_x = ceil_div(s.tiles_y, s.rows), ceil_div(s.tiles_x, s.cols)
    s.batch = max(1, BATCH // (s.rows * places_of(&s, s.cols)))
    s.tiles = s.batch * s.rows * places_of(&s, s.cols)
    side = LONG_BLOCK_SIDE if g.n * s.tiles_y * s.tiles_x >= MANY_TILES else BLOCK_SIDE
    s.channels = padded(evenly(g.c, side), lane_count)
    s.filters = evenly(g.fn, side * side // s.channels)
    s.filters = padded(s.filters, 2 * lane_count if s.filters > lane_count else lane_count)
    pieces = g.n * s.pieces_y * s.pieces_x
    # Few images make fewer blocks and parts than threads: then blocks have fewer filters.
    while s.filters > lane_count and pieces * ceil_div(g.c, s.channels) * ceil_div(
        g.fn, s.filters
    ) < threads:
        s.filters = padded(ceil_div(s.filters, 2), lane_count)
        s.filters = padded(s.filters, 2 * lane_count if s.filters > lane_count else lane_count)
    s.blocks_c, s.blocks_f = ceil_div(g.c, s.channels), ceil_div(g.fn, s.filters)
    blocks = s.blocks_c * s.blocks_f
    s.parts = parts_of(blocks, equal_blocks(g, s.channels, s.filters), pieces, threads)
    s.v_tile, s.d_tile = odd_lines(s.channels, lane_count), odd_lines(s.filters, lane_count)
    s.v_step = odd_lines(s.tiles * s.v_tile, lane_count)
    s.d_step = odd_lines(s.tiles * s.d_tile, lane_count)
    s.s_step = s.channels * s.filters
    s.volume = (my + 2) * (mx + 2) * s.s_step + s.d_tile
    return s


# ---- transforms -----------------------------------------------------------------------


cdef inline void gradient_line(int m, const vec[real]* g, vec[real]* d) noexcept nogil:
    """The polynomial of the m gradients of a line, at the points of winograd_transform.pxi."""
    cdef vec[real] even, odd
    d[0] = g[0]
    d[m + 1] = g[m - 1]
    if m == 2:
        d[1], d[2] = add(g[0], g[1]), subtract(g[0], g[1])
    else:
        even = muladd(broadcast(<real> 0.5), g[2], g[0])
        odd = muladd(broadcast(<real> 0.5), g[3], g[1])
        d[1] = muladd(broadcast(<real> HALF_ROOT), odd, even)
        d[2] = muladd(broadcast(<real> -HALF_ROOT), odd, even)
        even = muladd(broadcast(<real> 2), g[2], g[0])
        odd = muladd(broadcast(<real> 2), g[3], g[1])
        d[3] = muladd(broadcast(<real> ROOT), odd, even)
        d[4] = muladd(broadcast(<real> -ROOT), odd, even)


cdef inline void transform_gradient(
    int my, int mx, const real* tile, ptrdiff_t row, ptrdiff_t pixel, real* to, ptrdiff_t step
) noexcept nogil:
    """D of one vector of filters: frequency (fy, fx) goes to to[(fy*(mx+2) + fx)*step]."""
    cdef vec[real] g[4]
    cdef vec[real] d[6]
    cdef vec[real] half[24]
    cdef int i, j
    for j in range(mx):
        for i in range(my):
            g[i] = load(tile + i * row + j * pixel)
        gradient_line[real](my, g, d)
        for i in range(my + 2):
            half[i * mx + j] = d[i]
    for i in range(my + 2):
        gradient_line[real](mx, half + i * mx, d)
        for j in range(mx + 2):
            store(to + (i * (mx + 2) + j) * step, d[j])


cdef inline void tap_line(int m, const vec[real]* s, vec[real]* w) noexcept nogil:
    """Three taps from the m+2 values of a line."""
    cdef vec[real] even, odd, factor
    if m == 2:
        factor = broadcast(<real> 0.5)
        even = times(factor, add(s[1], s[2]))
        w[0] = add(s[0], even)
        w[1] = times(factor, subtract(s[1], s[2]))
        w[2] = subtract(even, s[3])
    else:
        # Lagrange's denominators are 1, -3/2 and 6; even and odd are those of the two pairs.
        factor = broadcast(<real> (-2.0 / 3))
        even = times(factor, add(s[1], s[2]))
        odd = times(factor, subtract(s[1], s[2]))
        w[0] = add(s[0], even)
        w[1] = times(broadcast(<real> HALF_ROOT), odd)
        w[2] = muladd(broadcast(<real> 0.5), even, s[5])
        factor = broadcast(<real> (1.0 / 6))
        even = times(factor, add(s[3], s[4]))
        odd = times(factor, subtract(s[3], s[4]))
        w[0] = add(w[0], even)
        w[1] = muladd(broadcast(<real> ROOT), odd, w[1])
        w[2] = muladd(broadcast(<real> 2), even, w[2])


cdef inline void transform_sums(
    int my, int mx, const real* sums, ptrdiff_t step, real* taps, ptrdiff_t tap
) noexcept nogil:
    """The 3x3 taps of one vector of filters, from sums[f*step]."""
    cdef vec[real] s[6]
    cdef vec[real] w[3]
    cdef vec[real] half[18]
    cdef int i, j
    for j in range(mx + 2):
        for i in range(my + 2):
            s[i] = load(sums + (i * (mx + 2) + j) * step)
        tap_line[real](my, s, w)
        for i in range(3):
            half[i * (mx + 2) + j] = w[i]
    for i in range(3):
        tap_line[real](mx, half + i * (mx + 2), w)
        for j in range(3):
            store(taps + (3 * i + j) * tap, w[j])


# ---- two tiles of 2 x 2 at once, as pairs ---------------------------------------------


cdef inline void pair_lines_of(
    const vec[float]* a, const vec[float]* b, float* to, ptrdiff_t step
) noexcept nogil:
    """One row of V of two tiles, from their values down the columns."""
    cdef vec[float] first[4]
    cdef vec[float] second[4]
    input_pair[float](2, 0, a, first, first + 3)
    input_pair[float](2, 1, a, first + 1, first + 2)
    input_pair[float](2, 0, b, second, second + 3)
    input_pair[float](2, 1, b, second + 1, second + 2)
    cdef int x
    for x in range(4):
        store_paired(to + x * step, first[x], second[x])


cdef inline void pair_patches(
    const float* pixels, ptrdiff_t row, ptrdiff_t pixel, ptrdiff_t tiles, float* to,
    ptrdiff_t place, ptrdiff_t step,
) noexcept nogil:
    """V of one vector of channels for a row of tiles; `place` leads from pair to pair."""
    cdef vec[float] d[4]
    cdef vec[float] first[6]
    cdef vec[float] second[6]
    cdef const float* at
    cdef float* to_pair
    cdef int pair, x, y
    cdef ptrdiff_t t
    for pair in range(2):
        at, to_pair = pixels, to
        for x in range(2):
            for y in range(4):
                d[y] = load(at + y * row + x * pixel)
            input_pair[float](2, pair, d, first + x, second + x)
        for t from 0 <= t < tiles by 2:
            for x in range(2, 6):
                if x < 4 or t + 1 < tiles:
                    for y in range(4):
                        d[y] = load(at + y * row + x * pixel)
                    input_pair[float](2, pair, d, first + x, second + x)
                else:
                    first[x] = second[x] = broadcast(<float> 0)
            pair_lines_of(first, first + 2, to_pair + 4 * first_of(pair) * step, step)
            pair_lines_of(second, second + 2, to_pair + 4 * second_of(2, pair) * step, step)
            for x in range(2):
                first[x], second[x] = first[4 + x], second[4 + x]
            at += 4 * pixel
            to_pair += place


cdef inline void pair_gradients(
    const float* pixels, ptrdiff_t row, ptrdiff_t pixel, ptrdiff_t tiles, float* to,
    ptrdiff_t place, ptrdiff_t step,
) noexcept nogil:
    """D, as `pair_patches` writes V."""
    cdef vec[float] g[2]
    cdef vec[float] d[4]
    cdef vec[float] e[4]
    cdef vec[float] half[2 * 8]
    cdef ptrdiff_t t
    cdef int tile, i, j
    for t from 0 <= t < tiles by 2:
        for tile in range(2):
            for j in range(2):
                for i in range(2):
                    g[i] = broadcast(<float> 0)
                    if t + tile < tiles:
                        g[i] = load(pixels + i * row + (2 * tile + j) * pixel)
                gradient_line[float](2, g, d)
                for i in range(4):
                    half[8 * tile + 2 * i + j] = d[i]
        for i in range(4):
            gradient_line[float](2, half + 2 * i, d)
            gradient_line[float](2, half + 8 + 2 * i, e)
            for j in range(4):
                store_paired(to + (4 * i + j) * step, d[j], e[j])
        pixels += 4 * pixel
        to += place


cdef inline void pair_grid(
    bint gradients, const float* window, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t pixel, float* to,
    ptrdiff_t place, ptrdiff_t step,
) noexcept nogil:
    """`transform_grid` of pairs."""
    cdef ptrdiff_t row = (2 * cols + (0 if gradients else 2)) * pixel
    cdef ptrdiff_t y, c
    for y in range(rows):
        for c from 0 <= c < pixel by lanes(window):
            if gradients:
                pair_gradients(window + 2 * y * row + c, row, pixel, cols, to + c, place, step)
            else:
                pair_patches(window + 2 * y * row + c, row, pixel, cols, to + c, place, step)
        to += ceil_div(cols, 2) * place


# ---- one part of a block --------------------------------------------------------------


cdef inline void transform_grid(
    int my, int mx, bint gradients, const real* window, ptrdiff_t rows, ptrdiff_t cols,
    ptrdiff_t pixel, real* to, ptrdiff_t tile, ptrdiff_t step,
) noexcept nogil:
    cdef ptrdiff_t row = (mx * cols + (0 if gradients else 2)) * pixel
    cdef ptrdiff_t y, x, c
    cdef const real* line
    for y in range(rows):
        for c from 0 <= c < pixel by lanes(window):
            line = window + my * y * row + c
            if gradients:
                for x in range(cols):
                    transform_gradient[real](
                        my, mx, line + mx * x * pixel, row, pixel, to + x * tile + c, step
                    )
            else:
                transform_input[real](
                    my, mx, False, line, row, pixel, cols, to + c, tile, step
                )
        to += cols * tile


cdef void transform_piece(
    int my, int mx, bint paired, bint gradients, const Incoming* d, ptrdiff_t image,
    ptrdiff_t top, ptrdiff_t left, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t zeros_y,
    ptrdiff_t zeros_x, real* window, real* to, ptrdiff_t tile, ptrdiff_t step,
) noexcept nogil:
    """V or D of rows x cols tiles, for all channels that d has."""
    cdef ptrdiff_t edge = 0 if gradients else 2
    cdef ptrdiff_t pixel = padded(d.c, lanes(window))
    gated_window[real](
        d, image, my * top - zeros_y, mx * left - zeros_x, my * rows + edge, mx * cols + edge,
        window, pixel,
    )
    if real is float:
        if paired and gradients:
            pair_grid(True, window, rows, cols, pixel, to, tile, step)
            return
        if paired:
            pair_grid(False, window, rows, cols, pixel, to, tile, step)
            return
    if mx == 2 and gradients:
        transform_grid[real](2, 2, True, window, rows, cols, pixel, to, tile, step)
    elif mx == 2:
        transform_grid[real](2, 2, False, window, rows, cols, pixel, to, tile, step)
    elif my == 2 and gradients:
        transform_grid[real](2, 4, True, window, rows, cols, pixel, to, tile, step)
    elif my == 2:
        transform_grid[real](2, 4, False, window, rows, cols, pixel, to, tile, step)
    elif gradients:
        transform_grid[real](4, 4, True, window, rows, cols, pixel, to, tile, step)
    else:
        transform_grid[real](4, 4, False, window, rows, cols, pixel, to, tile, step)


cdef void multiply_tiles(
    const TileSums* s, ptrdiff_t frequencies, ptrdiff_t tiles, const real* v, const real* d,
    ptrdiff_t channels, ptrdiff_t filters, real* sums,
) noexcept nogil:
    """sums += the products of all frequencies."""
    cdef ptrdiff_t f, first
    cdef Product p = product_of(1, tiles)
    cdef PairProduct q = pair_product_of(BY_VECTORS, 1, tiles)
    p.accumulate = q.accumulate = True
    p.x_y, p.x_i, p.x_r = 0, s.v_tile, 1
    p.w_y, p.w_i, p.out_r = 0, s.d_tile, s.filters
    q.x_i, q.x_r, q.w_i, q.out_r = 2 * s.v_tile, 2, s.d_tile, s.filters
    for f in range(frequencies):
        for first from 0 <= first < filters by 2 * lanes(v):
            if real is float:
                if s.paired:
                    multiply_pairs(
                        &q, PairLines(1, 0, 0, channels), v + f * s.v_step,
                        d + f * s.d_step + first, zeros(v), sums + f * s.s_step + first,
                        filters - first,
                    )
                    continue
            product_rows[real](
                &p, channels, v + f * s.v_step, d + f * s.d_step + first, zeros(v),
                sums + f * s.s_step + first, filters - first,
            )


cdef void sum_tiles(
    int my, int mx, const TileSums* s, const Conv* g, const Incoming* x, const Incoming* d,
    ptrdiff_t block, ptrdiff_t begin, ptrdiff_t end, real* sums, real* window, real* v,
    real* gradients,
) noexcept nogil:
    """sums [f][c][filters], and the bias gradient after them, of the pieces [begin, end)."""
    cdef ptrdiff_t first_c = block % s.blocks_c * s.channels
    cdef ptrdiff_t first_f = block // s.blocks_c * s.filters
    cdef ptrdiff_t channels = min(s.channels, g.c - first_c)
    cdef ptrdiff_t filters = min(s.filters, g.fn - first_f)
    cdef ptrdiff_t piece, top, left, rows, cols, image, tiles = 0
    cdef Incoming some_x = channels_of(x, first_c, channels, sizeof(real))
    cdef Incoming some_d = channels_of(d, first_f, filters, sizeof(real))
    cdef ptrdiff_t frequencies = (my + 2) * (mx + 2)
    memset(sums, 0, s.volume * sizeof(real))
    for piece in range(begin, end):
        left = piece % s.pieces_x * s.cols
        top = piece // s.pieces_x % s.pieces_y * s.rows
        image = piece // (s.pieces_x * s.pieces_y)
        rows, cols = min(s.rows, s.tiles_y - top), min(s.cols, s.tiles_x - left)
        transform_piece[real](
            my, mx, s.paired, False, &some_x, image, top, left, rows, cols, g.top, g.left, window,
            v + tiles * s.v_tile, s.v_tile, s.v_step,
        )
        transform_piece[real](
            my, mx, s.paired, True, &some_d, image, top, left, rows, cols, 0, 0, window,
            gradients + tiles * s.d_tile, s.d_tile, s.d_step,
        )
        add_column_sums[real](
            window, my * mx * rows * cols, padded(filters, lanes(v)),
            sums + frequencies * s.s_step,
        )
        tiles += rows * places_of(s, cols)
        if tiles + s.rows * places_of(s, s.cols) > s.tiles or piece + 1 == end:
            multiply_tiles[real](
                s, frequencies, tiles, v, gradients, channels, padded(filters, lanes(v)), sums
            )
            tiles = 0


# ---- the end --------------------------------------------------------------------------


cdef inline void scatter_taps(
    const real* taps, ptrdiff_t window, ptrdiff_t count, real* to, ptrdiff_t step
) noexcept nogil:
    """The taps [tap][lane] of `count` filters, which are `step` apart in the weights."""
    cdef ptrdiff_t i, tap
    for i in range(count):
        for tap in range(window):
            to[i * step + tap] = taps[tap * lanes(taps) + i]


cdef inline void add_parts(
    real* sums, ptrdiff_t count, ptrdiff_t parts, ptrdiff_t step
) noexcept nogil:
    """Add the other parts' sums to the first `count` sums, whole vectors."""
    cdef ptrdiff_t part, i
    for part in range(1, parts):
        for i from 0 <= i < count by lanes(sums):
            store(sums + i, add(load(sums + i), load(sums + part * step + i)))


cdef void finish_block(
    int my, int mx, const TileSums* s, const Conv* g, ptrdiff_t block, int t, int team, real* sums,
    ptrdiff_t step, real* dweight, real* dbias,
) noexcept nogil:
    """Thread t's share of a block's dweight and dbias from its parts, added in order.

    The parts are `step` apart.
    """
    cdef ptrdiff_t first_c = block % s.blocks_c * s.channels
    cdef ptrdiff_t first_f = block // s.blocks_c * s.filters
    cdef ptrdiff_t channels = min(s.channels, g.c - first_c)
    cdef ptrdiff_t filters = min(s.filters, g.fn - first_f)
    cdef ptrdiff_t bias = (my + 2) * (mx + 2) * s.s_step
    cdef ptrdiff_t c, f
    cdef char[9 * VECTOR_BYTES] memory
    cdef real* taps = <real*> memory
    for c in range(share(channels, t, team), share(channels, t + 1, team)):
        for f in range((my + 2) * (mx + 2)):
            add_parts[real](sums + f * s.s_step + c * s.filters, s.filters, s.parts, step)
        for f from 0 <= f < filters by lanes(sums):
            if mx == 2:
                transform_sums[real](
                    2, 2, sums + c * s.filters + f, s.s_step, taps, lanes(sums)
                )
            elif my == 2:
                transform_sums[real](
                    2, 4, sums + c * s.filters + f, s.s_step, taps, lanes(sums)
                )
            else:
                transform_sums[real](
                    4, 4, sums + c * s.filters + f, s.s_step, taps, lanes(sums)
                )
            scatter_taps[real](
                taps, 9, min(lanes(sums), filters - f),
                dweight + ((first_f + f) * g.c + first_c + c) * 9, g.c * 9,
            )
    if first_c == 0 and t == 0:
        add_parts[real](sums + bias, padded(filters, lanes(sums)), s.parts, step)
        memcpy(dbias + first_f, sums + bias, filters * sizeof(real))


cdef struct WinogradWeightGradient:
    int my, mx
    Conv g
    Incoming x
    Incoming d
    TileSums s
    void* dweight
    void* dbias
    bint split  # into parts of the pieces
    Room sums  # of units, where split
    Room windows
    Room patches
    Room tiles


cdef void winograd_weight_gradient_part(
    const real* type_of, const WinogradWeightGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t pieces = w.g.n * w.s.pieces_y * w.s.pieces_x
    cdef ptrdiff_t blocks = w.s.blocks_c * w.s.blocks_f
    cdef ptrdiff_t units = blocks * w.s.parts
    cdef real* sums = <real*> room_of(&w.sums, t)
    cdef ptrdiff_t unit, block, part
    for unit in range(share(units, t, crew.size), share(units, t + 1, crew.size)):
        block, part = unit % blocks, unit // blocks
        if w.split:
            sums = <real*> room_of(&w.sums, <int> (block * w.s.parts + part))
        sum_tiles[real](
            w.my, w.mx, &w.s, &w.g, &w.x, &w.d, block,
            share(pieces, <int> part, <int> w.s.parts),
            share(pieces, <int> part + 1, <int> w.s.parts), sums,
            <real*> room_of(&w.windows, t), <real*> room_of(&w.patches, t),
            <real*> room_of(&w.tiles, t),
        )
        if not w.split:
            finish_block[real](
                w.my, w.mx, &w.s, &w.g, unit, 0, 1, sums, 0, <real*> w.dweight, <real*> w.dbias
            )


cdef void finish_blocks_part(
    const real* type_of, const WinogradWeightGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t block
    for block in range(w.s.blocks_c * w.s.blocks_f):
        finish_block[real](
            w.my, w.mx, &w.s, &w.g, block, t, crew.size,
            <real*> room_of(&w.sums, <int> (block * w.s.parts)), w.sums.step // sizeof(real),
            <real*> w.dweight, <real*> w.dbias,
        )


cdef void winograd_weight_gradient(
    int algorithm, const Conv* g, const Incoming* d, const real* x, real* dweight, real* dbias,
    int threads,
) except *:
    """dweight (FN, C, 3, 3) and dbias (FN,) from the incoming gradient and x (N, H, W, C)."""
    cdef int my = tile_height(algorithm), mx = tile_width(algorithm)
    cdef TileSums s = tile_sums_of(g, my, mx, lanes(x), threads)
    cdef ptrdiff_t frequencies = (my + 2) * (mx + 2)
    cdef ptrdiff_t pieces = g.n * s.pieces_y * s.pieces_x
    cdef ptrdiff_t units = s.blocks_c * s.blocks_f * s.parts
    cdef ptrdiff_t work = pieces * s.rows * s.cols * frequencies * g.c * ceil_div(g.fn, lanes(x))
    cdef int team = team_size(threads, units, work)
    cdef bint split = s.parts > 1
    cdef Scratch totals = Scratch(s.volume * sizeof(real), units if split else team)
    cdef Scratch windows = Scratch(
        (my * s.rows + 2) * (mx * s.cols + 2) * max(s.channels, s.filters) * sizeof(real), team
    )
    cdef Scratch patches = Scratch(frequencies * s.v_step * sizeof(real), team)
    cdef Scratch tiles = Scratch(frequencies * s.d_step * sizeof(real), team)
    cdef WinogradWeightGradient w
    w.my, w.mx, w.g, w.d, w.s, w.dweight, w.dbias = my, mx, g[0], d[0], s, dweight, dbias
    w.x = incoming(NO_GATE, g.n, g.h, g.w, g.c, x, NULL)
    w.split = split
    w.sums, w.windows = totals.room(), windows.room()
    w.patches, w.tiles = patches.room(), tiles.room()
    took[real](WEIGHT_GRADIENT, algorithm_of(my, mx), x, team)
    with nogil:
        run_parts(<Part> winograd_weight_gradient_part[real], &w, team, 0)
        if split:
            run_parts(<Part> finish_blocks_part[real], &w, team, 0)
