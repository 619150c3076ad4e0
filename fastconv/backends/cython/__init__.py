"""The Cython backend: compiled kernels for channels-last memory, on threads of their own.

This is glue. The kernels are in ``_cython``, built once for each instruction set. This package
chooses one of the builds and passes arrays as the kernels take them: images as C-contiguous
(N, H, W, C) views.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from ...errors import ArgumentError, BackendUnavailable
from .. import _cython
from .._cython import BUILT_FROM, source_digest
from ..shared import work
from ..shared.work import ISA_LEVELS
from ..short import Short
from ..table import Layout, Way
from .activation import ActivationKernels
from .augment import AugmentKernels
from .columns import ColumnKernels
from .compiled import TILES, VECTORS
from .conv import ConvKernels
from .dense import DenseKernels
from .grouped import GroupedKernels
from .loss import LossKernels
from .norm import NormKernels
from .pool import PoolKernels
from .program import Programs
from .updates import UpdateKernels

__all__ = ["CythonBackend", "create"]

HERE = Path(_cython.__file__).parent
"""The folder of the compiled kernels, or of their sources, if this is a checkout."""

BUILD_REASON = "_build_reason.txt"
"""The file there where the build notes what it could not compile, and why; see setup.py."""

REMEDY = (
    "install a C++ compiler (gcc or clang) and reinstall fastconv with "
    "FASTCONV_REQUIRE_EXTENSION=1, which stops at the first error"
)


def create(max_isa: str | None = None) -> CythonBackend:
    """Return the backend with the widest kernels that were built and that this CPU runs.

    Parameters
    ----------
    max_isa : {"baseline", "avx2", "avx512"}, optional
        Widest instruction set to use.

    Raises
    ------
    BackendUnavailable
        No kernels were built, or none of them can be loaded.
    ArgumentError
        An unknown instruction set.
    """
    if max_isa is not None and max_isa not in ISA_LEVELS:
        raise ArgumentError(
            f"cython: max_isa must be one of {', '.join(ISA_LEVELS)}, got {max_isa!r}"
        )
    elsewhere = _built_elsewhere()
    try:
        cpu = _extension("cpu")
    except ImportError as error:
        raise BackendUnavailable(_missing(error, elsewhere)) from error
    allowed = ISA_LEVELS if max_isa is None else ISA_LEVELS[: ISA_LEVELS.index(max_isa) + 1]
    runs = cpu.supported()
    passed = [] if len(allowed) == len(ISA_LEVELS) else [f"clamped to {max_isa}"]
    failure: ImportError | None = None
    for isa in reversed(allowed):
        if isa not in runs:
            passed.append(f"the CPU lacks {isa}")
            continue
        try:
            kernels = _extension(f"kernels_{isa}")
        except ImportError as error:
            failure = error
            passed.append(f"no build for {isa} ({error})")
            continue
        why = "; ".join(passed) or "the widest there is"
        multiplies = cpu.multiplies_bfloat16() if kernels.build_facts()["bfloat16"] else 0
        return CythonBackend(kernels, isa, why, multiplies)
    raise BackendUnavailable(_missing(failure, elsewhere)) from failure


def _extension(name: str) -> ModuleType:
    return importlib.import_module(f"{_cython.__name__}.{name}")


def _built_elsewhere() -> str:
    """In a checkout that has no kernels of its own: find those of the fastconv that it hides.

    Python started in the checkout's folder finds fastconv there, before the one that is installed.
    If the latter's kernels were built from the sources that are here, they are loaded from where
    they are. Else returns the reason, and what to do about it.
    """
    if (digest := source_digest(HERE)) is None or (HERE / BUILT_FROM).exists():
        return ""
    root = HERE.parents[2]
    reason = ""
    for entry in sys.path:
        place = Path(entry or ".", *HERE.parts[-3:])
        try:
            built_from = (place / BUILT_FROM).read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if built_from == digest:
            _cython.__path__.append(str(place))
            return ""
        reason = reason or f"those of the fastconv installed in {entry} are of other sources"
    reason = reason or "no fastconv is installed beside it"
    return (
        f"{root} is a checkout whose kernels are not built, and {reason}. "
        "Remedy: pip install -e . in the checkout, or start Python elsewhere"
    )


def _missing(error: ImportError | None, elsewhere: str) -> str:
    """Why there are no kernels: the build's note, what a checkout lacks, or the import error."""
    try:
        reason = (HERE / BUILD_REASON).read_text(encoding="utf-8").strip().replace("\n", "; ")
    except FileNotFoundError:
        if elsewhere:
            return f"cython: {elsewhere}."
        reason = f"the compiled kernels are missing ({error})"
    return f"cython: {reason}. Remedy: {REMEDY}."


class CythonBackend(
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
    """The kernel table in Cython; see `fastconv.backends.table.Backend` for each contract.

    Parameters
    ----------
    kernels : module
        One of ``_cython.kernels_*``.
    isa : str
        Its instruction set.
    why : str
        Why this one was chosen.
    bfloat16 : int
        What multiplies bfloat16s: `TILES` of AMX, `VECTORS`, or 0 for nothing.
    """

    name = "cython"
    layout: Layout = "channels_last"

    def __init__(self, kernels: ModuleType, isa: str, why: str, bfloat16: int) -> None:
        kernels.set_grain(work.GRAIN)
        self._kernels = kernels
        self._isa = isa
        self._why = why
        self._bfloat16 = bfloat16
        self.short: Short = kernels.Short()
        self._threads = 1
        self._math_mode = "default"
        self._algorithm = "auto"

    def configure(self, *, threads: int, math_mode: str, algorithm: str) -> None:
        self._threads = self.short.threads = threads
        self._math_mode = math_mode
        self._algorithm = algorithm
        if self._pairs == TILES and not _extension("cpu").ask_for_tiles():
            self._bfloat16 = VECTORS
        self.short.affine = self._pairs == 0

    def refuses(self, math_mode: str) -> str:
        """See `fastconv.backends.table.Backend`."""
        if math_mode != "bf16" or self._bfloat16:
            return ""
        return f"cython: no math mode bf16: {self._lack()}. Remedy: another math mode"

    def _lack(self) -> str:
        """Why nothing multiplies bfloat16s."""
        if self._isa != ISA_LEVELS[-1]:
            return f"kernels for {self._isa} have no products of bfloat16s ({self._why})"
        if not self._kernels.build_facts()["bfloat16"]:
            return "the compiler that built the kernels has no products of bfloat16s"
        return "the CPU lacks AVX512_BF16"

    def ways_taken(self) -> dict[Way, int]:
        """How often calls of this thread have taken each way; see `fastconv.backends.table`."""
        vector_bytes = self._kernels.build_facts()["vector_bytes"]
        return {
            Way(part, how, f"float{8 * itemsize}", vector_bytes // itemsize, parallel): count
            for part, how, itemsize, parallel, count in self._kernels.ways_taken()
        }

    def kernel_version(self) -> str:
        """The digest of the machine code."""
        return _digest(str(self._kernels.__file__))

    def describe(self) -> dict[str, str]:
        facts = self._kernels.build_facts()
        bits = 8 * facts["vector_bytes"]
        return {
            "instruction set": f"{self._isa} ({bits}-bit vectors; {self._why})",
            "threading": "own threads, which spin briefly, then sleep",
            "threads": str(self._threads),
            "bfloat16 products": (self._lack(), "vectors (AVX512_BF16)", "tiles (AMX_BF16)")[
                self._bfloat16
            ],
            "compiler": facts["compiler"],
            "compiled kernels": str(Path(self._kernels.__file__ or "").parent),
        }


@cache
def _digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
