# Winograd's transforms for 3x3 filters: tiles of my x mx outputs from patches of my+2 by mx+2
# pixels, my and mx being 2 or 4. Lavin and Gray, "Fast Algorithms for Convolutional
# Neural Networks" (2015).
#
#     patch d:   V = Bt d B      filter g:   U = G g Gt      tile:   y = At (U * V, summed) A
#
# Each is a line transform down the columns, then along the rows, of vectors whose lanes are
# channels. With m = 2 the points are 0, 1, -1 and infinity, and the factors 1, 1/2 and 1/4 only,
# so that small whole numbers stay exact. With m = 4 they are 0, +-sqrt(1/2), +-sqrt(2) and
# infinity: with 1 and 2 in their place the largest error of 4 x 4 is four times as large. Errors of
# 2 x 4 are in between, with 3/4 of the products of 2 x 2.
#
# m = 2:
#
#     Bt =  1   0  -1   0     G =   1     0     0      At =  1   1   1   0
#           0   1   1   0          1/2   1/2   1/2           0   1  -1  -1
#           0  -1   1   0          1/2  -1/2   1/2
#           0   1   0  -1           0     0     1
#
# m = 4, r = sqrt(2), h = sqrt(1/2):
#
#     Bt =  1   0  -5/2   0    1   0     G =   1     0     0      At =  1   1    1    1    1   0
#           0  -r   -2    h    1   0         -2/3  -r/3  -1/3           0   h   -h    r   -r   0
#           0   r   -2   -h    1   0         -2/3   r/3  -1/3           0  1/2  1/2   2    2   0
#           0  -h  -1/2   r    1   0          1/6   r/6   1/3           0  h/2 -h/2  2r  -2r   1
#           0   h  -1/2  -r    1   0          1/6  -r/6   1/3
#           0   1    0  -5/2   0   1           0     0     1
#
# The rows of Bt come in pairs that share their sums: rows 0 and my+1, then 1 and 2, 3 and 4. A pair
# for all columns of a patch is at most 12 vectors in registers; all 36 would not fit, and reading
# a pixel again is cheaper than storing a vector twice. So the loop nest of V is: for pair: for
# tile of a row: mx new columns; two are the last tile's too.

cdef extern from *:
    """
    #define ROOT 1.41421356237309504880
    #define HALF_ROOT 0.70710678118654752440
    """
    const double ROOT
    const double HALF_ROOT


cdef inline int tile_height(int algorithm) noexcept nogil:
    return 4 if algorithm == WINOGRAD4 else 2


cdef inline int tile_width(int algorithm) noexcept nogil:
    return 2 if algorithm == WINOGRAD2 else 4


cdef inline int algorithm_of(int my, int mx) noexcept nogil:
    """The algorithm whose tiles are of my x mx."""
    return WINOGRAD2 if mx == 2 else WINOGRAD2X4 if my == 2 else WINOGRAD4


cdef inline void input_pair(
    int m, int pair, const vec[real]* d, vec[real]* first, vec[real]* second
) noexcept nogil:
    """A pair of rows of Bt times the m+2 values of a line."""
    cdef vec[real] a, b
    if pair == 0 and m == 2:
        first[0] = subtract(d[0], d[2])
        second[0] = subtract(d[1], d[3])
    elif pair == 0:
        first[0] = muladd(broadcast(<real> -2.5), d[2], add(d[0], d[4]))
        second[0] = muladd(broadcast(<real> -2.5), d[3], add(d[1], d[5]))
    elif m == 2:
        first[0] = add(d[1], d[2])
        second[0] = subtract(d[2], d[1])
    elif pair == 1:
        a = muladd(broadcast(<real> -2), d[2], d[4])
        b = muladd(broadcast(<real> -2), d[1], d[3])
        first[0] = muladd(broadcast(<real> HALF_ROOT), b, a)
        second[0] = muladd(broadcast(<real> -HALF_ROOT), b, a)
    else:
        a = muladd(broadcast(<real> -0.5), d[2], d[4])
        b = muladd(broadcast(<real> -0.5), d[1], d[3])
        first[0] = muladd(broadcast(<real> ROOT), b, a)
        second[0] = muladd(broadcast(<real> -ROOT), b, a)


