"""Batch normalisation of features.

    for chunk of my columns:  mean of each;  variance;  out
                              (backward: sums of dout and dout * normalized;  dx)

Each column is summed by itself, downwards, so that LLVM can vectorise these plain loops across
columns without reordering a sum. CHUNK columns at a time stay in the cache over the three passes.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

import math
from typing import Any

from .launch.build import Kernel
from .words.pointer import ELEMENTS, share
from .words.record import takes

__all__ = ["batchnorm_backward", "batchnorm_infer", "batchnorm_train"]

CHUNK = 256


SIZES = {"floats": "epsilon", "integers": "rows columns"}


@takes(real="x gamma beta out normalized mean variance", **SIZES)
def batchnorm_train(real: int) -> Kernel:
    """Mean and variance of each column, normalized and out, of x [row][column]."""
    number: Any = ELEMENTS[real]

    def kernel(a, part, parts):
        x, normalized, mean, variance = a.x, a.normalized, a.mean, a.variance
        rows, columns, epsilon = a.rows, a.columns, number(a.epsilon)
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
                    deviation = math.sqrt(variance[c] + epsilon)
                    value = normalized[r * columns + c] / deviation
                    normalized[r * columns + c] = value
                    a.out[r * columns + c] = a.gamma[c] * value + a.beta[c]

    return kernel


@takes(real="x gamma beta mean variance out", **SIZES)
def batchnorm_infer(real: int) -> Kernel:
    """As `batchnorm_train`, by a given mean and variance: out [row][column]."""
    number: Any = ELEMENTS[real]

    def kernel(a, part, parts):
        columns, epsilon = a.columns, number(a.epsilon)
        first, last = share(a.rows, part, parts)
        for r in range(first, last):
            for c in range(columns):
                deviation = math.sqrt(a.variance[c] + epsilon)
                value = (a.x[r * columns + c] - a.mean[c]) / deviation
                a.out[r * columns + c] = a.gamma[c] * value + a.beta[c]

    return kernel


@takes(real="dout normalized gamma variance dx dgamma dbeta", **SIZES)
def batchnorm_backward(real: int) -> Kernel:
    """dgamma and dbeta of each column, and dx [row][column]."""
    number: Any = ELEMENTS[real]

    def kernel(a, part, parts):
        dout, normalized, dgamma, dbeta = a.dout, a.normalized, a.dgamma, a.dbeta
        rows, columns, epsilon = a.rows, a.columns, number(a.epsilon)
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
                    # Mean and variance depend on x too: this takes off what is constant over
                    # the batch, and what is proportional to normalized.
                    common = (dbeta[c] + normalized[r * columns + c] * dgamma[c]) / count
                    scale = a.gamma[c] / math.sqrt(a.variance[c] + epsilon)
                    a.dx[r * columns + c] = scale * (dout[r * columns + c] - common)

    return kernel
