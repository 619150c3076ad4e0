"""Ranks that do not come to `DataParallel()`: named, so that the others need not wait for ever.

MPI starts once all ranks start it. A rank that waits for that runs no other Python, and has no way
to ask the others. So a process beside it watches meanwhile (Linux). What it knows is what the
system says of this machine's processes: which ones the same launcher has started, whether they
compute, and which have such a process of their own, since these are there.

This file is also that process's program, and therefore imports nothing but Python's own modules.
"""

from __future__ import annotations

import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from select import select

__all__ = ["Watch", "ranks_here", "watched"]

PROCESSES = Path("/proc")

MOST_APART = 1.0
"""Seconds between two looks, at most."""

LOOKS = 8
"""Within the time limit, at least."""

BUSY = 0.01
"""Part of the time that a rank computes which does not hang."""

ELSEWHERE = 1.25
"""After how many time limits other machines' ranks are named: first their own machine may."""


@dataclass
class Rank:
    """A rank of this machine.

    Attributes
    ----------
    there : bool
        Whether it waits in `DataParallel`.
    computed : dict of int to float
        Processor time of each of its processes, in seconds.
    """

    there: bool = False
    computed: dict[int, float] = field(default_factory=dict)

    def computed_since(self, before: Rank) -> float:
        """Seconds; a process that has begun since counts with all of its time."""
        pairs = ((now, before.computed.get(process, 0)) for process, now in self.computed.items())
        return sum(max(0.0, now - then) for now, then in pairs)


def ranks_here(variable: str, process: int, root: Path = PROCESSES) -> dict[int, Rank]:
    """Return the ranks of this machine that the launcher of a process has started.

    Parameters
    ----------
    variable : str
        Of the environment: it has a rank's number.
    process : int
        One of a rank.
    root : Path
        Where Linux lists processes.
    """

    def number(process: int) -> int | None:
        with suppress(OSError, ValueError):
            content = (root / str(process) / "environ").read_bytes().decode(errors="replace")
            values = dict(entry.partition("=")[::2] for entry in content.split("\0"))
            return int(values[variable]) if variable in values else None
        return None  # it has ended, or is another user's

    def state(process: int) -> list[str]:
        with suppress(OSError):  # ended
            return (root / str(process) / "stat").read_text().rpartition(")")[2].split()
        return ["Z", "0"]

    def launcher(process: int) -> int:
        while number(process) is not None:
            process = int(state(process)[1])
        return process

    own, found = launcher(process), dict[int, Rank]()
    ticks = os.sysconf("SC_CLK_TCK")
    for path in root.iterdir():
        if not path.name.isdigit() or (rank := number(int(path.name))) is None:
            continue
        words = state(int(path.name))
        if words[0] == "Z" or launcher(int(path.name)) != own:
            continue
        here = found.setdefault(rank, Rank())
        with suppress(OSError):
            if str(Path(__file__)).encode() in (path / "cmdline").read_bytes().split(b"\0"):
                here.there = True
            else:
                here.computed[int(path.name)] = sum(map(int, words[11:13])) / ticks
    return found


class Watch:
    """What a rank that waits for the others knows of them.

    Parameters
    ----------
    rank, size : int
        Its own number, and how many there are.
    local : int
        How many are on this machine; 0: the launcher has not said.
    limit : float
        Seconds after which a rank that does nothing is not waited for any longer.
    """

    def __init__(self, rank: int, size: int, local: int, limit: float) -> None:
        self.rank, self.size, self.limit = rank, size, limit
        self._alone = local == size
        self._waited = 0.0
        self._idle = dict.fromkeys(range(size), 0.0)
        self._before: Mapping[int, Rank] = {}
        self._told = set[int]()

    def look(self, passed: float, ranks: Mapping[int, Rank]) -> tuple[int, str] | str | None:
        """Judge by what is here so many seconds later.

        Returns
        -------
        tuple of int and str, str, or None
            Which rank is not waited for, and why; or a line to say; or nothing. Of the ranks that
            wait on a machine, the first one speaks.
        """
        self._waited += passed
        for number, rank in ranks.items():
            before = self._before.get(number)
            busy = before is None or rank.computed_since(before) > BUSY * passed
            self._idle[number] = 0.0 if busy or rank.there else self._idle[number] + passed
        self._before = ranks
        if self.rank != min((number for number, rank in ranks.items() if rank.there), default=-1):
            return None
        away = [number for number in range(self.size) if number not in ranks]
        for number in ranks:
            if self._idle[number] >= self.limit:
                return number, (
                    f"it has done nothing for {self.limit:g} s, before DataParallel(), while "
                    "others wait for it there"
                )
        if self._alone and away and self._waited >= self.limit:
            return away[0], "it has ended before DataParallel(), while others wait for it there"
        late = [number for number, rank in ranks.items() if not rank.there]
        for number in late:
            if self._waited >= self.limit and not self._idle[number] and number not in self._told:
                self._told.add(number)
                return (
                    f"rank {number} has kept others waiting for {self.limit:g} s, before "
                    "DataParallel(); it computes"
                )
        if away and not late and self._waited >= ELSEWHERE * self.limit and not self._told:
            self._told |= set(away)
            return (
                f"this machine's ranks have waited for {self._waited:.0f} s in DataParallel(), to "
                f"which another machine's have not come: all or some of {', '.join(map(str, away))}"
            )
        return None


@contextmanager
def watched(variable: str, rank: int, size: int, local: int, limit: float) -> Iterator[None]:
    """Inside the block, a rank waits for all others to come to it.

    One that does nothing for `limit` seconds is named, and this process is killed, whereupon the
    launcher ends all.
    """
    if size == 1 or math.isinf(limit) or not PROCESSES.is_dir():
        yield
        return
    words = [variable, *map(str, (rank, size, local, limit))]
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, *words], stdin=subprocess.PIPE
    )
    try:
        yield
    finally:
        watcher.kill()
        watcher.communicate()


def _watch(variable: str, watch: Watch) -> None:
    """Watch until the rank, whose child this process is, ends or goes on."""
    tick = min(MOST_APART, watch.limit / LOOKS)
    last, parent = time.monotonic(), os.getppid()
    while not select([sys.stdin], [], [], tick)[0]:
        now = time.monotonic()
        found = watch.look(min(now - last, 2 * tick), ranks_here(variable, os.getpid()))
        last = now
        if isinstance(found, tuple):
            where = platform.node()
            found = f"fastconv: error: rank {found[0]} of {watch.size} on {where}: {found[1]}"
            print(found, file=sys.stderr, flush=True)
            os.kill(parent, signal.SIGKILL)
            return
        if found is not None:
            print(found, file=sys.stderr, flush=True)


if __name__ == "__main__":
    _variable, _rank, _size, _local, _limit = sys.argv[1:]
    _watch(_variable, Watch(int(_rank), int(_size), int(_local), float(_limit)))
