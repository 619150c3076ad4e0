# Average pooling, forward and backward: weighted sums over ranges of rows and columns.
#
#     for row i of the result, in parallel:  for column j:  for block of K vectors of channels:
#         t = 0
#         for y in range(i):
#             part = 0;  for x in range(j):  part += inner(x) * source(y, x, block)
#             t += inner(y) * part
#         result(i, j, block) = t * outer(i) * outer(j)
#
# Memory is channels-last, so channels fill the vectors. A block is a cache line or two: the pixels
# of a window may all fall into one set of the first cache, and would not stay there to be read
# again. A separate sum for each row keeps large windows accurate.

cdef struct Ranges:
    const long long* rows  # begin and end of row i at 2*i
    const long long* columns
    const void* inner_rows
    const void* inner_columns
    const void* outer_rows
    const void* outer_columns
    ptrdiff_t h, w, c  # of the source
    ptrdiff_t oh, ow  # of the result


cdef inline void window_sum(
    int K, const Ranges* g, ptrdiff_t i, ptrdiff_t j, const real* source, ptrdiff_t count,
    real* result,
) noexcept nogil:
    """Place (i, j) of the result: K vectors of channels, with `count` channels in the last."""
    cdef const real* inner_rows = <const real*> g.inner_rows
    cdef const real* inner_columns = <const real*> g.inner_columns
    cdef vec[real] total[2]
    cdef vec[real] part[2]
    cdef vec[real] weight
    cdef const real* pixel
    cdef ptrdiff_t y, x
    cdef int k
    for k in range(K):
        total[k] = broadcast(<real> 0)
    for y in range(g.rows[2 * i], g.rows[2 * i + 1]):
        for k in range(K):
            part[k] = broadcast(<real> 0)
        for x in range(g.columns[2 * j], g.columns[2 * j + 1]):
            pixel = source + (y * g.w + x) * g.c
            weight = broadcast(inner_columns[x])
            for k in range(K):
                part[k] = muladd(
                    weight,
                    load_part(pixel + k * lanes(pixel), count if k == K - 1 else lanes(pixel)),
                    part[k],
                )
        weight = broadcast(inner_rows[y])
        for k in range(K):
            total[k] = muladd(weight, part[k], total[k])
    weight = broadcast((<const real*> g.outer_rows)[i] * (<const real*> g.outer_columns)[j])
    for k in range(K):
        store_part(
            result + k * lanes(result), times(total[k], weight),
            count if k == K - 1 else lanes(result),
        )


cdef void average_row(
    const Ranges* g, ptrdiff_t i, const real* source, real* result
) noexcept nogil:
    """Row i of the result of one image."""
    cdef ptrdiff_t block = 2 * lanes(source), whole = g.c // block * block, rest = g.c - whole
    cdef ptrdiff_t j, c
    for j in range(g.ow):
        for c from 0 <= c < whole by block:
            window_sum[real](2, g, i, j, source + c, lanes(source), result + c)
        if rest > lanes(source):
            window_sum[real](
                2, g, i, j, source + whole, rest - lanes(source), result + whole
            )
        elif rest > 0:
            window_sum[real](1, g, i, j, source + whole, rest, result + whole)
        result += g.c


cdef struct WindowSums:
    Ranges g
    const void* source
    ptrdiff_t units  # rows of the result
    void* result


cdef void window_sums_part(
    const real* type_of, const WindowSums* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t unit
    for unit in range(share(w.units, t, crew.size), share(w.units, t + 1, crew.size)):
        average_row[real](
            &w.g, unit % w.g.oh,
            <const real*> w.source + unit // w.g.oh * w.g.h * w.g.w * w.g.c,
            <real*> w.result + unit * w.g.ow * w.g.c,
        )


def window_sums(
    const real[:, :, :, ::1] source,
    const long long[:, ::1] rows,
    const real[::1] inner_rows,
    const real[::1] outer_rows,
    const long long[:, ::1] columns,
    const real[::1] inner_columns,
    const real[::1] outer_columns,
    real[:, :, :, ::1] result,
    int threads,
):
    """result (N, OH, OW, C) from source (N, H, W, C)."""
    cdef Ranges g = Ranges(
        &rows[0, 0], &columns[0, 0], &inner_rows[0], &inner_columns[0], &outer_rows[0],
        &outer_columns[0], source.shape[1], source.shape[2], source.shape[3], result.shape[1],
        result.shape[2],
    )
    cdef ptrdiff_t units = source.shape[0] * g.oh
    cdef int team = team_size(threads, units, source.shape[0] * g.c * max(g.h * g.w, g.oh * g.ow))
    cdef WindowSums w
    w.g, w.source, w.units, w.result = g, &source[0, 0, 0, 0], units, &result[0, 0, 0, 0]
    with nogil:
        run_parts(<Part> window_sums_part[real], &w, team, 0)
