# Convolutions and affine layers of the math mode bf16: the loops of the other files, over pairs.
#
# Two neighbouring channels, rounded to bfloat16, take the place of one float (pairs.h). So a
# direct convolution of images whose pixels are `depth` pairs is that of conv.pxi with that many
# channels: bands of pixels are gated into scratch as floats, then rounded where they are, and
# weights are packed [block][ky][kx][pair][lanes of the block].
#
# The weight gradient is a sum over pixels, so there two neighbouring pixels are a pair:
#
#     for some images, or band of an image:
#         X[c][image][row][column] = pixels as planes, P[image][pixel / 2][filter] = gradients
#         for block of filters:  for ky:  for R of (kx, channel):
#             t = 0
#             for pair of pixels:  t += X[c](pair, ky, kx) * P(pair, filters)
#             sums += t
#
# With stride 1, rows of X and P have one length, that of the padded image, so that the pairs of a band
# are one sum: gradients beyond the end of a row are zeros. With stride s, the columns of a row of X
# lie in s runs of every s-th column, and each row is a sum.
#
# Few channels would leave most of a pair's and a tile's places empty: there, and in grouped
# convolutions, the loops of floats run, on operands that are rounded in scratch.

cdef enum:
    FEW_PRODUCTS = 32  # of one output, for which pairs do not pay
    PAIR_BATCH_BYTES = 1 << 18  # of X and P

cdef extern from "pairs.h" nogil:
    enum:
        HAS_PAIRS
        NO_PAIRS
        BY_VECTORS
        TILE_PAIRS
        PAIR_COLUMNS
        NARROW_IN
        NARROW_OUT
        NARROW_RESIDUAL

    cdef struct PairProduct:
        int by
        ptrdiff_t y, i, chunk, x_y, x_i, x_r, w_y, w_i, out_r
        bint relu, accumulate
        int narrow
        const float* residual
        const float* origin

    cdef struct PairLines:
        ptrdiff_t count, x, out, rows

    void round_pairs(const float*, ptrdiff_t, void*) noexcept
    void round_values(const float*, ptrdiff_t, float*) noexcept
    float* ahead(const void*, ptrdiff_t, bint) noexcept
    vec[float] load_widened(const void*, ptrdiff_t) noexcept
    void store_narrow(void*, vec[float], ptrdiff_t) noexcept
    void store_rounded(float*, vec[float]) noexcept
    void store_paired(float*, vec[float], vec[float]) noexcept
    void pair_rows(const float*, const float*, ptrdiff_t, void*) noexcept
    void turn_pixels(const float*, ptrdiff_t, ptrdiff_t, void*, ptrdiff_t) noexcept
    void multiply_pairs(
        const PairProduct*, PairLines, const void*, const float*, const float*, float*, ptrdiff_t
    ) noexcept
    void add_few_pairs(
        ptrdiff_t, const float*, ptrdiff_t, const float*, ptrdiff_t, ptrdiff_t, float*, ptrdiff_t,
        ptrdiff_t,
    ) noexcept
    void end_pairs(int) noexcept


cdef inline ptrdiff_t pairs_of(ptrdiff_t values) noexcept nogil:
    """Pairs for so many values along a sum: as many as fill tiles, where they fill more than one."""
    cdef ptrdiff_t pairs = ceil_div(values, 2)
    return pairs if pairs <= TILE_PAIRS else padded(pairs, TILE_PAIRS)


cdef inline ptrdiff_t depth_of(int pairs, ptrdiff_t channels) noexcept nogil:
    """What a pixel holds, in places of a float: channels, or pairs of these."""
    return channels if pairs == NO_PAIRS else pairs_of(channels)


cdef inline ptrdiff_t room_for(int pairs, ptrdiff_t channels) noexcept nogil:
    """What a pixel takes in scratch before it is rounded there."""
    return channels if pairs == NO_PAIRS else 2 * pairs_of(channels)


