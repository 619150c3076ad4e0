"""What LLVM compiles for here: how wide a vector is, and how many registers hold one."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numba
from numba.core.registry import cpu_target

from ...shared.work import ISA_LEVELS

__all__ = ["Machine", "machine"]

settings: Any = numba.config

TARGETS = {
    "baseline": ("x86-64", "+cx8,+cmov,+fxsr,+mmx,+sse,+sse2"),
    "avx2": ("x86-64-v3", "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+popcnt,+sse4.2"),
}
"""CPU and features that limit LLVM itself to a level: the name alone would not."""


@dataclass(frozen=True)
class Machine:
    """The vectors that the kernels use.

    Attributes
    ----------
    isa : str
        Name of the instruction set, for people.
    vector_bytes, registers : int
        Size of a vector, and how many of them there are.
    """

    isa: str
    vector_bytes: int
    registers: int

    def lanes(self, itemsize: int) -> int:
        """Elements of a vector."""
        return self.vector_bytes // itemsize

    def tile(self, columns: int, itemsize: int) -> tuple[int, int, int]:
        """Lanes, rows and vectors of the register tile for a product of so many columns."""
        lanes = self.lanes(itemsize)
        needed = -(-columns // lanes)
        # With few blocks, a vector left empty in the last one costs more than narrow tiles do.
        vectors = 1 if needed in (1, 3) else 2
        if self.registers == 32:
            return lanes, {1: 14, 2: 8}[vectors], vectors
        return lanes, {1: 8, 2: 6}[vectors], vectors


def machine(max_isa: str | None) -> Machine:
    """Find what LLVM compiles for, limited to `max_isa` (baseline, avx2, avx512) where given.

    LLVM's own choice of instructions can only be limited before Numba compiles anything in this
    process, and is left alone where the user has made it (NUMBA_CPU_NAME and
    NUMBA_CPU_FEATURES). After that only the kernels' vectors are narrower, and `isa` says so.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return Machine(f"{platform.machine()}, vectors of 16 bytes", 16, 32)
    host = level({name for name, there in llvm.get_host_cpu_features().items() if there})
    allowed = min(host, ISA_LEVELS.index(max_isa) if max_isa else host)
    clamp = allowed < host and settings.CPU_NAME is None and settings.CPU_FEATURES is None
    if clamp:
        settings.CPU_NAME, settings.CPU_FEATURES = TARGETS[ISA_LEVELS[allowed]]
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    compiled = level({name[1:] for name in features.split(",") if name.startswith("+")})
    if clamp and compiled > allowed:
        # LLVM had started: the names would change nothing but Numba's own cache.
        settings.CPU_NAME = settings.CPU_FEATURES = None
    used = min(allowed, compiled)
    name = ISA_LEVELS[used]
    if used < host:
        name += f", though the CPU has {ISA_LEVELS[host]}"
    if used < compiled:
        name += f" (of LLVM itself, already started or told what to use: {ISA_LEVELS[compiled]})"
    return Machine(name, (16, 32, 64)[used], 32 if used == 2 else 16)


def level(features: set[str]) -> int:
    """The widest of `ISA_LEVELS` that a CPU with these features runs."""
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= features:
        return 2
    return 1 if {"avx2", "fma"} <= features else 0
