# Winograd's convolution by 3x3 filters, stride 1, forward and for the input gradient.
#
#     U = transformed filters, [block of columns][f][c][lanes of the block]
#     for block of tiles, in parallel:          (each taken by the next free thread)
#         for image of the block:
#             its pixels, padded and gated, into this thread's scratch
#             for tile:  for vector of c:  V[f][tile][c] = transform of the tile's patch
#             for tile:  empty[tile] = which of its windows hold only zeros
#         for group of columns:
#             for f:  for block:  for R tiles:      (meanwhile `fetch_share` prefetches)
#                 t = 0;  for c:  t += V[f](tile, c) * U[f](c, block)
#                 M[f][tile][group] = t
#             for tile:  for vector of the group:
#                 my x mx outputs = transform of M[.](tile) + bias, or in empty windows the bias,
#                                   [+ residual], ReLU, pool
#
# f counts the (my+2)(mx+2) frequencies. V and M hold the tiles of one block only, and stay in the
# second cache; a block has enough tiles that reading U once a block is cheap beside the products.
# It is a piece of a row of tiles, or some rows, or some images, so that the pixels in scratch serve
# all its tiles. The input gradient is the same with flipped filters, and 2 - top and 2 - left zeros.
#
# Empty windows hold only zeros, but the other pixels of their tile enter the outputs in sums that
# should cancel, and with a side of 4 roundings are left. They are far below any rounding that
# matters, but not 0: a ReLU lets half of them pass, and where an image has a background of zeros
# the gradients of the biases are wrong by as many pixels as that has. So forward looks for empty
# windows. Each window has one of the pixels in the middle of the patch: if none of these is zero in
# all channels, no window is empty. One load of each mostly shows that; the other tiles are few, or
# their products cost more. Tiles of 2 x 2 need none of this, since an output is made of its own
# window's pixels alone. In gradients nothing depends on such values.
#
# Tiles of the products: see product.pxi, 8 x 2 and 12 x 1 with AVX-512, cut evenly.

cdef enum:
    MOST_TILES = 64  # of a block
    LEAST_TILES = 32  # with fewer, reading U takes longer than multiplying by it
    TILE_BYTES = 1 << 19  # of V and M of a block of more than LEAST_TILES
    GROUP = 64  # columns of M
    LONGEST = 64  # channels of one sum; both lengths are also in _numba/winograd.py
    LONGEST_WIDE = 32  # LONGEST of F(2x4), whose transforms amplify roundings more

cdef struct Winograd:
    int my, mx
    bint paired  # whether V and U are pairs of bfloat16s, along the channels
    ptrdiff_t depth, width  # channels in, padded to whole vectors
    ptrdiff_t row  # of V, and of V of a pixel: width, or half of it if paired
    ptrdiff_t columns, group  # channels out, and how many of them at once
    ptrdiff_t zeros_y, zeros_x  # above and left of the image
    ptrdiff_t tiles_y, tiles_x  # of an image
    ptrdiff_t images, rows, cols  # of a block, at most
    ptrdiff_t groups  # of images, nearly equal
    ptrdiff_t parts, blocks_y, blocks_x  # parts of the columns, blocks of an image
    ptrdiff_t units  # blocks in all, times parts
    ptrdiff_t u_step, v_step, m_step  # from frequency to frequency, u_step of a whole block


cdef inline ptrdiff_t odd_lines(ptrdiff_t values, ptrdiff_t width) noexcept nogil:
    """Values rounded up to an odd number of vectors: such steps hit different sets of a cache."""
    return (ceil_div(values, width) | 1) * width


cdef struct Block:
    ptrdiff_t image, images  # the first one, and how many
    ptrdiff_t top, left, rows, cols  # tiles of each


cdef inline ptrdiff_t sum_of(const Winograd* w) noexcept nogil:
    """How many products, or products of pairs, make a sum."""
    return ceil_div(w.depth, 2) if w.paired else w.depth


