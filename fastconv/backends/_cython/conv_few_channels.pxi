# Gradient of the convolution's input where it has few channels, as a first layer's.
#
#     for image, and for band of its rows, in parallel:
#         dx = 0
#         for row of dout that reaches the band:
#             T[f] = its pixels, gated, filter by filter
#             for R of the values (ky, kx, c):  for K vectors of pixels:
#                 t = 0;  for f:  t += weight(f, ky, kx, c) * T[f](pixels)
#                 P[ky, kx, c] = t
#             dx(y + ky, x + kx, c) += P[ky, kx, c](pixel)
#
# With channels in the lanes, as elsewhere, one channel would leave fifteen of sixteen lanes empty.
# Here pixels are in the lanes, for the price of turning dout and of adding up the taps one by one.
# Tiles: see product.pxi.


cdef struct Taps:
    ptrdiff_t filters, channels, window
    const void* weight
    void* packed


cdef void pack_taps(const real* type_of, const Taps* w, int t, const Crew* crew) noexcept nogil:
    """Weights [f][ky][kx][c]."""
    cdef const real* weight = <const real*> w.weight
    cdef real* packed = <real*> w.packed
    cdef ptrdiff_t f, tap, c
    for f in range(w.filters):
        for tap in range(w.window):
            for c in range(w.channels):
                packed[0] = weight[(f * w.channels + c) * w.window + tap]
                packed += 1


cdef void turn_row(
    const real* row, ptrdiff_t pixels, ptrdiff_t filters, real* to, ptrdiff_t width
) noexcept nogil:
    """[f][pixel], `width` values from f to f, of a row [pixel][f]."""
    cdef ptrdiff_t u, f
    for u in range(pixels):
        for f in range(filters):
            to[f * width + u] = row[f]
        row += filters


cdef void add_taps(
    const Conv* g, const real* taps, ptrdiff_t width, ptrdiff_t y, ptrdiff_t ky, real* dx
) noexcept nogil:
    """Row y of the image += the values [kx][c][pixel] of one filter row, taken pixel by pixel."""
    cdef ptrdiff_t kx, c, u, first, end
    cdef real* to
    for kx in range(g.fw):
        # Pixel u goes to x = u * stride + kx - left, which must lie in the image.
        first = max(0, ceil_div(g.left - kx, g.stride))
        end = min(g.ow, ceil_div(g.w + g.left - kx, g.stride))
        for c in range(g.c):
            to = dx + (y * g.w + first * g.stride + kx - g.left) * g.c + c
            if g.c * g.stride == 1:
                for u from 0 <= u < end - first by lanes(dx):
                    store_part(
                        to + u,
                        add(
                            load_part(to + u, end - first - u),
                            load_part(taps + first + u, end - first - u),
                        ),
                        end - first - u,
                    )
            else:
                for u in range(first, end):
                    to[0] += taps[u]
                    to += g.c * g.stride
            taps += width


cdef void few_channels_band(
    const Conv* g, const Incoming* d, ptrdiff_t image, ptrdiff_t top, ptrdiff_t height,
    const real* packed, real* dx, real* row, real* turned, real* taps,
) noexcept nogil:
    """Rows [top, top + height) of dx, which is that of the image."""
    cdef ptrdiff_t values = g.fw * g.c  # of a filter row
    cdef ptrdiff_t width = padded(g.ow, lanes(dx))
    cdef ptrdiff_t m, ky, y, first
    cdef const real* pixels
    cdef Product p = product_of(1, g.fn)
    p.x_y, p.x_i, p.x_r = 0, g.fh * values, 1
    p.w_y, p.w_i, p.out_r = 0, width, width
    memset(dx + top * g.w * g.c, 0, height * g.w * g.c * sizeof(real))
    for m in range(
        max(0, ceil_div(top + g.top - g.fh + 1, g.stride)),
        min(g.oh, ceil_div(top + height + g.top, g.stride)),
    ):
        pixels = <const real*> d.dout + (image * g.oh + m) * g.ow * g.fn
        if d.kind != NO_GATE:
            gated_window[real](d, image, m, 0, 1, g.ow, row, g.fn)
            pixels = row
        turn_row[real](pixels, g.ow, g.fn, turned, width)
        for first from 0 <= first < width by 2 * lanes(dx):
            product_rows[real](
                &p, g.fh * values, packed, turned + first, zeros(dx), taps + first, width - first
            )
        for ky in range(g.fh):
            y = m * g.stride + ky - g.top
            if top <= y < top + height:
                add_taps[real](g, taps + ky * values * width, width, y, ky, dx)


cdef struct FewChannels:
    Conv g
    Incoming d
    Bands bands
    const void* packed
    void* dx
    Room rows
    Room turned
    Room taps


cdef void few_channels_part(
    const real* type_of, const FewChannels* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t image, top
    cdef ptrdiff_t unit = next_unit(crew, t)
    memset(room_of(&w.turned, t), 0, w.turned.size)  # the pixels behind the last one
    while unit >= 0:
        image = unit // w.bands.count
        top = unit % w.bands.count * w.bands.height
        few_channels_band[real](
            &w.g, &w.d, image, top, min(w.bands.height, w.g.h - top), <const real*> w.packed,
            <real*> w.dx + image * w.g.h * w.g.w * w.g.c, <real*> room_of(&w.rows, t),
            <real*> room_of(&w.turned, t), <real*> room_of(&w.taps, t),
        )
        unit = next_unit(crew, t)


cdef void few_channels_gradient(
    const Conv* g, const Incoming* d, const real* weight, real* dx, int threads
) except *:
    """dx (N, H, W, C) from the gradient that comes in."""
    cdef ptrdiff_t values = g.fh * g.fw * g.c
    cdef ptrdiff_t width = padded(g.ow, lanes(dx))
    # Neighbouring bands compute the rows of dout that reach both, so they are as high as can be.
    cdef Bands bands = cut_bands(g.n, g.h, 1, g.h, threads)
    cdef ptrdiff_t units = g.n * bands.count
    cdef ptrdiff_t work = g.n * g.oh * width * g.fn * values // lanes(dx)
    cdef int team = team_size(threads, units, work)
    cdef Scratch packing = Scratch(g.fn * values * sizeof(real), 1, True)
    cdef Scratch rows = Scratch(g.ow * g.fn * sizeof(real), team)
    cdef Scratch turns = Scratch(width * g.fn * sizeof(real), team)
    cdef Scratch sums = Scratch(width * values * sizeof(real), team)
    cdef Taps p = Taps(g.fn, g.c, g.fh * g.fw, weight, packing.start)
    cdef FewChannels w
    w.g, w.d, w.bands, w.packed, w.dx = g[0], d[0], bands, packing.start, dx
    w.rows, w.turned, w.taps = rows.room(), turns.room(), sums.room()
    took[real](INPUT_GRADIENT, FEW_CHANNELS, weight, team)
    with nogil:
        run_on_weights(<Part> pack_taps[real], &p, 1, 0)
        run_parts(<Part> few_channels_part[real], &w, team, units)
