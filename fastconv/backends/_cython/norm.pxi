# Batch normalisation of features: statistics over axis 0 of (N, D).
#
#     for block of features, in parallel:
#         for sample:  for feature of the block:  sum += x
#         for sample:  for feature of the block:  squares += (x - mean)**2
#         for sample:  for feature of the block:  write
#
# A block's sums are doubles for both dtypes, in a few kilobytes of stack. Each sample's piece of
# the block is one contiguous run: the compiler vectorises the innermost loops, which are bound by
# memory. Two passes, since the mean of squares loses every digit where the mean is large.

cdef enum:
    FEATURES = 256  # of one block


cdef void normalize_block(
    const real* x, ptrdiff_t samples, ptrdiff_t features, ptrdiff_t first, const real* gamma,
    const real* beta, double epsilon, real* out, real* normalized, real* mean, real* variance,
) noexcept nogil:
    """Features [first, first + FEATURES) by their own statistics."""
    cdef ptrdiff_t count = min(FEATURES, features - first)
    cdef ptrdiff_t i, j
    cdef double[FEATURES] centre
    cdef double[FEATURES] scale
    cdef double value
    cdef const real* row
    for j in range(count):
        centre[j] = scale[j] = 0
    for i in range(samples):
        row = x + i * features + first
        for j in range(count):
            centre[j] += row[j]
    for j in range(count):
        centre[j] /= samples
        mean[first + j] = <real> centre[j]
    for i in range(samples):
        row = x + i * features + first
        for j in range(count):
            value = row[j] - centre[j]
            scale[j] += value * value
    for j in range(count):
        scale[j] /= samples
        variance[first + j] = <real> scale[j]
        scale[j] = 1 / double_sqrt(scale[j] + epsilon)
    for i in range(samples):
        row = x + i * features + first
        for j in range(count):
            value = (row[j] - centre[j]) * scale[j]
            normalized[i * features + first + j] = <real> value
            out[i * features + first + j] = <real> (gamma[first + j] * value + beta[first + j])


cdef struct NormalizeFeatures:
    const void* x
    ptrdiff_t samples, features
    const void* gamma
    const void* beta
    double epsilon
    void* out
    void* normalized
    void* mean
    void* variance


