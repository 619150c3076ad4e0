# Local response normalisation over neighbouring channels.
#
#     for pixel, in parallel:
#         squares = x*x, zeros around
#         for vector of channels:  scale = k + alpha/size * sum of `size` neighbours;
#                                  out = x * scale**-beta
#
# Channels fill the vectors; a neighbour is the same row of squares, shifted by one. Backward has
# the same loops, with the window reversed. The power is two square roots where beta is 3/4, as in
# all well-known networks with this layer, and otherwise the C library's.

from libc.math cimport pow as double_pow, powf

cdef struct Window:
    ptrdiff_t c, before, after
    double alpha, beta, k  # alpha divided by the size
    bint roots  # whether the power is two square roots


cdef inline real power(real x, real exponent) noexcept nogil:
    if real is float:
        return powf(x, exponent)
    else:
        return double_pow(x, exponent)


cdef void inverse_powers(
    const Window* g, const real* scale, real* powers
) noexcept nogil:
    """powers = scale**-beta."""
    cdef ptrdiff_t i
    if g.roots:
        for i in range(g.c):
            powers[i] = 1 / root(scale[i] * root(scale[i]))
    else:
        for i in range(g.c):
            powers[i] = power(scale[i], <real> -g.beta)


cdef inline vec[real] neighbours(
    const real* values, ptrdiff_t size, ptrdiff_t count
) noexcept nogil:
    """Sums of `size` neighbours from each of `count` places on."""
    cdef vec[real] sum = load_part(values, count)
    cdef ptrdiff_t i
    for i in range(1, size):
        sum = add(sum, load_part(values + i, count))
    return sum


cdef void lrn_pixel(
    const Window* g, const real* x, real* out, real* scale, real* squares
) noexcept nogil:
    """All channels of one pixel; `squares` has zeros around them."""
    cdef ptrdiff_t size = g.before + 1 + g.after
    cdef ptrdiff_t c
    cdef vec[real] sum
    for c in range(g.c):
        squares[g.before + c] = x[c] * x[c]
    for c from 0 <= c < g.c by lanes(x):
        sum = neighbours[real](squares + c, size, g.c - c)
        sum = muladd(sum, broadcast(<real> g.alpha), broadcast(<real> g.k))
        store_part(scale + c, sum, g.c - c)
    inverse_powers[real](g, scale, out)
    for c in range(g.c):
        out[c] *= x[c]


cdef void lrn_pixel_gradient(
    const Window* g, const real* dout, const real* x, const real* scale, real* dx, real* terms
) noexcept nogil:
    """dx of one pixel; `terms` has zeros around its channels."""
    cdef ptrdiff_t size = g.before + 1 + g.after
    cdef real factor = <real> (2 * g.alpha * g.beta)
    cdef ptrdiff_t c
    cdef vec[real] sum, product
    inverse_powers[real](g, scale, dx)
    for c in range(g.c):
        dx[c] *= dout[c]
        terms[g.after + c] = dx[c] * x[c] / scale[c]
    for c from 0 <= c < g.c by lanes(x):
        sum = times(broadcast(-factor), neighbours[real](terms + c, size, g.c - c))
        product = muladd(load_part(x + c, g.c - c), sum, load_part(dx + c, g.c - c))
        store_part(dx + c, product, g.c - c)


cdef struct Responses:
    Window g
    const void* x
    ptrdiff_t pixels
    void* out
    void* scale
    Room squares


cdef void responses_part(
    const real* type_of, const Responses* w, int t, const Crew* crew
) noexcept nogil:
    cdef real* squares = <real*> room_of(&w.squares, t)
    cdef ptrdiff_t c = w.g.c, unit
    memset(squares, 0, w.squares.size)
    for unit in range(share(w.pixels, t, crew.size), share(w.pixels, t + 1, crew.size)):
        lrn_pixel[real](
            &w.g, <const real*> w.x + unit * c, <real*> w.out + unit * c,
            <real*> w.scale + unit * c, squares,
        )


def lrn_forward(
    const real[:, ::1] x,
    ptrdiff_t size,
    double alpha,
    double beta,
    double k,
    real[:, ::1] out,
    real[:, ::1] scale,
    int threads,
):
    """out and scale (pixels, C) from x (pixels, C)."""
    cdef Window g = Window(
        x.shape[1], size // 2, (size - 1) // 2, alpha / size, beta, k, beta == 0.75
    )
    cdef ptrdiff_t units = x.shape[0]
    cdef int team = team_size(threads, units, 4 * units * g.c)
    cdef Scratch rows = Scratch((g.c + size) * sizeof(real), team)
    cdef Responses w
    w.g, w.x, w.pixels, w.out, w.scale = g, &x[0, 0], units, &out[0, 0], &scale[0, 0]
    w.squares = rows.room()
    took[real](LRN_FORWARD, ROOTS if g.roots else POWERS, &x[0, 0], team)
    with nogil:
        run_parts(<Part> responses_part[real], &w, team, 0)


cdef struct ResponsesGradient:
    Window g
    const void* dout
    const void* x
    const void* scale
    ptrdiff_t pixels
    void* dx
    Room terms


cdef void responses_gradient_part(
    const real* type_of, const ResponsesGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef real* terms = <real*> room_of(&w.terms, t)
    cdef ptrdiff_t c = w.g.c, unit
    memset(terms, 0, w.terms.size)
    for unit in range(share(w.pixels, t, crew.size), share(w.pixels, t + 1, crew.size)):
        lrn_pixel_gradient[real](
            &w.g, <const real*> w.dout + unit * c, <const real*> w.x + unit * c,
            <const real*> w.scale + unit * c, <real*> w.dx + unit * c, terms,
        )


def lrn_backward(
    const real[:, ::1] dout,
    const real[:, ::1] x,
    const real[:, ::1] scale,
    ptrdiff_t size,
    double alpha,
    double beta,
    real[:, ::1] dx,
    int threads,
):
    """dx (pixels, C) from dout, x and scale (pixels, C)."""
    cdef Window g = Window(
        x.shape[1], size // 2, (size - 1) // 2, alpha / size, beta, 0, beta == 0.75
    )
    cdef ptrdiff_t units = x.shape[0]
    cdef int team = team_size(threads, units, 4 * units * g.c)
    cdef Scratch rows = Scratch((g.c + size) * sizeof(real), team)
    cdef ResponsesGradient w
    w.g, w.dout, w.x, w.scale = g, &dout[0, 0], &x[0, 0], &scale[0, 0]
    w.pixels, w.dx, w.terms = units, &dx[0, 0], rows.room()
    took[real](LRN_BACKWARD, ROOTS if g.roots else POWERS, &x[0, 0], team)
    with nogil:
        run_parts(<Part> responses_gradient_part[real], &w, team, 0)
