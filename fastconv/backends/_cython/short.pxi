# The short way: whole operations on arrays as the caller has them.
#
#     is each a plain array, of one dtype, C-contiguous, of a shape that fits, and the work little?
#         no:   return None; nothing has happened
#         yes:  allocate the results, run the kernel on this thread
#
# For a layer on a few samples the kernels take one microsecond. Checks in Python, allocations and
# the call through the kernel table take ten, and NumPy itself two. Here all of that is a few
# comparisons. What is declined goes the long way, which says what is wrong, if anything is. No
# interpreted code runs between the checks and the end, so nothing can change what was checked.

cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t, uint8_t

cnp.import_array()

cdef extern from *:
    """
    // PyArray_EMPTY wants the dimensions writable, and is a macro.
    static inline PyObject* new_array(int ndim, npy_intp* dims, int type) {
        return PyArray_EMPTY(ndim, dims, type, 0);
    }
    static inline int plain_flags(PyObject* a) {
        return PyArray_ISCARRAY_RO((PyArrayObject*) a);
    }
    """
    object new_array(int, cnp.npy_intp*, int)
    bint plain_flags(object)

cdef enum:
    SHORT_SIZE = 1 << 14  # values of an elementwise operation
    SHORT_WORK = 1 << 18  # multiply-adds of a matrix product


cdef inline int type_of(object a, int ndim) noexcept:
    """Type number of a plain array of floats or doubles with `ndim` axes, none empty; else -1.

    If `ndim` is 0, the array may have any number of axes.
    """
    cdef int kind
    if not cnp.PyArray_CheckExact(a) or not plain_flags(a):
        return -1
    kind = cnp.PyArray_TYPE(a)
    if kind != cnp.NPY_DOUBLE and kind != cnp.NPY_FLOAT:
        return -1
    if ndim and cnp.PyArray_NDIM(a) != ndim:
        return -1
    return kind if cnp.PyArray_SIZE(a) > 0 else -1


cdef inline bint is_vector(object a, int kind, ptrdiff_t count) noexcept:
    """Whether it is a plain array of this type and shape (count,)."""
    return type_of(a, 1) == kind and cnp.PyArray_DIM(a, 0) == count


cdef inline bint is_like(object a, object b) noexcept:
    """Whether a is a plain array of b's type and shape."""
    return (
        type_of(a, cnp.PyArray_NDIM(b)) == cnp.PyArray_TYPE(b)
        and cnp.PyArray_SAMESHAPE(a, b)
    )


cdef inline object like(object a):
    """A new array of a's type and shape."""
    return new_array(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), cnp.PyArray_TYPE(a))


cdef inline object matrix(ptrdiff_t rows, ptrdiff_t columns, int kind):
    cdef cnp.npy_intp[2] shape = [rows, columns]
    return new_array(2, shape, kind)


cdef inline object vector(ptrdiff_t count, int kind):
    cdef cnp.npy_intp[1] shape = [count]
    return new_array(1, shape, kind)


cdef inline real* data(object a, const real* type_of) noexcept:
    return <real*> cnp.PyArray_DATA(a)


# ---- labels ---------------------------------------------------------------------------


ctypedef fused label:
    uint8_t
    int32_t
    int64_t
    float
    double


cdef bint read_indices(const label* t, ptrdiff_t n, ptrdiff_t classes, int64_t* labels) noexcept:
    """Whether these are class indices."""
    cdef ptrdiff_t i
    for i in range(n):
        if not 0 <= t[i] < classes:
            return False
        labels[i] = <int64_t> t[i]
    return True


cdef bint read_one_hot(const label* t, ptrdiff_t n, ptrdiff_t classes, int64_t* labels) noexcept:
    """Whether each row holds a single 1, and otherwise zeros."""
    cdef ptrdiff_t i, j
    for i in range(n):
        labels[i] = -1
        for j in range(classes):
            if t[i * classes + j] == 0:
                continue
            if t[i * classes + j] != 1 or labels[i] >= 0:
                return False
            labels[i] = j
        if labels[i] < 0:
            return False
    return True


