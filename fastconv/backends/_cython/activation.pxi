# Activations: one pass over memory each way; backward computes again from the input.
#
#     for vector, in parallel:  out = f(x);  dx = dout * f'(x)
#
# These are bound by memory, not by arithmetic: no tile is needed. ReLU keeps a mask, one byte for
# each value, which costs a quarter (float64: an eighth) of the value's traffic. The others keep
# only x. The exponential function is that of exponential.h, for a whole vector; only the error
# function is the C library's, one value at a time.

from libc.math cimport erf as double_erf, erff

cdef enum:
    LEAKY_RELU  # numbered as in cython/activation.py
    ELU
    GELU
    SILU
    TANH
    SIGMOID

cdef extern from "exponential.h" nogil:
    vec[T] vector_exp[T](vec[T]) noexcept
    vec[T] vector_expm1[T](vec[T]) noexcept
    vec[T] vector_tanh[T](vec[T]) noexcept
    vec[T] divide[T](vec[T], vec[T]) noexcept


cdef void relu_part(
    const real* x, real* out, unsigned char* mask, ptrdiff_t begin, ptrdiff_t end
) noexcept nogil:
    cdef ptrdiff_t i
    cdef vec[real] value
    for i from begin <= i < end by lanes(x):
        value = load_part(x + i, end - i)
        store_part(out + i, relu(value), end - i)
        store_index(mask + i, one_where(positive(value)), end - i)


cdef void relu_gradient_part(
    const real* dout, const unsigned char* mask, real* dx, ptrdiff_t begin, ptrdiff_t end
) noexcept nogil:
    cdef ptrdiff_t i
    cdef vec[real] value
    for i from begin <= i < end by lanes(dout):
        value = load_part(dout + i, end - i)
        store_part(
            dx + i,
            choose(nonzero(load_index(value, mask + i, end - i)), value, broadcast(<real> 0)),
            end - i,
        )


cdef struct Relu:
    ptrdiff_t size
    const void* x
    void* out
    unsigned char* mask


cdef void relu_forward_part(
    const real* type_of, const Relu* w, int t, const Crew* crew
) noexcept nogil:
    relu_part[real](
        <const real*> w.x, <real*> w.out, w.mask, share(w.size, t, crew.size),
        share(w.size, t + 1, crew.size),
    )


def relu_forward(const real[::1] x, real[::1] out, unsigned char[::1] mask, int threads):
    """out = 0 where x <= 0, else x; mask = 1 where x > 0, else 0."""
    cdef ptrdiff_t size = x.shape[0]
    cdef int team = team_size(threads, size, size)
    cdef Relu w = Relu(size, &x[0], &out[0], &mask[0])
    with nogil:
        run_parts(<Part> relu_forward_part[real], &w, team, 0)


cdef struct ReluGradient:
    ptrdiff_t size
    const void* dout
    const unsigned char* mask
    void* dx


cdef void relu_backward_part(
    const real* type_of, const ReluGradient* w, int t, const Crew* crew
) noexcept nogil:
    relu_gradient_part[real](
        <const real*> w.dout, w.mask, <real*> w.dx, share(w.size, t, crew.size),
        share(w.size, t + 1, crew.size),
    )


def relu_backward(const real[::1] dout, const unsigned char[::1] mask, real[::1] dx, int threads):
    """dx = dout where mask, else 0."""
    cdef ptrdiff_t size = dout.shape[0]
    cdef int team = team_size(threads, size, size)
    cdef ReluGradient w = ReluGradient(size, &dout[0], &mask[0], &dx[0])
    with nogil:
        run_parts(<Part> relu_backward_part[real], &w, team, 0)


cdef inline real error_function(real x) noexcept nogil:
    if real is float:
        return erff(x)
    else:
        return double_erf(x)


cdef inline vec[real] normal_share(const real* x, ptrdiff_t count) noexcept nogil:
    """The normal distribution function at each of `count` values."""
    cdef char[VECTOR_BYTES] memory
    cdef real* shares = <real*> memory
    cdef ptrdiff_t i
    for i in range(count):
        shares[i] = <real> 0.5 * (1 + error_function(x[i] * <real> 0.7071067811865476))
    return load_part(<const real*> shares, count)


cdef inline vec[real] logistic(vec[real] x) noexcept nogil:
    """1 / (1 + exp(-x))."""
    cdef vec[real] one = broadcast(<real> 1)
    return divide(one, add(one, vector_exp(subtract(broadcast(<real> 0), x))))


cdef inline vec[real] activation(
    int KIND, const real* x, ptrdiff_t count, real slope
) noexcept nogil:
    """f of `count` values, at most a vector; KIND is literal."""
    cdef vec[real] value = load_part(x, count)
    if KIND == LEAKY_RELU:
        return choose(positive(value), value, times(value, broadcast(slope)))
    if KIND == ELU:
        return choose(
            positive(value), value, times(broadcast(slope), vector_expm1(value))
        )
    if KIND == GELU:
        return times(value, normal_share(x, count))
    if KIND == SILU:
        return times(value, logistic(value))
    if KIND == SIGMOID:
        return logistic(value)
    return vector_tanh(value)


