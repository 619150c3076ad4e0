# Max pooling with the winning position of each window.
#
#     forward:   for row v of windows, in parallel:  for window u:  for vector of channels:
#                    best = first place;  for place:  where x(place) beats best: best, winner = it
#     backward:  for image, in parallel:  dx = 0
#                    for window (v, u):  for vector of channels:  for place:
#                        dx(place) += where place is the winner: dout
#
# Memory is channels-last, so channels fill the vectors and no lane ever branches: comparing
# gives a mask that chooses between two values and between two positions. The tile is one
# vector of values and one of positions; a window's place is read once, so more would gain
# nothing. Windows at the border are cut to the places that are inside the image.

cdef struct Pool:
    ptrdiff_t n, h, w, c, fh, fw, stride, pad, oh, ow


cdef inline ptrdiff_t first_place(ptrdiff_t corner) noexcept nogil:
    """First place of a window that is inside the image, along one axis."""
    return max(0, -corner)


cdef inline ptrdiff_t end_place(ptrdiff_t corner, ptrdiff_t window, ptrdiff_t size) noexcept nogil:
    """One past the last place of a window that is inside the image, along one axis."""
    return min(window, size - corner)


cdef void pool_row(
    const Pool* g, ptrdiff_t v, const real* image, real* out, place* winner
) noexcept nogil:
    """One row of windows of one image; out and winner are those of the row."""
    cdef ptrdiff_t top = v * g.stride - g.pad
    cdef ptrdiff_t begin_y = first_place(top), end_y = end_place(top, g.fh, g.h)
    cdef ptrdiff_t u, left, begin_x, end_x, c, rest, y, x
    cdef const real* window
    cdef vec[real] best, value
    cdef ivec[real] position, better
    for u in range(g.ow):
        left = u * g.stride - g.pad
        begin_x, end_x = first_place(left), end_place(left, g.fw, g.w)
        for c from 0 <= c < g.c by lanes(image):
            rest = g.c - c
            window = image + (top * g.w + left) * g.c + c
            best = load_part(window + (begin_y * g.w + begin_x) * g.c, rest)
            position = broadcast_index(best, <int> (begin_y * g.fw + begin_x))
            for y in range(begin_y, end_y):
                for x in range(begin_x, end_x):
                    value = load_part(window + (y * g.w + x) * g.c, rest)
                    better = beats(value, best)
                    best = choose(better, value, best)
                    position = choose_index(
                        better, broadcast_index(value, <int> (y * g.fw + x)), position
                    )
            store_part(out + c, best, rest)
            store_index(winner + c, position, rest)
        out += g.c
        winner += g.c


cdef void pool_image_gradient(
    const Pool* g, const real* dout, const place* winner, real* dx
) noexcept nogil:
    """dx of one image."""
    cdef ptrdiff_t v, u, top, left, begin_y, end_y, begin_x, end_x, c, rest, y, x
    cdef real* window
    cdef real* to
    cdef vec[real] gradient, share_of_place
    cdef ivec[real] position
    memset(dx, 0, g.h * g.w * g.c * sizeof(real))
    for v in range(g.oh):
        top = v * g.stride - g.pad
        begin_y, end_y = first_place(top), end_place(top, g.fh, g.h)
        for u in range(g.ow):
            left = u * g.stride - g.pad
            begin_x, end_x = first_place(left), end_place(left, g.fw, g.w)
            for c from 0 <= c < g.c by lanes(dout):
                rest = g.c - c
                window = dx + (top * g.w + left) * g.c + c
                gradient = load_part(dout + c, rest)
                position = load_index(gradient, winner + c, rest)
                for y in range(begin_y, end_y):
                    for x in range(begin_x, end_x):
                        to = window + (y * g.w + x) * g.c
                        share_of_place = choose(
                            equal(position, broadcast_index(gradient, <int> (y * g.fw + x))),
                            gradient, broadcast(<real> 0),
                        )
                        store_part(to, add(load_part(to, rest), share_of_place), rest)
            dout += g.c
            winner += g.c


def maxpool2d_forward(
    const real[:, :, :, ::1] x,
    real[:, :, :, ::1] out,
    place[:, :, :, ::1] winner,
    ptrdiff_t fh,
    ptrdiff_t fw,
    ptrdiff_t stride,
    ptrdiff_t pad,
    int threads,
):
    """out and winner (N, OH, OW, C) from x (N, H, W, C)."""
    cdef Pool g = Pool(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], fh, fw, stride, pad,
        out.shape[1], out.shape[2],
    )
    cdef ptrdiff_t units = g.n * g.oh
    cdef int team = team_size(threads, units, units * g.ow * g.c * fh * fw)
    cdef int t
    cdef ptrdiff_t unit, image, v
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            for unit in range(share(units, t, team), share(units, t + 1, team)):
                image, v = unit // g.oh, unit % g.oh
                pool_row(&g, v, &x[image, 0, 0, 0], &out[image, v, 0, 0], &winner[image, v, 0, 0])


def maxpool2d_backward(
    const real[:, :, :, ::1] dout,
    const place[:, :, :, ::1] winner,
    real[:, :, :, ::1] dx,
    ptrdiff_t fh,
    ptrdiff_t fw,
    ptrdiff_t stride,
    ptrdiff_t pad,
    int threads,
):
    """dx (N, H, W, C) from dout and winner (N, OH, OW, C)."""
    cdef Pool g = Pool(
        dx.shape[0], dx.shape[1], dx.shape[2], dx.shape[3], fh, fw, stride, pad,
        dout.shape[1], dout.shape[2],
    )
    cdef int team = team_size(threads, g.n, g.n * g.oh * g.ow * g.c * fh * fw)
    cdef int t
    cdef ptrdiff_t image
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            for image in range(share(g.n, t, team), share(g.n, t + 1, team)):
                pool_image_gradient(
                    &g, &dout[image, 0, 0, 0], &winner[image, 0, 0, 0], &dx[image, 0, 0, 0]
                )
