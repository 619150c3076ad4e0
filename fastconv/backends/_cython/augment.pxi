# Augmentation: warps with bilinear interpolation, smoothing of random fields, brightness and boxes.
#
#     warp:    for image, in parallel:  copy it into this thread's scratch, within a frame of `fill`
#                  for pixel:  its place;  for channel:  two neighbours above, two below, blended
#     smooth:  for plane, in parallel:  for row:  for vector:  for tap:  sum, into scratch
#                  for row:  for vector:  for tap:  sum
#     tone:    for image, in parallel:  gain*x + offset, then the box
#
# A place outside of the image is brought to the frame, so that nothing branches on where it is,
# and no place, however wild, leads out of scratch. The four neighbours of a pixel are loaded one by
# one: places of neighbouring pixels lie anywhere. Smoothing keeps its sum, a vector, in a register
# over all taps; scratch is wide enough for whole vectors.

cdef enum:
    IN_FRONT = 1  # of the frame: the place -1
    FRAME = 3  # of both sides: the places W and W + 1 too, whose weight is 0

cdef enum:
    WARP_WORK = 8  # what a pixel costs, in values to touch; also in _numba/augment.py


cdef inline real clamped(real place, real size) noexcept nogil:
    """The place brought to -1..size, NaN to -1."""
    if place > size:
        return size
    return place if place > -1 else -1


cdef inline real between(real s, real t, real share) noexcept nogil:
    return s if share == 0 else s + share * (t - s)


cdef void warp_image(
    const real* image, const real* m, const real* field, ptrdiff_t channels, ptrdiff_t height,
    ptrdiff_t width, real* framed, real* out,
) noexcept nogil:
    """One image; framed: scratch whose frame is filled. field is NULL where there is none."""
    cdef ptrdiff_t step = width + FRAME, size = height * width
    cdef ptrdiff_t plane = (height + FRAME) * step
    cdef ptrdiff_t c, v, u, row, column
    cdef real a, b, right, down
    cdef const real* corner
    for c in range(channels):
        for v in range(height):
            memcpy(
                framed + c * plane + (v + IN_FRONT) * step + IN_FRONT,
                image + c * size + v * width,
                width * sizeof(real),
            )
    for v in range(height):
        for u in range(width):
            a = m[0] * u + (m[1] * v + m[2])
            b = m[3] * u + (m[4] * v + m[5])
            if field != NULL:
                a += field[u]
                b += field[size + u]
            a, b = clamped(a, <real> width), clamped(b, <real> height)
            column, row = <ptrdiff_t> a, <ptrdiff_t> b
            column -= column > a  # conversion rounds towards 0
            row -= row > b
            right, down = a - column, b - row
            corner = framed + (row + IN_FRONT) * step + column + IN_FRONT
            for c in range(channels):
                out[c * size + u] = between(
                    between(corner[0], corner[1], right),
                    between(corner[step], corner[step + 1], right),
                    down,
                )
                corner += plane
        out += width
        if field != NULL:
            field += width


cdef void smooth_plane(
    const real* x, ptrdiff_t height, ptrdiff_t width, const real* taps, ptrdiff_t count,
    ptrdiff_t step, real* row, real* rows, real* out,
) noexcept nogil:
    """One plane; row: scratch for one of x, rows: for all, of `step` values, zeros around both."""
    cdef ptrdiff_t radius = count // 2
    cdef ptrdiff_t v, u, k
    cdef vec[real] total
    for v in range(height):
        memcpy(row + radius, x + v * width, width * sizeof(real))
        for u from 0 <= u < width by lanes(x):
            total = broadcast(<real> 0)
            for k in range(count):
                total = muladd(load(row + u + k), broadcast(taps[k]), total)
            store(rows + (radius + v) * step + u, total)
    for v in range(height):
        for u from 0 <= u < width by lanes(x):
            total = broadcast(<real> 0)
            for k in range(count):
                total = muladd(load(rows + (v + k) * step + u), broadcast(taps[k]), total)
            store_part(out + v * width + u, total, width - u)


