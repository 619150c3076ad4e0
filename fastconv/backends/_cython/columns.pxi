# im2col and its adjoint col2im, on images in the book's layout, (N, C, H, W).
#
#     im2col:  for row of windows, in parallel:  pad its image into this thread's scratch, once
#                  for a few windows:  for channel:  for row fy:  lay down the run of FW values
#                  write these windows' rows of the column matrix
#     col2im:  for image, in parallel:  for window:  for channel:  for row fy:
#                  add the run to the padded scratch; then its inside is copied out
#
# A run is one row of one filter, a few values long: too short for memcpy or for a vector. im2col
# assembles whole vectors from neighbouring runs, whose places in scratch are in a table; col2im
# adds a run as one piece of 4 or 8 values, zeros after it. Both read or write beyond runs, so
# scratch has a margin around it. im2col assembles rows of the column matrix in a stage of a few
# kilobytes; col2im reads an image's last windows from such a stage.
#
# The column matrix is many times as large as the images, and these kernels are bound by its
# memory. One that no cache could hold is written past the caches, which saves reading it first.

cdef enum:
    # All but PIECE are also in _numba/columns.py.
    STAGE_BYTES = 1 << 12  # of the column matrix, assembled before they are written
    PIECE = 8  # values that are added at once, at most
    MANY_RUNS = 24  # of a window: enough work between two windows that overlap
    STREAM_BYTES = 1 << 24  # size from which on a column matrix is written past the caches

cdef struct Columns:
    ptrdiff_t n, c, h, w, fh, fw, stride_y, stride_x, top, left, oh, ow
    ptrdiff_t height, width  # of an image with its zeros


cdef inline ptrdiff_t padded_pixels(const Columns* g) noexcept nogil:
    return g.c * g.height * g.width


