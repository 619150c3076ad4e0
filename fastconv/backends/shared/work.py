"""What both fast backends decide before a kernel runs: how many threads, on which vectors."""

from __future__ import annotations

__all__ = ["GRAIN", "ISA_LEVELS", "worth"]

ISA_LEVELS = ("baseline", "avx2", "avx512")
"""Instruction sets that kernels are compiled for, the narrowest vectors first."""

GRAIN = 1 << 15
"""Values to touch, or multiply-adds of vectors, that outweigh waking a thread."""


def worth(threads: int, work: int, units: int | None = None) -> int:
    """How many of these threads to use for so much work, at most one for each of its `units`."""
    most = threads if units is None else min(threads, units)
    return max(1, min(most, work // GRAIN))
