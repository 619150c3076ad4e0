"""The Numba backend: glue that turns the table's arrays into records of addresses and numbers.

Given addresses, no kernel is compiled again for a read-only array, and none looks at strides,
because the contract fixes them. The kernels, and what each takes, are in ``_numba/``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import BackendUnavailable
from ..short import NumpyShort, Short
from ..table import Layout, Way

try:
    import llvmlite.binding as llvm
    import numba
except ImportError as error:
    raise BackendUnavailable(
        f"numba: the package cannot be imported ({error}); pip install --upgrade numba"
    ) from error

from .._numba.launch.build import Builder
from .._numba.launch.machine import machine
from .._numba.launch.team import Team
from .._numba.ways import ways_of
from .activation import ActivationKernels
from .augment import AugmentKernels
from .columns import ColumnKernels
from .conv import ConvKernels
from .dense import DenseKernels
from .grouped import GroupedKernels
from .loss import LossKernels
from .norm import NormKernels
from .pool import PoolKernels
from .program import Programs
from .updates import UpdateKernels

__all__ = ["NumbaBackend", "create"]

settings: Any = numba.config


def create(max_isa: str | None, cache_dir: Callable[[], Path]) -> NumbaBackend:
    """Return the Numba backend; compiles nothing and starts no thread yet.

    Parameters
    ----------
    max_isa : str or None
        Widest instruction set to use: ``"baseline"``, ``"avx2"`` or ``"avx512"``.
    cache_dir : callable
        Returns the folder for compiled kernels, or raises OSError where there is none; called
        when the first kernel is needed.

    Raises
    ------
    BackendUnavailable
        Numba is told not to compile. (If Numba is missing, importing this module raises
        the same.)
    """
    if settings.DISABLE_JIT:
        raise BackendUnavailable(
            "numba: NUMBA_DISABLE_JIT is set, so Numba compiles nothing; unset it"
        )
    # Load OpenMP's library while the registry has set how its threads are to wait; none starts yet.
    with suppress(ImportError):
        importlib.import_module("numba.np.ufunc.omppool")
    return NumbaBackend(Team(Builder(cache_dir), machine(max_isa)))


class NumbaBackend(
    ColumnKernels,
    ConvKernels,
    GroupedKernels,
    PoolKernels,
    DenseKernels,
    ActivationKernels,
    NormKernels,
    LossKernels,
    UpdateKernels,
    AugmentKernels,
    Programs,
):
    """The kernel table in Numba; see `fastconv.backends.table.Backend` for each contract."""

    name = "numba"
    layout: Layout = "channels_last"

    def __init__(self, team: Team) -> None:
        self.short: Short = NumpyShort()
        self._team = team
        self._math_mode = "default"
        self._algorithm = "auto"

    def configure(self, *, threads: int, math_mode: str, algorithm: str) -> None:
        """Threads beyond those that Numba has (NUMBA_NUM_THREADS) share those it has."""
        self._team.threads = threads
        self._math_mode = math_mode
        self._algorithm = algorithm

    def ways_taken(self) -> dict[Way, int]:
        """How often calls of this thread have taken each way; see `fastconv.backends.table`."""
        return ways_of(self._team.ran)

    def kernel_version(self) -> str:
        """The digest of the kernels' sources, and of what compiles them."""
        return self._team.builder.store.stamp

    def describe(self) -> dict[str, str]:
        return {
            "numba": numba.__version__,
            "llvm": ".".join(map(str, llvm.llvm_version_info)),
            "instruction set": self._team.machine.isa,
            "threading layer": self._team.layer(),
            "compiled kernels": str(self._team.builder.store),
        }
