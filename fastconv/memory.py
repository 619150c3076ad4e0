"""Whether data will fit into memory: checked before they are read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from .errors import ArgumentError
from .limits import memory_limit

__all__ = ["available_memory", "expect_room", "in_words"]

USABLE = 0.75
"""Share of the free memory that data may take; training needs some for itself."""

MEMINFO = Path("/proc/meminfo")


def available_memory() -> int | None:
    """Bytes that this process can still use, or None where the system does not say.

    Linux says what is free, and how much the container may have. Other systems say at best how
    much memory there is.
    """
    free: list[int] = []
    with suppress(OSError, ValueError, IndexError):
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
    if not free:
        try:
            free.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, ValueError, OSError):
            return None
    limit = memory_limit()
    return min(free) if limit is None else min(*free, limit)


def expect_room(what: str, need: int, remedy: str) -> None:
    """Raise an `ArgumentError` if `what` needs more bytes than may be used."""
    free = available_memory()
    if free is not None and need > USABLE * free:
        raise ArgumentError(
            f"{what} take {in_words(need)} of memory; {in_words(free)} are free, of which "
            f"{USABLE:.0%} may be used: {remedy}"
        )


def in_words(count: int) -> str:
    """A number of bytes, for messages."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