cdef inline PairProduct pair_product_of(int by, ptrdiff_t y, ptrdiff_t i) noexcept nogil:
    """A product of `i` pairs for each y, which overwrites out."""
    cdef PairProduct p
    p.by, p.y, p.i, p.chunk = by, y, i, max(1, min(i, TILE_PAIRS))
    while i % p.chunk != 0:
        p.chunk -= 1
    p.x_y, p.x_i, p.w_y = 0, 2, 0
    p.relu, p.accumulate, p.narrow = False, False, 0
    p.residual = NULL
    p.origin = NULL
    return p


cdef void pair_block(
    const float* rows, ptrdiff_t groups, ptrdiff_t count, ptrdiff_t depth, ptrdiff_t width,
    void* packed,
) noexcept nogil:
    """[group][pair][width], `depth` pairs from each group of `count` rows, then zeros."""
    cdef float* to = <float*> packed
    cdef ptrdiff_t group, d
    for group in range(groups):
        for d in range(depth):
            if 2 * d >= count:
                memset(to, 0, width * sizeof(float))
            else:
                pair_rows(
                    rows + 2 * d * width,
                    rows + (2 * d + 1) * width if 2 * d + 1 < count else NULL, width, to,
                )
            to += width
        rows += count * width


cdef void correlate_pairs(
    int by, ptrdiff_t filter_rows, ptrdiff_t run, ptrdiff_t step, const float* image,
    ptrdiff_t image_row, ptrdiff_t line, const float* packed, const float* bias, ptrdiff_t rows,
    ptrdiff_t pixels, float* out, ptrdiff_t out_row, ptrdiff_t out_pixel, ptrdiff_t columns,
    bint relu, const float* residual, int narrow,
) noexcept nogil:
    """`correlate` of pairs: `run` of them in a filter row, `step` from window to window.

    `image_row` leads to the next row, `line` to that of the next windows.
    """
    cdef PairProduct p = pair_product_of(by, filter_rows, run)
    cdef PairLines lines
    cdef ptrdiff_t first, width
    p.x_y, p.x_r = 2 * image_row, 2 * step
    p.out_r, p.relu, p.residual, p.origin, p.narrow = out_pixel, relu, residual, out, narrow
    lines.count, lines.x, lines.out, lines.rows = rows, 2 * line, out_row, pixels
    for first from 0 <= first < columns by PAIR_COLUMNS:
        width = block_width(columns - first, lanes(packed))
        p.w_i, p.w_y = width, run * width
        multiply_pairs(
            &p, lines, image, packed + first * filter_rows * run,
            zeros(packed) if bias == NULL else bias + first,
            ahead(out, first, (narrow & NARROW_OUT) != 0), columns - first,
        )


# ---- the weight gradient of convolutions ------------------------------------------------

cdef struct PairSums:
    ptrdiff_t images  # together
    ptrdiff_t runs  # sums of pairs: one for each image, or for each row of a band
    ptrdiff_t pairs  # of a run
    ptrdiff_t row  # of X, of each of its `stride` parts, in pixels
    ptrdiff_t dout_row  # of P, in pixels
    ptrdiff_t rows  # of X, of one image
    ptrdiff_t step  # of X, from run to run
    ptrdiff_t plane  # of X
    ptrdiff_t channels, filters  # of X and P, in whole vectors


cdef PairSums pair_sums_of(
    ptrdiff_t fh, ptrdiff_t fw, ptrdiff_t stride, ptrdiff_t ow, ptrdiff_t height,
    ptrdiff_t images, ptrdiff_t channels, ptrdiff_t filters,
) noexcept nogil:
    """How a band of `height` output rows of some images lies in scratch; of one, if strided."""
    cdef PairSums s
    s.images, s.rows = images, (height - 1) * stride + fh
    if stride == 1:
        s.row = s.dout_row = ow + fw - 1
        s.step = s.rows * s.row
        s.runs, s.pairs = images, padded(ceil_div(height * s.row, 2), TILE_PAIRS)
    else:
        s.runs, s.pairs = height, ceil_div(ow, 2)
        s.pairs = padded(s.pairs, evenly(s.pairs, TILE_PAIRS))
        s.dout_row = 2 * s.pairs
        s.row = s.dout_row + ceil_div(fw, stride)
        s.step = stride * stride * s.row
    # After the last row come as many pixels as the last sum reads beyond it.
    s.plane = images * s.rows * stride * s.row + fw + 2 * TILE_PAIRS
    s.channels, s.filters = padded(channels, MOST_LANES), padded(filters, MOST_LANES)
    return s


