# Softmax with cross-entropy.
#
#     for sample, in parallel:  largest = max(scores);  p = exp(scores - largest);  p /= sum(p)
#     loss = mean over samples, in their order, of -log(p[label] + 1e-7)
#
# A row of scores is a few classes long and its time is that of `exp`: no tile. Sums are kept
# in double for both dtypes.

from libc.math cimport exp as double_exp, expf, log


cdef inline real exponential(real x) noexcept nogil:
    if real is float:
        return expf(x)
    else:
        return double_exp(x)


cdef void softmax_row(const real* scores, ptrdiff_t classes, real* p) noexcept nogil:
    cdef ptrdiff_t j
    cdef real largest = scores[0]
    cdef double total = 0
    for j in range(1, classes):
        if scores[j] > largest:
            largest = scores[j]
    for j in range(classes):
        p[j] = exponential(scores[j] - largest)
        total += p[j]
    for j in range(classes):
        p[j] = <real> (p[j] / total)


def softmax_cross_entropy_forward(
    const real[:, ::1] scores,
    const long long[::1] labels,
    real[:, ::1] probabilities,
    int threads,
):
    """Mean of -log(p[label] + 1e-7) over samples; probabilities (N, M) is written."""
    cdef ptrdiff_t samples = scores.shape[0], classes = scores.shape[1]
    cdef int team = team_size(threads, samples, 10 * samples * classes)
    cdef ptrdiff_t i
    cdef double loss = 0
    with nogil:
        for i in prange(samples, num_threads=team, use_threads_if=team > 1, schedule="static"):
            softmax_row(&scores[i, 0], classes, &probabilities[i, 0])
        for i in range(samples):
            loss = loss - log(probabilities[i, labels[i]] + 1e-7)
    return loss / samples


def softmax_cross_entropy_backward(
    const real[:, ::1] probabilities,
    const long long[::1] labels,
    double scale,
    real[:, ::1] dscores,
):
    """dscores = (probabilities - onehot(labels)) * scale."""
    cdef ptrdiff_t i, j
    cdef real factor = <real> scale
    with nogil:
        for i in range(probabilities.shape[0]):
            for j in range(probabilities.shape[1]):
                dscores[i, j] = probabilities[i, j] * factor
            dscores[i, labels[i]] = (probabilities[i, labels[i]] - 1) * factor