cdef inline ptrdiff_t staged_windows(const Columns* g, ptrdiff_t itemsize) noexcept nogil:
    """How many windows of a row the stage holds."""
    return max(1, min(g.ow, STAGE_BYTES // (g.c * g.fh * g.fw * itemsize)))


cdef void pad_image(const Columns* g, const real* image, real* scratch) noexcept nogil:
    """The image into scratch, whose border is zeros already."""
    cdef ptrdiff_t c, y
    for c in range(g.c):
        for y in range(g.h):
            memcpy(
                scratch + (c * g.height + y + g.top) * g.width + g.left,
                image + (c * g.h + y) * g.w,
                g.w * sizeof(real),
            )


cdef void find_runs(const Columns* g, ptrdiff_t windows, ptrdiff_t* at) noexcept nogil:
    """Where the runs of windows of one row begin, counted from the first one's corner."""
    cdef ptrdiff_t plane = g.height * g.width
    cdef ptrdiff_t u, c, fy
    for u in range(windows):
        for c in range(g.c):
            for fy in range(g.fh):
                at[0] = u * g.stride_x + c * plane + fy * g.width
                at += 1


cdef void unfold_rows(
    const Columns* g, const real* x, ptrdiff_t begin, ptrdiff_t end, const ptrdiff_t* at,
    real* col, real* scratch, real* stage, bint past,
) noexcept nogil:
    """Rows [begin, end) of windows, counted over all images; col is the whole matrix.

    It is written `past` the caches, or through them.
    """
    cdef ptrdiff_t runs = g.c * g.fh
    cdef ptrdiff_t taps = runs * g.fw
    cdef ptrdiff_t most = staged_windows(g, sizeof(real))
    cdef ptrdiff_t row, u, count
    memset(scratch, 0, padded_pixels(g) * sizeof(real))
    col += begin * g.ow * taps
    for row in range(begin, end):
        if row == begin or row % g.oh == 0:
            pad_image(g, x + row // g.oh * g.c * g.h * g.w, scratch)
        for u from 0 <= u < g.ow by most:
            count = min(most, g.ow - u)
            lay_runs(
                stage, scratch + row % g.oh * g.stride_y * g.width + u * g.stride_x, at,
                count * runs, g.fw,
            )
            if past:
                copy_past_caches(col, stage, count * taps)
            else:
                memcpy(col, stage, count * taps * sizeof(real))
            col += count * taps
    if past:
        end_past_caches()


cdef inline void fold_row(
    ptrdiff_t FH, ptrdiff_t FW, const Columns* g, const real* col, real* corner
) noexcept nogil:
    """A row of windows, the first at corner; FH and FW may be literals."""
    cdef ptrdiff_t plane = g.height * g.width
    # Neighbouring windows overlap. After a small window, the next would read what is still on its
    # way to the cache, so that others come between.
    cdef ptrdiff_t step = PIECE if g.c * FH < MANY_RUNS else 1
    cdef ptrdiff_t first, u, c, fy
    cdef const real* run
    cdef real* to
    for first in range(step):
        for u from first <= u < g.ow by step:
            run = col + u * g.c * FH * FW
            to = corner + u * g.stride_x
            for c in range(g.c):
                for fy in range(FH):
                    add_run(to + fy * g.width, run + fy * FW, FW)
                run += FH * FW
                to += plane


cdef void fold_image(
    const Columns* g, const real* col, real* image, real* scratch, real* stage
) noexcept nogil:
    """The image that sums its columns (OH*OW, C*FH*FW)."""
    cdef ptrdiff_t row = g.ow * g.c * g.fh * g.fw
    # After these rows the matrix is long enough for runs to be read past their ends.
    cdef ptrdiff_t direct = max(0, g.oh - ceil_div(SLACK, row))
    cdef ptrdiff_t v, c, y
    cdef const real* rows = col
    memset(scratch, 0, padded_pixels(g) * sizeof(real))
    for v in range(g.oh):
        if v == direct:
            memcpy(stage, rows, (g.oh - v) * row * sizeof(real))
            rows = stage
        if g.fh == 3 and g.fw == 3:
            fold_row[real](3, 3, g, rows, scratch + v * g.stride_y * g.width)
        elif g.fh == 5 and g.fw == 5:
            fold_row[real](5, 5, g, rows, scratch + v * g.stride_y * g.width)
        else:
            fold_row[real](g.fh, g.fw, g, rows, scratch + v * g.stride_y * g.width)
        rows += row
    for c in range(g.c):
        for y in range(g.h):
            memcpy(
                image + (c * g.h + y) * g.w,
                scratch + (c * g.height + y + g.top) * g.width + g.left,
                g.w * sizeof(real),
            )


cdef struct Unfolding:
    Columns g
    const void* x
    const ptrdiff_t* at  # see `find_runs`
    void* col
    bint past
    Room scratch
    Room stage


cdef void unfold_rows_part(
    const real* type_of, const Unfolding* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t rows = w.g.n * w.g.oh
    unfold_rows[real](
        &w.g, <const real*> w.x, share(rows, t, crew.size), share(rows, t + 1, crew.size), w.at,
        <real*> w.col, <real*> room_of(&w.scratch, t) + SLACK, <real*> room_of(&w.stage, t),
        w.past,
    )


cdef struct Folding:
    Columns g
    const void* col
    void* x
    Room scratch
    Room stage


cdef void fold_images_part(
    const real* type_of, const Folding* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t size = w.g.c * w.g.h * w.g.w
    cdef ptrdiff_t columns = w.g.oh * w.g.ow * w.g.c * w.g.fh * w.g.fw
    cdef ptrdiff_t image
    for image in range(share(w.g.n, t, crew.size), share(w.g.n, t + 1, crew.size)):
        fold_image[real](
            &w.g, <const real*> w.col + image * columns, <real*> w.x + image * size,
            <real*> room_of(&w.scratch, t), <real*> room_of(&w.stage, t),
        )


def im2col(
    const real[:, :, :, ::1] x,
    real[:, ::1] col,
    ptrdiff_t fh,
    ptrdiff_t fw,
    ptrdiff_t stride_y,
    ptrdiff_t stride_x,
    ptrdiff_t top,
    ptrdiff_t left,
    ptrdiff_t oh,
    ptrdiff_t ow,
    ptrdiff_t height,
    ptrdiff_t width,
    int threads,
):
    """col (N*OH*OW, C*FH*FW) from x (N, C, H, W)."""
    cdef Columns g = Columns(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], fh, fw, stride_y, stride_x, top, left,
        oh, ow, height, width,
    )
    cdef ptrdiff_t rows = g.n * oh
    cdef ptrdiff_t most = staged_windows(&g, sizeof(real))
    cdef bint past = rows * ow * col.shape[1] * sizeof(real) >= STREAM_BYTES
    cdef int team = team_size(threads, rows, rows * ow * col.shape[1])
    cdef Scratch padding = Scratch((padded_pixels(&g) + 2 * SLACK) * sizeof(real), team)
    cdef Scratch staging = Scratch((most * col.shape[1] + SLACK) * sizeof(real), team)
    cdef Scratch table = Scratch(most * g.c * fh * sizeof(ptrdiff_t))
    cdef Unfolding w
    w.g, w.x, w.at, w.col, w.past = g, &x[0, 0, 0, 0], <ptrdiff_t*> table.start, &col[0, 0], past
    w.scratch, w.stage = padding.room(), staging.room()
    took[real](IM2COL, STREAMED if past else CACHED, &col[0, 0], team)
    with nogil:
        find_runs(&g, most, <ptrdiff_t*> table.start)
        run_parts(<Part> unfold_rows_part[real], &w, team, 0)


def col2im(
    const real[:, ::1] col,
    real[:, :, :, ::1] x,
    ptrdiff_t fh,
    ptrdiff_t fw,
    ptrdiff_t stride_y,
    ptrdiff_t stride_x,
    ptrdiff_t top,
    ptrdiff_t left,
    ptrdiff_t oh,
    ptrdiff_t ow,
    ptrdiff_t height,
    ptrdiff_t width,
    int threads,
):
    """x (N, C, H, W) that sums col (N*OH*OW, C*FH*FW)."""
    cdef Columns g = Columns(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], fh, fw, stride_y, stride_x, top, left,
        oh, ow, height, width,
    )
    cdef ptrdiff_t row = ow * col.shape[1]
    cdef int team = team_size(threads, g.n, g.n * oh * row)
    cdef Scratch padding = Scratch((padded_pixels(&g) + SLACK) * sizeof(real), team)
    cdef Scratch staging = Scratch((row + 2 * SLACK) * sizeof(real), team)
    cdef Folding w
    w.g, w.col, w.x = g, &col[0, 0], &x[0, 0, 0, 0]
    w.scratch, w.stage = padding.room(), staging.room()
    with nogil:
        run_parts(<Part> fold_images_part[real], &w, team, 0)