cdef inline ptrdiff_t gradients_of(const PairSums* s) noexcept nogil:
    """Pixels of one image's P, before they are paired."""
    return s.runs // s.images * 2 * s.pairs


cdef void turn_band(
    const PairSums* s, ptrdiff_t stride, const float* pixels, ptrdiff_t pixel, void* planes
) noexcept nogil:
    """One image of X from rows of stride * s.row pixels."""
    cdef unsigned short* to = <unsigned short*> planes
    cdef ptrdiff_t row = stride * s.row
    cdef ptrdiff_t c, v, part
    for c from 0 <= c < s.channels by MOST_LANES:
        if stride == 1:
            turn_pixels(pixels + c, pixel, s.rows * row, to + c * s.plane, s.plane)
        else:
            for v in range(s.rows):
                for part in range(stride):
                    turn_pixels(
                        pixels + (v * row + part) * pixel + c, stride * pixel, s.row,
                        to + c * s.plane + v * row + part * s.row, s.plane,
                    )


cdef void multiply_band(
    int by, const PairSums* s, ptrdiff_t fh, ptrdiff_t fw, ptrdiff_t stride, void* planes,
    const float* pairs, ptrdiff_t channels, float* sums, ptrdiff_t sums_row,
) noexcept nogil:
    """sums [ky][kx][c][filters] += the products of X, after which it writes zeros, and P."""
    cdef unsigned short* x = <unsigned short*> planes
    cdef PairProduct p = pair_product_of(by, s.runs, s.pairs)
    cdef ptrdiff_t row = stride * s.row, end = s.images * s.rows * stride * s.row
    cdef ptrdiff_t taps = fw if stride == 1 else 1  # that lie side by side in X
    cdef PairLines lines = PairLines(taps, 1, channels * sums_row, channels)
    cdef ptrdiff_t first, ky, kx, c
    p.accumulate = True
    p.x_y, p.x_r, p.w_y, p.w_i, p.out_r = (
        s.step, s.plane, s.pairs * s.filters, s.filters, sums_row
    )
    for c in range(s.channels):
        memset(x + c * s.plane + end, 0, (s.plane - end) * sizeof(unsigned short))
    for first from 0 <= first < s.filters by PAIR_COLUMNS:
        for ky in range(fh):
            for kx from 0 <= kx < fw by taps:
                multiply_pairs(
                    &p, lines, x + ky * row + kx % stride * s.row + kx // stride, pairs + first,
                    zeros(pairs), sums + (ky * fw + kx) * channels * sums_row + first,
                    s.filters - first,
                )


# ---- affine layers ----------------------------------------------------------------------

cdef struct PairRows:
    const void* source
    ptrdiff_t rows, columns
    void* to


cdef inline void round_row(const float* source, ptrdiff_t columns, float* to) noexcept nogil:
    """Pairs along the columns, `pairs_of` of them, zeros at the end."""
    cdef ptrdiff_t pairs = pairs_of(columns), whole = columns // 2
    cdef float[2] last
    memset(to + whole, 0, (pairs - whole) * sizeof(float))
    round_pairs(source, whole, to)
    if columns % 2:
        last[0], last[1] = source[columns - 1], 0
        round_pairs(last, 1, to + whole)


