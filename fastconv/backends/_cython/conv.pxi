# Convolution and its gradients, direct: no column matrix is ever written.
#
# Memory is channels-last, so output channels fill the vectors, and a filter row of an image
# (taps, channels) is one contiguous run.
#
#   forward:    for band of output rows of an image, in parallel:
#                   pad the input rows it needs into this thread's scratch
#                   for block of filters:  for row v:  for R pixels u:
#                       t = bias;  t += image(v + ky, u + kx, c) * weight(ky, kx, c, block)
#   input:      the same product on the output gradient, filters turned round. With stride s
#               a pixel of the input meets every s-th tap only: s*s phases, each a convolution
#               of stride 1 with its own taps, written to every s-th pixel.
#   weight:     for band, in parallel:  for block of filters:  for filter row ky:
#                   for R values (kx, c):
#                       t = 0;  for pixel (v, u):  t += image(v + ky, u + kx, c) * dout(v, u, block)
#                       sums of this thread += t
#               then the threads' sums are added in their order. A band adds a partial sum,
#               which keeps float32 accurate over many images.
#
# Tiles: see product.pxi. Weights are packed once per call, [block][ky][kx][c][block's lanes], and
# kept no longer, since they may change between calls.

cdef enum:
    BAND_BYTES = 1 << 17  # of an image in scratch: with the packed block it fits a 256 KB cache
    SUM_BAND_BYTES = 1 << 15  # read once per tile of the weight gradient: fits the first cache

cdef struct Conv:
    ptrdiff_t n, c, h, w, fn, fh, fw, stride, pad, oh, ow


cdef Conv conv_of(
    const real[:, :, :, ::1] x, const real[:, :, :, ::1] weight, const real[:, :, :, ::1] out,
    ptrdiff_t stride, ptrdiff_t pad,
) noexcept nogil:
    """The numbers of x (N, H, W, C), weight (FN, C, FH, FW) and out (N, OH, OW, FN)."""
    cdef Conv g
    g.n, g.h, g.w, g.c = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    g.fn, g.fh, g.fw = weight.shape[0], weight.shape[2], weight.shape[3]
    g.oh, g.ow, g.stride, g.pad = out.shape[1], out.shape[2], stride, pad
    return g


cdef struct Bands:
    ptrdiff_t height  # rows of one band
    ptrdiff_t count  # bands of one image


# ---- scratch images -------------------------------------------------------------------


cdef void copy_window(
    const real* image, ptrdiff_t height, ptrdiff_t width, ptrdiff_t depth, ptrdiff_t top,
    ptrdiff_t left, ptrdiff_t rows, ptrdiff_t cols, real* to,
) noexcept nogil:
    """rows x cols pixels of the image from (top, left) on, zeros where there is no image."""
    cdef ptrdiff_t first = min(max(-left, 0), cols)
    cdef ptrdiff_t last = max(min(width - left, cols), first)
    cdef ptrdiff_t y
    for y in range(top, top + rows):
        if 0 <= y < height:
            memset(to, 0, first * depth * sizeof(real))
            memcpy(
                to + first * depth,
                image + (y * width + left + first) * depth,
                (last - first) * depth * sizeof(real),
            )
            memset(to + last * depth, 0, (cols - last) * depth * sizeof(real))
        else:
            memset(to, 0, cols * depth * sizeof(real))
        to += cols * depth


