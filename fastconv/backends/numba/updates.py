"""The Numba backend: an optimizer's step."""

from __future__ import annotations

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
        # 1 - beta in float64: in float32 it would lose digits.
        settings = {"lr": lr, "s": 1 - beta1, "t": 1 - beta2, "epsilon": epsilon}
        fields = {"param": param, "grad": grad, "m": m, "v": v, "count": param.size}
        self._run_on(param, updates.adam, **fields, **settings)
