// The exponential function, and functions made of it, for a whole vector at once. The C library's
// takes single values, which would keep loops from being vectorised.

#ifndef FASTCONV_EXPONENTIAL_H
#define FASTCONV_EXPONENTIAL_H

#include "simd.h"

template <class T>
inline vec<T> divide(vec<T> a, vec<T> b) {
    return a / b;
}

template <class T>
struct binary;
template <>
struct binary<float> {
    static constexpr float LEAST = -87.0f, MOST = 88.0f, MAGIC = 12582912.0f;
    static constexpr float LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;
    static constexpr int MANTISSA = 23, DEGREE = 7;
};
template <>
struct binary<double> {
    static constexpr double LEAST = -708.0, MOST = 709.0, MAGIC = 6755399441055744.0;
    static constexpr double LN2_HIGH = 0.693145751953125, LN2_LOW = 1.42860682030941723212e-6;
    static constexpr int MANTISSA = 52, DEGREE = 13;
};

// exp(x) = scale + scale * rest, with x clipped to where that is neither 0 nor infinite. scale is
// 2^n for n, x / ln 2 rounded, and rest the Taylor series of the remainder of x, DEGREE terms
// long. Adding MAGIC rounds, and leaves n in the low bits.
template <class T>
inline vec<T> exp_parts(vec<T> x, vec<T>* scale) {
    typedef binary<T> b;
    x = x < vec<T>{} + b::LEAST ? vec<T>{} + b::LEAST : x;
    x = x > vec<T>{} + b::MOST ? vec<T>{} + b::MOST : x;
    vec<T> shifted = x * T(1.4426950408889634) + b::MAGIC;
    vec<T> n = shifted - b::MAGIC;
    vec<T> r = x - n * b::LN2_HIGH - n * b::LN2_LOW;
    vec<T> one = vec<T>{} + T(1);
    ivec<T> bits, unit;
    std::memcpy(&bits, &shifted, sizeof bits);
    std::memcpy(&unit, &one, sizeof unit);
    bits = (bits << b::MANTISSA) + unit;
    std::memcpy(scale, &bits, sizeof bits);
    vec<T> rest = vec<T>{};
    for (int i = b::DEGREE; i > 0; --i) rest = (rest + T(1)) * (r * T(1.0 / i));
    return rest;
}

template <class T>
inline vec<T> vector_exp(vec<T> x) {
    vec<T> scale, rest = exp_parts<T>(x, &scale);
    vec<T> result = x < vec<T>{} + binary<T>::LEAST ? vec<T>{} : scale + scale * rest;
    result = x > vec<T>{} + binary<T>::MOST ? vec<T>{} + T(INFINITY) : result;
    return x == x ? result : x;
}

template <class T>
inline vec<T> vector_expm1(vec<T> x) {
    vec<T> scale, rest = exp_parts<T>(x, &scale);
    return x == x ? scale * rest + (scale - T(1)) : x;
}

template <class T>
inline vec<T> vector_tanh(vec<T> x) {
    vec<T> size = x < vec<T>{} ? -x : x;
    vec<T> less = vector_expm1<T>(size * T(-2));
    vec<T> result = -less / (less + T(2));
    return x < vec<T>{} ? -result : result;
}

#endif
