"""The book's functions beside the user's own: ours for arrays of floats, theirs for all else.

For single numbers, integers and complex numbers the book's functions return what NumPy does, which
a script may rely on; fastconv's refuse some of these, or compute in another dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

__all__ = ["beside"]

Function = Callable[..., Any]


def beside(ours: Function) -> Callable[[Function], Function] | None:
    """A function that joins the user's function and ours; None if ours serves alone."""
    place = PLACES.get(ours.__name__)
    return None if place is None else lambda theirs: place(ours, theirs)


def _floats(x: Any) -> bool:
    return type(x) is np.ndarray and x.dtype.kind == "f" and x.ndim > 0


def _of_values(ours: Function, theirs: Function) -> Function:
    @wraps(ours)
    def served(x: Any) -> Any:
        return ours(x) if _floats(x) else theirs(x)

    return served


def _of_gradients(ours: Function, theirs: Function) -> Function:
    @wraps(ours)
    def served(f: Any, *x: Any, **named: Any) -> Any:
        run = ours if all(map(_floats, [*x, *named.values()])) else theirs
        return run(f, *x, **named)

    return served


PLACES: dict[str, Callable[[Function, Function], Function]] = {
    **dict.fromkeys(("numerical_gradient", "numerical_gradient_2d"), _of_gradients),
    **dict.fromkeys(
        ("relu_grad", "sigmoid", "sigmoid_grad", "softmax", "step_function"), _of_values
    ),
}
