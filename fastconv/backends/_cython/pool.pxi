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
#
# The usual windows, 2 x 2 and 3 x 3, are literals, so that their places unroll. Where those of 2 x 2
# tile the image, backward writes each place once: nothing is cleared, and nothing read.

cdef struct Pool:
    ptrdiff_t n, h, w, c, fh, fw, stride_y, stride_x, top, left, oh, ow


cdef inline ptrdiff_t first_place(ptrdiff_t corner) noexcept nogil:
    """First place of a window that is inside the image, along one axis."""
    return max(0, -corner)


cdef inline ptrdiff_t end_place(ptrdiff_t corner, ptrdiff_t window, ptrdiff_t size) noexcept nogil:
    """One past the last place of a window that is inside the image, along one axis."""
    return min(window, size - corner)


cdef inline void pool_vector(
    ptrdiff_t BEGIN_Y, ptrdiff_t END_Y, ptrdiff_t BEGIN_X, ptrdiff_t END_X, ptrdiff_t FW,
    ptrdiff_t row, ptrdiff_t pixel, const real* window, ptrdiff_t count, real* out, place* winner,
) noexcept nogil:
    """`count` channels of one window, at most a vector of them; capitals may be literals."""
    cdef vec[real] best = load_part(window + BEGIN_Y * row + BEGIN_X * pixel, count)
    cdef ivec[real] position = broadcast_index(best, <int> (BEGIN_Y * FW + BEGIN_X))
    cdef vec[real] value
    cdef ivec[real] better
    cdef ptrdiff_t y, x
    for y in range(BEGIN_Y, END_Y):
        for x in range(BEGIN_X, END_X):
            if y > BEGIN_Y or x > BEGIN_X:
                value = load_part(window + y * row + x * pixel, count)
                better = beats(value, best)
                best = choose(better, value, best)
                position = choose_index(
                    better, broadcast_index(value, <int> (y * FW + x)), position
                )
    store_part(out, best, count)
    store_index(winner, position, count)


cdef inline void pool_window(
    ptrdiff_t BEGIN_Y, ptrdiff_t END_Y, ptrdiff_t BEGIN_X, ptrdiff_t END_X, ptrdiff_t FW,
    const Pool* g, const real* window, real* out, place* winner,
) noexcept nogil:
    cdef ptrdiff_t row = g.w * g.c, whole = g.c // lanes(window) * lanes(window)
    cdef ptrdiff_t c
    for c from 0 <= c < whole by lanes(window):
        pool_vector[real, place](
            BEGIN_Y, END_Y, BEGIN_X, END_X, FW, row, g.c, window + c, lanes(window), out + c,
            winner + c,
        )
    if whole < g.c:
        pool_vector[real, place](
            BEGIN_Y, END_Y, BEGIN_X, END_X, FW, row, g.c, window + whole, g.c - whole,
            out + whole, winner + whole,
        )


cdef void pool_row(
    const Pool* g, ptrdiff_t v, const real* image, real* out, place* winner
) noexcept nogil:
    """One row of windows of one image; out and winner are those of the row."""
    cdef ptrdiff_t top = v * g.stride_y - g.top
    cdef ptrdiff_t begin_y = first_place(top), end_y = end_place(top, g.fh, g.h)
    cdef ptrdiff_t u, left, begin_x, end_x
    cdef const real* window
    for u in range(g.ow):
        left = u * g.stride_x - g.left
        begin_x, end_x = first_place(left), end_place(left, g.fw, g.w)
        window = image + (top * g.w + left) * g.c
        if g.fw == 2 and begin_y == begin_x == 0 and end_y == end_x == 2:
            pool_window[real, place](0, 2, 0, 2, 2, g, window, out, winner)
        elif g.fw == 3 and begin_y == begin_x == 0 and end_y == end_x == 3:
            pool_window[real, place](0, 3, 0, 3, 3, g, window, out, winner)
        else:
            pool_window[real, place](
                begin_y, end_y, begin_x, end_x, g.fw, g, window, out, winner
            )
        out += g.c
        winner += g.c


