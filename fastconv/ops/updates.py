"""Steps of optimizers on one parameter."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..selection import active
from .arrays import as_array, common_dtype, contiguous, updated_arrays

__all__ = ["adam_update", "checked_adam_update"]


def adam_update(
    param: np.ndarray,
    grad: ArrayLike,
    m: np.ndarray,
    v: np.ndarray,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    backend: str | None = None,
) -> None:
    """Adam's step in place on param, m and v (all of one shape); lr is corrected for bias."""
    param, grad, (m, v) = updated_arrays("adam", param, as_array(grad), m=m, v=v)
    checked_adam_update(param, grad, m, v, lr, beta1, beta2, epsilon, backend)


def checked_adam_update(
    param: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    backend: str | None = None,
) -> None:
    """`adam_update` of an optimizer's arrays, checked by `updated_arrays`."""
    # The moments of a float16 parameter are float32: Adam made them so.
    dtype = common_dtype("adam", param, m, v)
    work = [contiguous(array, dtype) for array in (param, m, v)]
    active(backend).adam_update(
        work[0].reshape(-1),
        contiguous(grad, dtype).reshape(-1),
        work[1].reshape(-1),
        work[2].reshape(-1),
        lr,
        beta1,
        beta2,
        epsilon,
    )
    for array, result in zip((param, m, v), work, strict=True):
        if array is not result:
            array[...] = result
