# Max pooling where nobody asks which place won, as in evaluation.
#
#     for row v of windows, in parallel:
#         for vector of the image's row:  columns = the largest of the window's rows, in scratch
#         for window u:  for vector of channels:  out = the largest of its columns
#
# Windows that overlap share columns: one of 3 x 3 takes 4 comparisons where windows are 1 apart, and
# 6 where they are 2 apart, in place of 8 that choose positions as well (pool.pxi). Outside the image
# a column is minus infinity: each window has a pixel inside, and that is never smaller.


cdef inline vec[real] larger(vec[real] a, vec[real] b) noexcept nogil:
    """The maximum of both; a NaN, if there is one."""
    return choose(beats(b, a), b, a)


cdef inline vec[float] widened(
    int NARROW, const float* first, ptrdiff_t at, ptrdiff_t end
) noexcept nogil:
    """The values [at, end) from `first` on, at most a vector of them."""
    if NARROW & NARROW_IN:
        return load_widened(ahead(first, at, True), end - at)
    return load_part(first + at, end - at)


cdef inline void largest_of(
    int NARROW, ptrdiff_t COUNT, const real* first, ptrdiff_t step, ptrdiff_t values, real* to
) noexcept nogil:
    """The largest of COUNT values that are `step` apart, for each from `first` on.

    NARROW says which are bfloat16s: NARROW_IN the values, NARROW_OUT the results.
    """
    cdef vec[real] best
    cdef ptrdiff_t whole = values // lanes(first) * lanes(first)
    cdef ptrdiff_t i, k
    if real is float:
        if NARROW != 0:
            for i from 0 <= i < values by lanes(first):
                best = widened(NARROW, first, i, values)
                for k in range(1, COUNT):
                    best = larger(best, widened(NARROW, first, k * step + i, k * step + values))
                if NARROW & NARROW_OUT:
                    store_narrow(ahead(to, i, True), best, values - i)
                else:
                    store_part(to + i, best, values - i)
            return
    for i from 0 <= i < whole by lanes(first):
        best = load(first + i)
        for k in range(1, COUNT):
            best = larger(best, load(first + k * step + i))
        store(to + i, best)
    if whole < values:
        best = load_part(first + whole, values - whole)
        for k in range(1, COUNT):
            best = larger(best, load_part(first + k * step + whole, values - whole))
        store_part(to + whole, best, values - whole)


cdef inline void largest(
    int narrow, ptrdiff_t count, const real* first, ptrdiff_t step, ptrdiff_t values, real* to
) noexcept nogil:
    """`largest_of`, with the usual counts as literals."""
    if narrow == NARROW_IN:
        largest_of[real](NARROW_IN, count, first, step, values, to)
    elif narrow == NARROW_OUT:
        largest_of[real](NARROW_OUT, count, first, step, values, to)
    elif count == 2:
        largest_of[real](0, 2, first, step, values, to)
    elif count == 3:
        largest_of[real](0, 3, first, step, values, to)
    else:
        largest_of[real](0, count, first, step, values, to)


cdef inline ptrdiff_t columns_of(const Pool* g) noexcept nogil:
    """Columns that a row of windows covers, those outside the image included."""
    return (g.ow - 1) * g.stride_x + g.fw


cdef struct Largest:
    Pool g
    ptrdiff_t out_pixel
    int narrow  # which of x and out are of bfloat16s
    const void* x
    void* out
    Room columns


cdef void largest_part(
    const real* type_of, const Largest* w, int t, const Crew* crew
) noexcept nogil:
    cdef const Pool* g = &w.g
    cdef ptrdiff_t units = g.n * g.oh, row = g.w * g.c, inside
    cdef ptrdiff_t share_of_row = g.stride_y * row // g.ow  # of the next windows', for each window
    cdef ptrdiff_t unit, top, begin, u, i, first, fetched, out
    cdef real* columns = <real*> room_of(&w.columns, t)
    for i in range(columns_of(g) * g.c):
        columns[i] = -INFINITY
    inside = min(g.w, columns_of(g) - g.left) * g.c
    for unit in range(share(units, t, crew.size), share(units, t + 1, crew.size)):
        top = unit % g.oh * g.stride_y - g.top
        begin = first_place(top)
        first = unit // g.oh * g.h * row
        largest[real](
            w.narrow & NARROW_IN, end_place(top, g.fh, g.h) - begin,
            place_of[real](
                w.x, first + (top + begin) * row, (w.narrow & NARROW_IN) != 0, columns
            ), row, inside, columns + g.left * g.c,
        )
        out = unit * g.ow * w.out_pixel
        for u in range(g.ow):
            if top + g.fh + g.stride_y <= g.h:
                fetched = first + (top + g.fh) * row + u * share_of_row
                if w.narrow & NARROW_IN:
                    fetch(<const unsigned short*> w.x + fetched, share_of_row)
                else:
                    fetch(<const real*> w.x + fetched, share_of_row)
            largest[real](
                w.narrow & NARROW_OUT, g.fw, columns + u * g.stride_x * g.c, g.c, g.c,
                place_of[real](w.out, out, (w.narrow & NARROW_OUT) != 0, columns),
            )
            out += w.out_pixel


def maxpool2d_largest(
    const real[:, :, :, ::1] x,
    real[:, :, :, :] out,
    ptrdiff_t fh,
    ptrdiff_t fw,
    ptrdiff_t stride_y,
    ptrdiff_t stride_x,
    ptrdiff_t top,
    ptrdiff_t left,
    int narrow,
    int threads,
):
    """out (N, OH, OW, C), which may be channels of larger images, from x (N, H, W, C).

    `narrow` says which of them are pairs of bfloat16s, in the places of floats.
    """
    cdef Largest w
    cdef ptrdiff_t c = 2 * x.shape[3] if narrow & NARROW_IN else x.shape[3]
    w.g = Pool(
        x.shape[0], x.shape[1], x.shape[2], c, fh, fw, stride_y, stride_x, top, left,
        out.shape[1], out.shape[2],
    )
    w.narrow, w.out_pixel = narrow, pixel_of[real](out)
    if narrow & NARROW_OUT:
        w.out_pixel *= 2
    w.x, w.out = &x[0, 0, 0, 0], &out[0, 0, 0, 0]
    cdef ptrdiff_t units = w.g.n * w.g.oh
    cdef int team = team_size(threads, units, units * w.g.ow * w.g.c * fh * fw)
    cdef Scratch columns = Scratch(columns_of(&w.g) * w.g.c * sizeof(real), team)
    w.columns = columns.room()
    took[real](MAXPOOL_FORWARD, VALUES, &x[0, 0, 0, 0], team)
    with nogil:
        run_parts(<Part> largest_part[real], &w, team, 0)
