# Gradient of the convolution's weights, direct.
#
#     for block of channels and filters, and part of the bands of output rows, in parallel:
#         for band of an image:
#             pad the input rows it needs into this thread's scratch, and gate its gradients
#             for vectors of filters:            (meanwhile the next band is prefetched)
#               for ky:  for R values (kx, c):
#                 t = 0
#                 for pixel (v, u):  t += image(v + ky, u + kx, c) * dout(v, u, filters)
#                 sums += t
#     then the sums of the parts are added in order
#
# Each band adds a partial sum, which keeps float32 accurate over many images. A block's sums, a
# band and its gradients together fit the second cache. Tiles: see product.pxi. A filter row of
# 1 or 3 channels is too short for them, so there a tile is a whole filter by one vector.
#
# A tile reads a few of many channels, pixel after pixel. Pixels a power of two apart would compete
# for one set of the first cache, so in scratch they are an odd number of cache lines apart; then
# (kx, c) is not one contiguous run, and each kx is a product of its own. For 1x1 windows with a
# stride, scratch holds only the pixels that they read.

cdef enum:
    # Of image and dout. A tile reads a narrow strip of each, so they need only fit the second
    # cache; shorter bands would add to the sums more often, which costs more.
    SUM_BAND_BYTES = 3 << 16
    SUM_BLOCK_BYTES = 1 << 18
    MOST_SUMMED = 256  # channels or filters of a block
    FEW_SUMMED = 64  # of either: so few need no odd number of cache lines from pixel to pixel

cdef struct SumBlocks:
    ptrdiff_t channels, filters  # of a block; filters in whole vectors
    ptrdiff_t blocks_c, blocks_f
    ptrdiff_t parts  # of the bands
    Bands bands
    ptrdiff_t stride  # of windows in scratch
    ptrdiff_t pixels  # of a band's rows in scratch
    ptrdiff_t pixel, dout_pixel  # in scratch
    ptrdiff_t run  # of a filter row
    ptrdiff_t volume  # sums of a block
    ptrdiff_t images  # whole, whose pairs of pixels are summed together


cdef inline ptrdiff_t parts_of(
    ptrdiff_t blocks, bint equal, ptrdiff_t pieces, int threads
) noexcept nogil:
    """How many parts to cut each block's pieces into, so that threads have equal work."""
    cdef ptrdiff_t parts = ceil_div(threads, blocks)
    cdef ptrdiff_t most = parts + 3
    if blocks < 4 * threads and not equal:
        parts = threads  # a thread takes a part of each block
    elif blocks < 4 * threads:
        while blocks * parts % threads > 0 and parts < most:
            parts += 1
    return max(1, min(parts, pieces))


cdef inline bint equal_blocks(const Conv* g, ptrdiff_t channels, ptrdiff_t filters) noexcept nogil:
    """Whether blocks that are cut short at the end leave no more than an eighth empty."""
    cdef ptrdiff_t blocks = ceil_div(g.c, channels) * ceil_div(g.fn, filters)
    return 8 * blocks * channels * filters <= 9 * g.c * g.fn


cdef inline ptrdiff_t apart(ptrdiff_t values, ptrdiff_t lane_count) noexcept nogil:
    """The distance of pixels in scratch: large pixels must not compete for one set of a cache."""
    return odd_lines(values, lane_count) if values > FEW_SUMMED else values


cdef inline bint is_sampled(const Conv* g) noexcept nogil:
    """Whether windows are single pixels: then scratch holds only these."""
    return g.fh == 1 and g.fw == 1 and not g.padded


