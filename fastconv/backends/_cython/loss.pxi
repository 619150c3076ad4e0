# Softmax with cross-entropy.
#
#     for sample, in parallel:  largest = max(scores);  p = exp(scores - largest);  p /= sum(p)
#                               its loss = -log(p[label] + 1e-7)
#                               or, smoothed, -sum(q * log(p)) from the scores
#     loss = mean over samples, in their order
#
# A row of scores is a few classes long, and most of its time is `exp`: no tile. Sums are doubles
# for both dtypes.

from libc.math cimport exp as double_exp, expf, log


cdef inline real exponential(real x) noexcept nogil:
    if real is float:
        return expf(x)
    else:
        return double_exp(x)


cdef double softmax_row(
    const real* scores, ptrdiff_t classes, ptrdiff_t label, double smoothing, real* p
) noexcept nogil:
    """Write the probabilities of a row, and return its loss."""
    cdef ptrdiff_t j
    cdef real largest = scores[0]
    cdef double total = 0, below = 0
    for j in range(1, classes):
        if scores[j] > largest:
            largest = scores[j]
    for j in range(classes):
        p[j] = exponential(scores[j] - largest)
        total += p[j]
    for j in range(classes):
        p[j] = <real> (p[j] / total)
    if smoothing == 0:
        return -log(p[label] + 1e-7)
    # mean(log(p)) = mean(score - largest) - log(total)
    for j in range(classes):
        below += scores[j] - largest
    return log(total) - (1 - smoothing) * (scores[label] - largest) - smoothing * below / classes


cdef struct SoftmaxRows:
    const void* scores
    const long long* labels
    ptrdiff_t samples, classes
    double smoothing
    void* probabilities
    double* losses


cdef void softmax_rows_part(
    const real* type_of, const SoftmaxRows* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t i
    for i in range(share(w.samples, t, crew.size), share(w.samples, t + 1, crew.size)):
        w.losses[i] = softmax_row[real](
            <const real*> w.scores + i * w.classes, w.classes, w.labels[i], w.smoothing,
            <real*> w.probabilities + i * w.classes,
        )


def softmax_cross_entropy_forward(
    const real[:, ::1] scores,
    const long long[::1] labels,
    double smoothing,
    real[:, ::1] probabilities,
    int threads,
):
    """Mean loss of the samples; probabilities (N, M) is written."""
    cdef ptrdiff_t samples = scores.shape[0], classes = scores.shape[1]
    cdef int team = team_size(threads, samples, 10 * samples * classes)
    cdef Scratch rows = Scratch(samples * sizeof(double))
    cdef double* losses = <double*> rows.start
    cdef ptrdiff_t i
    cdef double loss = 0
    cdef SoftmaxRows w
    w.scores, w.labels, w.probabilities = &scores[0, 0], &labels[0], &probabilities[0, 0]
    w.samples, w.classes, w.smoothing, w.losses = samples, classes, smoothing, losses
    with nogil:
        run_parts(<Part> softmax_rows_part[real], &w, team, 0)
        for i in range(samples):
            loss = loss + losses[i]
    return loss / samples


def softmax_cross_entropy_backward(
    const real[:, ::1] probabilities,
    const long long[::1] labels,
    double smoothing,
    double scale,
    real[:, ::1] dscores,
):
    """dscores = (probabilities - smoothed onehot(labels)) * scale."""
    cdef ptrdiff_t i, j
    cdef double everyone = smoothing / probabilities.shape[1], label = 1 - smoothing + everyone
    cdef real low = <real> everyone, factor = <real> scale
    with nogil:
        for i in range(probabilities.shape[0]):
            for j in range(probabilities.shape[1]):
                dscores[i, j] = (probabilities[i, j] - low) * factor
            dscores[i, labels[i]] = <real> ((probabilities[i, labels[i]] - label) * factor)
