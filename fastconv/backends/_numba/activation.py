"""Activations: one pass over memory each way; backward computes again from the input.

    for my elements:  out = f(x);  dx = dout * f'(x)          (ReLU: dx = dout where mask)

ReLU keeps a mask, one byte for each value. The others keep only x. LLVM vectorises these plain
loops, but not around a call of the C library: so the exponential function is written out here.
Only the error function is such a call.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

import math
from typing import Any, get_args

from llvmlite import ir

from ..table import Activation
from .launch.build import Kernel
from .words.pointer import DOUBLE, ELEMENTS, FLOAT, element, helper, share, word
from .words.record import takes

__all__ = [
    "KINDS",
    "activation_backward",
    "activation_forward",
    "relu_backward",
    "relu_forward",
]

KINDS = get_args(Activation)

LEAKY_RELU, ELU, GELU, SILU, TANH, SIGMOID = range(6)

LIMITS = {FLOAT: (-87.0, 88.0), DOUBLE: (-708.0, 709.0)}
"""The least and the largest x for which exp(x) is neither 0 nor infinite."""

LN2 = {
    FLOAT: (0.693359375, -2.12194440e-4),
    DOUBLE: (0.693145751953125, 1.42860682030941723212e-6),
}
"""ln 2 as a sum, whose first part times a whole number is exact."""

MAGIC = {FLOAT: 1.5 * 2**23, DOUBLE: 1.5 * 2**52}
"""Adding it rounds a number, and leaves the whole number in the low bits."""

TERMS = {FLOAT: 7, DOUBLE: 13}
"""Terms of the Taylor series, for arguments up to half of ln 2."""


@word
def power_of_two(typing: Any, shifted: Any) -> Any:
    """2^n for the whole number n in the low bits of a number to which `MAGIC` was added."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits, mantissa = shifted.bitwidth, 23 if shifted.bitwidth == 32 else 52
        kind = ir.IntType(bits)
        one = ir.Constant(kind, ((1 << (bits - mantissa - 2)) - 1) << mantissa)
        n = builder.bitcast(args[0], kind)
        power = builder.add(builder.shl(n, ir.Constant(kind, mantissa)), one)
        return builder.bitcast(power, element(shifted))

    return shifted(shifted), generate


def exponentials(real: int) -> tuple[Any, Any]:
    """Make exp(x), and exp(x) - 1, which is accurate near 0 too."""
    number: Any = ELEMENTS[real]
    (least, most), (high, low), magic, terms = LIMITS[real], LN2[real], MAGIC[real], TERMS[real]

    @helper
    def parts_of(x):
        """(scale, rest): exp(x) = scale + scale*rest, with x clipped to the limits."""
        x = x if x > number(least) else number(least)
        x = x if x < number(most) else number(most)
        shifted = x * number(1.4426950408889634) + number(magic)
        n = shifted - number(magic)
        r = x - n * number(high) - n * number(low)
        rest = number(0)
        for i in range(terms, 0, -1):
            rest = (rest + number(1)) * (r * (number(1) / number(i)))
        return power_of_two(shifted), rest

    @helper
    def exponential(x):
        scale, rest = parts_of(x)
        result = scale + scale * rest
        result = number(0) if x < number(least) else result
        result = number(math.inf) if x > number(most) else result
        return result if x == x else x

    @helper
    def minus_1(x):
        scale, rest = parts_of(x)
        result = scale * rest + (scale - number(1))
        return result if x == x else x

    return exponential, minus_1


def formulas(real: int, kind: int) -> tuple[Any, Any]:
    """f and its derivative, of x and the slope."""
    number: Any = ELEMENTS[real]
    exponential, minus_1 = exponentials(real)

    @helper
    def logistic(x):
        return number(1) / (number(1) + exponential(-x))

    @helper
    def normal_share(x):
        return number(0.5) * (number(1) + number(math.erf(x * number(math.sqrt(0.5)))))

    @helper
    def tanh(x):
        size = -x if x < number(0) else x
        less = minus_1(size * number(-2))
        result = -less / (less + number(2))
        return -result if x < number(0) else result

    @helper
    def f(x, slope):
        if kind == LEAKY_RELU:
            return x if x > number(0) else slope * x
        if kind == ELU:
            return x if x > number(0) else slope * minus_1(x)
        if kind == GELU:
            return x * normal_share(x)
        if kind == SILU:
            return x * logistic(x)
        if kind == SIGMOID:
            return logistic(x)
        return tanh(x)

    @helper
    def derivative(x, slope):
        if kind == LEAKY_RELU:
            return number(1) if x > number(0) else slope
        if kind == ELU:
            return number(1) if x > number(0) else slope * exponential(x)
        if kind == GELU:
            density = exponential(x * x * number(-0.5)) * number(1 / math.sqrt(2 * math.pi))
            return normal_share(x) + x * density
        if kind == SILU:
            part = logistic(x)
            return part * (number(1) + x * (number(1) - part))
        if kind == SIGMOID:
            part = logistic(x)
            return part * (number(1) - part)
        height = tanh(x)
        return number(1) - height * height

    return f, derivative


@takes(real="x out", floats="slope", integers="count")
def activation_forward(real: int, kind: int) -> Kernel:
    """out = f(x)."""
    number: Any = ELEMENTS[real]
    f, _ = formulas(real, kind)

    def kernel(a, part, parts):
        first, last = share(a.count, part, parts)
        for i in range(first, last):
            a.out[i] = f(a.x[i], number(a.slope))

    return kernel


@takes(real="dout x dx", floats="slope", integers="count")
def activation_backward(real: int, kind: int) -> Kernel:
    """dx = dout * f'(x)."""
    number: Any = ELEMENTS[real]
    _, derivative = formulas(real, kind)

    def kernel(a, part, parts):
        first, last = share(a.count, part, parts)
        for i in range(first, last):
            a.dx[i] = a.dout[i] * derivative(a.x[i], number(a.slope))

    return kernel


@takes(real="x out", uint8="mask", integers="count")
def relu_forward(real: int) -> Kernel:
    """out = 0 where x <= 0, else x; mask = x > 0."""
    number: Any = ELEMENTS[real]

    def kernel(a, part, parts):
        first, last = share(a.count, part, parts)
        for i in range(first, last):
            value = a.x[i]
            a.out[i] = number(0) if value <= number(0) else value
            a.mask[i] = value > number(0)

    return kernel


@takes(real="dout dx", uint8="mask", integers="count")
def relu_backward(real: int) -> Kernel:
    """dx = dout where mask, else 0."""
    number: Any = ELEMENTS[real]

    def kernel(a, part, parts):
        first, last = share(a.count, part, parts)
        for i in range(first, last):
            a.dx[i] = a.dout[i] if a.mask[i] else number(0)

    return kernel
