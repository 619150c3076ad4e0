# Gradient of the convolution's weights, through ReLU and 2x2 max pooling, from the winners alone.
#
#     for slice of channels, part of the pieces of images, and group of filters, in parallel:
#         for piece:
#             pad its pixels into this thread's scratch
#             for filter of the group:
#                 list its open windows: (place of the winner's first tap in scratch, gradient)
#                 for K vectors of the filter rows (kx, c):
#                     t = 0
#                     for (place, gradient) listed:  t[ky, k] += image(place, ky)[k] * gradient
#                     sums += t
#     then the sums of the parts are added in order
#
# At most one of a window's four output gradients is not zero, so this takes a quarter of the
# multiply-adds, and skips nothing but zeros. In scratch a filter row (kx, c) is one contiguous
# run, cut into vectors; a tile is 3 rows of up to 8 vectors (4 where registers are fewer), or 1 row
# where filters are not 3 high. Each multiply-add loads a vector, so the scratch of a piece must
# stay in the first cache: hence the slices, and pieces that are bands or nearly square. Few images
# have fewer slices and parts than there are threads: then threads share the filters too.

cdef enum:
    SPARSE_BYTES = 26 << 10  # of a piece in scratch
    SLICE_VECTORS = 4
    FEWEST_ROWS = 3  # of windows, in a piece as wide as the image
    TAPS_TOGETHER = 32  # reordered at a time, from the sums' order to the weights'

cdef struct Pieces:
    ptrdiff_t rows, cols  # windows of a piece
    ptrdiff_t down, across  # pieces of an image
    ptrdiff_t count  # pieces of all images
    ptrdiff_t channels, slices  # channels of a slice, and how many slices
    ptrdiff_t parts  # of the pieces
    ptrdiff_t groups  # of the filters
    ptrdiff_t height, width  # pixels of a piece
    ptrdiff_t run  # padded to whole vectors
    ptrdiff_t vectors  # of a run in a tile
    ptrdiff_t filter_step  # sums of one filter


