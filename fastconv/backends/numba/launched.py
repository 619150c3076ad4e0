"""What the families of the Numba backend share: the team that runs their kernels."""

from __future__ import annotations

import numpy as np

from .._numba.launch.build import Factory
from .._numba.launch.memory import addresses, code
from .._numba.launch.team import Team

__all__ = ["WORK", "LaunchedKernels"]

WORK = 4
"""What an element costs, in units of moving it."""


class LaunchedKernels:
    """Kernels that a team of threads runs."""

    _team: Team

    def _run(
        self, factory: Factory, constants: tuple[int, ...], work: int, *arguments: int
    ) -> None:
        """Run a kernel on as many threads as its work is worth."""
        self._team.run(factory, constants, list(arguments), self._team.parts(work))

    def _run_on(self, factory: Factory, arrays: list[np.ndarray], *sizes: int) -> None:
        """Run a kernel that costs about as much as moving its first array."""
        self._run(factory, (code(arrays[0]),), arrays[0].size, *addresses(*arrays), *sizes)
