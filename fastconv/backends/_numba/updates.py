"""Adam's step.

    for my elements:  m += s*(g - m);  v += t*(g*g - v)          (subnormal ones become 0)
                      param -= lr*m / (sqrt(v) + epsilon)

Every element is independent: LLVM vectorises this plain loop.
"""

# mypy sees Python's types; these functions get tiles, pointers and machine integers.
# mypy: disable-error-code="no-untyped-def, arg-type, index, operator, misc"

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .launch.build import Kernel
from .words.pointer import DOUBLE, ELEMENTS, numbers, pointers, share

__all__ = ["adam"]


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
        # The caller has computed 1 - beta in float64: in float32 it would lose digits.
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
