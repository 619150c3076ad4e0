# Gradient of the convolution's input, direct: a convolution itself.
#
#     for band of rows of an image, in parallel:
#         pad and gate the incoming gradient's rows that it needs into this thread's scratch
#         for phase (a, b):  for block of channels:  for row:  for R pixels:
#             t = 0;  t += dout(row - j, pixel - i, f) * weight(f, a + s*j, b + s*i, block)
#
# With stride s a pixel of the input meets only every s-th tap; which ones depends on its place
# modulo s. So there are s*s phases, each a convolution of stride 1 by some taps of the flipped
# filter.
# Rows of the filter that lie beyond dout are skipped: unpadded 7x7 filters on 10 rows meet 28 rows of
# dout in place of 70. Taps beyond its left and right edge are not: they multiply zeros.
# Tiles: see product.pxi, 8 x 2 and up to 12 x 1 with AVX-512.


cdef void input_gradient_band(
    const Conv* g, const Incoming* d, ptrdiff_t image, ptrdiff_t top, ptrdiff_t height,
    const real* packed, real* dx, real* scratch,
) noexcept nogil:
    """Rows [top, top + height) of dx, the gradient of one image.

    Pixel y gets dout[m - j] * weight[a + s*j] for all j, where y + g.top = s*m + a.
    """
    cdef ptrdiff_t s = g.stride
    cdef ptrdiff_t most_y = ceil_div(g.fh, s), most_x = ceil_div(g.fw, s)
    cdef ptrdiff_t source_y = (top + g.top) // s - most_y + 1
    cdef ptrdiff_t source_x = g.left // s - most_x + 1
    cdef ptrdiff_t rows = (top + height - 1 + g.top) // s + 1 - source_y
    cdef ptrdiff_t cols = (g.w - 1 + g.left) // s + 1 - source_x
    cdef ptrdiff_t depth = depth_of(g.pairs, g.fn)
    cdef ptrdiff_t a, b, taps_y, taps_x, y, x, end_y, end_x, first
    cdef const real* window = scratch
    if (
        g.pairs == NO_PAIRS and d.kind == NO_GATE
        and source_x == 0 and cols == g.ow and 0 <= source_y <= g.oh - rows
    ):
        window = <const real*> d.dout + (image * g.oh + source_y) * g.ow * g.fn
    else:
        gated_window[real](
            d, image, source_y, source_x, rows, cols, scratch, room_for(g.pairs, g.fn)
        )
        if real is float:
            if g.pairs != NO_PAIRS:
                round_pairs(scratch, rows * cols * depth, scratch)
    for a in range(s):
        taps_y = ceil_div(g.fh - a, s)
        y = ceil_div(top + g.top - a, s)
        end_y = ceil_div(top + height + g.top - a, s)
        first = y - taps_y + 1  # of the rows of dout that the filter's meet
        for b in range(s):
            taps_x = ceil_div(g.fw - b, s)
            x = ceil_div(g.left - b, s)
            end_x = ceil_div(g.w + g.left - b, s)
            correlate[real](
                taps_y, taps_x, depth, 1,
                window + ((first - source_y) * cols + x - taps_x + 1 - source_x) * depth,
                cols * depth, packed, NULL, end_y - y, end_x - x,
                dx + ((s * y + a - g.top) * g.w + s * x + b - g.left) * g.c,
                s * g.w * g.c, s * g.c, g.c, False, NULL, g.pairs, 0, max(0, -first), g.oh - first,
            )
            packed += taps_y * taps_x * depth * padded(g.c, lanes(packed))


cdef void pack_phases(
    const Conv* g, const real* weight, real* packed, int team, Room staging
) noexcept nogil:
    """The flipped filters of every phase, in the order of `input_gradient_band`."""
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
                shape, strides, g.c, packed, team, g, staging,
            )
            packed += shape[0] * shape[1] * depth_of(g.pairs, g.fn) * padded(g.c, lanes(weight))


cdef struct DirectInputGradient:
    Conv g
    Incoming d
    Bands bands
    const void* packed
    void* dx
    Room windows


cdef void direct_input_gradient_part(
    const real* type_of, const DirectInputGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t image, top
    cdef ptrdiff_t unit = next_unit(crew, t)
    while unit >= 0:
        image = unit // w.bands.count
        top = unit % w.bands.count * w.bands.height
        input_gradient_band[real](
            &w.g, &w.d, image, top, min(w.bands.height, w.g.h - top), <const real*> w.packed,
            <real*> w.dx + image * w.g.h * w.g.w * w.g.c, <real*> room_of(&w.windows, t),
        )
        unit = next_unit(crew, t)
    end_pairs(w.g.pairs)


cdef void direct_input_gradient(
    const Conv* g, const Incoming* d, const real* weight, real* dx, int threads
) except *:
    """dx (N, H, W, C) from the incoming gradient."""
    cdef ptrdiff_t columns = padded(g.c, lanes(dx))
    cdef ptrdiff_t cols = ceil_div(g.w + g.fw, g.stride) + 1
    cdef ptrdiff_t row_bytes = cols * room_for(g.pairs, g.fn) * sizeof(real)
    cdef Bands bands = cut_bands(
        g.n, g.h, ceil_div(row_bytes, g.stride), BAND_BYTES, threads
    )
    cdef ptrdiff_t units = g.n * bands.count
    cdef ptrdiff_t volume = g.fh * g.fw * depth_of(g.pairs, g.fn)
    cdef int team = team_size(threads, units, g.n * g.oh * g.ow * volume * columns // lanes(dx))
    cdef Scratch packing = Scratch(columns * volume * sizeof(real), 1, True)
    cdef Scratch windows = Scratch((ceil_div(bands.height + g.fh, g.stride) + 1) * row_bytes, team)
    cdef Scratch blocks = Scratch(
        0 if g.pairs == NO_PAIRS else 2 * g.fh * g.fw * g.fn * VECTOR_BYTES, team
    )
    cdef Room staging = blocks.room()
    cdef DirectInputGradient w
    w.g, w.d, w.bands, w.packed, w.dx = g[0], d[0], bands, packing.start, dx
    w.windows = windows.room()
    took[real](INPUT_GRADIENT, DIRECT, weight, team)
    with nogil:
        pack_phases[real](g, weight, <real*> packing.start, team, staging)
        run_parts(<Part> direct_input_gradient_part[real], &w, team, units)


cdef void input_gradient(
    const Conv* g, const Incoming* d, const real* weight, real* dx, int algorithm, int threads
) except *:
    """dx (N, H, W, C) from the incoming gradient, by this algorithm."""
    cdef Outgoing o = outgoing(NO_GATE, g.n, g.h, g.w, g.c, dx, NULL)
    cdef ptrdiff_t[4] strides = [-3, -1, 9 * g.c, 9]
    if g.n == 0:
        return
    if algorithm == DIRECT and g.pairs == NO_PAIRS and 2 * g.c <= lanes(dx):
        few_channels_gradient[real](g, d, weight, dx, threads)
    elif algorithm == DIRECT:
        direct_input_gradient[real](g, d, weight, dx, threads)
    else:
        winograd[real](
            algorithm, g.pairs != NO_PAIRS, d, weight + 8, strides, NULL, 2 - g.top, 2 - g.left,
            &o, threads,
        )
