"""The reference: what products of convolutions and affine layers are made of, in each math mode."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..table import Array

__all__ = ["Operands", "bfloat16"]

DROPPED = 16
"""Bits of a float32 that a bfloat16 lacks, the lowest ones of its fraction."""

LEAST = np.float32(2.0**-126)
"""The smallest number that a CPU's products of bfloat16s do not take as 0."""


def bfloat16(values: Array) -> Array:
    """Values rounded to the nearest bfloat16, of two as near to the even one; in their own dtype.

    A bfloat16 is a float32 without the lower half of its bits: 8 significant bits, the range of
    float32. What is subnormal becomes 0, as in the CPU's products; NaN stays NaN, and what is too
    large becomes infinite. Wider values are taken as float32 first.
    """
    narrow = np.asarray(values, np.float32)
    bits = np.ascontiguousarray(narrow).view(np.uint32)
    odd = bits >> DROPPED & 1
    up = np.uint32((1 << DROPPED - 1) - 1)
    kept = (bits + (up + odd) >> DROPPED << DROPPED).view(np.float32)
    rounded = np.where(np.isfinite(narrow), kept, narrow)
    rounded = np.where(np.abs(narrow) < LEAST, np.copysign(np.float32(0), narrow), rounded)
    return rounded.astype(values.dtype, copy=False)


class Operands:
    """Rounds what is multiplied, in the math mode ``bf16``."""

    _math_mode = "default"

    rounded: Any = np.float32
    """The dtype that this mode is about. The compliance suite computes the same in float64."""

    @property
    def rounds(self) -> bool:
        """Whether it rounds anything."""
        return self._math_mode == "bf16"

    def _operand(self, values: Array) -> Array:
        if self.rounds and values.dtype == self.rounded:
            return bfloat16(values)
        return values
