"""Softmax with cross-entropy.

    for my samples:  largest;  p = exp(scores - largest);  p /= sum;  loss

A row of scores is a few classes long, and most of its time is `exp`: no tile.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

import math
from typing import Any

from .launch.build import Kernel
from .words.pointer import ELEMENTS, share
from .words.record import takes

__all__ = ["softmax_backward", "softmax_forward"]


@takes(
    real="scores probabilities",
    int64="labels",
    float64="losses",
    floats="smoothing",
    integers="rows columns",
)
def softmax_forward(real: int) -> Kernel:
    """Probabilities [row][column], and of each row its loss in float64."""
    number: Any = ELEMENTS[real]

    def kernel(a, part, parts):
        columns, smoothing = a.columns, a.smoothing
        first, last = share(a.rows, part, parts)
        for r in range(first, last):
            x, p = a.scores + r * columns, a.probabilities + r * columns
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
                a.losses[r] = -math.log(p[a.labels[r]] + 1e-7)
            else:
                below = 0.0  # mean(log(p)) = mean(x - top) - log(total)
                for c in range(columns):
                    below += x[c] - top
                pulled = (1 - smoothing) * (x[a.labels[r]] - top) + smoothing * below / columns
                a.losses[r] = math.log(total) - pulled

    return kernel


@takes(
    real="probabilities dscores",
    int64="labels",
    floats="smoothing scale",
    integers="rows columns",
)
def softmax_backward(real: int) -> Kernel:
    """dscores = (probabilities - smoothed onehot(labels)) * scale."""
    number: Any = ELEMENTS[real]

    def kernel(a, part, parts):
        columns, factor = a.columns, number(a.scale)
        everyone = a.smoothing / columns
        low, high = number(everyone), number(1 - a.smoothing + everyone)
        first, last = share(a.rows, part, parts)
        for r in range(first, last):
            p, d = a.probabilities + r * columns, a.dscores + r * columns
            for c in range(columns):
                d[c] = (p[c] - low) * factor
            d[a.labels[r]] = (p[a.labels[r]] - high) * factor

    return kernel