cdef void normalize_features_part(
    const real* type_of, const NormalizeFeatures* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t blocks = ceil_div(w.features, FEATURES)
    cdef ptrdiff_t b
    for b in range(share(blocks, t, crew.size), share(blocks, t + 1, crew.size)):
        normalize_block[real](
            <const real*> w.x, w.samples, w.features, b * FEATURES, <const real*> w.gamma,
            <const real*> w.beta, w.epsilon, <real*> w.out, <real*> w.normalized,
            <real*> w.mean, <real*> w.variance,
        )


cdef void apply_block(
    const real* x, ptrdiff_t samples, ptrdiff_t features, ptrdiff_t first, const real* gamma,
    const real* beta, const real* mean, const real* variance, double epsilon, real* out,
) noexcept nogil:
    """Features [first, first + FEATURES) by given statistics."""
    cdef ptrdiff_t count = min(FEATURES, features - first)
    cdef ptrdiff_t i, j
    cdef double[FEATURES] scale
    cdef const real* row
    for j in range(count):
        scale[j] = gamma[first + j] / double_sqrt(variance[first + j] + epsilon)
    for i in range(samples):
        row = x + i * features + first
        for j in range(count):
            out[i * features + first + j] = <real> (
                (row[j] - <double> mean[first + j]) * scale[j] + beta[first + j]
            )


cdef struct ApplyFeatures:
    const void* x
    ptrdiff_t samples, features
    const void* gamma
    const void* beta
    const void* mean
    const void* variance
    double epsilon
    void* out


cdef void apply_features_part(
    const real* type_of, const ApplyFeatures* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t blocks = ceil_div(w.features, FEATURES)
    cdef ptrdiff_t b
    for b in range(share(blocks, t, crew.size), share(blocks, t + 1, crew.size)):
        apply_block[real](
            <const real*> w.x, w.samples, w.features, b * FEATURES, <const real*> w.gamma,
            <const real*> w.beta, <const real*> w.mean, <const real*> w.variance, w.epsilon,
            <real*> w.out,
        )


cdef void normalize_gradient_block(
    const real* dout, const real* normalized, ptrdiff_t samples, ptrdiff_t features,
    ptrdiff_t first, const real* gamma, const real* variance, double epsilon, real* dx,
    real* dgamma, real* dbeta,
) noexcept nogil:
    """Gradients of features [first, first + FEATURES)."""
    cdef ptrdiff_t count = min(FEATURES, features - first)
    cdef ptrdiff_t i, j
    cdef double[FEATURES] sums
    cdef double[FEATURES] products
    cdef double[FEATURES] scale
    cdef const real* gradient
    cdef const real* value
    for j in range(count):
        sums[j] = products[j] = 0
    for i in range(samples):
        gradient, value = dout + i * features + first, normalized + i * features + first
        for j in range(count):
            sums[j] += gradient[j]
            products[j] += <double> gradient[j] * value[j]
    for j in range(count):
        dbeta[first + j], dgamma[first + j] = <real> sums[j], <real> products[j]
        sums[j] /= samples
        products[j] /= samples
        scale[j] = gamma[first + j] / double_sqrt(variance[first + j] + epsilon)
    # Mean and variance depend on x too: this takes off what is constant over the batch,
    # and what is proportional to normalized.
    for i in range(samples):
        gradient, value = dout + i * features + first, normalized + i * features + first
        for j in range(count):
            dx[i * features + first + j] = <real> (
                scale[j] * (gradient[j] - sums[j] - value[j] * products[j])
            )


cdef struct FeaturesGradient:
    const void* dout
    const void* normalized
    ptrdiff_t samples, features
    const void* gamma
    const void* variance
    double epsilon
    void* dx
    void* dgamma
    void* dbeta


cdef void features_gradient_part(
    const real* type_of, const FeaturesGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t blocks = ceil_div(w.features, FEATURES)
    cdef ptrdiff_t b
    for b in range(share(blocks, t, crew.size), share(blocks, t + 1, crew.size)):
        normalize_gradient_block[real](
            <const real*> w.dout, <const real*> w.normalized, w.samples, w.features,
            b * FEATURES, <const real*> w.gamma, <const real*> w.variance, w.epsilon,
            <real*> w.dx, <real*> w.dgamma, <real*> w.dbeta,
        )


def batchnorm_train(
    const real[:, ::1] x,
    const real[::1] gamma,
    const real[::1] beta,
    double epsilon,
    real[:, ::1] out,
    real[:, ::1] normalized,
    real[::1] mean,
    real[::1] variance,
    int threads,
):
    """Normalise x (N, D) by its own mean and biased variance (D,), which are written too."""
    cdef ptrdiff_t samples = x.shape[0], features = x.shape[1]
    cdef int team = team_size(threads, ceil_div(features, FEATURES), 4 * samples * features)
    cdef NormalizeFeatures w = NormalizeFeatures(
        &x[0, 0], samples, features, &gamma[0], &beta[0], epsilon, &out[0, 0],
        &normalized[0, 0], &mean[0], &variance[0],
    )
    with nogil:
        run_parts(<Part> normalize_features_part[real], &w, team, 0)


def batchnorm_infer(
    const real[:, ::1] x,
    const real[::1] gamma,
    const real[::1] beta,
    const real[::1] mean,
    const real[::1] variance,
    double epsilon,
    real[:, ::1] out,
    int threads,
):
    """As `batchnorm_train`, by a given mean and variance (D,): out (N, D)."""
    cdef ptrdiff_t samples = x.shape[0], features = x.shape[1]
    cdef int team = team_size(threads, ceil_div(features, FEATURES), 2 * samples * features)
    cdef ApplyFeatures w = ApplyFeatures(
        &x[0, 0], samples, features, &gamma[0], &beta[0], &mean[0], &variance[0], epsilon,
        &out[0, 0],
    )
    with nogil:
        run_parts(<Part> apply_features_part[real], &w, team, 0)


def batchnorm_backward(
    const real[:, ::1] dout,
    const real[:, ::1] normalized,
    const real[::1] gamma,
    const real[::1] variance,
    double epsilon,
    real[:, ::1] dx,
    real[::1] dgamma,
    real[::1] dbeta,
    int threads,
):
    """Gradients of `batchnorm_train`."""
    cdef ptrdiff_t samples = dout.shape[0], features = dout.shape[1]
    cdef int team = team_size(threads, ceil_div(features, FEATURES), 4 * samples * features)
    cdef FeaturesGradient w = FeaturesGradient(
        &dout[0, 0], &normalized[0, 0], samples, features, &gamma[0], &variance[0], epsilon,
        &dx[0, 0], &dgamma[0], &dbeta[0],
    )
    with nogil:
        run_parts(<Part> features_gradient_part[real], &w, team, 0)