cdef inline bint tiles_image(const Pool* g) noexcept nogil:
    """Whether windows of 2 x 2 hold each place of the image exactly once."""
    cdef bint aligned = g.fh == g.fw == g.stride_y == g.stride_x == 2 and g.top == g.left == 0
    return aligned and g.h == 2 * g.oh and g.w == 2 * g.ow


cdef inline void give_vector(
    ptrdiff_t BEGIN_Y, ptrdiff_t END_Y, ptrdiff_t BEGIN_X, ptrdiff_t END_X, ptrdiff_t FW, bint ADD,
    ptrdiff_t row, ptrdiff_t pixel, const real* dout, const place* winner, ptrdiff_t count,
    real* window,
) noexcept nogil:
    """Write, or add, the gradient of `count` channels of one window to their winners."""
    cdef vec[real] gradient = load_part(dout, count), part
    cdef ivec[real] position = load_index(gradient, winner, count)
    cdef ptrdiff_t y, x
    cdef real* to
    for y in range(BEGIN_Y, END_Y):
        for x in range(BEGIN_X, END_X):
            to = window + y * row + x * pixel
            part = choose(
                equal(position, broadcast_index(gradient, <int> (y * FW + x))),
                gradient, broadcast(<real> 0),
            )
            if ADD:
                part = add(load_part(to, count), part)
            store_part(to, part, count)


cdef inline void give_window(
    ptrdiff_t BEGIN_Y, ptrdiff_t END_Y, ptrdiff_t BEGIN_X, ptrdiff_t END_X, ptrdiff_t FW, bint ADD,
    const Pool* g, const real* dout, const place* winner, real* window,
) noexcept nogil:
    cdef ptrdiff_t row = g.w * g.c, whole = g.c // lanes(dout) * lanes(dout)
    cdef ptrdiff_t c
    for c from 0 <= c < whole by lanes(dout):
        give_vector[real, place](
            BEGIN_Y, END_Y, BEGIN_X, END_X, FW, ADD, row, g.c, dout + c, winner + c, lanes(dout),
            window + c,
        )
    if whole < g.c:
        give_vector[real, place](
            BEGIN_Y, END_Y, BEGIN_X, END_X, FW, ADD, row, g.c, dout + whole, winner + whole,
            g.c - whole, window + whole,
        )


cdef void pool_image_gradient(
    const Pool* g, bint tiled, const real* dout, const place* winner, real* dx
) noexcept nogil:
    """dx of one image; see `tiles_image`."""
    cdef ptrdiff_t v, u, top, left, begin_y, end_y
    cdef real* window
    if not tiled:
        memset(dx, 0, g.h * g.w * g.c * sizeof(real))
    for v in range(g.oh):
        top = v * g.stride_y - g.top
        begin_y, end_y = first_place(top), end_place(top, g.fh, g.h)
        for u in range(g.ow):
            left = u * g.stride_x - g.left
            window = dx + (top * g.w + left) * g.c
            if tiled:
                give_window[real, place](0, 2, 0, 2, 2, False, g, dout, winner, window)
            else:
                give_window[real, place](
                    begin_y, end_y, first_place(left), end_place(left, g.fw, g.w), g.fw, True,
                    g, dout, winner, window,
                )
            dout += g.c
            winner += g.c


cdef struct MaxPool:
    Pool g
    const void* x
    void* out
    void* winner
    bint bytes  # winner is of them, and of int else