cdef void round_rows_part(
    const void* type_of, const PairRows* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t r
    for r in range(share(w.rows, t, crew.size), share(w.rows, t + 1, crew.size)):
        round_row(
            <const float*> w.source + r * w.columns, w.columns,
            <float*> w.to + r * pairs_of(w.columns),
        )


cdef struct MultiplyPairs:
    int by
    const void* x  # rows of pairs
    ptrdiff_t rows, depth  # in values
    const float* weight
    ptrdiff_t weight_row, weight_column, columns
    const float* start
    float* out
    ptrdiff_t units, parts  # of the rows
    float* kept  # all blocks, packed before, or NULL
    Room staging
    Room packed


cdef void pack_columns(
    const MultiplyPairs* w, ptrdiff_t first, int t, float* packed
) noexcept nogil:
    """One block of columns as pairs."""
    cdef float* staging = <float*> room_of(&w.staging, t)
    cdef ptrdiff_t[3] shape = [1, 1, w.depth]
    cdef ptrdiff_t[4] strides = [0, 0, w.weight_row, w.weight_column]
    cdef ptrdiff_t columns = w.columns - first
    pack_block[float](w.weight + first * w.weight_column, shape, strides, columns, staging)
    pair_block(
        staging, 1, w.depth, pairs_of(w.depth), block_width(columns, lanes(packed)), packed
    )


cdef void keep_columns_part(
    const void* type_of, const MultiplyPairs* w, int t, const Crew* crew
) noexcept nogil:
    """All blocks, for products to come."""
    cdef ptrdiff_t blocks = ceil_div(w.columns, PAIR_COLUMNS)
    cdef ptrdiff_t block
    for block in range(share(blocks, t, crew.size), share(blocks, t + 1, crew.size)):
        pack_columns(
            w, block * PAIR_COLUMNS, t, w.kept + block * PAIR_COLUMNS * pairs_of(w.depth)
        )


cdef void multiply_pairs_part(
    const void* type_of, const MultiplyPairs* w, int t, const Crew* crew
) noexcept nogil:
    """For block of columns: pack it as pairs, then the product for a part of the rows."""
    cdef float* packed = <float*> room_of(&w.packed, t)
    cdef ptrdiff_t pairs = pairs_of(w.depth)
    cdef PairProduct p = pair_product_of(w.by, 1, pairs)
    cdef ptrdiff_t unit, first, begin, columns
    p.x_r, p.out_r = 2 * pairs, w.columns
    for unit in range(share(w.units, t, crew.size), share(w.units, t + 1, crew.size)):
        first = unit // w.parts * PAIR_COLUMNS
        columns = w.columns - first
        begin = share(w.rows, <int> (unit % w.parts), <int> w.parts)
        p.w_i = block_width(columns, lanes(packed))
        if w.kept != NULL:
            packed = w.kept + first * pairs
        else:
            pack_columns(w, first, t, packed)
        multiply_pairs(
            &p, PairLines(1, 0, 0, share(w.rows, <int> (unit % w.parts) + 1, <int> w.parts) - begin),
            <const float*> w.x + begin * pairs, packed, w.start + first,
            w.out + begin * w.columns + first, columns,
        )
    end_pairs(w.by)


cdef void few_pairs_part(
    const void* type_of, const MultiplyPairs* w, int t, const Crew* crew
) noexcept nogil:
    """A share of the columns, in whole vectors, for few rows: each weight is read once.

    The bias comes last, as where weights are kept: a program computes what one call does.
    """
    cdef ptrdiff_t vectors = ceil_div(w.columns, MOST_LANES)
    cdef ptrdiff_t first = share(vectors, t, crew.size) * MOST_LANES
    cdef ptrdiff_t last = min(share(vectors, t + 1, crew.size) * MOST_LANES, w.columns)
    cdef ptrdiff_t r, c
    for r in range(w.rows):
        memset(w.out + r * w.columns + first, 0, (last - first) * sizeof(float))
    add_few_pairs(
        w.rows, <const float*> w.x, pairs_of(w.depth), w.weight + first, w.columns, w.depth,
        w.out + first, w.columns, last - first,
    )
    for r in range(w.rows):
        for c in range(first, last):
            w.out[r * w.columns + c] += w.start[c]


cdef void forward_few_pairs(
    const float* x, ptrdiff_t rows, ptrdiff_t depth, const float* weight, ptrdiff_t columns,
    const float* bias, float* out, int threads,
) except *:
    """`forward_few` of rounded factors."""
    cdef ptrdiff_t vectors = ceil_div(columns, MOST_LANES)
    cdef int team = team_size(threads, vectors, rows * depth * vectors)
    cdef Scratch factors = Scratch(rows * pairs_of(depth) * sizeof(float))
    cdef PairRows r = PairRows(x, rows, depth, factors.start)
    cdef MultiplyPairs w
    w.x, w.rows, w.depth, w.weight, w.columns = factors.start, rows, depth, weight, columns
    w.start, w.out = bias, out
    took(AFFINE_FORWARD, FEW_ROWS, x, team)
    if rows == 0:
        return
    with nogil:
        run_parts(<Part> round_rows_part, &r, 1, 0)
        run_parts(<Part> few_pairs_part, &w, team, 0)


cdef inline bint weights_stay() noexcept nogil:
    """Whether what is made of weights is kept, for a program of predictions."""
    cdef Recording* keeper = recording()
    return keeper != NULL and keeper.weights_stay


cdef void multiply_by_pairs(
    int by, const float* x, ptrdiff_t rows, ptrdiff_t depth, const float* weight,
    ptrdiff_t weight_row, ptrdiff_t weight_column, ptrdiff_t columns, const float* bias,
    float* out, int threads,
) except *:
    """`multiply` of rounded factors; in a program of predictions, weights are packed once."""
    cdef bint keeps = bias != NULL and weights_stay()
    cdef ptrdiff_t blocks = ceil_div(columns, PAIR_COLUMNS)
    cdef ptrdiff_t pairs = pairs_of(depth)
    cdef ptrdiff_t parts = max(1, min(ceil_div(threads, blocks), rows // ROWS_1))
    cdef int team = team_size(threads, blocks * parts, (rows + MOST_LANES) * pairs * blocks)
    cdef int rounding = team_size(threads, rows, rows * pairs)
    cdef Scratch factors = Scratch(rows * pairs * sizeof(float))
    cdef Scratch staging = Scratch(depth * PAIR_COLUMNS * sizeof(float), team)
    cdef Scratch packing = Scratch(pairs * PAIR_COLUMNS * sizeof(float), team)
    cdef Scratch padding = Scratch(blocks * PAIR_COLUMNS * sizeof(float), 1, True)
    cdef Scratch keeping = Scratch(
        blocks * pairs * PAIR_COLUMNS * sizeof(float) if keeps else 0, 1, True
    )
    cdef PairRows r = PairRows(x, rows, depth, factors.start)
    cdef MultiplyPairs w
    w.by, w.x, w.rows, w.depth, w.weight = by, factors.start, rows, depth, weight
    w.weight_row, w.weight_column, w.columns = weight_row, weight_column, columns
    w.start, w.out, w.units, w.parts = <float*> padding.start, out, blocks * parts, parts
    w.staging, w.packed = staging.room(), packing.room()
    w.kept = <float*> keeping.start if keeps else NULL
    took(
        AFFINE_INPUT_GRADIENT if bias == NULL else AFFINE_FORWARD,
        FEW_ROWS if keeps and rows <= ROWS_2 else MANY_ROWS, x, team,
    )
    with nogil:
        pad_bias[float](bias, columns, blocks * PAIR_COLUMNS, <float*> padding.start)
        if keeps:
            run_on_weights(<Part> keep_columns_part, &w, team, 0)
        run_parts(<Part> round_rows_part, &r, rounding, 0)
        run_parts(<Part> multiply_pairs_part, &w, team, 0)


cdef struct AffinePairSums:
    int by
    const float* x
    const float* dout
    ptrdiff_t samples, features, columns
    float* rows  # of dout, whole vectors; then pairs of them
    ptrdiff_t width
    float* dweight
    float* dbias
    Room turned


cdef void pair_gradients_part(
    const void* type_of, const AffinePairSums* w, int t, const Crew* crew
) noexcept nogil:
    """The bias gradient, and pairs of rows of dout; without samples, the weight gradient too."""
    memset(w.dbias, 0, w.columns * sizeof(float))
    if w.samples == 0:
        memset(w.dweight, 0, w.features * w.columns * sizeof(float))
    add_column_sums[float](w.dout, w.samples, w.columns, w.dbias)
    pad_rows[float](w.dout, w.samples, w.columns, w.rows)
    pair_block(w.rows, 1, w.samples, pairs_of(w.samples), w.width, w.rows)


cdef void affine_pair_sums_part(
    const void* type_of, const AffinePairSums* w, int t, const Crew* crew
) noexcept nogil:
    """Some features: samples turned into planes of 16 features, times pairs of samples."""
    cdef ptrdiff_t begin = share(w.features, t, crew.size)
    cdef ptrdiff_t end = share(w.features, t + 1, crew.size)
    cdef ptrdiff_t pairs = pairs_of(w.samples)
    cdef PairProduct p = pair_product_of(w.by, 1, pairs)
    cdef unsigned short* turned = <unsigned short*> room_of(&w.turned, t)
    cdef const float* x = w.x
    cdef float* some = <float*> (turned + 2 * pairs * MOST_LANES)
    cdef ptrdiff_t row, count, first, r
    p.x_r, p.w_i, p.out_r = 2 * pairs, w.width, w.columns
    memset(turned, 0, 2 * pairs * MOST_LANES * sizeof(unsigned short))
    for row from begin <= row < end by MOST_LANES:
        count = min(MOST_LANES, end - row)
        for r in range(w.samples):
            store(some + r * MOST_LANES, load_part(x + r * w.features + row, count))
        turn_pixels(some, MOST_LANES, w.samples, turned, 2 * pairs)
        for first from 0 <= first < w.columns by PAIR_COLUMNS:
            multiply_pairs(
                &p, PairLines(1, 0, 0, count), turned, w.rows + first, zeros(x),
                w.dweight + row * w.columns + first, w.columns - first,
            )
    end_pairs(w.by)


cdef void affine_pair_sums(
    int by, const float* dout, const float* x, ptrdiff_t samples, ptrdiff_t features,
    ptrdiff_t columns, float* dweight, float* dbias, int threads,
) except *:
    """`affine_weight_gradient` of rounded factors."""
    cdef ptrdiff_t pairs = pairs_of(samples), width = padded(columns, MOST_LANES)
    cdef ptrdiff_t work = features * (columns + samples)
    cdef int team = team_size(threads, ceil_div(features, MOST_LANES), work)
    cdef Scratch rows = Scratch(2 * pairs * width * sizeof(float))
    cdef Scratch turned = Scratch((pairs + samples) * MOST_LANES * sizeof(float), team)
    cdef AffinePairSums w
    w.by, w.x, w.dout, w.samples, w.features, w.columns = by, x, dout, samples, features, columns
    w.rows, w.width, w.dweight, w.dbias = <float*> rows.start, width, dweight, dbias
    w.turned = turned.room()
    with nogil:
        run_parts(<Part> pair_gradients_part, &w, 1, 0)
        if samples > 0:
            run_parts(<Part> affine_pair_sums_part, &w, team, 0)


# ---- what is multiplied elsewhere -------------------------------------------------------

cdef struct Rounding:
    const float* values
    ptrdiff_t size
    float* to


cdef void round_values_part(
    const void* type_of, const Rounding* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t begin = share(w.size, t, crew.size)
    round_values(w.values + begin, share(w.size, t + 1, crew.size) - begin, w.to + begin)


def rounded(const float[::1] values, float[::1] out, int threads):
    """out = values, rounded to bfloat16: where kernels gain nothing by pairs."""
    cdef Rounding w
    cdef int team = team_size(threads, values.shape[0], values.shape[0] // MOST_LANES)
    if values.shape[0] == 0:
        return
    w.values, w.size, w.to = &values[0], values.shape[0], &out[0]
    with nogil:
        run_parts(<Part> round_values_part, &w, team, 0)
