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
from .words.pointer import DOUBLE, ELEMENTS, LONG, numbers, pointers, share

__all__ = ["softmax_backward", "softmax_forward"]


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
                below = 0.0  # mean(log(p)) = mean(x - top) - log(total)
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
