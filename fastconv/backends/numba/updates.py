"""The Numba backend: an optimizer's step."""

from __future__ import annotations

import numpy as np

from .._numba import updates
from ..table import Array
from .launched import LaunchedKernels

__all__ = ["UpdateKernels"]


class UpdateKernels(LaunchedKernels):
    """An optimizer's step; see `table.Backend`."""

    def adam_update(
        self,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        lr: float,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> None:
        settings = np.array([lr, 1 - beta1, 1 - beta2, epsilon], np.float64)
        self._run_on(updates.adam, [param, grad, m, v, settings], param.size)
