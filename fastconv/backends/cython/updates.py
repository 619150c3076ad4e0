"""The Cython backend: an optimizer's step."""

from __future__ import annotations

from ..table import Array
from .compiled import CompiledKernels

__all__ = ["UpdateKernels"]


class UpdateKernels(CompiledKernels):
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
        self._kernels.adam_update(param, grad, m, v, lr, beta1, beta2, epsilon, self._threads)
