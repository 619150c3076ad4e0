"""The reference: an optimizer's step."""

from __future__ import annotations

import numpy as np

from ..table import Array

__all__ = ["UpdateKernels"]


class UpdateKernels:
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
        m += (1 - beta1) * (grad - m)
        v += (1 - beta2) * (grad * grad - v)
        for moment in (m, v):
            moment[np.abs(moment) < np.finfo(moment.dtype).smallest_normal] = 0
        param -= lr * m / (np.sqrt(v) + epsilon)
