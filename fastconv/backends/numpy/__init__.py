"""The reference backend: plain NumPy, and the definition of every kernel of the table.

Written to be read. A convolution is the book's: unfold the windows into the rows
of a column matrix, multiply by the filters. The matrix is unfolded for a few
images at a time, so that it stays in the cache instead of filling memory.
"""

from __future__ import annotations

import numpy as np

from ..short import NumpyShort, Short
from ..table import KERNELS, Layout
from .activation import ActivationKernels
from .augment import AugmentKernels
from .columns import ColumnKernels
from .conv import ConvKernels
from .dense import DenseKernels
from .grouped import GroupedKernels
from .loss import LossKernels
from .norm import NormKernels
from .pool import PoolKernels
from .updates import UpdateKernels

__all__ = ["NumpyBackend", "create"]


def create() -> NumpyBackend:
    """Return the reference backend."""
    return NumpyBackend()


def _underflowing(cls: type) -> type:
    """Let the kernels of a class underflow to 0 silently, whatever `np.seterr` says.

    Softmax's exponentials underflow by design, and compiled kernels ignore `np.seterr`: a caller
    who lets it raise, to find invalid values, gets the same from all backends.
    """
    for name in KERNELS:
        setattr(cls, name, np.errstate(under="ignore")(getattr(cls, name)))
    return cls


@_underflowing
class NumpyBackend(
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
):
    """The kernel table in NumPy; see `fastconv.backends.table.Backend` for each contract."""

    name = "numpy"
    layout: Layout = "channels_first"

    def __init__(self) -> None:
        self.short: Short = NumpyShort()

    def configure(self, *, threads: int, math_mode: str, algorithm: str) -> None:
        """NumPy's own BLAS decides how many threads multiply matrices."""
        self._math_mode = math_mode

    def refuses(self, math_mode: str) -> str:
        """It runs in all modes."""
        return ""

    def describe(self) -> dict[str, str]:
        return {"numpy": np.__version__, "threads": "decided by NumPy's BLAS"}
