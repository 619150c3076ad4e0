"""Local response normalisation over neighbouring channels.

    for pixel, in parallel:
        squares = x*x, zeros around
        for channel:  scale = k + alpha/size * sum of `size` neighbours;  out = x * scale**-beta

Channels are contiguous, so LLVM vectorises these loops; a neighbour is the same row of squares,
shifted by one. Backward has the same loops, with the window reversed. The power is two square
roots where beta is 3/4, as in all well-known networks with this layer.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

import math
from typing import Any

from .launch.build import Kernel
from .words.pointer import ELEMENTS, clear, helper, share
from .words.record import takes

__all__ = ["lrn_backward", "lrn_forward"]


def inverse_power(real: int, roots: int) -> Any:
    """x**-beta; with `roots`, beta is 3/4."""
    number: Any = ELEMENTS[real]

    @helper
    def words(x, beta):
        if roots:
            return number(1) / math.sqrt(x * math.sqrt(x))
        return x ** (-beta)

    return words


@takes(real="x out scale squares", floats="alpha beta k", integers="pixels channels size")
def lrn_forward(real: int, roots: int) -> Kernel:
    """out and scale [pixel][c]; squares is a row of each part's own."""
    number: Any = ELEMENTS[real]
    power = inverse_power(real, roots)

    def kernel(a, part, parts):
        channels, size = a.channels, a.size
        alpha, beta, k = number(a.alpha), number(a.beta), number(a.k)
        squares = a.squares + part * (channels + size)
        clear(squares, channels + size)
        middle = squares + size // 2
        first, last = share(a.pixels, part, parts)
        for pixel in range(first, last):
            source, sums = a.x + pixel * channels, a.scale + pixel * channels
            target = a.out + pixel * channels
            for c in range(channels):
                middle[c] = source[c] * source[c]
                sums[c] = number(0)
            for i in range(size):
                neighbour = squares + i
                for c in range(channels):
                    sums[c] += neighbour[c]
            for c in range(channels):
                total = k + alpha * sums[c]
                sums[c] = total
                target[c] = source[c] * power(total, beta)

    return kernel


@takes(real="dout x scale dx terms sums", floats="alpha beta", integers="pixels channels size")
def lrn_backward(real: int, roots: int) -> Kernel:
    """dx [pixel][c]; terms and sums are rows of each part's own."""
    number: Any = ELEMENTS[real]
    power = inverse_power(real, roots)

    def kernel(a, part, parts):
        x, scale, dx, channels, size = a.x, a.scale, a.dx, a.channels, a.size
        alpha, beta = number(a.alpha), number(a.beta)
        factor = number(2) * alpha * beta
        terms, sums = a.terms + part * (channels + size), a.sums + part * channels
        clear(terms, channels + size)
        middle = terms + (size - 1) // 2
        first, last = share(a.pixels, part, parts)
        for pixel in range(first, last):
            at = pixel * channels
            for c in range(channels):
                through = a.dout[at + c] * power(scale[at + c], beta)
                dx[at + c] = through
                middle[c] = through * x[at + c] / scale[at + c]
                sums[c] = number(0)
            for i in range(size):
                neighbour = terms + i
                for c in range(channels):
                    sums[c] += neighbour[c]
            for c in range(channels):
                dx[at + c] -= factor * x[at + c] * sums[c]

    return kernel
