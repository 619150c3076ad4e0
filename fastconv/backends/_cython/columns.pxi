# im2col and its adjoint col2im, on images in the book's own memory, (N, C, H, W).
#
#     im2col:  for row v of windows, in parallel:  pad its image into this thread's scratch, once
#                  for a few windows:  for channel:  for row fy:  copy the run of FW values
#                  write these windows' rows of the column matrix
#     col2im:  for image, in parallel:  for window:  for channel:  for row fy:
#                  add the run to the padded scratch; then its inside is copied out
#
# A run is one row of one filter, a few values long: too short for a call of memcpy or for a
# vector of the machine. It is moved in one piece of 4 or 8 values, what is too much of it
# included, for the run behind it is written next (im2col) or zeros are added (col2im). So that
# nothing runs over, rows of the column matrix are put together in a stage of a few kilobytes,
# and the last windows of an image come from there. The usual filters are literals.
#
# The column matrix is many times as large as the images, and its memory is what these kernels
# wait for. One that no cache could hold is written past the caches, which spares reading it.

cdef enum:
    STAGE_BYTES = 1 << 12  # of the column matrix, put together before they are written
    STREAM_BYTES = 1 << 24  # of a column matrix from which on it is written past the caches

cdef struct Columns:
    ptrdiff_t n, c, h, w, fh, fw, stride, pad, oh, ow


cdef inline ptrdiff_t padded_pixels(const Columns* g) noexcept nogil:
    return g.c * (g.h + 2 * g.pad) * (g.w + 2 * g.pad)