cdef Pieces cut_pieces(
    const Conv* g, const Incoming* d, ptrdiff_t lane_count, ptrdiff_t value_bytes, int threads
) noexcept nogil:
    """How to cut the work; Numba's is cut by `_sparse` of _numba/conv_weight_gradient.py."""
    cdef Pieces p
    cdef ptrdiff_t s = 2 * g.stride
    cdef ptrdiff_t most, side = 1  # pixels and windows of a piece
    p.channels = evenly(g.c, SLICE_VECTORS * lane_count)
    p.slices = ceil_div(g.c, p.channels)
    most = SPARSE_BYTES // (p.channels * value_bytes)
    p.cols = max(1, d.pw)
    if (FEWEST_ROWS * s + g.fh) * (p.cols * s + g.fw) > most:
        while (side * s + g.fh) * (side * s + g.fw) < most:
            side += 1
        p.cols = evenly(p.cols, side)
    p.width = (2 * p.cols - 1) * g.stride + g.fw
    p.rows = max(1, (most // p.width - g.fh + g.stride) // s)
    p.rows = evenly(max(1, d.ph), p.rows)
    p.height = (2 * p.rows - 1) * g.stride + g.fh
    p.down, p.across = ceil_div(d.ph, p.rows), ceil_div(d.pw, p.cols)
    p.count = g.n * p.down * p.across
    p.parts = parts_of(p.slices, True, p.count, threads)
    p.groups = min(ceil_div(threads, p.slices * p.parts), g.fn)
    p.run = padded(g.fw * p.channels, lane_count)
    p.vectors = evenly(p.run // lane_count, REGISTERS // 4)
    p.filter_step = g.fh * p.run + lane_count
    return p


cdef inline void sparse_tile(
    int R, int K, const real* image, ptrdiff_t row, ptrdiff_t count, const int* places,
    const real* gradients, real* sums, ptrdiff_t sums_row,
) noexcept nogil:
    cdef vec[real] t[REGISTERS]
    cdef ptrdiff_t i
    clear[real](t, R, K)
    for i in range(count):
        add_scaled[real](t, R, K, image + places[i], row, gradients[i])
    add_rows[real](t, R, K, sums, sums_row, K * lanes(sums))


cdef inline void sparse_vectors(
    int R, ptrdiff_t K, const real* image, ptrdiff_t row, ptrdiff_t count, const int* places,
    const real* gradients, real* sums, ptrdiff_t sums_row,
) noexcept nogil:
    """K becomes a literal."""
    if K == 1:
        sparse_tile[real](R, 1, image, row, count, places, gradients, sums, sums_row)
    elif K == 2:
        sparse_tile[real](R, 2, image, row, count, places, gradients, sums, sums_row)
    elif K == 3:
        sparse_tile[real](R, 3, image, row, count, places, gradients, sums, sums_row)
    elif K == 4:
        sparse_tile[real](R, 4, image, row, count, places, gradients, sums, sums_row)
    elif REGISTERS > 16:
        if K == 5:
            sparse_tile[real](R, 5, image, row, count, places, gradients, sums, sums_row)
        elif K == 6:
            sparse_tile[real](R, 6, image, row, count, places, gradients, sums, sums_row)
        elif K == 7:
            sparse_tile[real](R, 7, image, row, count, places, gradients, sums, sums_row)
        else:
            sparse_tile[real](R, 8, image, row, count, places, gradients, sums, sums_row)


cdef void sparse_filter(
    const Conv* g, const Pieces* p, const real* image, ptrdiff_t row, ptrdiff_t count,
    const int* places, const real* gradients, real* sums,
) noexcept nogil:
    """sums [ky][vectors of (kx, c)] of one filter += its listed gradients."""
    cdef ptrdiff_t width = p.vectors * lanes(image)
    cdef ptrdiff_t first, K, ky
    for first from 0 <= first < p.run by width:
        K = min(width, p.run - first) // lanes(image)
        if g.fh == 3:
            sparse_vectors[real](
                3, K, image + first, row, count, places, gradients, sums + first, p.run
            )
        else:
            for ky in range(g.fh):
                sparse_vectors[real](
                    1, K, image + ky * row + first, row, count, places, gradients,
                    sums + ky * p.run + first, p.run,
                )


cdef ptrdiff_t list_open(
    const Incoming* d, ptrdiff_t first, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t s, ptrdiff_t row,
    ptrdiff_t pixel, int* places, real* gradients,
) noexcept nogil:
    """List places and gradients of one filter's open windows; returns how many there are.

    The windows are rows x cols, the first at `first` in dout. Neighbouring output pixels are
    s * row and s * pixel apart in scratch.
    """
    cdef const real* dout
    cdef const unsigned char* winner
    cdef int[5] corners
    cdef ptrdiff_t v, u, kept = 0
    corners[0], corners[1] = 0, <int> (s * pixel)
    corners[2], corners[3] = <int> (s * row), <int> (s * (row + pixel))
    corners[CLOSED] = 0
    for v in range(rows):
        dout = <const real*> d.dout + first + v * d.pw * d.c
        winner = <const unsigned char*> d.gate + first + v * d.pw * d.c
        for u in range(cols):  # without a branch, which could not be predicted
            places[kept] = <int> (2 * s * (v * row + u * pixel)) + corners[winner[u * d.c]]
            gradients[kept] = dout[u * d.c]
            kept += winner[u * d.c] != CLOSED
    return kept


cdef void sparse_piece(
    const Conv* g, const Incoming* d, const Pieces* p, ptrdiff_t piece, ptrdiff_t slice,
    ptrdiff_t begin, ptrdiff_t end, const Incoming* x, real* sums, real* scratch, int* places,
    real* gradients,
) noexcept nogil:
    """sums [filter][ky][vectors of (kx, c)][vector of the bias] += those of one piece.

    Filters are [begin, end), and `sums` starts with filter `begin`.
    """
    cdef ptrdiff_t left = piece % p.across * p.cols
    cdef ptrdiff_t top = piece // p.across % p.down * p.rows
    cdef ptrdiff_t image = piece // (p.across * p.down)
    cdef ptrdiff_t rows = min(p.rows, d.ph - top), cols = min(p.cols, d.pw - left)
    cdef ptrdiff_t row = p.width * p.channels
    cdef ptrdiff_t first = ((image * d.ph + top) * d.pw + left) * g.fn
    cdef ptrdiff_t f, count
    cdef Incoming some = channels_of(
        x, slice * p.channels, min(p.channels, g.c - slice * p.channels), sizeof(real)
    )
    gated_window[real](
        &some, image, 2 * top * g.stride - g.top, 2 * left * g.stride - g.left, p.height,
        p.width, scratch, p.channels,
    )
    memset(scratch + p.height * row, 0, VECTOR_BYTES)  # the last run's vector ends there
    for f in range(begin, end):
        count = list_open[real](
            d, first + f, rows, cols, g.stride, row, p.channels, places, gradients
        )
        sparse_filter[real](g, p, scratch, row, count, places, gradients, sums)
        memset(gradients + count, 0, VECTOR_BYTES)
        add_column_sums[real](
            gradients, ceil_div(count, lanes(sums)), lanes(sums), sums + g.fh * p.run
        )
        sums += p.filter_step


cdef void add_sparse_sums(
    const Conv* g, const Pieces* p, const real* sums, ptrdiff_t step, ptrdiff_t f, real* dweight,
    real* dbias,
) noexcept nogil:
    """dweight and dbias of one filter: the sums of the parts, `step` apart, added in order."""
    cdef ptrdiff_t window = g.fh * g.fw
    cdef ptrdiff_t slice, c, channels, first, count, tap, part, i
    cdef const real* source
    cdef vec[real] t
    cdef char[TAPS_TOGETHER * VECTOR_BYTES] memory
    cdef real* taps = <real*> memory
    sums += f * p.filter_step
    for slice in range(p.slices):
        channels = min(p.channels, g.c - slice * p.channels)
        for c from 0 <= c < channels by lanes(sums):
            for first from 0 <= first < window by TAPS_TOGETHER:
                count = min(TAPS_TOGETHER, window - first)
                for i in range(count):
                    tap = first + i
                    source = sums + tap // g.fw * p.run + tap % g.fw * p.channels + c
                    t = broadcast(<real> 0)
                    for part in range(p.parts):
                        t = add(t, load(source + part * step))
                    store(taps + i * lanes(sums), t)
                scatter_taps[real](
                    taps, count, min(lanes(sums), channels - c), dweight + c * window + first,
                    window,
                )
        dweight += channels * window
        if slice == 0:
            dbias[0] = 0
            for part in range(p.parts):
                for i in range(lanes(sums)):
                    dbias[0] += sums[part * step + g.fh * p.run + i]
        sums += p.parts * step


cdef struct SparseWeightGradient:
    Conv g
    Incoming x
    Incoming d
    Pieces p
    void* dweight
    void* dbias
    Room sums  # of slices and parts
    Room images
    Room lists


cdef void sparse_weight_gradient_part(
    const real* type_of, const SparseWeightGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t units = w.p.slices * w.p.parts * w.p.groups
    cdef real* gradients = <real*> room_of(&w.lists, t)
    cdef int* places = <int*> (gradients + w.p.rows * w.p.cols + lanes(type_of))
    cdef real* sums
    cdef ptrdiff_t unit, piece, begin, end
    cdef int group, part
    for unit in range(share(units, t, crew.size), share(units, t + 1, crew.size)):
        group, part = <int> (unit % w.p.groups), <int> (unit // w.p.groups % w.p.parts)
        begin = share(w.g.fn, group, <int> w.p.groups)
        end = share(w.g.fn, group + 1, <int> w.p.groups)
        sums = <real*> room_of(&w.sums, <int> (unit // w.p.groups)) + begin * w.p.filter_step
        memset(sums, 0, (end - begin) * w.p.filter_step * sizeof(real))
        for piece in range(
            share(w.p.count, part, <int> w.p.parts), share(w.p.count, part + 1, <int> w.p.parts)
        ):
            sparse_piece[real](
                &w.g, &w.d, &w.p, piece, unit // (w.p.groups * w.p.parts), begin, end, &w.x,
                sums, <real*> room_of(&w.images, t), places, gradients,
            )


cdef void add_sparse_sums_part(
    const real* type_of, const SparseWeightGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t f
    for f in range(share(w.g.fn, t, crew.size), share(w.g.fn, t + 1, crew.size)):
        add_sparse_sums[real](
            &w.g, &w.p, <const real*> w.sums.start, w.sums.step // sizeof(real), f,
            <real*> w.dweight + f * w.g.c * w.g.fh * w.g.fw, <real*> w.dbias + f,
        )


cdef void sparse_weight_gradient(
    const Conv* g, const Incoming* d, const real* x, real* dweight, real* dbias, int threads
) except *:
    """dweight (FN, C, FH, FW) and dbias (FN,) through pooling, from x (N, H, W, C)."""
    cdef Pieces p = cut_pieces(g, d, lanes(x), sizeof(real), threads)
    cdef ptrdiff_t sums = p.slices * p.parts
    cdef ptrdiff_t windows = p.rows * p.cols
    cdef ptrdiff_t work = p.count * windows * p.slices * g.fn * p.filter_step // lanes(x)
    cdef int team = team_size(threads, sums * p.groups, work)
    cdef int adding = team_size(threads, g.fn, sums * g.fn * p.filter_step)
    cdef Scratch totals = Scratch(g.fn * p.filter_step * sizeof(real), sums)
    cdef Scratch images = Scratch(
        p.height * p.width * p.channels * sizeof(real) + VECTOR_BYTES, team
    )
    cdef Scratch lists = Scratch(windows * (sizeof(int) + sizeof(real)) + VECTOR_BYTES, team)
    cdef SparseWeightGradient w
    w.g, w.d, w.p, w.dweight, w.dbias = g[0], d[0], p, dweight, dbias
    w.x = incoming(NO_GATE, g.n, g.h, g.w, g.c, x, NULL)
    w.sums, w.images, w.lists = totals.room(), images.room(), lists.room()
    took[real](WEIGHT_GRADIENT, SPARSE, x, team)
    with nogil:
        run_parts(<Part> sparse_weight_gradient_part[real], &w, team, 0)
        run_parts(<Part> add_sparse_sums_part[real], &w, adding, 0)