cdef Bands cut_bands(
    ptrdiff_t images, ptrdiff_t rows, ptrdiff_t row_bytes, ptrdiff_t limit, int threads
) noexcept nogil:
    """Bands that fit `limit` bytes, and are enough for all threads."""
    cdef Bands bands
    cdef ptrdiff_t count = ceil_div(rows, max(1, limit // row_bytes))
    count = max(count, min(rows, ceil_div(threads, max(1, images))))
    bands.height = ceil_div(rows, count)
    bands.count = ceil_div(rows, bands.height)
    return bands


cdef void pack_weight(
    const real* weight, const ptrdiff_t* shape, const ptrdiff_t* strides, ptrdiff_t columns,
    real* packed, int team,
) noexcept nogil:
    """All blocks, one after the other; see `pack_block`."""
    cdef ptrdiff_t width = 2 * lanes(weight)
    cdef ptrdiff_t volume = shape[0] * shape[1] * shape[2]
    cdef ptrdiff_t b
    for b in prange(
        ceil_div(columns, width), num_threads=team, use_threads_if=team > 1, schedule="static"
    ):
        pack_block[real](
            weight + b * width * strides[3], shape, strides, columns - b * width,
            packed + b * width * volume,
        )


cdef void correlate(
    ptrdiff_t filter_rows, ptrdiff_t taps, ptrdiff_t depth, ptrdiff_t stride,
    const real* image, ptrdiff_t image_row, const real* packed, const real* bias,
    ptrdiff_t rows, ptrdiff_t pixels, real* out, ptrdiff_t out_row, ptrdiff_t out_pixel,
    ptrdiff_t columns,
) noexcept nogil:
    """rows x pixels outputs of `columns` channels from an image that covers all their windows.

    `bias` is padded to whole vectors; None (NULL) stands for zeros. Steps are in elements.
    """
    cdef Product p
    cdef ptrdiff_t volume = filter_rows * taps * depth
    cdef ptrdiff_t first, width, v
    cdef const real* start
    p.rows, p.x_y, p.x_i, p.x_r = filter_rows, image_row, 1, stride * depth
    p.out_r, p.accumulate = out_pixel, False
    for first from 0 <= first < columns by 2 * lanes(packed):
        width = block_width(columns - first, lanes(packed))
        p.w_i, p.w_y = width, taps * depth * width
        p.slide = width == lanes(packed) and taps == 3 and stride == 1
        p.run = depth if p.slide else taps * depth
        start = zeros(packed) if bias == NULL else bias + first
        for v in range(rows):
            product_rows[real](
                &p, pixels, image + v * stride * image_row, packed + first * volume, start,
                out + v * out_row + first, columns - first,
            )


# ---- forward --------------------------------------------------------------------------


cdef void forward_band(
    const Conv* g, ptrdiff_t top, ptrdiff_t height, const real* image, const real* packed,
    const real* bias, real* out, real* scratch,
) noexcept nogil:
    """Output rows [top, top + height) of one image."""
    cdef ptrdiff_t row = g.w * g.c
    if g.pad == 0:
        image += top * g.stride * row
    else:
        row = ((g.ow - 1) * g.stride + g.fw) * g.c
        copy_window[real](
            image, g.h, g.w, g.c, top * g.stride - g.pad, -g.pad,
            (height - 1) * g.stride + g.fh, row // g.c, scratch,
        )
        image = scratch
    correlate[real](
        g.fh, g.fw, g.c, g.stride, image, row, packed, bias,
        height, g.ow, out + top * g.ow * g.fn, g.ow * g.fn, g.fn, g.fn,
    )


def conv2d_forward(
    const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] weight,
    const real[::1] bias,
    real[:, :, :, ::1] out,
    ptrdiff_t stride,
    ptrdiff_t pad,
    int threads,
):
    """out (N, OH, OW, FN) from x (N, H, W, C), weight (FN, C, FH, FW), bias (FN,)."""
    cdef Conv g = conv_of[real](x, weight, out, stride, pad)
    cdef ptrdiff_t columns = padded(g.fn, lanes(&x[0, 0, 0, 0]))
    cdef ptrdiff_t padded_row = ((g.ow - 1) * stride + g.fw) * g.c * sizeof(real)
    cdef Bands bands = cut_bands(g.n, g.oh, padded_row * stride, BAND_BYTES, threads)
    cdef ptrdiff_t units = g.n * bands.count
    cdef ptrdiff_t volume = g.fh * g.fw * g.c
    cdef int team = team_size(threads, units, g.n * g.oh * g.ow * volume * columns // lanes(&x[0, 0, 0, 0]))
    cdef Scratch packing = Scratch(columns * (volume + 1) * sizeof(real))
    cdef Scratch windows = Scratch(
        0 if pad == 0 else ((bands.height - 1) * stride + g.fh) * padded_row, team
    )
    cdef real* packed = <real*> packing.start
    cdef real* padded_bias = packed + columns * volume
    cdef ptrdiff_t[3] shape = [g.fh, g.fw, g.c]
    cdef ptrdiff_t[4] strides = [g.fw, 1, g.fh * g.fw, volume]
    cdef char* scratch = windows.start
    cdef ptrdiff_t scratch_step = windows.step
    cdef int t
    cdef ptrdiff_t unit, image, top
    with nogil:
        pack_weight[real](&weight[0, 0, 0, 0], shape, strides, g.fn, packed, team)
        pad_rows[real](&bias[0], 1, g.fn, padded_bias)
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            for unit in range(share(units, t, team), share(units, t + 1, team)):
                image = unit // bands.count
                top = unit % bands.count * bands.height
                forward_band[real](
                    &g, top, min(bands.height, g.oh - top), &x[image, 0, 0, 0], packed,
                    padded_bias, &out[image, 0, 0, 0], <real*> (scratch + t * scratch_step),
                )


# ---- input gradient -------------------------------------------------------------------


cdef void input_gradient_band(
    const Conv* g, ptrdiff_t top, ptrdiff_t height, const real* dout, const real* packed,
    real* dx, real* scratch,
) noexcept nogil:
    """Rows [top, top + height) of dx of one image.

    Pixel y gets dout[m - j] * weight[a + s*j] for all j, where y + pad = s*m + a.
    """
    cdef ptrdiff_t s = g.stride
    cdef ptrdiff_t most_y = ceil_div(g.fh, s), most_x = ceil_div(g.fw, s)
    cdef ptrdiff_t source_y = (top + g.pad) // s - most_y + 1
    cdef ptrdiff_t source_x = g.pad // s - most_x + 1
    cdef ptrdiff_t rows = (top + height - 1 + g.pad) // s + 1 - source_y
    cdef ptrdiff_t cols = (g.w - 1 + g.pad) // s + 1 - source_x
    cdef ptrdiff_t a, b, taps_y, taps_x, y, x, end_y, end_x
    copy_window[real](dout, g.oh, g.ow, g.fn, source_y, source_x, rows, cols, scratch)
    for a in range(s):
        taps_y = ceil_div(g.fh - a, s)
        y = ceil_div(top + g.pad - a, s)
        end_y = ceil_div(top + height + g.pad - a, s)
        for b in range(s):
            taps_x = ceil_div(g.fw - b, s)
            x = ceil_div(g.pad - b, s)
            end_x = ceil_div(g.w + g.pad - b, s)
            correlate[real](
                taps_y, taps_x, g.fn, 1,
                scratch + ((y - taps_y + 1 - source_y) * cols + x - taps_x + 1 - source_x) * g.fn,
                cols * g.fn, packed, NULL, end_y - y, end_x - x,
                dx + ((s * y + a - g.pad) * g.w + s * x + b - g.pad) * g.c,
                s * g.w * g.c, s * g.c, g.c,
            )
            packed += taps_y * taps_x * g.fn * padded(g.c, lanes(packed))


cdef void pack_phases(const Conv* g, const real* weight, real* packed, int team) noexcept nogil:
    """The turned filters of every phase, in the order in which `input_gradient_band` takes them."""
    cdef ptrdiff_t s = g.stride
    cdef ptrdiff_t[3] shape
    cdef ptrdiff_t[4] strides
    cdef ptrdiff_t a, b
    strides[0], strides[1] = -s * g.fw, -s
    strides[2], strides[3] = g.c * g.fh * g.fw, g.fh * g.fw
    shape[2] = g.fn
    for a in range(s):
        shape[0] = ceil_div(g.fh - a, s)
        for b in range(s):
            shape[1] = ceil_div(g.fw - b, s)
            pack_weight[real](
                weight + (a + s * (shape[0] - 1)) * g.fw + b + s * (shape[1] - 1),
                shape, strides, g.c, packed, team,
            )
            packed += shape[0] * shape[1] * g.fn * padded(g.c, lanes(weight))


cdef void input_gradient(
    const Conv* g, const real* dout, const real* weight, real* dx, int threads
) except *:
    """dx (N, H, W, C) from dout (N, OH, OW, FN)."""
    cdef ptrdiff_t columns = padded(g.c, lanes(dout))
    cdef ptrdiff_t cols = ceil_div(g.w + g.fw, g.stride) + 1
    cdef ptrdiff_t row_bytes = cols * g.fn * sizeof(real)
    cdef Bands bands = cut_bands(
        g.n, g.h, ceil_div(row_bytes, g.stride), BAND_BYTES, threads
    )
    cdef ptrdiff_t units = g.n * bands.count
    cdef ptrdiff_t volume = g.fh * g.fw * g.fn
    cdef int team = team_size(threads, units, g.n * g.oh * g.ow * volume * columns // lanes(dout))
    cdef Scratch packing = Scratch(columns * volume * sizeof(real))
    cdef Scratch windows = Scratch((ceil_div(bands.height + g.fh, g.stride) + 1) * row_bytes, team)
    cdef real* packed = <real*> packing.start
    cdef char* scratch = windows.start
    cdef ptrdiff_t scratch_step = windows.step
    cdef int t
    cdef ptrdiff_t unit, image, top
    with nogil:
        pack_phases[real](g, weight, packed, team)
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            for unit in range(share(units, t, team), share(units, t + 1, team)):
                image = unit // bands.count
                top = unit % bands.count * bands.height
                input_gradient_band[real](
                    g, top, min(bands.height, g.h - top), dout + image * g.oh * g.ow * g.fn,
                    packed, dx + image * g.h * g.w * g.c, <real*> (scratch + t * scratch_step),
                )


# ---- weight gradient ------------------------------------------------------------------


cdef void weight_gradient_band(
    const Conv* g, ptrdiff_t top, ptrdiff_t height, const real* image, const real* dout,
    real* sums, real* scratch, real* dout_scratch,
) noexcept nogil:
    """sums [ky][kx][c][columns], and the bias gradient behind it, += those of some output rows."""
    cdef ptrdiff_t columns = padded(g.fn, lanes(dout))
    cdef ptrdiff_t row = g.w * g.c
    cdef ptrdiff_t run = g.fw * g.c
    cdef ptrdiff_t first, ky
    cdef Product p
    dout += top * g.ow * g.fn
    add_column_sums[real](dout, height * g.ow, g.fn, sums + g.fh * run * columns)
    if g.pad == 0:
        image += top * g.stride * row
    else:
        row = ((g.ow - 1) * g.stride + g.fw) * g.c
        copy_window[real](
            image, g.h, g.w, g.c, top * g.stride - g.pad, -g.pad,
            (height - 1) * g.stride + g.fh, row // g.c, scratch,
        )
        image = scratch
    if columns != g.fn:
        pad_rows[real](dout, height * g.ow, g.fn, dout_scratch)
        dout = dout_scratch
    p.rows, p.run, p.slide, p.accumulate = height, g.ow, False, True
    p.x_y, p.x_i, p.x_r = g.stride * row, g.stride * g.c, 1
    p.w_y, p.w_i, p.out_r = g.ow * columns, columns, columns
    for first from 0 <= first < columns by 2 * lanes(dout):
        for ky in range(g.fh):
            product_rows[real](
                &p, run, image + ky * row, dout + first, zeros(dout),
                sums + ky * run * columns + first, columns - first,
            )


cdef void add_sums(
    const Conv* g, const real* sums, ptrdiff_t step, int parts, real* dweight, real* dbias, int team
) noexcept nogil:
    """dweight (FN, C, FH, FW) and dbias: the sums of all threads, added in their order."""
    cdef ptrdiff_t columns = padded(g.fn, lanes(sums))
    cdef ptrdiff_t window = g.fh * g.fw
    cdef ptrdiff_t f, i, c
    cdef int part
    cdef const real* source
    for f in prange(g.fn, num_threads=team, use_threads_if=team > 1, schedule="static"):
        for i in range(window):
            for c in range(g.c):
                source = sums + (i * g.c + c) * columns + f
                dweight[(f * g.c + c) * window + i] = source[0]
                for part in range(1, parts):
                    dweight[(f * g.c + c) * window + i] += source[part * step]
        source = sums + window * g.c * columns + f
        dbias[f] = source[0]
        for part in range(1, parts):
            dbias[f] += source[part * step]


cdef void weight_gradient(
    const Conv* g, const real* dout, const real* x, real* dweight, real* dbias, int threads
) except *:
    """dweight (FN, C, FH, FW) and dbias (FN,) from dout (N, OH, OW, FN) and x (N, H, W, C)."""
    cdef ptrdiff_t columns = padded(g.fn, lanes(dout))
    cdef ptrdiff_t padded_row = ((g.ow - 1) * g.stride + g.fw) * g.c * sizeof(real)
    cdef ptrdiff_t dout_row = g.ow * columns * sizeof(real)
    cdef Bands bands = cut_bands(
        g.n, g.oh, g.stride * padded_row + dout_row, SUM_BAND_BYTES, threads
    )
    cdef ptrdiff_t units = g.n * bands.count
    cdef ptrdiff_t volume = g.fh * g.fw * g.c
    cdef int team = team_size(threads, units, g.n * g.oh * g.ow * volume * columns // lanes(dout))
    cdef Scratch totals = Scratch((volume + 1) * columns * sizeof(real), team)
    cdef Scratch windows = Scratch(((bands.height - 1) * g.stride + g.fh) * padded_row, team)
    cdef Scratch gradients = Scratch(0 if columns == g.fn else bands.height * dout_row, team)
    cdef char* sums = totals.start
    cdef char* scratch = windows.start
    cdef char* dout_scratch = gradients.start
    cdef ptrdiff_t sums_step = totals.step
    cdef ptrdiff_t scratch_step = windows.step
    cdef ptrdiff_t dout_step = gradients.step
    cdef int t
    cdef ptrdiff_t unit, image, top
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            memset(sums + t * sums_step, 0, sums_step)
            for unit in range(share(units, t, team), share(units, t + 1, team)):
                image = unit // bands.count
                top = unit % bands.count * bands.height
                weight_gradient_band[real](
                    g, top, min(bands.height, g.oh - top), x + image * g.h * g.w * g.c,
                    dout + image * g.oh * g.ow * g.fn, <real*> (sums + t * sums_step),
                    <real*> (scratch + t * scratch_step), <real*> (dout_scratch + t * dout_step),
                )
        add_sums[real](
            g, <const real*> sums, sums_step // sizeof(real), team, dweight, dbias, team
        )


def conv2d_backward(
    const real[:, :, :, ::1] dout,
    const real[:, :, :, ::1] x,
    const real[:, :, :, ::1] weight,
    real[:, :, :, ::1] dx,
    real[:, :, :, ::1] dweight,
    real[::1] dbias,
    ptrdiff_t stride,
    ptrdiff_t pad,
    int threads,
):
    """Gradients of the inputs of `conv2d_forward`; dx is None where it is not needed."""
    cdef Conv g = conv_of[real](x, weight, dout, stride, pad)
    if dx is not None:
        input_gradient[real](&g, &dout[0, 0, 0, 0], &weight[0, 0, 0, 0], &dx[0, 0, 0, 0], threads)
    weight_gradient[real](
        &g, &dout[0, 0, 0, 0], &x[0, 0, 0, 0], &dweight[0, 0, 0, 0], &dbias[0], threads
    )
