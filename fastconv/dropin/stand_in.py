"""Functions of ours in place of others, for what our kernels compute; the rest stays theirs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

__all__ = ["Declined", "expect_arrays", "stand_in"]


class Declined(Exception):
    """These arguments are for the original function; the text says why."""


def stand_in(
    ours: Callable[..., Any], original: Callable[..., Any], note: Callable[[str], None]
) -> Callable[..., Any]:
    """A function that calls `ours`, and if that declines, calls `note` and `original`."""

    @wraps(original)
    def either(*given: Any, **named: Any) -> Any:
        try:
            return ours(*given, **named)
        except Declined as declined:
            if reason := str(declined):
                note(reason)
        return original(*given, **named)

    return either


def expect_arrays(axes: int, *arrays: Any) -> None:
    """Decline all but NumPy arrays with so many axes, none empty, in float32 or float64."""
    for array in arrays:
        if type(array) is not np.ndarray:
            raise Declined(f"arrays of {type(array).__module__}.{type(array).__qualname__}")
        if array.dtype not in (np.float32, np.float64):
            raise Declined(f"arrays of {array.dtype}")
        if array.ndim != axes or 0 in array.shape:
            raise Declined(f"an array of shape {array.shape}")
