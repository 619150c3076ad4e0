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
from .words.pointer import ELEMENTS, share
from .words.record import takes

__all__ = ["adam"]


@takes(real="param grad m v", floats="lr s t epsilon", integers="count")
def adam(real: int) -> Kernel:
    """m += s*(grad - m); v += t*(grad*grad - v); param -= lr*m / (sqrt(v) + epsilon).

    Subnormal m and v become 0.
    """
    number: Any = ELEMENTS[real]
    smallest_normal = float(np.finfo(str(number)).smallest_normal)

    def kernel(a, part, parts):
        m, v = a.m, a.v
        lr, s, t, epsilon = number(a.lr), number(a.s), number(a.t), number(a.epsilon)
        smallest = number(smallest_normal)
        first, last = share(a.count, part, parts)
        for i in range(first, last):
            g = a.grad[i]
            first_moment = m[i] + s * (g - m[i])
            second_moment = v[i] + t * (g * g - v[i])
            first_moment = number(0) if abs(first_moment) < smallest else first_moment
            second_moment = number(0) if abs(second_moment) < smallest else second_moment
            m[i] = first_moment
            v[i] = second_moment
            a.param[i] -= lr * first_moment / (math.sqrt(second_moment) + epsilon)

    return kernel
