// The optimizers' formulas, each operation rounded by itself, as NumPy rounds: by default gcc fuses
// a product and a sum into one operation, and clang does so within an expression.

#ifndef FASTCONV_UPDATES_H
#define FASTCONV_UPDATES_H

#include <cmath>
#include <cstddef>
#include <limits>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off", "no-math-errno")
#endif

enum { SGD_RULE, MOMENTUM_RULE, NESTEROV_RULE, ADAGRAD_RULE, RMSPROP_RULE };

// x, or 0 where x is subnormal; NaN stays.
template <class T>
static inline T kept_value(T x) {
    return std::fabs(x) < std::numeric_limits<T>::min() ? T(0) : x;
}

// A step on values [begin, end) of a parameter p with gradient g and kept values a; `factor` is the
// number that an optimizer has besides lr.
template <class T>
static void update_values(int rule, T* p, const T* g, T* a, std::ptrdiff_t begin,
                          std::ptrdiff_t end, double rate, double factor) {
    const T lr = T(rate), keep = T(factor), add = T(1 - factor);
    const T jump = T(factor * factor), ahead = T(1 + factor), little = T(1e-7);
    std::ptrdiff_t i;
    switch (rule) {
    case SGD_RULE:
        for (i = begin; i < end; ++i) p[i] -= lr * g[i];
        break;
    case MOMENTUM_RULE:
        for (i = begin; i < end; ++i) {
            a[i] = kept_value(keep * a[i] - lr * g[i]);
            p[i] += a[i];
        }
        break;
    case NESTEROV_RULE:
        for (i = begin; i < end; ++i) {
            const T down = lr * g[i];
            p[i] += jump * a[i] - ahead * down;
            a[i] = kept_value(keep * a[i] - down);
        }
        break;
    case ADAGRAD_RULE:
        for (i = begin; i < end; ++i) {
            a[i] += g[i] * g[i];
            p[i] -= lr * g[i] / (std::sqrt(a[i]) + little);
        }
        break;
    default:
        for (i = begin; i < end; ++i) {
            a[i] = kept_value(keep * a[i] + add * g[i] * g[i]);
            p[i] -= lr * g[i] / (std::sqrt(a[i]) + little);
        }
    }
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

#endif
