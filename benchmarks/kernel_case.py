"""A kernel on one shape: what its timing needs to know."""

from __future__ import annotations

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
    """

    kernel: str
    label: str
    inputs: Callable[[np.random.Generator], Arguments]
    outputs: dict[str, tuple[int, ...] | None]
    flops: int = 0

    def __str__(self) -> str:
        return f"{self.kernel}-{self.label}"


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32).astype(np.float64)