cdef inline int first_of(int pair) noexcept nogil:
    return 0 if pair == 0 else 2 * pair - 1


cdef inline int second_of(int m, int pair) noexcept nogil:
    return m + 1 if pair == 0 else 2 * pair


cdef inline void put(bint rounded, real* to, vec[real] v) noexcept nogil:
    """Store a vector as it is, or rounded to pairs of its neighbours."""
    if real is float:
        if rounded:
            store_rounded(to, v)
            return
    store(to, v)


cdef inline void store_row(
    int m, bint rounded, const vec[real]* line, real* to, ptrdiff_t step
) noexcept nogil:
    """One row of V, from its values down the columns."""
    cdef vec[real] first[3]
    cdef vec[real] second[3]
    cdef int pair
    input_pair[real](m, 0, line, first, second)
    input_pair[real](m, 1, line, first + 1, second + 1)
    if m == 4:
        input_pair[real](m, 2, line, first + 2, second + 2)
    put(rounded, to, first[0])
    for pair in range(1, m // 2 + 1):
        put(rounded, to + (2 * pair - 1) * step, first[pair])
        put(rounded, to + 2 * pair * step, second[pair])
    put(rounded, to + (m + 1) * step, second[0])


cdef inline void transform_pair(
    int my, int mx, bint rounded, int pair, const real* pixels, ptrdiff_t row, ptrdiff_t pixel,
    ptrdiff_t tiles, real* to, ptrdiff_t tile, ptrdiff_t step,
) noexcept nogil:
    """A pair of rows of V for a row of tiles; neighbouring tiles share two columns."""
    cdef vec[real] d[6]
    cdef vec[real] first[6]
    cdef vec[real] second[6]
    cdef int x, y
    cdef ptrdiff_t t
    for x in range(2):
        for y in range(my + 2):
            d[y] = load(pixels + y * row + x * pixel)
        input_pair[real](my, pair, d, first + x, second + x)
    for t in range(tiles):
        for x in range(2, mx + 2):
            for y in range(my + 2):
                d[y] = load(pixels + y * row + x * pixel)
            input_pair[real](my, pair, d, first + x, second + x)
        store_row[real](mx, rounded, first, to + first_of(pair) * (mx + 2) * step, step)
        store_row[real](mx, rounded, second, to + second_of(my, pair) * (mx + 2) * step, step)
        for x in range(2):
            first[x], second[x] = first[mx + x], second[mx + x]
        pixels += mx * pixel
        to += tile


cdef inline void transform_input(
    int my, int mx, bint rounded, const real* pixels, ptrdiff_t row, ptrdiff_t pixel,
    ptrdiff_t tiles, real* to, ptrdiff_t tile, ptrdiff_t step,
) noexcept nogil:
    """V of one vector of channels for a row of tiles; `rounded`, it is pairs of these.

    Frequency (fy, fx) of tile t goes to to[t*tile + (fy*(mx+2) + fx)*step].
    """
    transform_pair[real](my, mx, rounded, 0, pixels, row, pixel, tiles, to, tile, step)
    transform_pair[real](my, mx, rounded, 1, pixels, row, pixel, tiles, to, tile, step)
    if my == 4:
        transform_pair[real](my, mx, rounded, 2, pixels, row, pixel, tiles, to, tile, step)


cdef inline void output_line(int m, const vec[real]* s, vec[real]* y) noexcept nogil:
    """At times the m+2 values of a line."""
    cdef vec[real] sum1, sum2, difference1, difference2
    sum1 = add(s[1], s[2])
    difference1 = subtract(s[1], s[2])
    if m == 2:
        y[0] = add(s[0], sum1)
        y[1] = subtract(difference1, s[3])
    else:
        sum2 = add(s[3], s[4])
        difference2 = subtract(s[3], s[4])
        difference1 = times(broadcast(<real> HALF_ROOT), difference1)
        y[0] = add(add(s[0], sum1), sum2)
        y[1] = muladd(broadcast(<real> ROOT), difference2, difference1)
        y[2] = muladd(broadcast(<real> 2), sum2, times(broadcast(<real> 0.5), sum1))
        y[3] = muladd(
            broadcast(<real> (2 * ROOT)), difference2,
            muladd(broadcast(<real> 0.5), difference1, s[5]),
        )


cdef inline void transform_output(
    int my, int mx, const real* products, ptrdiff_t step, vec[real]* y
) noexcept nogil:
    """The my x mx outputs of one vector of channels, from products[f*step]."""
    cdef vec[real] s[6]
    cdef vec[real] column[4]
    cdef vec[real] half[24]
    cdef int i, j
    for j in range(mx + 2):
        for i in range(my + 2):
            s[i] = load(products + (i * (mx + 2) + j) * step)
        output_line[real](my, s, column)
        for i in range(my):
            half[i * (mx + 2) + j] = column[i]
    for i in range(my):
        output_line[real](mx, half + i * (mx + 2), y + i * mx)


cdef inline void filter_line(int m, const vec[real]* g, vec[real]* u) noexcept nogil:
    """G times the three values of a line."""
    cdef vec[real] even, odd, factor
    if m == 2:
        factor = broadcast(<real> 0.5)
        even = times(factor, add(g[0], g[2]))
        odd = times(factor, g[1])
        u[0], u[1], u[2], u[3] = g[0], add(even, odd), subtract(even, odd), g[2]
    else:
        u[0], u[5] = g[0], g[2]
        even = times(broadcast(<real> (-1.0 / 3)), add(add(g[0], g[0]), g[2]))
        odd = times(broadcast(<real> (-ROOT / 3)), g[1])
        u[1], u[2] = add(even, odd), subtract(even, odd)
        even = times(broadcast(<real> (1.0 / 6)), add(g[0], add(g[2], g[2])))
        odd = times(broadcast(<real> (ROOT / 6)), g[1])
        u[3], u[4] = add(even, odd), subtract(even, odd)


cdef inline void transform_filter(
    int my, int mx, const real* taps, ptrdiff_t tap, real* to, ptrdiff_t step
) noexcept nogil:
    """U of one vector of columns, from taps[(ky*3 + kx)*tap]; to as in `transform_input`."""
    cdef vec[real] g[3]
    cdef vec[real] u[6]
    cdef vec[real] half[18]
    cdef int i, j
    for j in range(3):
        for i in range(3):
            g[i] = load(taps + (3 * i + j) * tap)
        filter_line[real](my, g, u)
        for i in range(my + 2):
            half[3 * i + j] = u[i]
    for i in range(my + 2):
        filter_line[real](mx, half + 3 * i, u)
        for j in range(mx + 2):
            store(to + (i * (mx + 2) + j) * step, u[j])


# ---- filters --------------------------------------------------------------------------


cdef inline void transform_filters_block(
    int my, int mx, const real* weight, const ptrdiff_t* strides, ptrdiff_t depth,
    ptrdiff_t columns, real* to, ptrdiff_t step,
) noexcept nogil:
    """One block [f][c][lanes of the block], zeros after `columns`; strides as in `pack_block`."""
    cdef ptrdiff_t width = block_width(columns, lanes(weight))
    cdef ptrdiff_t c, i
    cdef ptrdiff_t[3] shape = [3, 3, 1]
    cdef char[9 * 2 * VECTOR_BYTES] memory
    cdef real* taps = <real*> memory
    for c in range(depth):
        pack_block[real](weight + c * strides[2], shape, strides, columns, taps)
        for i from 0 <= i < width by lanes(weight):
            transform_filter[real](my, mx, taps + i, width, to + c * width + i, step)


cdef inline void pair_filters_block(
    const float* weight, const ptrdiff_t* strides, ptrdiff_t depth, ptrdiff_t columns, float* to,
    ptrdiff_t step,
) noexcept nogil:
    """One block of filters, by pairs of channels: [f][pair][lanes of the block], for 2 x 2 tiles."""
    cdef ptrdiff_t width = block_width(columns, lanes(weight))
    cdef char[2 * 16 * 2 * VECTOR_BYTES] memory
    cdef float* transformed = <float*> memory
    cdef ptrdiff_t c, f
    for c from 0 <= c < depth by 2:
        transform_filters_block[float](
            2, 2, weight + c * strides[2], strides, min(2, depth - c), columns, transformed,
            2 * width,
        )
        for f in range(16):
            pair_rows(
                transformed + 2 * f * width,
                transformed + (2 * f + 1) * width if c + 1 < depth else NULL, width,
                to + c // 2 * width + f * step,
            )


cdef inline real zero_times(const real* values, ptrdiff_t count) noexcept nogil:
    """Sum of 0 times each value: 0, or NaN where one is NaN or infinite."""
    cdef real[MOST_LANES] memory
    cdef vec[real] products = broadcast(<real> 0)
    cdef real total = 0
    cdef ptrdiff_t i
    for i from 0 <= i < count by lanes(values):
        products = muladd(broadcast(<real> 0), load_part(values + i, count - i), products)
    store(memory, products)
    for i in range(lanes(values)):
        total += memory[i]
    return total


cdef struct Filters:
    int my, mx
    bint paired
    const void* weight
    ptrdiff_t[4] strides
    ptrdiff_t depth, columns
    void* to
    ptrdiff_t step
    void* of_zeros


cdef void transform_filters_part(
    const real* type_of, const Filters* p, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t width = 2 * lanes(type_of)
    cdef ptrdiff_t block = (p.my + 2) * (p.mx + 2) * p.step
    cdef ptrdiff_t blocks = ceil_div(p.columns, width)
    cdef const real* weight = <const real*> p.weight
    cdef const real* from_block
    cdef real* to
    cdef real* of_zeros = <real*> p.of_zeros
    cdef ptrdiff_t b, i, columns
    for b in range(share(blocks, t, crew.size), share(blocks, t + 1, crew.size)):
        from_block, to = weight + b * width * p.strides[3], <real*> p.to + b * block
        columns = p.columns - b * width
        if real is float:
            if p.paired:
                pair_filters_block(from_block, p.strides, p.depth, columns, to, p.step)
                continue
        if p.mx == 2:
            transform_filters_block[real](
                2, 2, from_block, p.strides, p.depth, columns, to, p.step
            )
        elif p.my == 2:
            transform_filters_block[real](
                2, 4, from_block, p.strides, p.depth, columns, to, p.step
            )
        else:
            transform_filters_block[real](
                4, 4, from_block, p.strides, p.depth, columns, to, p.step
            )
        if of_zeros != NULL:
            for i in range(b * width, min(b * width + width, p.columns)):
                of_zeros[i] = zero_times[real](weight + i * p.strides[3], 9 * p.depth)


cdef void transform_filters(
    int my, int mx, bint paired, const real* weight, const ptrdiff_t* strides, ptrdiff_t depth,
    ptrdiff_t columns, real* to, ptrdiff_t step, real* of_zeros, int team,
) noexcept nogil:
    """All blocks, one after another; `step` from frequency to frequency.

    `of_zeros`, unless it is NULL, receives what a window of zeros gives in each column, whose
    filter must then be contiguous.
    """
    cdef Filters p
    cdef int i
    p.my, p.mx, p.paired, p.weight, p.depth, p.columns = my, mx, paired, weight, depth, columns
    p.to, p.step, p.of_zeros = to, step, of_zeros
    for i in range(4):
        p.strides[i] = strides[i]
    run_on_weights(<Part> transform_filters_part[real], &p, team, 0)
