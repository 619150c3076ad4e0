# The optimizers' steps: one pass over memory for all operations of a step.
#
#     for parameter:  for value, in parallel:  kept = f(kept, grad);  param -= g(kept, grad)
#
# NumPy writes an array for each operation of a formula. Here a value stays in its register, and a
# step of many small parameters is one call. Roundings are NumPy's (see updates.h), so that a script's
# numbers do not depend on which code takes it. All parameters are checked before the first changes;
# arrays that are not plain are left to the long way, which says what is wrong.

from libc.float cimport DBL_MIN, FLT_MIN
from libc.math cimport fabs

cdef enum:
    PARAMETERS = 256  # of one step
    ADAM_RULE = 100  # the others are in updates.h

cdef extern from "updates.h" nogil:
    enum:
        SGD_RULE
        MOMENTUM_RULE
        NESTEROV_RULE
        ADAGRAD_RULE
        RMSPROP_RULE

    void update_values[T](int, T*, const T*, T*, ptrdiff_t, ptrdiff_t, double, double) noexcept


cdef struct Update:
    void* param
    const void* grad
    void* first  # kept values
    void* second
    ptrdiff_t size
    int kind


cdef inline real normal_or_zero(real x) noexcept nogil:
    """x, or 0 where x is subnormal; NaN stays."""
    if real is float:
        return 0 if fabs(x) < FLT_MIN else x
    else:
        return 0 if fabs(x) < DBL_MIN else x


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


cdef void update_part(
    int rule, real* p, const real* g, real* a, real* b, ptrdiff_t begin, ptrdiff_t end,
    const double* numbers,
) noexcept nogil:
    """Values [begin, end); the numbers are lr and what follows it in each rule of `Short`."""
    if rule == ADAM_RULE:
        adam_part[real](
            p, g, a, b, begin, end, <real> numbers[0], <real> (1 - numbers[1]),
            <real> (1 - numbers[2]), <real> numbers[3],
        )
    else:
        update_values(rule, p, g, a, begin, end, numbers[0], numbers[1])


cdef void take_update(
    int rule, const Update* u, ptrdiff_t begin, ptrdiff_t end, const double* numbers
) noexcept nogil:
    if u.kind == cnp.NPY_DOUBLE:
        update_part(
            rule, <double*> u.param, <const double*> u.grad, <double*> u.first,
            <double*> u.second, begin, end, numbers,
        )
    else:
        update_part(
            rule, <float*> u.param, <const float*> u.grad, <float*> u.first, <float*> u.second,
            begin, end, numbers,
        )


cdef struct Step:
    int rule
    const Update* updates
    ptrdiff_t count, values
    const double* numbers


cdef void step_part(const void* type_of, const Step* w, int t, const Crew* crew) noexcept nogil:
    cdef ptrdiff_t begin = share(w.values, t, crew.size)
    cdef ptrdiff_t end = share(w.values, t + 1, crew.size)
    cdef ptrdiff_t size, i
    for i in range(w.count):
        size = w.updates[i].size
        if begin < size and end > 0:
            take_update(w.rule, &w.updates[i], max(begin, 0), min(end, size), w.numbers)
        begin -= size
        end -= size


cdef void share_updates(
    int rule, const Update* updates, ptrdiff_t count, const double* numbers, int threads
) noexcept nogil:
    """The step of all parameters; threads share their values as one row."""
    cdef Step w = Step(rule, updates, count, 0, numbers)
    cdef ptrdiff_t i
    for i in range(count):
        w.values += updates[i].size
    run_parts(<Part> step_part, &w, team_size(threads, w.values, 4 * w.values), 0)


cdef inline bint separate(const void* a, const void* b, ptrdiff_t bytes) noexcept nogil:
    """Whether two pieces of memory of this length share nothing."""
    return <const char*> a + bytes <= <const char*> b or <const char*> b + bytes <= <const char*> a


cdef bint disjoint(const Update* u) noexcept nogil:
    """Whether the arrays that change share no memory with each other or with the gradient."""
    cdef ptrdiff_t bytes = u.size * (8 if u.kind == cnp.NPY_DOUBLE else 4)
    if not separate(u.param, u.grad, bytes):
        return False
    if u.first != NULL and not (separate(u.param, u.first, bytes) and separate(u.grad, u.first, bytes)):
        return False
    return u.second == NULL or (
        separate(u.param, u.second, bytes)
        and separate(u.grad, u.second, bytes)
        and separate(u.first, u.second, bytes)
    )


cdef bint kept_of(object arrays, object key, object param, void** memory):
    """Find the array kept for a parameter, if it is plain, like the parameter, and writable."""
    cdef object kept
    if type(arrays) is not dict or key not in <dict> arrays:
        return False
    kept = (<dict> arrays)[key]
    if type_of(kept, 0) < 0 or not is_like(kept, param) or not cnp.PyArray_ISWRITEABLE(kept):
        return False
    memory[0] = cnp.PyArray_DATA(kept)
    return True


cdef bint update_all(
    int rule, object params, object grads, object first, object second, const double* numbers,
    int threads,
) except -1:
    """Take a step on every parameter, or on none if any of them is not plain."""
    cdef Update[PARAMETERS] updates
    cdef Update* u
    cdef ptrdiff_t count = 0, all_values = 0, i
    cdef object key, param, grad
    cdef list held = []  # keeps the arrays alive while other threads may run
    if type(params) is not dict or type(grads) is not dict or len(<dict> params) > PARAMETERS:
        return False
    for key, param in (<dict> params).items():
        u = &updates[count]
        u.kind = type_of(param, 0)
        if u.kind < 0 or not cnp.PyArray_ISWRITEABLE(param) or key not in <dict> grads:
            return False
        grad = (<dict> grads)[key]
        if not is_like(grad, param):
            return False
        u.param, u.grad = cnp.PyArray_DATA(param), cnp.PyArray_DATA(grad)
        u.size = cnp.PyArray_SIZE(param)
        u.first = u.second = NULL
        if rule != SGD_RULE and not kept_of(first, key, param, &u.first):
            return False
        if rule == ADAM_RULE and not kept_of(second, key, param, &u.second):
            return False
        if not disjoint(u):
            return False
        all_values += u.size
        count += 1
    if all_values < grain:
        for i in range(count):
            take_update(rule, &updates[i], 0, updates[i].size, numbers)
        return True
    for key, param in (<dict> params).items():
        held += [param, (<dict> grads)[key]]
        if rule != SGD_RULE:
            held.append((<dict> first)[key])
        if rule == ADAM_RULE:
            held.append((<dict> second)[key])
    with nogil:
        share_updates(rule, updates, count, numbers, threads)
    return True


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
    cdef double[4] numbers = [lr, beta1, beta2, epsilon]
    cdef Update u
    u.param, u.grad, u.first, u.second = &param[0], &grad[0], &m[0], &v[0]
    u.size = size
    u.kind = cnp.NPY_FLOAT if real is float else cnp.NPY_DOUBLE
    with nogil:
        share_updates(ADAM_RULE, &u, 1, numbers, threads)
