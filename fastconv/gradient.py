"""Gradients by finite differences, to check the analytic ones (the book's chapter 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DTypeError

__all__ = ["numerical_gradient", "numerical_gradient_2d"]

STEP = 1e-4


def numerical_gradient(f: Callable[[Any], Any], x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Central differences of f at every element of x.

    Parameters
    ----------
    f : callable
        Takes x, returns a number. It may ignore its argument and read x elsewhere:
        x is changed in place while f is called, and put back.
    x : array of floats, any shape

    Returns
    -------
    array of x's shape

    Raises
    ------
    DTypeError
        x holds no floats, so that it could not be moved by 1e-4.
    """
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        kind = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise DTypeError(f"numerical_gradient: expected an array of floats, got {kind}")
    gradient = np.zeros(x.shape, x.dtype)
    for index in np.ndindex(x.shape):
        value = x[index]
        try:
            x[index] = value + STEP
            above = f(x)
            x[index] = value - STEP
            below = f(x)
        finally:
            x[index] = value
        gradient[index] = (above - below) / (2 * STEP)
    return gradient


def numerical_gradient_2d(f: Callable[[Any], Any], X: NDArray[np.floating]) -> NDArray[np.floating]:
    """`numerical_gradient` of f at each row of X by itself; at X itself where it has one axis."""
    if X.ndim == 1:
        return numerical_gradient(f, X)
    return np.array([numerical_gradient(f, row) for row in X]).reshape(X.shape)