cdef inline vec[real] derivative(
    int KIND, const real* x, ptrdiff_t count, real slope
) noexcept nogil:
    """f' of `count` values, at most a vector; KIND is literal."""
    cdef vec[real] value = load_part(x, count), one = broadcast(<real> 1), share
    if KIND == LEAKY_RELU:
        return choose(positive(value), one, broadcast(slope))
    if KIND == ELU:
        return choose(positive(value), one, times(broadcast(slope), vector_exp(value)))
    if KIND == GELU:
        share = vector_exp(times(times(value, value), broadcast(<real> -0.5)))
        share = times(times(value, broadcast(<real> 0.3989422804014327)), share)
        return add(normal_share(x, count), share)
    if KIND == SILU:
        share = logistic(value)
        return times(share, muladd(value, subtract(one, share), one))
    if KIND == SIGMOID:
        share = logistic(value)
        return times(share, subtract(one, share))
    share = vector_tanh(value)
    return subtract(one, times(share, share))


cdef inline void activation_vectors(
    int KIND, const real* x, ptrdiff_t count, real slope, real* out
) noexcept nogil:
    cdef ptrdiff_t i
    for i from 0 <= i < count by lanes(x):
        store_part(
            out + i, activation[real](KIND, x + i, min(lanes(x), count - i), slope), count - i
        )


cdef inline void derivative_vectors(
    int KIND, const real* dout, const real* x, ptrdiff_t count, real slope, real* dx
) noexcept nogil:
    cdef ptrdiff_t i
    for i from 0 <= i < count by lanes(x):
        store_part(
            dx + i,
            times(
                load_part(dout + i, count - i),
                derivative[real](KIND, x + i, min(lanes(x), count - i), slope),
            ),
            count - i,
        )


cdef struct Activation:
    ptrdiff_t size
    int kind
    double slope
    const void* x
    void* out


cdef void activation_part(
    const real* type_of, const Activation* w, int t, const Crew* crew
) noexcept nogil:
    """`kind` becomes a literal."""
    cdef ptrdiff_t begin = share(w.size, t, crew.size)
    cdef ptrdiff_t count = share(w.size, t + 1, crew.size) - begin
    cdef const real* x = <const real*> w.x + begin
    cdef real* out = <real*> w.out + begin
    cdef real slope = <real> w.slope
    cdef int kind = w.kind
    if kind == LEAKY_RELU:
        activation_vectors[real](LEAKY_RELU, x, count, slope, out)
    elif kind == ELU:
        activation_vectors[real](ELU, x, count, slope, out)
    elif kind == GELU:
        activation_vectors[real](GELU, x, count, slope, out)
    elif kind == SILU:
        activation_vectors[real](SILU, x, count, slope, out)
    elif kind == SIGMOID:
        activation_vectors[real](SIGMOID, x, count, slope, out)
    else:
        activation_vectors[real](TANH, x, count, slope, out)


cdef struct ActivationGradient:
    ptrdiff_t size
    int kind
    double slope
    const void* dout
    const void* x
    void* dx


cdef void derivative_part(
    const real* type_of, const ActivationGradient* w, int t, const Crew* crew
) noexcept nogil:
    """`kind` becomes a literal."""
    cdef ptrdiff_t begin = share(w.size, t, crew.size)
    cdef ptrdiff_t count = share(w.size, t + 1, crew.size) - begin
    cdef const real* dout = <const real*> w.dout + begin
    cdef const real* x = <const real*> w.x + begin
    cdef real* dx = <real*> w.dx + begin
    cdef real slope = <real> w.slope
    cdef int kind = w.kind
    if kind == LEAKY_RELU:
        derivative_vectors[real](LEAKY_RELU, dout, x, count, slope, dx)
    elif kind == ELU:
        derivative_vectors[real](ELU, dout, x, count, slope, dx)
    elif kind == GELU:
        derivative_vectors[real](GELU, dout, x, count, slope, dx)
    elif kind == SILU:
        derivative_vectors[real](SILU, dout, x, count, slope, dx)
    elif kind == SIGMOID:
        derivative_vectors[real](SIGMOID, dout, x, count, slope, dx)
    else:
        derivative_vectors[real](TANH, dout, x, count, slope, dx)


def activation_forward(const real[::1] x, int kind, double slope, real[::1] out, int threads):
    """out = f(x)."""
    cdef ptrdiff_t size = x.shape[0]
    cdef int team = team_size(threads, size, 4 * size)
    cdef Activation w = Activation(size, kind, slope, &x[0], &out[0])
    with nogil:
        run_parts(<Part> activation_part[real], &w, team, 0)


def activation_backward(
    const real[::1] dout, const real[::1] x, int kind, double slope, real[::1] dx, int threads
):
    """dx = dout * f'(x)."""
    cdef ptrdiff_t size = x.shape[0]
    cdef int team = team_size(threads, size, 4 * size)
    cdef ActivationGradient w = ActivationGradient(size, kind, slope, &dout[0], &x[0], &dx[0])
    with nogil:
        run_parts(<Part> derivative_part[real], &w, team, 0)