cdef object labels_of(object t, ptrdiff_t n, ptrdiff_t classes):
    """Labels (n,) as int64, from indices or one-hot rows; None where they are neither."""
    cdef int kind
    cdef bint fits, one_hot
    cdef object labels
    cdef void* values
    cdef int64_t* to
    if not cnp.PyArray_CheckExact(t) or not plain_flags(t):
        return None
    kind = cnp.PyArray_TYPE(t)
    one_hot = cnp.PyArray_NDIM(t) == 2
    if one_hot:
        if cnp.PyArray_DIM(t, 0) != n or cnp.PyArray_DIM(t, 1) != classes or classes == 1:
            return None
    elif cnp.PyArray_NDIM(t) != 1 or cnp.PyArray_DIM(t, 0) != n:
        return None
    labels = vector(n, cnp.NPY_INT64)
    values, to = cnp.PyArray_DATA(t), <int64_t*> cnp.PyArray_DATA(labels)
    if one_hot:
        if kind == cnp.NPY_DOUBLE:
            fits = read_one_hot(<double*> values, n, classes, to)
        elif kind == cnp.NPY_FLOAT:
            fits = read_one_hot(<float*> values, n, classes, to)
        elif kind == cnp.NPY_INT64:
            fits = read_one_hot(<int64_t*> values, n, classes, to)
        elif kind == cnp.NPY_UINT8:
            fits = read_one_hot(<uint8_t*> values, n, classes, to)
        else:
            return None
    elif kind == cnp.NPY_INT64:
        fits = read_indices(<int64_t*> values, n, classes, to)
    elif kind == cnp.NPY_UINT8:
        fits = read_indices(<uint8_t*> values, n, classes, to)
    elif kind == cnp.NPY_INT32:
        fits = read_indices(<int32_t*> values, n, classes, to)
    else:
        return None
    return labels if fits else None


# ---- one dtype, on checked arrays -------------------------------------------------------


cdef void affine_out(
    object x, object weight, object bias, object out, ptrdiff_t samples, const real* kind,
) except *:
    cdef ptrdiff_t features = cnp.PyArray_DIM(weight, 0), columns = cnp.PyArray_DIM(weight, 1)
    if samples <= ROWS_2:
        forward_few(
            data(x, kind), samples, features, data(weight, kind), columns, data(bias, kind),
            data(out, kind), 1,
        )
    else:
        multiply(
            data(x, kind), samples, features, data(weight, kind), columns, 1, columns,
            data(bias, kind), data(out, kind), 1,
        )


cdef void affine_gradients(
    object dout, object x, object weight, object dx, object dweight, object dbias,
    const real* kind,
) except *:
    cdef ptrdiff_t samples = cnp.PyArray_DIM(x, 0)
    cdef ptrdiff_t features = cnp.PyArray_DIM(weight, 0), columns = cnp.PyArray_DIM(weight, 1)
    if dx is not None and samples <= 2 * lanes(kind):
        input_gradient_few(
            data(dout, kind), samples, columns, data(weight, kind), features, data(dx, kind),
            False, 1,
        )
    elif dx is not None:
        multiply(
            data(dout, kind), samples, columns, data(weight, kind), 1, columns, features,
            <const real*> NULL, data(dx, kind), 1,
        )
    affine_weight_gradient(
        data(dout, kind), data(x, kind), samples, features, columns, data(dweight, kind),
        data(dbias, kind), 1,
    )


cdef void sigmoid_gradient_part(
    const real* dout, const real* out, ptrdiff_t count, real* dx
) noexcept nogil:
    cdef ptrdiff_t i
    cdef vec[real] value, one = broadcast(<real> 1)
    for i from 0 <= i < count by lanes(out):
        value = load_part(out + i, count - i)
        value = times(times(load_part(dout + i, count - i), subtract(one, value)), value)
        store_part(dx + i, value, count - i)


