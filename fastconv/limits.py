"""What a container allows this process: CPUs and memory, from Linux's control groups.

A group's limit holds for all groups below it. Version 2 has one tree of groups, version 1 one
for each controller, and some systems have both. Source: the kernel's documentation,
``admin-guide/cgroup-v2.rst`` and ``admin-guide/cgroup-v1``; ``proc_pid_mountinfo(5)``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

__all__ = ["cpu_quota", "cpu_set", "memory_limit"]


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Processor time that this process may take of each unit of time, in CPUs; None: no limit.

    Parameters
    ----------
    root : Path
        Where the file system begins that has ``/proc`` and the control groups.
    """
    quotas = []
    for folder in _groups(root, "cpu"):
        for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
            with suppress(OSError, ValueError, ZeroDivisionError):  # "max", or no such file
                text = " ".join((folder / name).read_text(encoding="ascii") for name in names)
                quota, period = text.split()
                quotas.append(int(quota) / int(period))
    return min((quota for quota in quotas if quota > 0), default=None)


def cpu_set(root: Path = Path("/")) -> frozenset[int] | None:
    """The numbers of the CPUs that this process's group may use; None: no limit is known.

    Parameters
    ----------
    root : Path
        As for `cpu_quota`.
    """
    for folder in _groups(root, "cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
            with suppress(OSError, ValueError):
                text = (folder / name).read_text(encoding="ascii").strip()  # 0-3,8
                ranges = [part.split("-") for part in text.split(",") if part]
                if ranges:
                    numbers = [range(int(each[0]), int(each[-1]) + 1) for each in ranges]
                    return frozenset().union(*numbers)
    return None


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes that this process and those in its groups may have; None: no limit.

    Parameters
    ----------
    root : Path
        As for `cpu_quota`.
    """
    limits = []
    for folder in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):
                limits.append(int((folder / name).read_text(encoding="ascii")))
    return min(limits, default=None)


def _lines(path: Path) -> list[str]:
    """The lines of a file with names of folders, which need not be valid text."""
    return os.fsdecode(path.read_bytes()).removesuffix("\n").split("\n")


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the groups that this process is in, each with all those above it."""
    with suppress(OSError, ValueError, IndexError):  # another system, or one that hides them
        paths: dict[str, PurePosixPath] = {}  # by controller; that of version 2 has no name
        for line in _lines(root / "proc/self/cgroup"):
            _, names, place = line.split(":", 2)
            paths |= dict.fromkeys(names.split(","), PurePosixPath(place))
        for line in _lines(root / "proc/self/mountinfo"):
            left, right = line.split(" - ", 1)
            mounted, place = left.split()[3:5]
            kind, options = right.split()[0], right.split()[-1].split(",")
            if kind == "cgroup2":
                path = paths.get("")
            elif kind == "cgroup" and controller in options:
                path = paths.get(controller)
            else:
                continue
            if path is None:
                continue
            # Inside a container only its own group may be mounted, while the path is the host's:
            # then the group is the mount itself.
            inside = PurePosixPath()
            if path.is_relative_to(mounted) and ".." not in path.parts:
                inside = path.relative_to(mounted)
            top = root / place.replace("\\040", " ").lstrip("/")
            yield from (top / group for group in (inside, *inside.parents))