cdef inline ptrdiff_t staged_windows(const Columns* g, ptrdiff_t itemsize) noexcept nogil:
    """How many windows of a row the stage holds."""
    return max(1, min(g.ow, STAGE_BYTES // (g.c * g.fh * g.fw * itemsize)))


cdef void pad_image(const Columns* g, const real* image, real* scratch) noexcept nogil:
    """The image into scratch, whose border is zeros already."""
    cdef ptrdiff_t height = g.h + 2 * g.pad, width = g.w + 2 * g.pad
    cdef ptrdiff_t c, y
    for c in range(g.c):
        for y in range(g.h):
            memcpy(
                scratch + (c * height + y + g.pad) * width + g.pad,
                image + (c * g.h + y) * g.w,
                g.w * sizeof(real),
            )


cdef inline void unfold_windows(
    ptrdiff_t FH, ptrdiff_t FW, const Columns* g, ptrdiff_t count, const real* corner, real* stage
) noexcept nogil:
    """`count` windows of one row, the first at `corner`; FH and FW may be literals."""
    cdef ptrdiff_t width = g.w + 2 * g.pad
    cdef ptrdiff_t plane = (g.h + 2 * g.pad) * width
    cdef ptrdiff_t u, c, fy
    for u in range(count):
        for c in range(g.c):
            for fy in range(FH):
                copy_run(stage, corner + u * g.stride + c * plane + fy * width, FW)
                stage += FW


cdef void unfold_rows(
    const Columns* g, const real* x, ptrdiff_t begin, ptrdiff_t end, real* col, real* scratch,
    real* stage,
) noexcept nogil:
    """Rows [begin, end) of windows, counted over all images; col is the whole matrix."""
    cdef ptrdiff_t taps = g.c * g.fh * g.fw
    cdef bint past = g.n * g.oh * g.ow * taps * sizeof(real) >= STREAM_BYTES
    cdef ptrdiff_t most = staged_windows(g, sizeof(real))
    cdef ptrdiff_t row, u, count
    cdef const real* corner
    memset(scratch, 0, padded_pixels(g) * sizeof(real))
    col += begin * g.ow * taps
    for row in range(begin, end):
        if row == begin or row % g.oh == 0:
            pad_image(g, x + row // g.oh * g.c * g.h * g.w, scratch)
        u = 0
        while u < g.ow:
            count = min(most, g.ow - u)
            corner = scratch + (row % g.oh * (g.w + 2 * g.pad) + u) * g.stride
            if g.fh == 3 and g.fw == 3:
                unfold_windows[real](3, 3, g, count, corner, stage)
            elif g.fh == 5 and g.fw == 5:
                unfold_windows[real](5, 5, g, count, corner, stage)
            else:
                unfold_windows[real](g.fh, g.fw, g, count, corner, stage)
            if past:
                copy_past_caches(col, stage, count * taps)
            else:
                memcpy(col, stage, count * taps * sizeof(real))
            col += count * taps
            u += count
    if past:
        end_past_caches()


cdef inline void fold_windows(
    ptrdiff_t FH, ptrdiff_t FW, const Columns* g, ptrdiff_t begin, ptrdiff_t end, const real* col,
    real* scratch,
) noexcept nogil:
    """Windows [begin, end) of one image, whose rows begin at col; FH and FW may be literals."""
    cdef ptrdiff_t width = g.w + 2 * g.pad
    cdef ptrdiff_t plane = (g.h + 2 * g.pad) * width
    cdef ptrdiff_t v = begin // g.ow, u = begin % g.ow
    cdef ptrdiff_t window, c, fy
    cdef real* corner
    for window in range(begin, end):
        corner = scratch + (v * width + u) * g.stride
        for c in range(g.c):
            for fy in range(FH):
                add_run(corner + c * plane + fy * width, col, FW)
                col += FW
        u += 1
        if u == g.ow:
            u, v = 0, v + 1


cdef inline void fold_any(
    const Columns* g, ptrdiff_t begin, ptrdiff_t end, const real* col, real* scratch
) noexcept nogil:
    if g.fh == 3 and g.fw == 3:
        fold_windows[real](3, 3, g, begin, end, col, scratch)
    elif g.fh == 5 and g.fw == 5:
        fold_windows[real](5, 5, g, begin, end, col, scratch)
    else:
        fold_windows[real](g.fh, g.fw, g, begin, end, col, scratch)


cdef void fold_image(
    const Columns* g, const real* col, real* image, real* scratch, real* stage
) noexcept nogil:
    """The image that sums its columns (OH*OW, C*FH*FW)."""
    cdef ptrdiff_t height = g.h + 2 * g.pad, width = g.w + 2 * g.pad
    cdef ptrdiff_t taps = g.c * g.fh * g.fw, windows = g.oh * g.ow
    # Behind the others the matrix goes on for as long as a run may be read too far.
    cdef ptrdiff_t last = max(0, windows - ceil_div(RUN, taps))
    cdef ptrdiff_t c, y
    memset(scratch, 0, padded_pixels(g) * sizeof(real))
    memcpy(stage, col + last * taps, (windows - last) * taps * sizeof(real))
    fold_any(g, 0, last, col, scratch)
    fold_any(g, last, windows, stage, scratch)
    for c in range(g.c):
        for y in range(g.h):
            memcpy(
                image + (c * g.h + y) * g.w,
                scratch + (c * height + y + g.pad) * width + g.pad,
                g.w * sizeof(real),
            )


def im2col(
    const real[:, :, :, ::1] x,
    real[:, ::1] col,
    ptrdiff_t fh,
    ptrdiff_t fw,
    ptrdiff_t stride,
    ptrdiff_t pad,
    ptrdiff_t oh,
    ptrdiff_t ow,
    int threads,
):
    """col (N*OH*OW, C*FH*FW) from x (N, C, H, W)."""
    cdef Columns g = Columns(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], fh, fw, stride, pad, oh, ow
    )
    cdef ptrdiff_t taps = col.shape[1], rows = g.n * oh
    cdef int team = team_size(threads, rows, rows * ow * taps)
    cdef Scratch windows = Scratch((padded_pixels(&g) + RUN) * sizeof(real), team)
    cdef Scratch staging = Scratch(
        (staged_windows(&g, sizeof(real)) * taps + RUN) * sizeof(real), team
    )
    cdef char* scratch = windows.start
    cdef char* stage = staging.start
    cdef ptrdiff_t scratch_step = windows.step, stage_step = staging.step
    cdef int t
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            unfold_rows(
                &g, &x[0, 0, 0, 0], share(rows, t, team), share(rows, t + 1, team), &col[0, 0],
                <real*> (scratch + t * scratch_step), <real*> (stage + t * stage_step),
            )


def col2im(
    const real[:, ::1] col,
    real[:, :, :, ::1] x,
    ptrdiff_t fh,
    ptrdiff_t fw,
    ptrdiff_t stride,
    ptrdiff_t pad,
    ptrdiff_t oh,
    ptrdiff_t ow,
    int threads,
):
    """x (N, C, H, W) that sums col (N*OH*OW, C*FH*FW)."""
    cdef Columns g = Columns(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], fh, fw, stride, pad, oh, ow
    )
    cdef ptrdiff_t taps = col.shape[1]
    cdef int team = team_size(threads, g.n, g.n * oh * ow * taps)
    cdef Scratch windows = Scratch((padded_pixels(&g) + RUN) * sizeof(real), team)
    cdef Scratch staging = Scratch((taps + 2 * RUN) * sizeof(real), team)
    cdef char* scratch = windows.start
    cdef char* stage = staging.start
    cdef ptrdiff_t scratch_step = windows.step, stage_step = staging.step
    cdef int t
    cdef ptrdiff_t image
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            for image in range(share(g.n, t, team), share(g.n, t + 1, team)):
                fold_image(
                    &g, &col[image * oh * ow, 0], &x[image, 0, 0, 0],
                    <real*> (scratch + t * scratch_step), <real*> (stage + t * stage_step),
                )
