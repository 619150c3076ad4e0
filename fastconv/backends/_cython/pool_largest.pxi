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


cdef inline void largest_of(
    ptrdiff_t COUNT, const real* first, ptrdiff_t step, ptrdiff_t values, real* to
) noexcept nogil:
    """The largest of COUNT values that are `step` apart, for each from `first` on."""
    cdef vec[real] best
    cdef ptrdiff_t whole = values // lanes(first) * lanes(first)
    cdef ptrdiff_t i, k
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
    ptrdiff_t count, const real* first, ptrdiff_t step, ptrdiff_t values, real* to
) noexcept nogil:
    """`largest_of`, with the usual counts as literals."""
    if count == 2:
        largest_of[real](2, first, step, values, to)
    elif count == 3:
        largest_of[real](3, first, step, values, to)
    else:
        largest_of[real](count, first, step, values, to)


cdef inline ptrdiff_t columns_of(const Pool* g) noexcept nogil:
    """Columns that a row of windows covers, those outside the image included."""
    return (g.ow - 1) * g.stride_x + g.fw


cdef struct Largest:
    Pool g
    ptrdiff_t out_pixel
    const void* x
    void* out
    Room columns


cdef void largest_part(
    const real* type_of, const Largest* w, int t, const Crew* crew
) noexcept nogil:
    cdef const Pool* g = &w.g
    cdef ptrdiff_t units = g.n * g.oh, row = g.w * g.c, inside
    cdef ptrdiff_t ahead = g.stride_y * row // g.ow  # of the next windows' rows, for each window
    cdef ptrdiff_t unit, top, begin, u, i
    cdef const real* image
    cdef real* columns = <real*> room_of(&w.columns, t)
    cdef real* out
    for i in range(columns_of(g) * g.c):
        columns[i] = -INFINITY
    inside = min(g.w, columns_of(g) - g.left) * g.c
    for unit in range(share(units, t, crew.size), share(units, t + 1, crew.size)):
        top = unit % g.oh * g.stride_y - g.top
        begin = first_place(top)
        image = <const real*> w.x + unit // g.oh * g.h * row
        largest[real](
            end_place(top, g.fh, g.h) - begin, image + (top + begin) * row, row, inside,
            columns + g.left * g.c,
        )
        out = <real*> w.out + unit * g.ow * w.out_pixel
        for u in range(g.ow):
            if top + g.fh + g.stride_y <= g.h:
                fetch(image + (top + g.fh) * row + u * ahead, ahead)
            largest[real](g.fw, columns + u * g.stride_x * g.c, g.c, g.c, out)
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
    int threads,
):
    """out (N, OH, OW, C), which may be channels of larger images, from x (N, H, W, C)."""
    cdef Largest w
    w.g = Pool(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], fh, fw, stride_y, stride_x, top, left,
        out.shape[1], out.shape[2],
    )
    w.out_pixel, w.x, w.out = pixel_of[real](out), &x[0, 0, 0, 0], &out[0, 0, 0, 0]
    cdef ptrdiff_t units = w.g.n * w.g.oh
    cdef int team = team_size(threads, units, units * w.g.ow * w.g.c * fh * fw)
    cdef Scratch columns = Scratch(columns_of(&w.g) * w.g.c * sizeof(real), team)
    w.columns = columns.room()
    took[real](MAXPOOL_FORWARD, VALUES, &x[0, 0, 0, 0], team)
    with nogil:
        run_parts(<Part> largest_part[real], &w, team, 0)
