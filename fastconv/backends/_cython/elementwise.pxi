# ReLU and Adam's step: one pass over memory.
#
#     for vector, in parallel:  load, compute, store
#
# These wait for memory, not for arithmetic: no tile is needed. ReLU's mask is a byte for each
# value, which is written and read back at a quarter (an eighth) of the value's cost.

from libc.float cimport DBL_MIN, FLT_MIN
from libc.math cimport fabs, sqrt as double_sqrt, sqrtf


cdef inline real root(real x) noexcept nogil:
    if real is float:
        return sqrtf(x)
    else:
        return double_sqrt(x)


cdef inline real normal_or_zero(real x) noexcept nogil:
    """x, or 0 where x is subnormal; NaN stays."""
    if real is float:
        return 0 if fabs(x) < FLT_MIN else x
    else:
        return 0 if fabs(x) < DBL_MIN else x


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


cdef void adam_part(
    real* param, const real* grad, real* m, real* v, ptrdiff_t begin, ptrdiff_t end,
    real lr, real new_m, real new_v, real epsilon,
) noexcept nogil:
    cdef ptrdiff_t i
    cdef real g
    for i in range(begin, end):
        g = grad[i]
        m[i] = normal_or_zero(m[i] + new_m * (g - m[i]))
        v[i] = normal_or_zero(v[i] + new_v * (g * g - v[i]))
        param[i] -= lr * m[i] / (root(v[i]) + epsilon)


def relu_forward(const real[::1] x, real[::1] out, unsigned char[::1] mask, int threads):
    """out = 0 where x <= 0, else x; mask = 1 where x > 0, else 0."""
    cdef ptrdiff_t size = x.shape[0]
    cdef int team = team_size(threads, size, size)
    cdef int t
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            relu_part(&x[0], &out[0], &mask[0], share(size, t, team), share(size, t + 1, team))


def relu_backward(const real[::1] dout, const unsigned char[::1] mask, real[::1] dx, int threads):
    """dx = dout where mask, else 0."""
    cdef ptrdiff_t size = dout.shape[0]
    cdef int team = team_size(threads, size, size)
    cdef int t
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            relu_gradient_part(
                &dout[0], &mask[0], &dx[0], share(size, t, team), share(size, t + 1, team)
            )


def adam_update(
    real[::1] param,
    const real[::1] grad,
    real[::1] m,
    real[::1] v,
    double lr,
    double beta1,
    double beta2,
    double epsilon,
    int threads,
):
    """Adam's step in place on param, m and v."""
    cdef ptrdiff_t size = param.shape[0]
    cdef int team = team_size(threads, size, 4 * size)
    cdef int t
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            adam_part[real](
                &param[0], &grad[0], &m[0], &v[0], share(size, t, team), share(size, t + 1, team),
                <real> lr, <real> (1 - beta1), <real> (1 - beta2), <real> epsilon,
            )
