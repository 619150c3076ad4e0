"""Which CPUs of a machine are whose: its ranks share them out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ..limits import cpu_set

__all__ = ["allowed_cpus", "cores", "keep_to", "own_cpus", "own_part", "shared_cpus"]

TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology"
"""Where Linux says which core of which processor a CPU is."""


def shared_cpus(
    masks: Sequence[frozenset[int]],
    own: frozenset[int],
    allowed: frozenset[int],
    quota: float | None,
) -> tuple[int, list[str]]:
    """Return how many CPUs a rank may count as its own, and what is wrong with their binding.

    Parameters
    ----------
    masks : sequence of frozenset of int
        The CPUs that the launcher lets each rank of this machine use.
    own, allowed : frozenset of int
        Those of this rank, and those that the launcher may use itself.
    quota : float or None
        CPUs' worth of time that a container allows.
    """
    sharing = sum(bool(mask & own) for mask in masks)
    cpus, ranks = len(own), sharing
    if quota is not None and quota / len(masks) < cpus / ranks:
        cpus, ranks = math.ceil(quota), len(masks)
    wrong = []
    if cpus < ranks:
        wrong.append(f"more ranks than CPUs: {ranks} ranks share {cpus}, and wait for each other")
    bound = frozenset[int]().union(*masks)
    if unused := allowed - bound:
        wrong.append(
            f"the launcher binds the ranks to {len(bound)} of {len(bound | allowed)} CPUs, and "
            f"{len(unused)} stay unused; with --bind-to none, fastconv shares them out"
        )
    return max(1, cpus // ranks), wrong


def own_cpus() -> frozenset[int]:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def allowed_cpus() -> frozenset[int]:
    """The CPUs that the launcher itself may use: those that it could bind ranks to."""
    if not hasattr(os, "sched_getaffinity"):
        return frozenset()
    allowed = frozenset[int]()
    with suppress(OSError):  # a parent that is gone
        allowed = frozenset(os.sched_getaffinity(os.getppid()))
    inside = cpu_set()
    return allowed if inside is None else allowed & inside


def own_part(masks: Sequence[frozenset[int]], place: int, ordered: Sequence[int]) -> frozenset[int]:
    """Return the CPUs that a rank is to keep to: a part of its own of those that it shares.

    Parameters
    ----------
    masks : sequence of frozenset of int
        The CPUs that the launcher lets each rank of this machine use.
    place : int
        Which of them is this rank's.
    ordered : sequence of int
        The rank's CPUs, those of a core beside each other.
    """
    own = masks[place]
    sharing = [rank for rank, mask in enumerate(masks) if mask & own]
    if any(masks[rank] != own for rank in sharing) or len(sharing) > len(own):
        return own
    at = sharing.index(place)
    begin, end = (len(ordered) * number // len(sharing) for number in (at, at + 1))
    return frozenset(ordered[begin:end])


def cores(cpus: Iterable[int], topology: str = TOPOLOGY) -> list[int]:
    """Return the CPUs by processor and core: two of one core are beside each other."""

    def place(cpu: int) -> tuple[int, int, int]:
        names = ("physical_package_id", "core_id")
        try:
            package, core = (int(Path(topology.format(cpu), name).read_text()) for name in names)
        except (OSError, ValueError):  # not said
            package, core = 0, cpu
        return package, core, cpu

    return sorted(cpus, key=place)


def keep_to(cpus: frozenset[int]) -> None:
    """Let this process's threads, and those that they start, use these CPUs alone."""
    if cpus == own_cpus() or not hasattr(os, "sched_setaffinity"):
        return
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # one that has ended
            os.sched_setaffinity(int(thread.name), cpus)
