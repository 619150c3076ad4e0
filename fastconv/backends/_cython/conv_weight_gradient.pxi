# Gradient of the convolution's weights, direct.
#
#     for band of output rows of an image, in parallel:
#         pad the input rows it needs into this thread's scratch, and gate its output gradients
#         for block of filters:  for ky:  for R values (kx, c):
#             t = 0
#             for pixel (v, u):  t += image(v + ky, u + kx, c) * dout(v, u, block)
#             sums of this thread += t
#     then the sums of all threads are added in their order
#
# Each band adds a partial sum, which keeps float32 accurate over many images.
# Tiles: see product.pxi, 8 x 2 and up to 14 x 1 with AVX-512.

cdef enum:
    # Of image and dout. A tile reads a narrow strip of each, so that they need fit the second
    # cache only; shorter bands add to the sums more often, which costs more.
    SUM_BAND_BYTES = 1 << 17


cdef inline ptrdiff_t parts_of(ptrdiff_t blocks, int threads) noexcept nogil:
    """Into how many parts to cut each block, so that threads have the same to do."""
    cdef ptrdiff_t parts = ceil_div(threads, blocks)
    cdef ptrdiff_t most = parts + 3
    if blocks < 4 * threads:
        while blocks * parts % threads > 0 and parts < most:
            parts += 1
    return parts


cdef inline void window_tile(
    int R, const Product* p, const real* x, ptrdiff_t row, const real* dout, real* sums
) noexcept nogil:
    """Sums of three filter rows of R values (kx, c) each, for one vector of filters."""
    cdef vec[real] t[REGISTERS]
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


cdef void weight_gradient_band(
    const Conv* g, const Incoming* d, ptrdiff_t image, ptrdiff_t top, ptrdiff_t height,
    const real* x, real* sums, real* scratch, real* dout_scratch,
) noexcept nogil:
    """sums [ky][kx][c][columns], and the bias gradient behind it, += those of some output rows."""
    cdef ptrdiff_t columns = padded(g.fn, lanes(x))
    cdef ptrdiff_t row = g.w * g.c
    cdef ptrdiff_t run = g.fw * g.c
    cdef ptrdiff_t first, ky
    cdef const real* dout = <const real*> d.dout + (image * g.oh + top) * g.ow * g.fn
    cdef Incoming images
    cdef Product p
    if d.kind != NO_GATE or columns != g.fn:
        gated_window[real](d, image, top, 0, height, g.ow, dout_scratch, columns)
        dout = dout_scratch
    add_column_sums[real](dout, height * g.ow, columns, sums + g.fh * run * columns)
    if g.pad == 0:
        x += (image * g.h + top * g.stride) * row
    else:
        row = ((g.ow - 1) * g.stride + g.fw) * g.c
        images = incoming(NO_GATE, g.n, g.h, g.w, g.c, x, NULL)
        gated_window[real](
            &images, image, top * g.stride - g.pad, -g.pad,
            (height - 1) * g.stride + g.fh, row // g.c, scratch, g.c,
        )
        x = scratch
    p.rows, p.run, p.slide, p.accumulate, p.relu = height, g.ow, False, True, False
    p.x_y, p.x_i, p.x_r = g.stride * row, g.stride * g.c, 1
    p.w_y, p.w_i, p.out_r = g.ow * columns, columns, columns
    if g.fh == 3 and (run == 3 or run == 9 and REGISTERS > 16):
        for first from 0 <= first < columns by lanes(dout):
            if run == 3:
                window_tile[real](3, &p, x, row, dout + first, sums + first)
            else:
                window_tile[real](9, &p, x, row, dout + first, sums + first)
        return
    for first from 0 <= first < columns by 2 * lanes(dout):
        for ky in range(g.fh):
            product_rows[real](
                &p, run, x + ky * row, dout + first, zeros(dout),
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


cdef void direct_weight_gradient(
    const Conv* g, const Incoming* d, const real* x, real* dweight, real* dbias, int threads
) except *:
    """dweight (FN, C, FH, FW) and dbias (FN,) from the gradient that comes in and x (N, H, W, C)."""
    cdef ptrdiff_t columns = padded(g.fn, lanes(x))
    cdef ptrdiff_t padded_row = ((g.ow - 1) * g.stride + g.fw) * g.c * sizeof(real)
    cdef ptrdiff_t dout_row = g.ow * columns * sizeof(real)
    cdef Bands bands = cut_bands(
        g.n, g.oh, g.stride * padded_row + dout_row, SUM_BAND_BYTES, threads
    )
    cdef ptrdiff_t units = g.n * bands.count
    cdef ptrdiff_t volume = g.fh * g.fw * g.c
    cdef int team = team_size(threads, units, g.n * g.oh * g.ow * volume * columns // lanes(x))
    cdef Scratch totals = Scratch((volume + 1) * columns * sizeof(real), team)
    cdef Scratch windows = Scratch(((bands.height - 1) * g.stride + g.fh) * padded_row, team)
    cdef bint copied = d.kind != NO_GATE or columns != g.fn
    cdef Scratch gradients = Scratch(bands.height * dout_row if copied else 0, team)
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
                    g, d, image, top, min(bands.height, g.oh - top), x,
                    <real*> (sums + t * sums_step), <real*> (scratch + t * scratch_step),
                    <real*> (dout_scratch + t * dout_step),
                )
        add_sums[real](
            g, <const real*> sums, sums_step // sizeof(real), team, dweight, dbias, team
        )


cdef void weight_gradient(
    const Conv* g, const Incoming* d, const real* x, real* dweight, real* dbias, int algorithm,
    int threads,
) except *:
    """The same by this algorithm, or direct where that one does not apply."""
    cdef bint winograd = g.fh == g.fw == 3 and g.stride == 1
    if algorithm == SPARSE and d.kind == POOL_GATE:
        sparse_weight_gradient[real](g, d, x, dweight, dbias, threads)
    elif algorithm == WINOGRAD2 and winograd:
        winograd_weight_gradient[real](2, g, d, x, dweight, dbias, threads)
    elif algorithm == WINOGRAD4 and winograd:
        winograd_weight_gradient[real](4, g, d, x, dweight, dbias, threads)
    else:
        direct_weight_gradient[real](g, d, x, dweight, dbias, threads)