cdef Winograd winograd_of(
    int my, int mx, bint paired, const Incoming* d, const Outgoing* o, ptrdiff_t zeros_y,
    ptrdiff_t zeros_x, ptrdiff_t lane_count, ptrdiff_t value_bytes, int threads,
) noexcept nogil:
    """How to cut the work. Tiles cover only what goes out."""
    cdef Winograd w
    cdef ptrdiff_t frequencies = (my + 2) * (mx + 2)
    cdef ptrdiff_t pool = 2 if o.kind == POOL_GATE else 1
    cdef ptrdiff_t most, blocks
    cdef ptrdiff_t tiles = o.n * ceil_div(pool * o.ph, my) * ceil_div(pool * o.pw, mx)
    cdef ptrdiff_t tile_bytes
    cdef bint by_columns
    w.my, w.mx, w.paired, w.zeros_y, w.zeros_x = my, mx, paired, zeros_y, zeros_x
    w.depth, w.columns = d.c, o.c
    w.width = padded(d.c, lane_count)
    w.row = w.width // 2 if paired else w.width
    w.group = evenly(padded(o.c, lane_count), max(GROUP, 2 * lane_count))
    w.group = padded(w.group, 2 * lane_count if w.group > lane_count else lane_count)
    w.tiles_y, w.tiles_x = ceil_div(pool * o.ph, my), ceil_div(pool * o.pw, mx)
    tile_bytes = frequencies * (w.row + w.group) * value_bytes
    most = max(LEAST_TILES, min(TILE_BYTES // tile_bytes, MOST_TILES))
    # With few tiles beside the columns, reading U takes the most time: then threads share it.
    by_columns = (
        tiles < o.c and tiles <= MOST_TILES and tiles * tile_bytes <= 2 * TILE_BYTES
        and ceil_div(o.c, 2 * lane_count) >= threads
    )
    most = tiles if by_columns else min(most, ceil_div(tiles, threads))
    w.cols = evenly(w.tiles_x, most)
    w.rows = 1 if w.cols < w.tiles_x else evenly(w.tiles_y, max(1, most // w.cols))
    w.groups = o.n
    if w.rows == w.tiles_y and w.cols == w.tiles_x:
        w.groups = ceil_div(o.n, max(1, most // (w.rows * w.cols)))
        w.groups = min(o.n, padded(w.groups, 1 if by_columns else threads))
    w.images = ceil_div(o.n, w.groups)
    w.blocks_y, w.blocks_x = ceil_div(w.tiles_y, w.rows), ceil_div(w.tiles_x, w.cols)
    if w.blocks_y > 1:  # of nearly equal height
        w.blocks_y = min(w.tiles_y, dealt_evenly(w.blocks_y, w.groups * w.blocks_x, threads))
        w.rows = ceil_div(w.tiles_y, w.blocks_y)
    blocks = w.groups * w.blocks_y * w.blocks_x
    w.parts = min(ceil_div(threads, blocks), ceil_div(w.columns, 2 * lane_count))
    w.units = blocks * w.parts
    tiles = w.images * w.rows * w.cols
    w.u_step = odd_lines(sum_of(&w) * 2 * lane_count, lane_count)
    w.v_step = odd_lines(tiles * w.row, lane_count)
    w.m_step = odd_lines(tiles * w.group, lane_count)
    return w


# ---- blocks of tiles ------------------------------------------------------------------


cdef inline bint empty_pixels(int count, const real* pixels, ptrdiff_t width) noexcept nogil:
    """Whether so many pixels of a row are 0 in all channels."""
    cdef vec[real] both
    cdef ptrdiff_t c
    cdef int x
    for c from 0 <= c < width by lanes(pixels):
        both = load(pixels + c)
        for x in range(1, count):
            both = either(both, load(pixels + x * width + c))
        if not all_zero(both):
            return False
    return True


cdef inline int empty_of_row(int mx, const real* pixels, ptrdiff_t width) noexcept nogil:
    """For a row of a patch: bit j says that pixels j, j + 1 and j + 2 are empty."""
    cdef int found = 0
    cdef int x
    if empty_pixels[real](mx + 2, pixels, width):  # most rows that hold empty pixels hold no others
        return (1 << mx) - 1
    for x in range(mx + 2):
        if empty_pixels[real](1, pixels + x * width, width):
            found |= 1 << x
    return found & found >> 1 & found >> 2


cdef inline int empty_windows(
    int my, int mx, const real* patch, ptrdiff_t row, ptrdiff_t pixel
) noexcept nogil:
    """For a patch: bit mx*i + j says that the window of output (i, j) holds only zeros."""
    cdef int above = empty_of_row[real](mx, patch, pixel)
    cdef int here = empty_of_row[real](mx, patch + row, pixel)
    cdef int found = 0
    cdef int below, y
    for y in range(my):
        below = empty_of_row[real](mx, patch + (y + 2) * row, pixel)
        found |= (above & here & below) << mx * y
        above, here = here, below
    return found


cdef inline bint may_have_empty(
    int my, int mx, const real* patch, ptrdiff_t row, ptrdiff_t pixel
) noexcept nogil:
    """Whether a pixel in the middle of a patch is empty; each window holds one of these."""
    cdef int y, x
    for y in range(my // 2, my):
        for x in range(mx // 2, mx):
            if empty_pixels[real](1, patch + y * row + x * pixel, pixel):
                return True
    return False


cdef inline void transform_patches(
    int my, int mx, bint paired, const Winograd* w, const real* window, ptrdiff_t rows,
    ptrdiff_t cols, real* v, unsigned short* empty,
) noexcept nogil:
    """V of rows x cols tiles from their pixels, and their `empty` unless that is NULL."""
    cdef ptrdiff_t row = (mx * cols + 2) * w.width
    cdef ptrdiff_t y, x, c
    cdef const real* patch
    for y in range(rows):
        if empty != NULL:
            for x in range(cols):
                patch = window + my * y * row + mx * x * w.width
                empty[x] = 0
                if may_have_empty[real](my, mx, patch, row, w.width):
                    empty[x] = <unsigned short> empty_windows[real](my, mx, patch, row, w.width)
            empty += cols
        for c from 0 <= c < w.width by lanes(window):
            transform_input[real](
                my, mx, paired, window + my * y * row + c, row, w.width, cols,
                v + (c // 2 if paired else c), w.row, w.v_step,
            )
        v += cols * w.row


cdef void store_edge(
    int mx, const Outgoing* o, ptrdiff_t at, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t columns,
    const real* outputs,
) noexcept nogil:
    """Store rows x cols of the outputs [my][mx][lanes] of a tile that hangs over the edge, `at`."""
    cdef ptrdiff_t i, j
    cdef ptrdiff_t width = lanes(outputs)
    cdef const real* t
    for i in range(rows):
        for j in range(cols):
            if o.kind == POOL_GATE:
                t = outputs + 2 * (i * mx + j) * width
                store_pooled[real](
                    load(t), load(t + width), load(t + mx * width), load(t + (mx + 1) * width),
                    o, at + (i * o.pw + j) * o.pixel, columns,
                )
            else:
                t = outputs + (i * mx + j) * width
                store_out[real](o, at + (i * o.pw + j) * o.pixel, load(t), columns)


cdef void load_edge(
    int my, int mx, const Outgoing* o, ptrdiff_t at, ptrdiff_t rows, ptrdiff_t cols,
    ptrdiff_t columns, real* to,
) noexcept nogil:
    """The residual [my][mx][lanes] for a tile that hangs over the edge, zeros beyond it."""
    cdef ptrdiff_t i, j
    memset(to, 0, my * mx * VECTOR_BYTES)
    for i in range(rows):
        for j in range(cols):
            store(
                to + (i * mx + j) * lanes(to),
                residual_at[real](o, at + (i * o.pw + j) * o.pixel, columns, to),
            )


cdef inline void plus_residual(
    int my, int mx, const Outgoing* o, ptrdiff_t at, ptrdiff_t rows, ptrdiff_t cols,
    ptrdiff_t columns, vec[real]* t,
) noexcept nogil:
    """t += the residual, if there is one."""
    cdef const real* place = <const real*> o.residual + at
    cdef char[16 * VECTOR_BYTES] memory
    cdef ptrdiff_t next
    cdef int i, j
    if rows < my or cols < mx or columns < lanes(place):
        load_edge[real](
            my, mx, o, at, min(rows, my), min(cols, mx), min(columns, lanes(place)),
            <real*> memory,
        )
        for i in range(my * mx):
            t[i] = add(t[i], load(<real*> memory + i * lanes(place)))
    elif o.narrow & NARROW_RESIDUAL:
        for i in range(my):
            for j in range(mx):
                next = at + (i * o.pw + j) * o.pixel
                t[i * mx + j] = add(t[i * mx + j], residual_at[real](o, next, columns, place))
                next += mx * o.pixel  # for the next tile
                fetch(<const unsigned short*> o.residual + next, lanes(place))
    else:
        for i in range(my):
            for j in range(mx):
                t[i * mx + j] = add(t[i * mx + j], load(place + j * o.pixel))
                fetch(place + (mx + j) * o.pixel, lanes(place))  # for the next tile
            place += o.pw * o.pixel


cdef inline void store_tile(
    int my, int mx, const Outgoing* o, ptrdiff_t at, ptrdiff_t rows, ptrdiff_t cols,
    ptrdiff_t columns, vec[real]* t,
) noexcept nogil:
    """Store the outputs of one tile, rows x cols of which exist."""
    cdef int high = my // 2 if o.kind == POOL_GATE else my
    cdef int wide = mx // 2 if o.kind == POOL_GATE else mx
    cdef real* out = <real*> o.out + at
    cdef int i, j
    cdef char[16 * VECTOR_BYTES] memory
    if o.residual != NULL:
        plus_residual[real](my, mx, o, at, rows, cols, columns, t)
    if o.kind == RELU_GATE:
        relu_all[real](t, my * mx, 1)
    if rows < high or cols < wide or columns < lanes(out):
        store_all[real](t, my * mx, 1, <real*> memory)
        store_edge[real](mx, o, at, min(rows, high), min(cols, wide), columns, <real*> memory)
    elif o.kind == POOL_GATE:
        for i in range(my // 2):
            for j in range(mx // 2):
                store_pooled[real](
                    t[2 * (i * mx + j)], t[2 * (i * mx + j) + 1],
                    t[2 * (i * mx + j) + mx], t[2 * (i * mx + j) + mx + 1],
                    o, at + (i * o.pw + j) * o.pixel, columns,
                )
    elif o.narrow & NARROW_OUT:
        for i in range(my):
            for j in range(mx):
                store_out[real](o, at + (i * o.pw + j) * o.pixel, t[i * mx + j], lanes(out))
    else:
        for i in range(my):
            for j in range(mx):
                store(out + j * o.pixel, t[i * mx + j])
            out += o.pw * o.pixel


cdef inline void transform_tiles(
    int my, int mx, const Winograd* w, const Outgoing* o, const Block* b, const real* products,
    const real* bias, const real* of_empty, const unsigned short* empty, ptrdiff_t first,
    ptrdiff_t columns,
) noexcept nogil:
    """The outputs of a block, `columns` channels from `first` on.

    Unless `empty` is NULL, empty windows give `of_empty` in place of products and bias.
    """
    cdef ptrdiff_t high = my // 2 if o.kind == POOL_GATE else my
    cdef ptrdiff_t wide = mx // 2 if o.kind == POOL_GATE else mx
    cdef ptrdiff_t image, y, x, c, at
    cdef int i, windows
    cdef vec[real] t[16]
    for image in range(b.image, b.image + b.images):
        for y from high * b.top <= y < high * (b.top + b.rows) by high:
            for x from wide * b.left <= x < wide * (b.left + b.cols) by wide:
                at = ((image * o.ph + y) * o.pw + x) * o.pixel + first
                windows = 0
                if empty != NULL:
                    windows = empty[0]
                    empty += 1
                for c from 0 <= c < columns by lanes(products):
                    transform_output[real](my, mx, products + c, w.m_step, t)
                    for i in range(my * mx):
                        t[i] = add(t[i], load(bias + first + c))
                    if windows != 0:
                        for i in range(my * mx):
                            if windows >> i & 1:
                                t[i] = load(of_empty + first + c)
                    store_tile[real](my, mx, o, at + c, o.ph - y, o.pw - x, columns - c, t)
                products += w.group


cdef inline ptrdiff_t first_image(
    const Winograd* w, ptrdiff_t images, ptrdiff_t group
) noexcept nogil:
    """The first image of a group."""
    return share(images, <int> group, <int> w.groups)


cdef inline ptrdiff_t first_row(const Winograd* w, ptrdiff_t block) noexcept nogil:
    """First of the rows of tiles of an image's block."""
    return share(w.tiles_y, <int> block, <int> w.blocks_y)


cdef inline ptrdiff_t begin_of(
    const Winograd* w, const Incoming* d, ptrdiff_t block
) noexcept nogil:
    """The first element that a block reads and the one before does not, except at its edge."""
    cdef ptrdiff_t image = first_image(w, d.n, block // (w.blocks_x * w.blocks_y))
    cdef ptrdiff_t row = max(0, first_row(w, block // w.blocks_x % w.blocks_y) * w.my - w.zeros_y)
    return row_start(d, d.n, 0) if image >= d.n else row_start(d, image, row)


cdef struct Ahead:
    ptrdiff_t first, last, pixels  # elements of the next block, and how many of them at a time
    ptrdiff_t at, row, rows, length  # in the outputs: the next line, its row of so many, its length
    ptrdiff_t lines, some  # that are left, and how many of them at a time


cdef inline Ahead ahead_of(
    const Winograd* w, const Incoming* d, const Outgoing* o, const Block* b, ptrdiff_t block
) noexcept nogil:
    """What the products of a block prefetch, a share for each frequency.

    That is the next block's pixels, and the memory that this block will fill: a cache line is read
    before it is written to, and tiles fill lines in an order that no processor predicts.
    """
    cdef ptrdiff_t frequencies = (w.my + 2) * (w.mx + 2)
    cdef ptrdiff_t high = w.my // 2 if o.kind == POOL_GATE else w.my
    cdef ptrdiff_t wide = w.mx // 2 if o.kind == POOL_GATE else w.mx
    cdef Ahead a
    a.first, a.last = begin_of(w, d, block + 1), begin_of(w, d, block + 2)
    a.pixels = ceil_div(a.last - a.first, frequencies)
    a.row, a.rows = 0, min(high * b.rows, o.ph - high * b.top)
    a.length = min(wide * b.cols, o.pw - wide * b.left) * o.c
    a.at = ((b.image * o.ph + high * b.top) * o.pw + wide * b.left) * o.c
    a.lines = b.images * a.rows if o.pixel == o.c else 0  # no others' memory
    a.some = ceil_div(a.lines, frequencies)
    return a


cdef inline void fetch_share(
    Ahead* a, const Incoming* d, const Outgoing* o, const real* type_of
) noexcept nogil:
    """Prefetch the next share."""
    cdef ptrdiff_t i
    if a.first < a.last:
        fetch_pixels[real](d, a.first, min(a.pixels, a.last - a.first), type_of)
        a.first += a.pixels
    for i in range(min(a.some, a.lines)):
        if o.narrow & NARROW_OUT:
            fetch(<const unsigned short*> o.out + a.at, a.length)
        else:
            fetch(<const real*> o.out + a.at, a.length)
        if o.winner != NULL:
            fetch(<const unsigned char*> o.winner + a.at, a.length)
        a.at += o.pw * o.c
        a.row += 1
        if a.row == a.rows:  # the next image
            a.row = 0
            a.at += (o.ph - a.rows) * o.pw * o.c
    a.lines -= a.some


cdef void multiply_frequencies(
    const Winograd* w, const Incoming* d, const Outgoing* o, const Block* b, ptrdiff_t block,
    const real* v, const real* filters, ptrdiff_t first, ptrdiff_t columns, real* products,
    bint fetching,
) noexcept nogil:
    """M of all frequencies for the columns [first, first + columns)."""
    cdef ptrdiff_t frequencies = (w.my + 2) * (w.mx + 2)
    cdef ptrdiff_t f, c, width
    cdef Lines lines = Lines(1, 0, 0, b.images * b.rows * b.cols, 0, 0, 1)
    cdef Ahead ahead = ahead_of(w, d, o, b, block)
    cdef Product p = product_of(1, w.depth)
    cdef PairProduct q = pair_product_of(BY_VECTORS, 1, sum_of(w))
    cdef PairLines tiles = PairLines(1, 0, 0, lines.rows)
    cdef const real* block_filters
    p.part = part_of(1, w.depth, LONGEST_WIDE if w.my < w.mx else LONGEST)
    p.fetching = w.units == w.parts  # a single block: nobody has read the filters before
    p.x_y, p.x_i, p.x_r = 0, 1, w.width
    p.w_y, p.out_r = 0, w.group
    q.x_r, q.out_r = 2 * w.row, w.group
    for f in range(frequencies):
        if fetching:
            fetch_share[real](&ahead, d, o, v)
        for c from 0 <= c < columns by 2 * lanes(v):
            width = block_width(w.columns - first - c, lanes(v))
            p.w_i = q.w_i = width
            block_filters = filters + (
                (first + c) // (2 * lanes(v)) * frequencies + f
            ) * w.u_step
            if real is float:
                if w.paired:
                    multiply_pairs(
                        &q, tiles, v + f * w.v_step, block_filters, zeros(v),
                        products + f * w.m_step + c, width,
                    )
                    continue
            product_lines[real](
                &p, lines, v + f * w.v_step, block_filters, zeros(v),
                products + f * w.m_step + c, width,
            )


cdef void winograd_block(
    const Winograd* w, const Incoming* d, const Outgoing* o, ptrdiff_t unit,
    const real* filters, const real* bias, const real* of_empty, real* window, real* v,
    unsigned short* empty, real* products,
) noexcept nogil:
    """One unit: a part of the columns of one block of tiles."""
    cdef ptrdiff_t part = unit % w.parts, block = unit // w.parts
    cdef ptrdiff_t group = block // (w.blocks_x * w.blocks_y)
    cdef ptrdiff_t pair = 2 * lanes(v)
    cdef ptrdiff_t pairs = ceil_div(w.columns, pair)
    cdef ptrdiff_t begin = share(pairs, <int> part, <int> w.parts) * pair
    cdef ptrdiff_t end = min(share(pairs, <int> part + 1, <int> w.parts) * pair, w.columns)
    cdef ptrdiff_t first, columns, image
    cdef real* to
    cdef unsigned short* empty_to = NULL
    cdef Block b
    b.image = first_image(w, o.n, group)
    b.images = first_image(w, o.n, group + 1) - b.image
    b.top, b.left = first_row(w, block // w.blocks_x % w.blocks_y), block % w.blocks_x * w.cols
    b.rows = first_row(w, block // w.blocks_x % w.blocks_y + 1) - b.top
    b.cols = min(w.cols, w.tiles_x - b.left)
    for image in range(b.images):
        gated_window[real](
            d, b.image + image, w.my * b.top - w.zeros_y, w.mx * b.left - w.zeros_x,
            w.my * b.rows + 2, w.mx * b.cols + 2, window, w.width,
        )
        to = v + image * b.rows * b.cols * w.row
        if empty != NULL:
            empty_to = empty + image * b.rows * b.cols
        if w.paired:
            transform_patches[real](2, 2, True, w, window, b.rows, b.cols, to, NULL)
        elif w.mx == 2:
            transform_patches[real](2, 2, False, w, window, b.rows, b.cols, to, NULL)
        elif w.my == 2:
            transform_patches[real](2, 4, False, w, window, b.rows, b.cols, to, empty_to)
        else:
            transform_patches[real](4, 4, False, w, window, b.rows, b.cols, to, empty_to)
    for first from begin <= first < end by w.group:
        columns = min(w.group, end - first)
        multiply_frequencies[real](
            w, d, o, &b, block, v, filters, first, columns, products,
            first == begin and part == 0,
        )
        if w.mx == 2:
            transform_tiles[real](
                2, 2, w, o, &b, products, bias, of_empty, NULL, first, columns
            )
        elif w.my == 2:
            transform_tiles[real](
                2, 4, w, o, &b, products, bias, of_empty, empty, first, columns
            )
        else:
            transform_tiles[real](
                4, 4, w, o, &b, products, bias, of_empty, empty, first, columns
            )


cdef struct WinogradWork:
    Winograd w
    Incoming d
    Outgoing o
    const void* filters
    const void* bias
    const void* of_empty
    bint looking  # for empty windows
    Room windows
    Room patches
    Room empty
    Room products


cdef void winograd_part(
    const real* type_of, const WinogradWork* a, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t unit = next_unit(crew, t)
    while unit >= 0:
        winograd_block[real](
            &a.w, &a.d, &a.o, unit, <const real*> a.filters, <const real*> a.bias,
            <const real*> a.of_empty, <real*> room_of(&a.windows, t),
            <real*> room_of(&a.patches, t),
            <unsigned short*> room_of(&a.empty, t) if a.looking else NULL,
            <real*> room_of(&a.products, t),
        )
        unit = next_unit(crew, t)


cdef void add_bias(
    const real* type_of, const Bias* w, int t, const Crew* crew
) noexcept nogil:
    """Add the bias to the products of an empty window; zeros after the last column."""
    cdef real* of_empty = <real*> w.to
    cdef ptrdiff_t i
    for i in range(w.columns):
        of_empty[i] += (<const real*> w.bias)[i]
    memset(of_empty + w.columns, 0, (w.room - w.columns) * sizeof(real))


cdef void winograd(
    int algorithm, bint paired, const Incoming* d, const real* weight, const ptrdiff_t* strides,
    const real* bias, ptrdiff_t zeros_y, ptrdiff_t zeros_x, const Outgoing* o, int threads,
) except *:
    """Outgoing images from incoming ones, by filters whose strides are as in `pack_block`.

    `bias` has a value for each column, or is NULL in gradients. By pairs of bfloat16s if `paired`,
    which tiles of 2 x 2 can be.
    """
    cdef int my = tile_height(algorithm), mx = tile_width(algorithm)
    cdef ptrdiff_t frequencies = (my + 2) * (mx + 2)
    cdef Winograd w = winograd_of(
        my, mx, paired, d, o, zeros_y, zeros_x, lanes(weight), sizeof(real), threads
    )
    cdef ptrdiff_t columns = padded(w.columns, lanes(weight))
    cdef ptrdiff_t work = sum_of(&w) * columns // lanes(weight) * frequencies
    cdef int team = team_size(threads, w.units, o.n * w.tiles_y * w.tiles_x * work)
    cdef ptrdiff_t blocks = ceil_div(columns, 2 * lanes(weight))
    cdef ptrdiff_t packed_values = blocks * frequencies * w.u_step
    cdef Scratch packing = Scratch((packed_values + 2 * columns) * sizeof(real), 1, True)
    cdef ptrdiff_t window_pixels = (my * w.rows + 2) * (mx * w.cols + 2)
    cdef Scratch windows = Scratch(window_pixels * w.width * sizeof(real), team)
    cdef Scratch patches = Scratch(frequencies * w.v_step * sizeof(real), team)
    cdef Scratch marks = Scratch(w.images * w.rows * w.cols * sizeof(unsigned short), team)
    cdef Scratch sums = Scratch(frequencies * w.m_step * sizeof(real), team)
    cdef real* filters = <real*> packing.start
    cdef real* padded_bias = filters + packed_values
    cdef real* of_empty = padded_bias + columns
    cdef Bias added = Bias(bias, w.columns, columns, of_empty)
    cdef WinogradWork a
    a.w, a.d, a.o = w, d[0], o[0]
    a.filters, a.bias, a.of_empty = filters, padded_bias, of_empty
    a.looking = bias != NULL and algorithm != WINOGRAD2
    a.windows, a.patches = windows.room(), patches.room()
    a.empty, a.products = marks.room(), sums.room()
    took[real](INPUT_GRADIENT if bias == NULL else FORWARD, algorithm_of(my, mx), weight, team)
    with nogil:
        pad_bias[real](bias, w.columns, columns, padded_bias)
        transform_filters[real](
            my, mx, paired, weight, strides, w.depth, w.columns, filters, w.u_step,
            of_empty if a.looking else NULL, team,
        )
        if a.looking:
            run_on_weights(<Part> add_bias[real], &added, 1, 0)
        run_parts(<Part> winograd_part[real], &a, team, w.units)