cdef SumBlocks sum_blocks_of(
    const Conv* g, ptrdiff_t lane_count, ptrdiff_t value_bytes, int threads
) noexcept nogil:
    """How to cut the work."""
    cdef SumBlocks s
    cdef ptrdiff_t most = SUM_BLOCK_BYTES // (g.fh * g.fw * value_bytes)
    s.filters = evenly(g.fn, max(FEW_SUMMED, min(MOST_SUMMED, most // MOST_SUMMED)))
    s.filters = padded(s.filters, 2 * lane_count if s.filters > lane_count else lane_count)
    s.dout_pixel = apart(s.filters, lane_count)
    s.channels = evenly(g.c, max(lane_count, min(MOST_SUMMED, most // s.filters)))
    if s.channels < g.c:
        s.channels = padded(s.channels, lane_count)
    s.pixel = apart(s.channels, lane_count)
    s.stride = 1 if is_sampled(g) else g.stride
    s.blocks_c, s.blocks_f = ceil_div(g.c, s.channels), ceil_div(g.fn, s.filters)
    s.pixels = (g.ow - 1) * s.stride + g.fw
    s.bands = cut_bands(
        g.n, g.oh, (s.stride * s.pixels * s.pixel + g.ow * s.dout_pixel) * value_bytes,
        SUM_BAND_BYTES, threads,
    )
    s.parts = parts_of(
        s.blocks_c * s.blocks_f, equal_blocks(g, s.channels, s.filters), g.n * s.bands.count,
        threads,
    )
    s.run = g.fw * s.channels
    s.volume = g.fh * s.run * s.filters + s.dout_pixel
    s.images = 1
    if g.pairs != NO_PAIRS and g.stride == 1 and s.bands.count == 1:
        s.images = PAIR_BATCH_BYTES // (
            2 * (g.ow + g.fw) * ((g.oh + g.fh) * s.channels + g.oh * s.filters)
        )
        s.images = max(1, min(s.images, g.n))
    return s


cdef inline void window_tile(
    int R, const Product* p, const real* x, ptrdiff_t row, const real* dout, real* sums
) noexcept nogil:
    """Sums of three filter rows of R values (kx, c) each, for one vector of filters."""
    cdef vec[real] t[27]
    cdef ptrdiff_t v, u
    cdef int ky
    clear[real](t, 3 * R, 1)
    for v in range(p.rows):
        for u in range(p.run):
            for ky in range(3):
                rank1[real](
                    t + ky * R, R, 1, x + u * p.x_i + ky * row, 1, dout + u * p.w_i
                )
        x += p.x_y
        dout += p.w_y
    add_rows[real](t, 3 * R, 1, sums, p.out_r, lanes(sums))


cdef inline ptrdiff_t band_start(
    const SumBlocks* s, const Incoming* d, ptrdiff_t stride, ptrdiff_t band
) noexcept nogil:
    """The first element of a band, whose windows are `stride` rows apart."""
    cdef ptrdiff_t row = min(band % s.bands.count * s.bands.height * stride, d.h)
    return row_start(d, band // s.bands.count, row)


cdef inline void fetch_band(
    const SumBlocks* s, const Incoming* d, ptrdiff_t stride, ptrdiff_t band, ptrdiff_t part,
    ptrdiff_t parts, const real* type_of,
) noexcept nogil:
    """Prefetch a share of a band's pixels."""
    cdef ptrdiff_t begin = band_start(s, d, stride, band)
    cdef ptrdiff_t count = (band_start(s, d, stride, band + 1) - begin) // d.pixel
    cdef ptrdiff_t i
    for i in range(
        share(count, <int> part, <int> parts), share(count, <int> part + 1, <int> parts)
    ):
        fetch_pixels[real](d, begin + i * d.pixel, d.c, type_of)


cdef void lay_windows(
    const Conv* g, const SumBlocks* s, const Incoming* x, ptrdiff_t image, ptrdiff_t top,
    ptrdiff_t height, real* scratch, ptrdiff_t pixel,
) noexcept nogil:
    """The pixels of the windows of some output rows, `pixel` values apart."""
    cdef const real* row = <const real*> x.dout + (image * g.h + top * g.stride) * g.w * g.c
    cdef ptrdiff_t v
    if not is_sampled(g):
        gated_window[real](
            x, image, top * g.stride - g.top, -g.left, (height - 1) * g.stride + g.fh, s.pixels,
            scratch, pixel,
        )
        return
    for v in range(height):
        copy_pixels[real](row, g.stride * g.c, x.c, g.ow, scratch + v * g.ow * pixel, pixel)
        row += g.stride * g.w * g.c


cdef void sum_band(
    const Conv* g, const SumBlocks* s, const Incoming* x, const Incoming* d, ptrdiff_t band,
    bint more, real* sums, real* scratch, real* dout_scratch,
) noexcept nogil:
    """sums [ky][kx][c][filters], and the bias gradient after them, += those of some output rows.

    x and d are the channels of the block. Meanwhile the next band, if any, is prefetched.
    """
    cdef ptrdiff_t image = band // s.bands.count
    cdef ptrdiff_t top = band % s.bands.count * s.bands.height
    cdef ptrdiff_t height = min(s.bands.height, g.oh - top)
    cdef ptrdiff_t columns = padded(d.c, lanes(sums))
    cdef ptrdiff_t dout_pixel = g.fn
    cdef ptrdiff_t pixel = g.c
    cdef ptrdiff_t row = g.w * g.c
    cdef ptrdiff_t taps = 1, run = g.fw * x.c
    cdef const real* pixels = <const real*> x.dout + (image * g.h + top * g.stride) * row
    cdef const real* dout = <const real*> d.dout + (image * g.oh + top) * g.ow * g.fn
    cdef ptrdiff_t first, ky, kx, steps
    cdef Product p = product_of(height, g.ow)
    if g.rounds or g.padded or s.stride < g.stride or x.c < g.c or x.c > FEW_SUMMED:
        pixel = s.pixel if x.c > FEW_SUMMED else x.c
        row = s.pixels * pixel
        lay_windows[real](g, s, x, image, top, height, scratch, pixel)
        pixels = scratch
        if real is float:
            if g.rounds:
                round_values(scratch, ((height - 1) * s.stride + g.fh) * row, scratch)
    if g.rounds or d.kind != NO_GATE or columns != g.fn or columns > FEW_SUMMED:
        dout_pixel = s.dout_pixel
        gated_window[real](d, image, top, 0, height, g.ow, dout_scratch, dout_pixel)
        dout = dout_scratch
    p.accumulate = True
    p.x_y, p.x_i, p.x_r = s.stride * row, s.stride * pixel, 1
    p.w_y, p.w_i, p.out_r = g.ow * dout_pixel, dout_pixel, s.filters
    if p.x_y == g.ow * p.x_i:
        p.rows, p.run = 1, height * g.ow  # rows without pixels between them are one
    add_column_sums[real](dout, height * g.ow, dout_pixel, sums + g.fh * s.run * s.filters)
    if real is float:
        if g.rounds:
            round_values(dout_scratch, height * g.ow * dout_pixel, dout_scratch)
    if g.fh == 3 and (run == 3 or run == 9 and REGISTERS > 16):
        for first from 0 <= first < columns by lanes(dout):
            if run == 3:
                window_tile[real](3, &p, pixels, row, dout + first, sums + first)
            else:
                window_tile[real](9, &p, pixels, row, dout + first, sums + first)
        return
    if pixel > x.c:
        taps, run = g.fw, x.c
    steps = ceil_div(columns, 2 * lanes(dout))
    for first from 0 <= first < columns by 2 * lanes(dout):
        if more:
            fetch_band[real](s, x, g.stride, band + 1, first // (2 * lanes(dout)), steps, dout)
            fetch_band[real](s, d, 1, band + 1, first // (2 * lanes(dout)), steps, dout)
        for ky in range(g.fh):
            for kx in range(taps):
                product_rows[real](
                    &p, run, pixels + ky * row + kx * pixel, dout + first, zeros(dout),
                    sums + (ky * taps + kx) * run * s.filters + first, columns - first,
                )


cdef void sum_paired_bands(
    const Conv* g, const SumBlocks* s, const Incoming* x, const Incoming* d, ptrdiff_t band,
    ptrdiff_t images, float* sums, float* scratch, float* dout_scratch,
) noexcept nogil:
    """`sum_band` by pairs of pixels, of some whole images or one band; see pairs.pxi."""
    cdef ptrdiff_t first = band // s.bands.count
    cdef ptrdiff_t top = band % s.bands.count * s.bands.height
    cdef ptrdiff_t height = min(s.bands.height, g.oh - top)
    cdef PairSums p = pair_sums_of(g.fh, g.fw, g.stride, g.ow, height, images, x.c, d.c)
    cdef ptrdiff_t pixels = p.rows * g.stride * p.row, gradients = gradients_of(&p)
    cdef ptrdiff_t used = height * p.dout_row
    cdef unsigned short* planes = <unsigned short*> (scratch + pixels * p.channels)
    cdef float* pairs = dout_scratch + gradients * p.filters
    cdef ptrdiff_t i
    memset(
        dout_scratch + used * p.filters, 0, (gradients - used) * p.filters * sizeof(float)
    )
    for i in range(images):
        gated_window[float](
            x, first + i, top * g.stride - g.top, -g.left, p.rows, g.stride * p.row, scratch,
            p.channels,
        )
        turn_band(&p, g.stride, scratch, p.channels, planes + i * pixels)
        gated_window[float](d, first + i, top, 0, height, p.dout_row, dout_scratch, p.filters)
        add_column_sums[float](dout_scratch, used, p.filters, sums + g.fh * s.run * s.filters)
        pair_block(
            dout_scratch, 1, gradients, gradients // 2, p.filters,
            pairs + i * gradients // 2 * p.filters,
        )
    multiply_band(
        g.pairs, &p, g.fh, g.fw, g.stride, planes, pairs, x.c, sums, s.filters
    )


cdef void sum_block(
    const Conv* g, const SumBlocks* s, const Incoming* x, const Incoming* d, ptrdiff_t block,
    ptrdiff_t begin, ptrdiff_t end, real* sums, real* scratch, real* dout_scratch,
) noexcept nogil:
    """The sums of a block over the bands [begin, end), counted over all images."""
    cdef ptrdiff_t first_c = block % s.blocks_c * s.channels
    cdef ptrdiff_t first_f = block // s.blocks_c * s.filters
    cdef Incoming some_x = channels_of(x, first_c, min(s.channels, g.c - first_c), sizeof(real))
    cdef Incoming some_d = channels_of(d, first_f, min(s.filters, g.fn - first_f), sizeof(real))
    cdef ptrdiff_t band
    memset(sums, 0, s.volume * sizeof(real))
    if real is float:
        if g.pairs != NO_PAIRS:
            for band from begin <= band < end by s.images:
                sum_paired_bands(
                    g, s, &some_x, &some_d, band, min(s.images, end - band), sums, scratch,
                    dout_scratch,
                )
            return
    for band in range(begin, end):
        sum_band[real](
            g, s, &some_x, &some_d, band, band + 1 < end, sums, scratch, dout_scratch
        )


cdef void add_sums(
    const Conv* g, const SumBlocks* s, ptrdiff_t channel, ptrdiff_t count, const real* sums,
    ptrdiff_t step, real* square, real* dweight, real* dbias,
) noexcept nogil:
    """dweight (FN, C, FH, FW) of some channels, with the first dbias: the parts, added in order.

    A filter's values are contiguous there: whole vectors of them are transposed in squares.
    """
    cdef ptrdiff_t window = g.fh * g.fw, volume = g.c * window
    cdef ptrdiff_t channels = min(s.channels, g.c - channel // s.channels * s.channels)
    cdef ptrdiff_t block, first, f, i, j, r, run, valid, part, tap, c
    cdef const real* source
    cdef const real* row
    cdef real* to
    cdef vec[real] sum
    for block in range(s.blocks_f):
        source = sums + (block * s.blocks_c + channel // s.channels) * s.parts * step
        first = block * s.filters
        for f from 0 <= f < min(s.filters, g.fn - first) by lanes(sums):
            valid = min(lanes(sums), g.fn - first - f)
            tap, c = 0, channel % s.channels
            for i from 0 <= i < count * window by lanes(sums):
                run = min(lanes(sums), count * window - i)
                for j in range(run):
                    row = source + (tap * channels + c) * s.filters + f
                    sum = load(row)
                    for part in range(1, s.parts):
                        sum = add(sum, load(row + part * step))
                    store(square + j * lanes(sums), sum)
                    tap += 1
                    if tap == window:
                        tap, c = 0, c + 1
                to = dweight + (first + f) * volume + channel * window + i
                if run == lanes(sums):
                    transpose(square, square, run)
                    for r in range(valid):
                        store(to + r * volume, load(square + r * run))
                else:
                    for r in range(valid):
                        for j in range(run):
                            to[r * volume + j] = square[j * lanes(sums) + r]
        if channel == 0:
            for f in range(min(s.filters, g.fn - first)):
                dbias[first + f] = 0
                for part in range(s.parts):
                    dbias[first + f] += source[part * step + g.fh * s.run * s.filters + f]


cdef struct DirectWeightGradient:
    Conv g
    Incoming x
    Incoming d
    SumBlocks s
    void* dweight
    void* dbias
    Room sums  # of units
    Room windows
    Room gradients
    Room squares


cdef void direct_weight_gradient_part(
    const real* type_of, const DirectWeightGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t pieces = w.g.n * w.s.bands.count
    cdef ptrdiff_t blocks = w.s.blocks_c * w.s.blocks_f
    cdef ptrdiff_t units = blocks * w.s.parts
    cdef ptrdiff_t unit, block, part
    for unit in range(share(units, t, crew.size), share(units, t + 1, crew.size)):
        block, part = unit % blocks, unit // blocks
        sum_block[real](
            &w.g, &w.s, &w.x, &w.d, block, share(pieces, <int> part, <int> w.s.parts),
            share(pieces, <int> part + 1, <int> w.s.parts),
            <real*> room_of(&w.sums, <int> (block * w.s.parts + part)),
            <real*> room_of(&w.windows, t), <real*> room_of(&w.gradients, t),
        )
    end_pairs(w.g.pairs)


cdef void add_sums_part(
    const real* type_of, const DirectWeightGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t groups = ceil_div(w.g.c, lanes(type_of))
    cdef ptrdiff_t group, channel
    for group in range(share(groups, t, crew.size), share(groups, t + 1, crew.size)):
        channel = group * lanes(type_of)
        add_sums[real](
            &w.g, &w.s, channel, min(lanes(type_of), w.g.c - channel),
            <const real*> w.sums.start, w.sums.step // sizeof(real),
            <real*> room_of(&w.squares, t), <real*> w.dweight, <real*> w.dbias,
        )


cdef void direct_weight_gradient(
    const Conv* g, const Incoming* d, const real* x, real* dweight, real* dbias, int threads
) except *:
    """dweight (FN, C, FH, FW) and dbias (FN,) from the incoming gradient and x (N, H, W, C)."""
    cdef SumBlocks s = sum_blocks_of(g, lanes(x), sizeof(real), threads)
    cdef ptrdiff_t units = s.blocks_c * s.blocks_f * s.parts
    cdef ptrdiff_t work = g.n * g.oh * g.ow * g.fh * g.fw * g.c * ceil_div(g.fn, lanes(x))
    cdef int team = team_size(threads, units, work)
    cdef ptrdiff_t of_windows = ((s.bands.height - 1) * s.stride + g.fh) * s.pixels * s.pixel
    cdef ptrdiff_t of_gradients = s.bands.height * g.ow * s.dout_pixel
    cdef PairSums p
    if g.pairs != NO_PAIRS:
        p = pair_sums_of(
            g.fh, g.fw, g.stride, g.ow, s.bands.height, s.images, s.channels, s.filters
        )
        of_windows = (p.rows * g.stride * p.row + ceil_div(p.plane, 2)) * p.channels
        of_gradients = (2 + s.images) * gradients_of(&p) * p.filters // 2
    cdef Scratch totals = Scratch(s.volume * sizeof(real), units)
    cdef Scratch windows = Scratch(of_windows * sizeof(real), team)
    cdef Scratch gradients = Scratch(of_gradients * sizeof(real), team)
    cdef Scratch squares = Scratch(lanes(x) * VECTOR_BYTES, team)
    cdef DirectWeightGradient w
    w.g, w.d, w.s, w.dweight, w.dbias = g[0], d[0], s, dweight, dbias
    w.x = incoming(NO_GATE, g.n, g.h, g.w, g.c, x, NULL)
    w.sums, w.windows = totals.room(), windows.room()
    w.gradients, w.squares = gradients.room(), squares.room()
    took[real](WEIGHT_GRADIENT, DIRECT, x, team)
    with nogil:
        run_parts(<Part> direct_weight_gradient_part[real], &w, team, 0)
        run_parts(<Part> add_sums_part[real], &w, team, 0)


cdef void weight_gradient(
    const Conv* g, const Incoming* d, const real* x, real* dweight, real* dbias, int algorithm,
    int threads,
) except *:
    """dweight and dbias by this algorithm, or directly where it does not apply."""
    cdef bint winograd = g.fh == g.fw == 3 and g.stride == 1
    cdef Conv h = rounding_few(g, 0)
    if algorithm == SPARSE and d.kind == POOL_GATE:
        sparse_weight_gradient[real](g, d, x, dweight, dbias, threads)
    elif algorithm in (WINOGRAD2, WINOGRAD2X4, WINOGRAD4) and winograd:
        winograd_weight_gradient[real](algorithm, g, d, x, dweight, dbias, threads)
    else:
        direct_weight_gradient[real](&h, d, x, dweight, dbias, threads)
