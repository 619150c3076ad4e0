# im2col and its adjoint col2im, on images in the book's own memory, (N, C, H, W).
#
#     im2col:  for image, in parallel:  pad it into this thread's scratch
#                  for window (v, u):  for channel:  for row fy:  copy the run of FW values
#     col2im:  the same loops, each run added to the padded scratch; then its inside is copied out
#
# A run is one row of one filter, a few values long, too short for a call of memcpy. It is copied
# in whole chunks of 16 bytes, which are single instructions: what is too much lies where the
# next run is written, for runs follow each other in the column matrix. Only the last runs of
# an image, behind which another thread may write, are copied value by value. Scratch
# ends with a chunk to spare, for the copies that read past it. A chunk is all the tile there is.

cdef enum:
    CHUNK_BYTES = 16

cdef struct Columns:
    ptrdiff_t n, c, h, w, fh, fw, stride, pad, oh, ow


cdef inline ptrdiff_t padded_pixels(const Columns* g) noexcept nogil:
    return g.c * (g.h + 2 * g.pad) * (g.w + 2 * g.pad)


cdef void unfold_image(
    const Columns* g, const real* image, real* col, real* scratch
) noexcept nogil:
    """Columns (OH*OW, C*FH*FW) of one image."""
    cdef ptrdiff_t height = g.h + 2 * g.pad, width = g.w + 2 * g.pad
    cdef ptrdiff_t v, u, c, fy, i
    cdef const real* run
    cdef ptrdiff_t chunk = CHUNK_BYTES // sizeof(real)
    cdef ptrdiff_t rest = g.oh * g.ow * g.c * g.fh * g.fw  # values of this image from col on
    cdef Incoming planes = incoming(NO_GATE, g.c, g.h, g.w, 1, image, NULL)  # images of one channel
    for c in range(g.c):
        gated_window[real](
            &planes, c, -g.pad, -g.pad, height, width, scratch + c * height * width, 1
        )
    for v in range(g.oh):
        for u in range(g.ow):
            for c in range(g.c):
                run = scratch + (c * height + v * g.stride) * width + u * g.stride
                for fy in range(g.fh):
                    if rest >= g.fw + chunk:
                        for i from 0 <= i < g.fw by chunk:
                            memcpy(col + i, run + i, CHUNK_BYTES)
                    else:
                        for i in range(g.fw):
                            col[i] = run[i]
                    run += width
                    col += g.fw
                    rest -= g.fw


cdef void fold_image(
    const Columns* g, const real* col, real* image, real* scratch
) noexcept nogil:
    """The image that sums its columns (OH*OW, C*FH*FW)."""
    cdef ptrdiff_t height = g.h + 2 * g.pad, width = g.w + 2 * g.pad
    cdef ptrdiff_t v, u, c, fy, i
    cdef real* run
    memset(scratch, 0, padded_pixels(g) * sizeof(real))
    for v in range(g.oh):
        for u in range(g.ow):
            for c in range(g.c):
                run = scratch + (c * height + v * g.stride) * width + u * g.stride
                for fy in range(g.fh):
                    for i in range(g.fw):
                        run[i] += col[i]
                    run += width
                    col += g.fw
    for c in range(g.c):
        for v in range(g.h):
            memcpy(
                image + (c * g.h + v) * g.w,
                scratch + (c * height + v + g.pad) * width + g.pad,
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
    cdef ptrdiff_t volume = oh * ow * col.shape[1]
    cdef int team = team_size(threads, g.n, g.n * volume)
    cdef Scratch windows = Scratch(padded_pixels(&g) * sizeof(real) + CHUNK_BYTES, team)
    cdef char* scratch = windows.start
    cdef ptrdiff_t scratch_step = windows.step
    cdef int t
    cdef ptrdiff_t image
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            for image in range(share(g.n, t, team), share(g.n, t + 1, team)):
                unfold_image(
                    &g, &x[image, 0, 0, 0], &col[image * oh * ow, 0],
                    <real*> (scratch + t * scratch_step),
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
    cdef ptrdiff_t volume = oh * ow * col.shape[1]
    cdef int team = team_size(threads, g.n, g.n * volume)
    cdef Scratch windows = Scratch(padded_pixels(&g) * sizeof(real), team)
    cdef char* scratch = windows.start
    cdef ptrdiff_t scratch_step = windows.step
    cdef int t
    cdef ptrdiff_t image
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            for image in range(share(g.n, t, team), share(g.n, t + 1, team)):
                fold_image(
                    &g, &col[image * oh * ow, 0], &x[image, 0, 0, 0],
                    <real*> (scratch + t * scratch_step),
                )
