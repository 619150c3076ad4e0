# Gradients of the convolution, by the same product.
#
#     input:   for band of rows of an image, in parallel:
#                  pad the rows of dout that it needs into this thread's scratch
#                  for phase (a, b):  for block of channels:  for row:  for R pixels:
#                      t = 0;  t += dout(row - j, pixel - i, f) * weight(f, a + s*j, b + s*i, block)
#     weight:  for band of output rows of an image, in parallel:
#                  pad the input rows it needs into this thread's scratch
#                  for block of filters:  for ky:  for R values (kx, c):
#                      t = 0
#                      for pixel (v, u):  t += image(v + ky, u + kx, c) * dout(v, u, block)
#                      sums of this thread += t
#              then the sums of all threads are added in their order
#
# With stride s a pixel of the input meets every s-th tap only, which ones depends on its place
# modulo s: s*s phases, each a convolution of stride 1 by some taps of the turned filter. Each band
# of the weight gradient adds a partial sum, which keeps float32 accurate over many images.
# Tiles: see product.pxi, 8 x 2 and up to 14 x 1 with AVX-512.

cdef enum:
    # Of image and dout. A tile reads a narrow strip of each, so that they need fit the second
    # cache only; shorter bands add to the sums more often, which costs more.
    SUM_BAND_BYTES = 1 << 17


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