cdef double softmax_rows(
    object scores, object labels, double smoothing, object p, const real* kind
) noexcept:
    """The probabilities, and the mean loss if there are labels."""
    cdef ptrdiff_t classes = cnp.PyArray_DIM(scores, cnp.PyArray_NDIM(scores) - 1)
    cdef ptrdiff_t samples = cnp.PyArray_SIZE(scores) // classes
    cdef const int64_t* label = NULL
    cdef ptrdiff_t i
    cdef double loss = 0
    if labels is not None:
        label = <int64_t*> cnp.PyArray_DATA(labels)
    for i in range(samples):
        loss += softmax_row(
            data(scores, kind) + i * classes, classes, 0 if label == NULL else label[i], smoothing,
            data(p, kind) + i * classes,
        )
    return loss / samples


cdef void softmax_gradient(
    object p, object labels, double smoothing, double scale, object dscores, const real* kind
) noexcept:
    cdef ptrdiff_t samples = cnp.PyArray_DIM(p, 0), classes = cnp.PyArray_DIM(p, 1)
    cdef const int64_t* label = <int64_t*> cnp.PyArray_DATA(labels)
    cdef const real* row
    cdef real* to
    cdef ptrdiff_t i, j
    cdef double everyone = smoothing / classes, own = 1 - smoothing + everyone
    cdef real low = <real> everyone, factor = <real> scale
    for i in range(samples):
        row, to = data(p, kind) + i * classes, data(dscores, kind) + i * classes
        for j in range(classes):
            to[j] = (row[j] - low) * factor
        to[label[i]] = <real> ((row[label[i]] - own) * factor)


cdef double loss_of(object y, object labels, ptrdiff_t classes, const real* kind) noexcept:
    """Mean of -log(y[label] + 1e-7)."""
    cdef ptrdiff_t samples = cnp.PyArray_DIM(labels, 0)
    cdef const int64_t* label = <int64_t*> cnp.PyArray_DATA(labels)
    cdef ptrdiff_t i
    cdef double loss = 0
    for i in range(samples):
        loss -= log(data(y, kind)[i * classes + label[i]] + 1e-7)
    return loss / samples


cdef void normalize(
    object x, object gamma, object beta, double epsilon, object out, object normalized,
    object mean, object variance, const real* kind,
) noexcept:
    cdef ptrdiff_t first
    for first from 0 <= first < cnp.PyArray_DIM(x, 1) by FEATURES:
        normalize_block(
            data(x, kind), cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1), first, data(gamma, kind),
            data(beta, kind), epsilon, data(out, kind), data(normalized, kind), data(mean, kind),
            data(variance, kind),
        )


cdef void normalize_gradient(
    object dout, object normalized, object gamma, object variance, double epsilon, object dx,
    object dgamma, object dbeta, const real* kind,
) noexcept:
    cdef ptrdiff_t first
    for first from 0 <= first < cnp.PyArray_DIM(dout, 1) by FEATURES:
        normalize_gradient_block(
            data(dout, kind), data(normalized, kind), cnp.PyArray_DIM(dout, 0),
            cnp.PyArray_DIM(dout, 1), first, data(gamma, kind), data(variance, kind), epsilon,
            data(dx, kind), data(dgamma, kind), data(dbeta, kind),
        )


