"""Elementwise kernels, batch normalisation, softmax with cross-entropy, and Adam.

    for my elements (columns, rows):  read, compute, write

Every element is independent, or summed down a column: LLVM turns these plain loops into
vectors by itself, without leave to reorder a sum. Batch normalisation walks down CHUNK
columns at a time, so that its three passes over them find them in the cache.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .build import Kernel
from .pointer import BYTE, DOUBLE, ELEMENTS, LONG, numbers, pointers
from .product import share

__all__ = [
    "adam",
    "batchnorm_backward",
    "batchnorm_infer",
    "batchnorm_train",
    "relu_backward",
    "relu_forward",
    "softmax_backward",
    "softmax_forward",
]

CHUNK = 256


def relu_forward(real: int) -> Kernel:
    """out = 0 where x <= 0, else x; mask = x > 0."""
    number: Any = ELEMENTS[real]

    def kernel(block, part, parts):
        x, out = pointers(block, 0, 2, real)
        (mask,) = pointers(block, 2, 1, BYTE)
        (count,) = numbers(block, 3, 1)
        first, last = share(count, part, parts)
        for i in range(first, last):
            out[i] = number(0) if x[i] <= number(0) else x[i]
            mask[i] = x[i] > number(0)

    return kernel


def relu_backward(real: int) -> Kernel:
    """dx = dout where mask, else 0."""
    number: Any = ELEMENTS[real]

    def kernel(block, part, parts):
        dout, dx = pointers(block, 0, 2, real)
        (mask,) = pointers(block, 2, 1, BYTE)
        (count,) = numbers(block, 3, 1)
        first, last = share(count, part, parts)
        for i in range(first, last):
            dx[i] = dout[i] if mask[i] else number(0)

    return kernel


def batchnorm_train(real: int) -> Kernel:
    """Mean and variance of each column, normalized and out, of x [row][column]."""
    number: Any = ELEMENTS[real]

    def kernel(block, part, parts):
        x, gamma, beta, out, normalized, mean, variance = pointers(block, 0, 7, real)
        (epsilon,) = pointers(block, 7, 1, DOUBLE)
        rows, columns = numbers(block, 8, 2)
        count = number(rows)
        first, last = share(columns, part, parts)
        for start in range(first, last, CHUNK):
            mine = range(start, min(last, start + CHUNK))
            for c in mine:
                mean[c] = number(0)
                variance[c] = number(0)
            for r in range(rows):
                for c in mine:
                    mean[c] += x[r * columns + c]
            for c in mine:
                mean[c] /= count
            for r in range(rows):
                for c in mine:
                    centred = x[r * columns + c] - mean[c]
                    normalized[r * columns + c] = centred
                    variance[c] += centred * centred
            for c in mine:
                variance[c] /= count
            for r in range(rows):
                for c in mine:
                    deviation = math.sqrt(variance[c] + number(epsilon[0]))
                    value = normalized[r * columns + c] / deviation
                    normalized[r * columns + c] = value
                    out[r * columns + c] = gamma[c] * value + beta[c]

    return kernel


def batchnorm_infer(real: int) -> Kernel:
    """out [row][column] by the mean and variance that are given."""
    number: Any = ELEMENTS[real]

    def kernel(block, part, parts):
        x, gamma, beta, mean, variance, out = pointers(block, 0, 6, real)
        (epsilon,) = pointers(block, 6, 1, DOUBLE)
        rows, columns = numbers(block, 7, 2)
        first, last = share(rows, part, parts)
        for r in range(first, last):
            for c in range(columns):
                deviation = math.sqrt(variance[c] + number(epsilon[0]))
                value = (x[r * columns + c] - mean[c]) / deviation
                out[r * columns + c] = gamma[c] * value + beta[c]

    return kernel


def batchnorm_backward(real: int) -> Kernel:
    """dgamma and dbeta of each column, and dx [row][column]."""
    number: Any = ELEMENTS[real]

    def kernel(block, part, parts):
        dout, normalized, gamma, variance, dx, dgamma, dbeta = pointers(block, 0, 7, real)
        (epsilon,) = pointers(block, 7, 1, DOUBLE)
        rows, columns = numbers(block, 8, 2)
        count = number(rows)
        first, last = share(columns, part, parts)
        for start in range(first, last, CHUNK):
            mine = range(start, min(last, start + CHUNK))
            for c in mine:
                dgamma[c] = number(0)
                dbeta[c] = number(0)
            for r in range(rows):
                for c in mine:
                    dbeta[c] += dout[r * columns + c]
                    dgamma[c] += dout[r * columns + c] * normalized[r * columns + c]
            for r in range(rows):
                for c in mine:
                    # The mean and the variance depend on x too: their share is taken off.
                    common = (dbeta[c] + normalized[r * columns + c] * dgamma[c]) / count
                    scale = gamma[c] / math.sqrt(variance[c] + number(epsilon[0]))
                    dx[r * columns + c] = scale * (dout[r * columns + c] - common)

    return kernel


def softmax_forward(real: int) -> Kernel:
    """Probabilities [row][column], and of each row its loss in float64."""
    number: Any = ELEMENTS[real]

    def kernel(block, part, parts):
        scores, probabilities = pointers(block, 0, 2, real)
        (labels,) = pointers(block, 2, 1, LONG)
        losses, settings = pointers(block, 3, 2, DOUBLE)
        rows, columns = numbers(block, 5, 2)
        smoothing = settings[0]
        first, last = share(rows, part, parts)
        for r in range(first, last):
            x, p = scores + r * columns, probabilities + r * columns
            top = x[0]
            for c in range(columns):
                top = max(top, x[c])
            total = number(0)
            for c in range(columns):
                p[c] = math.exp(x[c] - top)
                total += p[c]
            for c in range(columns):
                p[c] /= total
            if smoothing == 0:
                losses[r] = -math.log(p[labels[r]] + 1e-7)
            else:
                below = 0.0  # the mean of log(p) is that of x - top, less log(total)
                for c in range(columns):
                    below += x[c] - top
                pulled = (1 - smoothing) * (x[labels[r]] - top) + smoothing * below / columns
                losses[r] = math.log(total) - pulled

    return kernel


def softmax_backward(real: int) -> Kernel:
    """dscores = (probabilities - smoothed onehot(labels)) * scale."""
    number: Any = ELEMENTS[real]

    def kernel(block, part, parts):
        probabilities, dscores = pointers(block, 0, 2, real)
        (labels,) = pointers(block, 2, 1, LONG)
        (settings,) = pointers(block, 3, 1, DOUBLE)
        rows, columns = numbers(block, 4, 2)
        first, last = share(rows, part, parts)
        everyone = settings[0] / columns
        low, high = number(everyone), number(1 - settings[0] + everyone)
        factor = number(settings[1])
        for r in range(first, last):
            p, d = probabilities + r * columns, dscores + r * columns
            for c in range(columns):
                d[c] = (p[c] - low) * factor
            d[labels[r]] = (p[labels[r]] - high) * factor

    return kernel


def adam(real: int) -> Kernel:
    """m += s*(grad - m); v += t*(grad*grad - v); param -= lr*m / (sqrt(v) + epsilon).

    Subnormal m and v become 0.
    """
    number: Any = ELEMENTS[real]
    smallest_normal = float(np.finfo(str(number)).smallest_normal)

    def kernel(block, part, parts):
        param, grad, m, v = pointers(block, 0, 4, real)
        (settings,) = pointers(block, 4, 1, DOUBLE)
        (count,) = numbers(block, 5, 1)
        lr, epsilon = number(settings[0]), number(settings[3])
        # 1 - beta is exact to the last digit only before it is rounded to float32.
        s, t = number(settings[1]), number(settings[2])
        smallest = number(smallest_normal)
        first, last = share(count, part, parts)
        for i in range(first, last):
            g = grad[i]
            first_moment = m[i] + s * (g - m[i])
            second_moment = v[i] + t * (g * g - v[i])
            first_moment = number(0) if abs(first_moment) < smallest else first_moment
            second_moment = number(0) if abs(second_moment) < smallest else second_moment
            m[i] = first_moment
            v[i] = second_moment
            param[i] -= lr * first_moment / (math.sqrt(second_moment) + epsilon)

    return kernel
