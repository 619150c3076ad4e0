# Augmentation: warps with bilinear interpolation, smoothing of random fields, tone and boxes.
#
#     warp:    for image, in parallel:  copy it into this thread's scratch, within a frame of `fill`
#                  for pixel:  its place;  for channel:  two neighbours above, two below, blended
#     smooth:  for plane, in parallel:  for row:  for vector:  for tap:  sum, into scratch
#                  for row:  for vector:  for tap:  sum
#     tone:    for image, in parallel:  gain*x + offset, then the box
#
# Places outside the image are clipped to the frame, so that nothing branches on where a place is,
# and no place, however wild, leads out of scratch. The four neighbours of a place are loaded one by
# one, since the places of adjacent pixels may be anywhere. Smoothing keeps its sum, one vector, in
# a register over all taps; scratch is wide enough for whole vectors.

cdef enum:
    IN_FRONT = 1  # rows and columns of the frame before the image: the place -1
    FRAME = 3  # rows and columns in all: the places W and W + 1 too, whose weight is 0

cdef enum:
    WARP_WORK = 8  # what a pixel of a warp costs, in values to touch; also in _numba/augment.py


cdef inline real clamped(real place, real size) noexcept nogil:
    """The place clipped to -1..size, NaN to -1."""
    if place > size:
        return size
    return place if place > -1 else -1


cdef inline real between(real s, real t, real share) noexcept nogil:
    """s + share*(t - s), but s where `share` is 0: there a NaN in t does not count."""
    return s if share == 0 else s + share * (t - s)


cdef void warp_image(
    const real* image, const real* m, const real* field, ptrdiff_t channels, ptrdiff_t height,
    ptrdiff_t width, real* framed, real* out,
) noexcept nogil:
    """One image; `framed` is scratch whose frame is filled, `field` may be NULL."""
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
    """One plane; scratch for one row of x and for all `rows` (`step` apart), zeros around both."""
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


cdef struct Warp:
    const void* x
    const void* matrix
    const void* field
    ptrdiff_t n, channels, height, width
    double fill
    void* out
    Room framed


cdef void warp_part(const real* type_of, const Warp* w, int t, const Crew* crew) noexcept nogil:
    cdef ptrdiff_t plane = w.height * w.width
    cdef ptrdiff_t size = w.channels * plane
    cdef real* framed = <real*> room_of(&w.framed, t)
    cdef const real* field = NULL
    cdef ptrdiff_t image, i
    for i in range(w.channels * (w.height + FRAME) * (w.width + FRAME)):
        framed[i] = <real> w.fill
    for image in range(share(w.n, t, crew.size), share(w.n, t + 1, crew.size)):
        if w.field != NULL:
            field = <const real*> w.field + image * 2 * plane
        warp_image[real](
            <const real*> w.x + image * size, <const real*> w.matrix + image * 6, field,
            w.channels, w.height, w.width, framed, <real*> w.out + image * size,
        )


def warp(
    const real[:, :, :, ::1] x,
    const real[:, :, ::1] matrix,
    const real[:, :, :, ::1] field,
    double fill,
    real[:, :, :, ::1] out,
    int threads,
):
    """out (N, C, H, W): x at the places of matrix (N, 2, 3) and field (N, 2, H, W) or None."""
    cdef ptrdiff_t n = x.shape[0], channels = x.shape[1], height = x.shape[2], width = x.shape[3]
    cdef ptrdiff_t size = channels * (height + FRAME) * (width + FRAME)
    cdef int team = team_size(threads, n, WARP_WORK * n * channels * height * width)
    cdef Scratch scratch = Scratch(size * sizeof(real), team)
    cdef Warp w
    w.x, w.matrix, w.field = &x[0, 0, 0, 0], &matrix[0, 0, 0], NULL
    if field is not None:
        w.field = &field[0, 0, 0, 0]
    w.n, w.channels, w.height, w.width = n, channels, height, width
    w.fill, w.out, w.framed = fill, &out[0, 0, 0, 0], scratch.room()
    with nogil:
        run_parts(<Part> warp_part[real], &w, team, 0)


cdef struct Smoothing:
    const void* x
    ptrdiff_t planes, height, width
    const void* taps
    ptrdiff_t count
    ptrdiff_t line  # values of a row in scratch
    void* out
    Room scratch


cdef void smooth_part(
    const real* type_of, const Smoothing* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t size = w.height * w.width
    cdef real* rows = <real*> room_of(&w.scratch, t)
    cdef ptrdiff_t plane
    memset(rows, 0, w.scratch.size)
    for plane in range(share(w.planes, t, crew.size), share(w.planes, t + 1, crew.size)):
        smooth_plane[real](
            <const real*> w.x + plane * size, w.height, w.width, <const real*> w.taps, w.count,
            w.line, rows + (w.height + w.count - 1) * w.line, rows,
            <real*> w.out + plane * size,
        )


def smooth(
    const real[:, :, :, ::1] x, const real[::1] taps, real[:, :, :, ::1] out, int threads
):
    """out (N, C, H, W): x correlated with taps (K,) along both axes, zeros outside."""
    cdef ptrdiff_t height = x.shape[2], width = x.shape[3], count = taps.shape[0]
    cdef ptrdiff_t planes = x.shape[0] * x.shape[1]
    cdef ptrdiff_t line = ceil_div(width, lanes(&taps[0])) * lanes(&taps[0])
    cdef ptrdiff_t row_size = line + count - 1, rows_size = (height + count - 1) * line
    cdef int team = team_size(threads, planes, planes * height * width * count // 4)
    cdef Scratch scratch = Scratch((row_size + rows_size) * sizeof(real), team)
    cdef Smoothing w
    w.x, w.planes, w.height, w.width = &x[0, 0, 0, 0], planes, height, width
    w.taps, w.count, w.line, w.out = &taps[0], count, line, &out[0, 0, 0, 0]
    w.scratch = scratch.room()
    with nogil:
        run_parts(<Part> smooth_part[real], &w, team, 0)


cdef struct Tone:
    const void* x
    const void* gain
    const void* offset
    const long long* boxes
    double fill
    ptrdiff_t n, channels, height, width
    void* out


cdef void tone_part(const real* type_of, const Tone* w, int t, const Crew* crew) noexcept nogil:
    cdef ptrdiff_t size = w.channels * w.height * w.width
    cdef ptrdiff_t image
    for image in range(share(w.n, t, crew.size), share(w.n, t + 1, crew.size)):
        tone_image[real](
            <const real*> w.x + image * size, (<const real*> w.gain)[image],
            (<const real*> w.offset)[image], w.boxes + image * 4, <real> w.fill, w.channels,
            w.height, w.width, <real*> w.out + image * size,
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
    """out (N, C, H, W) = gain*x + offset, but `fill` inside the boxes (N, 4)."""
    cdef ptrdiff_t n = x.shape[0], channels = x.shape[1], height = x.shape[2], width = x.shape[3]
    cdef int team = team_size(threads, n, n * channels * height * width)
    cdef Tone w
    w.x, w.gain, w.offset, w.boxes = &x[0, 0, 0, 0], &gain[0], &offset[0], &boxes[0, 0]
    w.fill, w.n, w.channels, w.height, w.width = fill, n, channels, height, width
    w.out = &out[0, 0, 0, 0]
    with nogil:
        run_parts(<Part> tone_part[real], &w, team, 0)