cdef class Short:
    """Operations that do nothing and return None for arrays that they do not handle.

    `fastconv.backends.short.Short` says what each does.
    """

    cdef public long long calls
    cdef public int threads
    cdef public bint affine

    def __init__(self):
        self.calls, self.threads, self.affine = 0, 1, True

    def affine_forward(self, x, weight, bias):
        """(x (N, ...), flattened, @ weight (D, M) + bias (M,), and x in the weight's dtype)."""
        cdef int kind = type_of(weight, 2), given = type_of(x, 0)
        cdef ptrdiff_t samples, features, columns
        if kind < 0 or given < 0 or cnp.PyArray_NDIM(x) < 2:
            return None
        if kind == cnp.NPY_FLOAT and not self.affine:
            return None
        if given != kind and kind != cnp.NPY_DOUBLE:
            return None
        samples = cnp.PyArray_DIM(x, 0)
        features, columns = cnp.PyArray_DIM(weight, 0), cnp.PyArray_DIM(weight, 1)
        if cnp.PyArray_SIZE(x) != samples * features or not is_vector(bias, kind, columns):
            return None
        if samples * features * columns > SHORT_WORK:
            return None
        if given != kind:  # data sets are float32, weights drawn by NumPy float64
            x = cnp.PyArray_Cast(x, kind)
        out = matrix(samples, columns, kind)
        if kind == cnp.NPY_DOUBLE:
            affine_out(x, weight, bias, out, samples, <const double*> NULL)
        else:
            affine_out(x, weight, bias, out, samples, <const float*> NULL)
        self.calls += 1
        return out, x

    def affine_backward(self, dout, x, weight, bint input_gradient):
        """(dx or None, dweight, dbias), for dout (N, M), x (N, D) and weight (D, M)."""
        cdef int kind = type_of(weight, 2)
        cdef ptrdiff_t samples, features, columns
        if kind < 0 or type_of(x, 2) != kind or type_of(dout, 2) != kind:
            return None
        if kind == cnp.NPY_FLOAT and not self.affine:
            return None
        samples = cnp.PyArray_DIM(x, 0)
        features, columns = cnp.PyArray_DIM(weight, 0), cnp.PyArray_DIM(weight, 1)
        if (
            cnp.PyArray_DIM(x, 1) != features
            or cnp.PyArray_DIM(dout, 0) != samples
            or cnp.PyArray_DIM(dout, 1) != columns
            or samples * features * columns > SHORT_WORK
        ):
            return None
        dx = matrix(samples, features, kind) if input_gradient else None
        dweight, dbias = like(weight), vector(columns, kind)
        if kind == cnp.NPY_DOUBLE:
            affine_gradients(dout, x, weight, dx, dweight, dbias, <const double*> NULL)
        else:
            affine_gradients(dout, x, weight, dx, dweight, dbias, <const float*> NULL)
        self.calls += 1
        return dx, dweight, dbias

    def relu_forward(self, x):
        """(out, mask): 0 where x <= 0, else x; 1 where x > 0, else 0."""
        cdef int kind = type_of(x, 0)
        cdef ptrdiff_t size
        if kind < 0 or cnp.PyArray_SIZE(x) > SHORT_SIZE:
            return None
        size = cnp.PyArray_SIZE(x)
        out = like(x)
        mask = new_array(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.NPY_UINT8)
        if kind == cnp.NPY_DOUBLE:
            relu_part(
                <double*> cnp.PyArray_DATA(x), <double*> cnp.PyArray_DATA(out),
                <unsigned char*> cnp.PyArray_DATA(mask), 0, size,
            )
        else:
            relu_part(
                <float*> cnp.PyArray_DATA(x), <float*> cnp.PyArray_DATA(out),
                <unsigned char*> cnp.PyArray_DATA(mask), 0, size,
            )
        self.calls += 1
        return out, mask

    def masked(self, x, mask):
        """x where the mask (bytes or bools of its shape) is not 0, else 0."""
        cdef int kind = type_of(x, 0)
        cdef ptrdiff_t size
        if kind < 0 or cnp.PyArray_SIZE(x) > SHORT_SIZE or not cnp.PyArray_CheckExact(mask):
            return None
        if cnp.PyArray_TYPE(mask) != cnp.NPY_UINT8 and cnp.PyArray_TYPE(mask) != cnp.NPY_BOOL:
            return None
        if not plain_flags(mask) or not cnp.PyArray_SAMESHAPE(x, mask):
            return None
        size = cnp.PyArray_SIZE(x)
        out = like(x)
        if kind == cnp.NPY_DOUBLE:
            relu_gradient_part(
                <double*> cnp.PyArray_DATA(x), <unsigned char*> cnp.PyArray_DATA(mask),
                <double*> cnp.PyArray_DATA(out), 0, size,
            )
        else:
            relu_gradient_part(
                <float*> cnp.PyArray_DATA(x), <unsigned char*> cnp.PyArray_DATA(mask),
                <float*> cnp.PyArray_DATA(out), 0, size,
            )
        self.calls += 1
        return out

    def sigmoid_forward(self, x):
        """1 / (1 + exp(-x))."""
        cdef int kind = type_of(x, 0)
        cdef ptrdiff_t size
        if kind < 0 or cnp.PyArray_SIZE(x) > SHORT_SIZE:
            return None
        size = cnp.PyArray_SIZE(x)
        out = like(x)
        if kind == cnp.NPY_DOUBLE:
            activation_vectors[double](
                SIGMOID, <double*> cnp.PyArray_DATA(x), size, 0, <double*> cnp.PyArray_DATA(out)
            )
        else:
            activation_vectors[float](
                SIGMOID, <float*> cnp.PyArray_DATA(x), size, 0, <float*> cnp.PyArray_DATA(out)
            )
        self.calls += 1
        return out

    def sigmoid_backward(self, dout, out):
        """dout * (1 - out) * out."""
        cdef int kind = type_of(out, 0)
        cdef ptrdiff_t size
        if kind < 0 or cnp.PyArray_SIZE(out) > SHORT_SIZE or not is_like(dout, out):
            return None
        size = cnp.PyArray_SIZE(out)
        dx = like(out)
        if kind == cnp.NPY_DOUBLE:
            sigmoid_gradient_part(
                <double*> cnp.PyArray_DATA(dout), <double*> cnp.PyArray_DATA(out), size,
                <double*> cnp.PyArray_DATA(dx),
            )
        else:
            sigmoid_gradient_part(
                <float*> cnp.PyArray_DATA(dout), <float*> cnp.PyArray_DATA(out), size,
                <float*> cnp.PyArray_DATA(dx),
            )
        self.calls += 1
        return dx

    def softmax(self, x):
        """exp(x) / sum(exp(x)) over the last axis."""
        cdef int kind = type_of(x, 0)
        if kind < 0 or cnp.PyArray_NDIM(x) == 0 or cnp.PyArray_SIZE(x) > SHORT_SIZE:
            return None
        out = like(x)
        if kind == cnp.NPY_DOUBLE:
            softmax_rows(x, None, 0, out, <const double*> NULL)
        else:
            softmax_rows(x, None, 0, out, <const float*> NULL)
        self.calls += 1
        return out

    def cross_entropy(self, y, t):
        """Mean of -log(y[label] + 1e-7) over the rows of y (N, M), for indices or one-hot rows."""
        cdef int kind = type_of(y, 2)
        cdef double loss
        if kind < 0 or cnp.PyArray_SIZE(y) > SHORT_SIZE:
            return None
        labels = labels_of(t, cnp.PyArray_DIM(y, 0), cnp.PyArray_DIM(y, 1))
        if labels is None:
            return None
        if kind == cnp.NPY_DOUBLE:
            loss = loss_of(y, labels, cnp.PyArray_DIM(y, 1), <const double*> NULL)
        else:
            loss = loss_of(y, labels, cnp.PyArray_DIM(y, 1), <const float*> NULL)
        self.calls += 1
        return loss

    def softmax_cross_entropy_forward(self, scores, t, double smoothing):
        """(loss, probabilities (N, M), labels (N,)), for indices or one-hot rows."""
        cdef int kind = type_of(scores, 2)
        cdef double loss
        if kind < 0 or cnp.PyArray_SIZE(scores) > SHORT_SIZE:
            return None
        labels = labels_of(t, cnp.PyArray_DIM(scores, 0), cnp.PyArray_DIM(scores, 1))
        if labels is None:
            return None
        p = like(scores)
        if kind == cnp.NPY_DOUBLE:
            loss = softmax_rows(scores, labels, smoothing, p, <const double*> NULL)
        else:
            loss = softmax_rows(scores, labels, smoothing, p, <const float*> NULL)
        self.calls += 1
        return loss, p, labels

    def softmax_cross_entropy_backward(self, p, labels, double smoothing, double scale):
        """(p - smoothed onehot) * scale, from what forward returned."""
        cdef int kind = type_of(p, 2)
        if kind < 0 or cnp.PyArray_SIZE(p) > SHORT_SIZE:
            return None
        # They are forward's own, unless the caller has replaced them.
        if labels_of(labels, cnp.PyArray_DIM(p, 0), cnp.PyArray_DIM(p, 1)) is None:
            return None
        if cnp.PyArray_NDIM(labels) != 1 or cnp.PyArray_TYPE(labels) != cnp.NPY_INT64:
            return None
        dscores = like(p)
        if kind == cnp.NPY_DOUBLE:
            softmax_gradient(p, labels, smoothing, scale, dscores, <const double*> NULL)
        else:
            softmax_gradient(p, labels, smoothing, scale, dscores, <const float*> NULL)
        self.calls += 1
        return dscores

    def batchnorm_train(self, x, gamma, beta, double epsilon):
        """(out, normalized (N, D), mean, variance (D,)) of x (N, D)."""
        cdef int kind = type_of(x, 2)
        cdef ptrdiff_t features
        if kind < 0 or cnp.PyArray_SIZE(x) > SHORT_SIZE:
            return None
        features = cnp.PyArray_DIM(x, 1)
        if not is_vector(gamma, kind, features) or not is_vector(beta, kind, features):
            return None
        out, normalized = like(x), like(x)
        mean, variance = vector(features, kind), vector(features, kind)
        if kind == cnp.NPY_DOUBLE:
            normalize(x, gamma, beta, epsilon, out, normalized, mean, variance, <const double*> NULL)
        else:
            normalize(x, gamma, beta, epsilon, out, normalized, mean, variance, <const float*> NULL)
        self.calls += 1
        return out, normalized, mean, variance

    def batchnorm_backward(self, dout, normalized, gamma, variance, double epsilon):
        """(dx (N, D), dgamma, dbeta (D,)) from what `batchnorm_train` returned."""
        cdef int kind = type_of(normalized, 2)
        cdef ptrdiff_t features
        if kind < 0 or cnp.PyArray_SIZE(normalized) > SHORT_SIZE or not is_like(dout, normalized):
            return None
        features = cnp.PyArray_DIM(normalized, 1)
        if not is_vector(gamma, kind, features) or not is_vector(variance, kind, features):
            return None
        dx, dgamma, dbeta = like(dout), vector(features, kind), vector(features, kind)
        if kind == cnp.NPY_DOUBLE:
            normalize_gradient(
                dout, normalized, gamma, variance, epsilon, dx, dgamma, dbeta, <const double*> NULL
            )
        else:
            normalize_gradient(
                dout, normalized, gamma, variance, epsilon, dx, dgamma, dbeta, <const float*> NULL
            )
        self.calls += 1
        return dx, dgamma, dbeta

    # ---- optimizers -------------------------------------------------------------------
    #
    # Each takes its step on all of params, or returns False.

    def sgd(self, params, grads, double lr):
        """p -= lr*g."""
        cdef double[4] numbers = [lr, 0, 0, 0]
        return update_all(SGD_RULE, params, grads, None, None, numbers, self.threads)

    def momentum(self, params, grads, v, double lr, double momentum):
        """v = momentum*v - lr*g; p += v."""
        cdef double[4] numbers = [lr, momentum, 0, 0]
        return update_all(MOMENTUM_RULE, params, grads, v, None, numbers, self.threads)

    def nesterov(self, params, grads, v, double lr, double momentum):
        """p += momentum**2 * v - (1 + momentum)*lr*g; v = momentum*v - lr*g."""
        cdef double[4] numbers = [lr, momentum, 0, 0]
        return update_all(NESTEROV_RULE, params, grads, v, None, numbers, self.threads)

    def adagrad(self, params, grads, h, double lr):
        """h += g*g; p -= lr*g / (sqrt(h) + 1e-7)."""
        cdef double[4] numbers = [lr, 0, 0, 0]
        return update_all(ADAGRAD_RULE, params, grads, h, None, numbers, self.threads)

    def rmsprop(self, params, grads, h, double lr, double decay_rate):
        """h = decay_rate*h + (1 - decay_rate)*g*g; p -= lr*g / (sqrt(h) + 1e-7)."""
        cdef double[4] numbers = [lr, decay_rate, 0, 0]
        return update_all(RMSPROP_RULE, params, grads, h, None, numbers, self.threads)

    def adam(
        self, params, grads, m, v, double lr, double beta1, double beta2, double epsilon,
    ):
        """As `adam_update`."""
        cdef double[4] numbers = [lr, beta1, beta2, epsilon]
        return update_all(ADAM_RULE, params, grads, m, v, numbers, self.threads)