cdef void tone_image(
    const real* x, real gain, real offset, const long long* box, real fill, ptrdiff_t channels,
    ptrdiff_t height, ptrdiff_t width, real* out,
) noexcept nogil:
    cdef ptrdiff_t c, v, u
    for u in range(channels * height * width):
        out[u] = gain * x[u] + offset
    for c in range(channels):
        for v in range(box[0], box[2]):
            for u in range(box[1], box[3]):
                out[(c * height + v) * width + u] = fill


def warp(
    const real[:, :, :, ::1] x,
    const real[:, :, ::1] matrix,
    const real[:, :, :, ::1] field,
    double fill,
    real[:, :, :, ::1] out,
    int threads,
):
    """out (N, C, H, W): x at the places that matrix (N, 2, 3) and field (N, 2, H, W) or None say."""
    cdef ptrdiff_t n = x.shape[0], channels = x.shape[1], height = x.shape[2], width = x.shape[3]
    cdef ptrdiff_t size = channels * (height + FRAME) * (width + FRAME)
    cdef bint has_field = field is not None
    cdef int team = team_size(threads, n, WARP_WORK * n * channels * height * width)
    cdef Scratch scratch = Scratch(size * sizeof(real), team)
    cdef char* start = scratch.start
    cdef ptrdiff_t step = scratch.step
    cdef ptrdiff_t image, i
    cdef int t
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            for i in range(size):
                (<real*> (start + t * step))[i] = <real> fill
            for image in range(share(n, t, team), share(n, t + 1, team)):
                warp_image(
                    &x[image, 0, 0, 0], &matrix[image, 0, 0],
                    &field[image, 0, 0, 0] if has_field else NULL,
                    channels, height, width, <real*> (start + t * step), &out[image, 0, 0, 0],
                )


def smooth(
    const real[:, :, :, ::1] x, const real[::1] taps, real[:, :, :, ::1] out, int threads
):
    """out (N, C, H, W): x correlated with taps (K,) along both axes, zeros outside."""
    cdef ptrdiff_t height = x.shape[2], width = x.shape[3], count = taps.shape[0]
    cdef ptrdiff_t planes = x.shape[0] * x.shape[1], size = height * width
    cdef ptrdiff_t line = ceil_div(width, lanes(&taps[0])) * lanes(&taps[0])
    cdef ptrdiff_t row_size = line + count - 1, rows_size = (height + count - 1) * line
    cdef int team = team_size(threads, planes, planes * size * count // 4)
    cdef Scratch scratch = Scratch((row_size + rows_size) * sizeof(real), team)
    cdef char* start = scratch.start
    cdef ptrdiff_t step = scratch.step
    cdef ptrdiff_t plane
    cdef real* mine
    cdef int t
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            memset(start + t * step, 0, (row_size + rows_size) * sizeof(real))
            for plane in range(share(planes, t, team), share(planes, t + 1, team)):
                mine = <real*> (start + t * step)
                smooth_plane(
                    &x[0, 0, 0, 0] + plane * size, height, width, &taps[0], count, line,
                    mine + rows_size, mine, &out[0, 0, 0, 0] + plane * size,
                )


def tone(
    const real[:, :, :, ::1] x,
    const real[::1] gain,
    const real[::1] offset,
    const long long[:, ::1] boxes,
    double fill,
    real[:, :, :, ::1] out,
    int threads,
):
    """out (N, C, H, W) = gain*x + offset, but `fill` inside of boxes (N, 4)."""
    cdef ptrdiff_t n = x.shape[0], channels = x.shape[1], height = x.shape[2], width = x.shape[3]
    cdef int team = team_size(threads, n, n * channels * height * width)
    cdef ptrdiff_t image
    cdef int t
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            for image in range(share(n, t, team), share(n, t + 1, team)):
                tone_image(
                    &x[image, 0, 0, 0], gain[image], offset[image], &boxes[image, 0], <real> fill,
                    channels, height, width, &out[image, 0, 0, 0],
                )
