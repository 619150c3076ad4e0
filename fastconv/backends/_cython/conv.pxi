# Convolution, direct: no column matrix is ever written.
#
#     for band of output rows of an image, in parallel:
#         pad the input rows it needs into this thread's scratch
#         for block of filters:  for row v:  for R pixels u:
#             t = bias
#             for ky:  for (kx, c):  t += image(v + ky, u + kx, c) * weight(ky, kx, c, block)
#             out = t [+ residual], or ReLU of that
#         where pooling follows, out is scratch:  pool its rows two by two
#
# Memory is channels-last, so output channels fill the vectors, and a filter row (kx, c) reads one
# contiguous run of the image. Tiles: see product.pxi, 8 x 2 and 12 x 1 with AVX-512. Weights are
# packed once per call, [block][ky][kx][c][lanes of the block], and kept no longer, since they may
# change between calls.

cdef enum:
    BAND_BYTES = 1 << 17  # of an image in scratch: with the packed block it fits a 256 KB cache
    LEAST_PIXELS = 48  # of a band of 1x1 windows: enough to hide reading all weights for it
    WIDE_BAND_BYTES = 1 << 19  # of an image that is small beside the weights
    SHARES = 2  # of the columns for each thread, where threads share these: one may be late

cdef struct Conv:
    ptrdiff_t n, c, h, w, fn, fh, fw, stride, top, left, oh, ow
    bint padded  # whether a window reaches beyond the image
    int pairs  # what multiplies pairs of bfloat16s, or NO_PAIRS
    bint rounds  # whether floats are rounded to bfloat16 before they are multiplied
    bint narrow  # whether x is of bfloat16s


cdef Conv conv_of(
    const real[:, :, :, ::1] x, const real[:, :, :, ::1] weight, ptrdiff_t oh, ptrdiff_t ow,
    ptrdiff_t stride, ptrdiff_t top, ptrdiff_t left, int pairs,
) noexcept nogil:
    """The numbers of x (N, H, W, C), weight (FN, C, FH, FW) and oh x ow windows.

    There are as many zeros at the bottom and on the right as these windows reach. Pixels of x are
    perhaps pairs of bfloat16s, half as many as channels.
    """
    cdef Conv g
    g.n, g.h, g.w = x.shape[0], x.shape[1], x.shape[2]
    g.fn, g.c, g.fh, g.fw = weight.shape[0], weight.shape[1], weight.shape[2], weight.shape[3]
    g.narrow = x.shape[3] != g.c
    g.oh, g.ow, g.stride, g.top, g.left = oh, ow, stride, top, left
    g.padded = (
        top > 0 or left > 0
        or (oh - 1) * stride + g.fh > g.h or (ow - 1) * stride + g.fw > g.w
    )
    g.pairs, g.rounds = NO_PAIRS, False
    if real is float:
        if HAS_PAIRS:
            g.pairs = pairs
    return g


cdef inline Conv rounding_few(const Conv* g, int narrow) noexcept nogil:
    """The convolution by floats, where so few channels come in that pairs do not pay.

    Unless images lie in memory as pairs, or shall.
    """
    cdef Conv few = g[0]
    if g.pairs != NO_PAIRS and g.fh * g.fw * g.c <= FEW_PRODUCTS and not (g.narrow or narrow):
        few.pairs, few.rounds = NO_PAIRS, True
    return few


cdef inline bint in_scratch(const Conv* g) noexcept nogil:
    """Whether windows are read from scratch, where they are padded and rounded."""
    if g.narrow:
        return g.padded or 2 * depth_of(g.pairs, g.c) != g.c
    return g.padded or g.rounds or g.pairs != NO_PAIRS


cdef inline ptrdiff_t room_of_pixel(const Conv* g) noexcept nogil:
    """What a pixel takes in scratch, in places of a float."""
    return depth_of(g.pairs, g.c) if g.narrow else room_for(g.pairs, g.c)


cdef struct Bands:
    ptrdiff_t height  # rows of one band, at most
    ptrdiff_t count  # bands of one image