cdef void maxpool_part(
    const real* type_of, const MaxPool* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t units = w.g.n * w.g.oh, image_size = w.g.h * w.g.w * w.g.c
    cdef ptrdiff_t at, unit
    cdef const real* image
    cdef real* out
    for unit in range(share(units, t, crew.size), share(units, t + 1, crew.size)):
        image = <const real*> w.x + unit // w.g.oh * image_size
        at = unit * w.g.ow * w.g.c
        out = <real*> w.out + at
        if w.bytes:
            pool_row(&w.g, unit % w.g.oh, image, out, <unsigned char*> w.winner + at)
        else:
            pool_row(&w.g, unit % w.g.oh, image, out, <int*> w.winner + at)


def maxpool2d_forward(
    const real[:, :, :, ::1] x,
    real[:, :, :, ::1] out,
    place[:, :, :, ::1] winner,
    ptrdiff_t fh,
    ptrdiff_t fw,
    ptrdiff_t stride_y,
    ptrdiff_t stride_x,
    ptrdiff_t top,
    ptrdiff_t left,
    int threads,
):
    """out and winner (N, OH, OW, C) from x (N, H, W, C)."""
    cdef Pool g = Pool(
        x.shape[0], x.shape[1], x.shape[2], x.shape[3], fh, fw, stride_y, stride_x, top, left,
        out.shape[1], out.shape[2],
    )
    cdef ptrdiff_t units = g.n * g.oh
    cdef int team = team_size(threads, units, units * g.ow * g.c * fh * fw)
    cdef MaxPool w
    w.g, w.x, w.out = g, &x[0, 0, 0, 0], &out[0, 0, 0, 0]
    w.winner, w.bytes = &winner[0, 0, 0, 0], sizeof(place) == 1
    took[real](MAXPOOL_FORWARD, POSITIONS, &x[0, 0, 0, 0], team)
    with nogil:
        run_parts(<Part> maxpool_part[real], &w, team, 0)


cdef struct MaxPoolGradient:
    Pool g
    bint tiled
    const void* dout
    const void* winner
    bint bytes  # winner is of them, and of int else
    void* dx


cdef void maxpool_gradient_part(
    const real* type_of, const MaxPoolGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t at, image
    cdef const real* dout
    cdef real* dx
    for image in range(share(w.g.n, t, crew.size), share(w.g.n, t + 1, crew.size)):
        at = image * w.g.oh * w.g.ow * w.g.c
        dout = <const real*> w.dout + at
        dx = <real*> w.dx + image * w.g.h * w.g.w * w.g.c
        if w.bytes:
            pool_image_gradient(&w.g, w.tiled, dout, <const unsigned char*> w.winner + at, dx)
        else:
            pool_image_gradient(&w.g, w.tiled, dout, <const int*> w.winner + at, dx)


def maxpool2d_backward(
    const real[:, :, :, ::1] dout,
    const place[:, :, :, ::1] winner,
    real[:, :, :, ::1] dx,
    ptrdiff_t fh,
    ptrdiff_t fw,
    ptrdiff_t stride_y,
    ptrdiff_t stride_x,
    ptrdiff_t top,
    ptrdiff_t left,
    int threads,
):
    """dx (N, H, W, C) from dout and winner (N, OH, OW, C)."""
    cdef Pool g = Pool(
        dx.shape[0], dx.shape[1], dx.shape[2], dx.shape[3], fh, fw, stride_y, stride_x, top, left,
        dout.shape[1], dout.shape[2],
    )
    cdef int team = team_size(threads, g.n, g.n * g.oh * g.ow * g.c * fh * fw)
    cdef bint tiled = tiles_image(&g)
    cdef MaxPoolGradient w
    w.g, w.tiled, w.dout, w.dx = g, tiled, &dout[0, 0, 0, 0], &dx[0, 0, 0, 0]
    w.winner, w.bytes = &winner[0, 0, 0, 0], sizeof(place) == 1
    took[real](MAXPOOL_BACKWARD, TILED if tiled else OVERLAPPING, &dout[0, 0, 0, 0], team)
    with nogil:
        run_parts(<Part> maxpool_gradient_part[real], &w, team, 0)
