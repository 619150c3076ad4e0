"""What the families of the Numba backend share: the team that runs their kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._numba.launch.build import Factory
from .._numba.launch.memory import code
from .._numba.launch.team import Team

__all__ = ["WORK", "LaunchedKernels"]

WORK = 4
"""What an element costs, in units of moving it."""


class LaunchedKernels:
    """Kernels that a team of threads runs."""

    _team: Team

    def _run(
        self, factory: Factory, constants: tuple[int, ...], work: int, *fields: dict[str, Any]
    ) -> None:
        """Run a kernel on as many threads as its work is worth."""
        self._team.run(factory, constants, self._team.parts(work), *fields)

    def _run_on(self, array: np.ndarray, factory: Factory, **fields: Any) -> None:
        """Run a kernel that costs about as much as moving this array."""
        self._run(factory, (code(array),), array.size, fields)