cdef Bands cut_bands(
    ptrdiff_t images, ptrdiff_t rows, ptrdiff_t row_bytes, ptrdiff_t limit, int threads
) noexcept nogil:
    """Bands: small enough for `limit` bytes, enough for all threads."""
    cdef Bands bands
    cdef ptrdiff_t count = ceil_div(rows, max(1, limit // row_bytes))
    count = max(count, min(rows, ceil_div(threads, max(1, images))))
    bands.height = ceil_div(rows, count)
    bands.count = ceil_div(rows, bands.height)
    return bands


cdef Bands even_bands(
    ptrdiff_t images, ptrdiff_t rows, ptrdiff_t row_bytes, ptrdiff_t limit, int threads
) noexcept nogil:
    """Bands of `cut_bands`, nearly equal and as many for each thread, so that all end together.

    Band i has rows [share(rows, i, count), share(rows, i + 1, count)).
    """
    cdef Bands bands = cut_bands(images, rows, row_bytes, limit, threads)
    bands.count = min(rows, dealt_evenly(bands.count, images, threads))
    bands.height = ceil_div(rows, bands.count)
    return bands


cdef struct Packing:
    const void* weight
    ptrdiff_t[3] shape
    ptrdiff_t[4] strides
    ptrdiff_t columns
    void* packed
    int pairs
    bint rounds
    Room staging  # where a block is before it is paired


cdef void pack_blocks(
    const real* type_of, const Packing* p, int t, const Crew* crew
) noexcept nogil:
    """All blocks, one after the other; see `pack_block`."""
    cdef ptrdiff_t width = 2 * lanes(type_of)
    cdef ptrdiff_t volume = p.shape[0] * p.shape[1] * depth_of(p.pairs, p.shape[2])
    cdef ptrdiff_t blocks = ceil_div(p.columns, width)
    cdef ptrdiff_t b
    cdef real* to
    cdef real* block
    for b in range(share(blocks, t, crew.size), share(blocks, t + 1, crew.size)):
        to = block = <real*> p.packed + b * width * volume
        if p.pairs != NO_PAIRS:
            block = <real*> room_of(&p.staging, t)
        pack_block[real](
            <const real*> p.weight + b * width * p.strides[3], p.shape, p.strides,
            p.columns - b * width, block,
        )
        if real is float:
            if p.pairs != NO_PAIRS:
                pair_block(
                    block, p.shape[0] * p.shape[1], p.shape[2], pairs_of(p.shape[2]),
                    block_width(p.columns - b * width, lanes(type_of)), to,
                )
            elif p.rounds:
                round_values(
                    to, volume * block_width(p.columns - b * width, lanes(type_of)), to
                )


cdef void pack_weight(
    const real* weight, const ptrdiff_t* shape, const ptrdiff_t* strides, ptrdiff_t columns,
    real* packed, int team, const Conv* g, Room staging,
) noexcept nogil:
    """All of a weight, by `pack_blocks`."""
    cdef Packing p
    cdef int i
    p.weight, p.columns, p.packed, p.staging = weight, columns, packed, staging
    p.pairs, p.rounds = g.pairs, g.rounds
    for i in range(3):
        p.shape[i] = shape[i]
    for i in range(4):
        p.strides[i] = strides[i]
    run_on_weights(<Part> pack_blocks[real], &p, team, 0)


cdef void correlate(
    ptrdiff_t filter_rows, ptrdiff_t taps, ptrdiff_t depth, ptrdiff_t stride,
    const real* image, ptrdiff_t image_row, const real* packed, const real* bias,
    ptrdiff_t rows, ptrdiff_t pixels, real* out, ptrdiff_t out_row, ptrdiff_t out_pixel,
    ptrdiff_t columns, bint relu, const real* residual, int pairs, int narrow, ptrdiff_t begin,
    ptrdiff_t end,
) noexcept nogil:
    """rows x pixels outputs of `columns` channels from an image that covers all their windows.

    `bias` is padded to whole vectors, or NULL for zeros. Steps are in elements; image and packed
    may have pairs as such (pairs.pxi). `residual` has the layout of out, or is NULL. `narrow` says which
    of these two are of bfloat16s; where one is, products are of pairs. The rows of the image
    before `begin` and from `end` on are zeros.
    """
    cdef Product p = product_of(filter_rows, taps * depth)
    cdef ptrdiff_t volume = filter_rows * taps * depth
    cdef Lines lines
    cdef ptrdiff_t first, width
    cdef const real* start
    if (
        filter_rows == 1 and taps == 1 and stride == 1
        and image_row == pixels * depth and out_row == pixels * out_pixel
    ):
        pixels, rows = rows * pixels, 1  # for 1x1 filters all rows are one
        begin, end = 0, 1
    if real is float:
        if pairs != NO_PAIRS:
            correlate_pairs(
                pairs, filter_rows, taps * depth, stride * depth, image, image_row,
                stride * image_row, packed, bias, rows, pixels, out, out_row, out_pixel, columns,
                relu, residual, narrow,
            )
            return
    p.part = part_of(p.rows, p.run, LONGEST_SUM)
    p.x_y, p.x_i, p.x_r = image_row, 1, stride * depth
    p.out_r, p.relu, p.residual, p.origin = out_pixel, relu, residual, out
    lines.count, lines.x, lines.out, lines.rows = rows, stride * image_row, out_row, pixels
    lines.first, lines.end = begin, end
    for first from 0 <= first < columns by 2 * lanes(packed):
        width = block_width(columns - first, lanes(packed))
        p.w_i, p.w_y = width, taps * depth * width
        start = zeros(packed) if bias == NULL else bias + first
        product_lines[real](
            &p, lines, image, packed + first * volume, start, out + first, columns - first
        )


cdef void forward_rows(
    const Conv* g, const Incoming* x, ptrdiff_t image, ptrdiff_t top, ptrdiff_t height,
    ptrdiff_t width, const real* packed, const real* bias, ptrdiff_t columns, bint relu,
    const real* residual, real* out, ptrdiff_t out_pixel, int narrow, real* scratch,
) noexcept nogil:
    """Output rows [top, top + height) of one image, `width` pixels and `columns` channels of each."""
    cdef ptrdiff_t depth = depth_of(g.pairs, g.c)
    cdef ptrdiff_t row = g.w * x.c, rows = (height - 1) * g.stride + g.fh
    cdef const real* window = <const real*> x.dout + (image * g.h + top * g.stride) * row
    if in_scratch(g):
        row = ((width - 1) * g.stride + g.fw) * depth
        gated_window[real](
            x, image, top * g.stride - g.top, -g.left, rows, row // depth, scratch,
            room_of_pixel(g),
        )
        window = scratch
        if real is float:
            if g.narrow:
                pass  # pairs as they are
            elif g.pairs != NO_PAIRS:
                round_pairs(scratch, rows * row, scratch)
            elif g.rounds:
                round_values(scratch, rows * row, scratch)
    correlate[real](
        g.fh, g.fw, depth, g.stride, window, row, packed, bias,
        height, width, out, width * out_pixel, out_pixel, columns, relu, residual, g.pairs,
        narrow, 0, rows,
    )


cdef void forward_band(
    const Conv* g, const Incoming* x, const Outgoing* o, ptrdiff_t image, ptrdiff_t top,
    ptrdiff_t height, ptrdiff_t first, ptrdiff_t last, const real* packed, const real* bias,
    real* scratch, real* unpooled,
) noexcept nogil:
    """Rows [top, top + height) of the output; columns [first, last), or all if it is pooled."""
    cdef ptrdiff_t row = 2 * o.pw * g.fn
    cdef ptrdiff_t at = (image * g.oh + top) * g.ow * o.pixel
    cdef ptrdiff_t v
    cdef const real* residual = NULL
    if o.residual != NULL:
        residual = place_of[real](
            o.residual, at + first, (o.narrow & NARROW_RESIDUAL) != 0, packed
        )
        if last - first == g.fn:  # in order, which suits memory
            if o.narrow & NARROW_RESIDUAL:
                fetch(<const unsigned short*> residual, height * g.ow * g.fn)
            else:
                fetch(residual, height * g.ow * g.fn)
    if o.kind != POOL_GATE:
        forward_rows[real](
            g, x, image, top, height, g.ow,
            packed + first * g.fh * g.fw * depth_of(g.pairs, g.c), bias + first,
            last - first, o.kind == RELU_GATE, residual,
            place_of[real](o.out, at + first, (o.narrow & NARROW_OUT) != 0, packed), o.pixel,
            o.narrow, scratch,
        )
        return
    forward_rows[real](
        g, x, image, 2 * top, 2 * height, 2 * o.pw, packed, bias, g.fn, False, NULL, unpooled,
        g.fn, 0, scratch,
    )
    for v in range(height):
        pool_rows[real](o, image, top + v, unpooled + 2 * v * row)


cdef ptrdiff_t band_row(
    const Conv* g, const Outgoing* o, ptrdiff_t row_bytes, ptrdiff_t value_bytes
) noexcept nogil:
    """Bytes to count for a row of a band whose input rows take `row_bytes`.

    1x1 windows are little work, and each block of columns goes over the whole band: the output
    and the residual should stay in the cache from block to block, since a block is only a piece
    of each pixel, and memory is slow to fetch pieces.
    """
    cdef ptrdiff_t values = g.ow * g.fn, out_row
    if g.fh * g.fw > 1 or o.kind == POOL_GATE:
        return row_bytes
    out_row = values * (value_bytes // 2 if o.narrow & NARROW_OUT else value_bytes)
    if o.residual != NULL:
        out_row += values * (value_bytes // 2 if o.narrow & NARROW_RESIDUAL else value_bytes)
    return max(row_bytes, min(row_bytes + out_row, BAND_BYTES // ceil_div(LEAST_PIXELS, g.ow)))


cdef struct DirectForward:
    Conv g
    Incoming x
    Outgoing o
    Bands bands
    ptrdiff_t parts  # of the columns
    const void* packed
    const void* bias
    Room windows
    Room unpooled


cdef void direct_forward_part(
    const real* type_of, const DirectForward* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t width = 2 * lanes(type_of)
    cdef ptrdiff_t blocks = ceil_div(w.g.fn, width)
    cdef ptrdiff_t part, image, band, top
    cdef ptrdiff_t unit = next_unit(crew, t)
    while unit >= 0:
        part = unit % w.parts
        image = unit // w.parts // w.bands.count
        band = unit // w.parts % w.bands.count
        top = share(w.o.ph, <int> band, <int> w.bands.count)
        forward_band[real](
            &w.g, &w.x, &w.o, image, top,
            share(w.o.ph, <int> band + 1, <int> w.bands.count) - top,
            share(blocks, <int> part, <int> w.parts) * width,
            min(share(blocks, <int> part + 1, <int> w.parts) * width, w.g.fn),
            <const real*> w.packed, <const real*> w.bias, <real*> room_of(&w.windows, t),
            <real*> room_of(&w.unpooled, t),
        )
        unit = next_unit(crew, t)
    end_pairs(w.g.pairs)


cdef void direct_forward(
    const Conv* g, const Incoming* x, const real* weight, const real* bias, const Outgoing* o,
    int threads,
) except *:
    """The output, from x (N, H, W, C), weight (FN, C, FH, FW) and bias (FN,).

    Each band reads all weights. If these are larger than an image, and images are few, threads
    share the columns instead.
    """
    cdef ptrdiff_t columns = padded(g.fn, lanes(weight))
    cdef ptrdiff_t rows = 2 if o.kind == POOL_GATE else 1  # of the convolution, per output row
    cdef ptrdiff_t pixel = room_of_pixel(g) * <ptrdiff_t> sizeof(real)
    cdef ptrdiff_t padded_row = ((g.ow - 1) * g.stride + g.fw) * pixel
    cdef ptrdiff_t out_row = 2 * o.pw * g.fn * sizeof(real)
    cdef ptrdiff_t volume = g.fh * g.fw * depth_of(g.pairs, g.c)
    cdef ptrdiff_t row_bytes = rows * padded_row * g.stride
    cdef ptrdiff_t weight_bytes = columns * volume * sizeof(real)
    cdef bint wide = o.kind != POOL_GATE and weight_bytes > row_bytes * o.ph
    cdef Bands bands
    cdef ptrdiff_t parts = 1
    if wide:
        bands = even_bands(g.n, o.ph, row_bytes, WIDE_BAND_BYTES, 1)
        if threads > 1:
            parts = ceil_div(SHARES * threads, g.n * bands.count)
            parts = min(parts, ceil_div(g.fn, 2 * lanes(weight)))
            bands = even_bands(
                g.n, o.ph, row_bytes, WIDE_BAND_BYTES, <int> ceil_div(threads, parts)
            )
    else:
        bands = even_bands(
            g.n, o.ph, band_row(g, o, row_bytes, sizeof(real)), BAND_BYTES, threads
        )
    cdef ptrdiff_t units = g.n * bands.count * parts
    cdef int team = team_size(threads, units, g.n * g.oh * g.ow * volume * columns // lanes(weight))
    cdef Scratch packing = Scratch(columns * (volume + 1) * sizeof(real), 1, True)
    cdef ptrdiff_t window_rows = (rows * bands.height - 1) * g.stride + g.fh
    cdef Scratch windows = Scratch(window_rows * padded_row if in_scratch(g) else 0, team)
    cdef Scratch blocks = Scratch(
        0 if g.pairs == NO_PAIRS else 2 * g.fh * g.fw * g.c * VECTOR_BYTES, team
    )
    cdef Room staging = blocks.room()
    cdef Scratch outputs = Scratch(0 if rows == 1 else rows * bands.height * out_row, team)
    cdef real* packed = <real*> packing.start
    cdef real* padded_bias = packed + columns * volume
    cdef ptrdiff_t[3] shape = [g.fh, g.fw, g.c]
    cdef ptrdiff_t[4] strides = [g.fw, 1, g.fh * g.fw, g.fh * g.fw * g.c]
    cdef DirectForward w
    w.g, w.x, w.o, w.bands, w.parts = g[0], x[0], o[0], bands, parts
    w.packed, w.bias = packed, padded_bias
    w.windows, w.unpooled = windows.room(), outputs.room()
    took[real](FORWARD, DIRECT, weight, team)
    with nogil:
        pack_weight[real](weight, shape, strides, g.fn, packed, team, g, staging)
        pad_bias[real](bias, g.fn, columns, padded_bias)
        run_parts(<Part> direct_forward_part[real], &w, team, units)


cdef void forward(
    const Conv* g, const real* x, const real* weight, const real* bias, const Outgoing* o,
    int algorithm, int threads,
) except *:
    """The output, by this algorithm."""
    cdef Incoming images = incoming(NO_GATE, g.n, g.h, g.w, g.c, x, NULL)
    cdef ptrdiff_t[4] strides = [3, 1, 9, 9 * g.c]
    cdef Conv h = rounding_few(g, o.narrow)
    images.narrow = g.narrow
    if o.n * o.ph * o.pw == 0:
        return
    if algorithm == DIRECT:
        if g.narrow:  # pairs, as floats are
            images = incoming(NO_GATE, g.n, g.h, g.w, g.c // 2, x, NULL)
        direct_forward[real](&h, &images, weight, bias, o, threads)
    else:
        winograd[real](
            algorithm, g.pairs != NO_PAIRS, &images, weight, strides, bias, g.top, g.left, o,
            threads,
        )


cdef void lay_out(Outgoing* o, const real[:, :, :, :] out) noexcept nogil:
    """How values lie in `out`, which has half as many channels as o where they are bfloat16s."""
    o.pixel = pixel_of[real](out)
    if out.shape[3] != o.c:
        o.pixel *= 2
        o.narrow = NARROW_OUT


def conv2d_forward(
    const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] weight,
    const real[::1] bias,
    real[:, :, :, :] out,
    ptrdiff_t stride,
    ptrdiff_t top,
    ptrdiff_t left,
    int algorithm,
    int pairs,
    int threads,
):
    """out (N, OH, OW, FN) from x (N, H, W, C), weight (FN, C, FH, FW), bias (FN,).

    Here and in `conv2d_block_forward`, images (x, out, residual) that have half as many channels as
    there are, are pairs of bfloat16s.
    """
    cdef Conv g = conv_of[real](x, weight, out.shape[1], out.shape[2], stride, top, left, pairs)
    cdef Outgoing o = outgoing(NO_GATE, g.n, g.oh, g.ow, g.fn, &out[0, 0, 0, 0], NULL)
    lay_out[real](&o, out)
    forward[real](
        &g, &x[0, 0, 0, 0], &weight[0, 0, 0, 0], &bias[0], &o, algorithm, threads
    )


def conv2d_block_forward(
    const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] weight,
    const real[::1] bias,
    const real[:, :, :, ::1] residual,
    real[:, :, :, :] out,
    unsigned char[:, :, :, ::1] winner,
    bint rectified,
    bint pool,
    ptrdiff_t oh,
    ptrdiff_t ow,
    ptrdiff_t stride,
    ptrdiff_t top,
    ptrdiff_t left,
    int algorithm,
    int pairs,
    int threads,
):
    """`conv2d_forward` + residual, then ReLU, then 2x2 max pooling; both arrays may be None."""
    cdef Conv g = conv_of[real](x, weight, oh, ow, stride, top, left, pairs)
    cdef int kind = POOL_GATE if pool else RELU_GATE if rectified else NO_GATE
    cdef Outgoing o = outgoing(kind, g.n, oh, ow, g.fn, &out[0, 0, 0, 0], NULL)
    lay_out[real](&o, out)
    if winner is not None:
        o.winner = &winner[0, 0, 0, 0]
    if residual is not None:
        o.residual = &residual[0, 0, 0, 0]
        if residual.shape[3] != g.fn:
            o.narrow |= NARROW_RESIDUAL
    forward[real](
        &g, &x[0, 0, 0, 0], &weight[0, 0, 0, 0], &bias[0], &o, algorithm, threads
    )
