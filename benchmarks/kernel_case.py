"""A kernel on one shape: what its timing needs to know."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Arguments", "Case", "draw"]

Arguments = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Case:
    """One kernel on one shape.

    Attributes
    ----------
    kernel, label : str
        Name in the table, and the shape in words.
    inputs : callable
        Draws the inputs from a generator, in float64 but exact in float32.
    outputs : dict
        Shapes by name; None for a gradient that nobody needs.
    flops : int
        Convolutions counted as direct; 0 where moving data is all that counts.
    kind : str
        What sets it apart from other cases of this kernel, besides the numbers of its shape.
    places : callable or None
        From the inputs, the values (..., places) among which ``winner`` names the largest, for
        backends that round them. None where every backend has to name the same one.
    """

    kernel: str
    label: str
    inputs: Callable[[np.random.Generator], Arguments]
    outputs: dict[str, tuple[int, ...] | None]
    flops: int = 0
    kind: str = ""
    places: Callable[[Arguments], np.ndarray] | None = None

    @property
    def written(self) -> int:
        """Numbers that are written."""
        return sum(math.prod(shape) for shape in self.outputs.values() if shape is not None)

    def __str__(self) -> str:
        return f"{self.kernel}-{self.label}"


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32).astype(np.float64)
