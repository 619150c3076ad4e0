"""A rank that hangs: noticed by its neighbours, or by itself, so that the others need not wait.

A thread of each rank sends a beat to both neighbours, in the ring of all ranks, once a second: that
it lives, and whether its rank waits for others. From this, and from its own rank's processor time,
each knows

- that the rank before it is silent: its process is stopped, or its machine cannot be reached;
- that the rank before it has left: it has come to the end of its script;
- that its own rank keeps the one behind it waiting, and does nothing: it waits for a file or a
  lock. Only in training is that a fault: elsewhere it may wait for a download, or a person.

If one of these lasts, the run ends. A rank that computes is never ended, however long it takes; in
training it is named once.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import format_stack
from typing import Any

import numpy as np

__all__ = ["Heartbeat"]

WORKING, WAITING, LEFT = range(3)

MOST_APART = 1.0
"""Seconds between two beats, at most."""

BEATS = 8
"""Beats within the time limit, at least."""

LEAVING = 0.01
"""Seconds between two beats of a rank that has left: it keeps its process from ending."""

BUSY = 0.01
"""Part of the time that a rank computes which does not hang."""


class Heartbeat:
    """The beats of this rank, from `start` until all ranks have left.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        For beats alone. MPI must let several threads call it.
    limit : float
        Seconds after which a rank that keeps others waiting hangs.
    end : callable
        ``end(rank, cause, details)`` ends all ranks.
    say : callable
        Gets a line about this rank where it computes for longer.

    Attributes
    ----------
    together : bool
        Whether the ranks train one network now, so that none should keep others waiting.
    """

    def __init__(
        self,
        comm: Any,
        limit: float,
        end: Callable[[int, str, str], object],
        say: Callable[[str], object],
    ) -> None:
        self._comm, self._limit, self._end, self._say = comm, limit, end, say
        self._tick = min(MOST_APART, limit / BEATS)
        self._before, self._behind = (comm.rank - 1) % comm.size, (comm.rank + 1) % comm.size
        self._state, self._waits = WORKING, 0
        neighbours = {self._before, self._behind}
        self._heard = {rank: np.zeros(2, int) for rank in neighbours}
        self._sent = {rank: self._send(rank) for rank in neighbours}
        self._silent = self._kept = self._idle = 0.0  # seconds
        self.together = self._told = False
        self._leaves = threading.Event()
        self._process, self._owner = os.getpid(), threading.get_ident()
        self._thread = threading.Thread(target=self._run, name="fastconv heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        atexit.register(self._leave)  # before MPI ends

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside the block, this rank waits for others."""
        self._waits += 1
        self._state = WAITING
        try:
            yield
        finally:
            self._state = WORKING

    def _leave(self) -> None:
        """Wait until the others have left too, as the end of MPI does."""
        if os.getpid() == self._process:  # not in a fork
            self._state = LEFT
            self._leaves.set()
            self._thread.join()

    def _run(self) -> None:
        last, computed = time.monotonic(), time.process_time()
        while not self._over():
            if self._leaves.wait(self._tick):
                time.sleep(LEAVING)
            now, used = time.monotonic(), time.process_time()
            # No more than it should be: all ranks may have been stopped, and gone on.
            passed = min(now - last, 2 * self._tick)
            self.beat(passed, busy=used - computed > BUSY * (now - last))
            last, computed = now, used

    def beat(self, passed: float, *, busy: bool) -> None:
        """Hear the neighbours, tell them this rank's state, and judge.

        Parameters
        ----------
        passed : float
            Seconds since the last beat.
        busy : bool
            Whether this process has computed in them.
        """
        behind = self._heard[self._behind].copy()
        heard = self._listen()
        self._tell()
        same = np.array_equal(behind, self._heard[self._behind])
        keeps = same and behind[0] == WAITING and self._state == WORKING and self.together
        self._silent = 0.0 if self._before in heard else self._silent + passed
        self._kept = self._kept + passed if keeps else 0.0
        self._idle = self._idle + passed if keeps and not busy else 0.0
        if self._silent >= self._limit and self._state == WAITING:
            self._end(self._before, self._lost(), "")
        elif self._idle >= self._limit:
            cause = f"it has done nothing for {self._limit:g} s, while others wait for it"
            self._end(self._comm.rank, cause, self._place())
        elif self._kept >= self._limit and not self._told:
            self._told = True
            self._say(
                f"rank {self._comm.rank} has kept others waiting for {self._limit:g} s; it computes"
            )

    def _lost(self) -> str:
        """What there is to say of the rank before this one."""
        if self._heard[self._before][0] == LEFT:
            return "it has ended, while others wait for it"
        return (
            f"no sign of life for {self._limit:g} s, while others wait for it: its process is "
            "stopped, or its machine cannot be reached"
        )

    def _place(self) -> str:
        """Where the rank is, as a traceback."""
        frame = sys._current_frames().get(self._owner)
        return "" if frame is None else "It is here:\n" + "".join(format_stack(frame))

    def _tell(self) -> None:
        """Send a beat to each neighbour that has received the last one; none after that of LEFT."""
        for rank, (request, before) in self._sent.items():
            if before[0] != LEFT and request.Test():
                self._sent[rank] = self._send(rank)

    def _send(self, rank: int) -> tuple[Any, Any]:
        """Send this rank's state; return the request, and the message, which it needs."""
        beat = np.array([self._state, self._waits])
        return self._comm.Isend(beat, rank), beat

    def _listen(self) -> set[int]:
        """Receive all beats; return whose there are."""
        heard = set()
        for rank, beat in self._heard.items():
            while self._comm.Iprobe(rank):
                self._comm.Recv(beat, rank)
                heard.add(rank)
        return heard

    def _over(self) -> bool:
        """Whether this rank and its neighbours have left, and have told each other."""
        beats = [*self._heard.values(), *(beat for _, beat in self._sent.values())]
        told = all(request.Test() for request, _ in self._sent.values())
        return told and all(state == LEFT for state, _ in beats)
