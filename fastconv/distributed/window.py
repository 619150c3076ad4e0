"""Memory that the ranks of one machine share, in which they add numbers up.

Each rank adds up one part of what all ranks have, in the order of the ranks, block by block while
the block is in the cache, and writes the sums back to all of them. So a number is read once and
written once by one rank, where messages copy it several times, and all ranks have the same bits.

A rank has segments of two kinds. Some are lent to the network's programs
(`fastconv.network.ready`), so that gradients are computed where they are added up. What lies
elsewhere is put into another one. Its sums are handed out where they lie; while somebody keeps
them, the next ones are copied out of a segment beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops.memory import LINE, unused, whole_lines
from ..ops.recording import root

__all__ = ["Window"]

Array = NDArray[Any]

LENT = 2
"""Segments for programs: the gradients of the last step may still be in use."""

PUT = 2
"""Segments for what lies elsewhere: one whose sums are handed out, one whose sums are copied."""

SEGMENTS = LENT + PUT

BLOCK = 1 << 18
"""Bytes that are added up at a time: a block of each rank's stays in a core's cache."""

NOWHERE = -1

SAID = np.dtype([("segment", "i8"), ("size", "i8"), ("layout", "i8"), ("factor", "f8")])
"""What a rank says of its numbers: which segment they lie in, with how many bytes and in which
layout, and the factor that they count with. Of what was put, the segment alone."""


class Window:
    """Segments of each rank; all ranks of the machine make it together.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The machine's ranks.
    allocate : callable
        ``MPI.Win.Allocate_shared``.
    size : int
        Bytes of a segment.
    waiting : callable
        Returns the context in which a rank waits for the others.
    """

    def __init__(
        self,
        comm: Any,
        allocate: Any,
        size: int,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.size = size
        self._comm, self._waiting = comm, waiting
        with waiting():
            self._window = allocate(self.length(size), comm=comm)
        self._window.Lock_all()  # as MPI asks of whoever reads what another rank wrote
        self._said: list[tuple[Array, Array]] = []
        self._everyones: list[list[Array]] = []
        begins = [2 * LINE + number * whole_lines(size) for number in range(SEGMENTS)]
        for rank in range(comm.size):
            memory = memoryview(self._window.Shared_query(rank)[0])
            lent, put = (np.frombuffer(memory, SAID, 1, at) for at in (0, LINE))
            self._said.append((lent, put))
            self._everyones.append([np.frombuffer(memory, np.uint8, size, at) for at in begins])
        self._own = self._everyones[comm.rank]

    @staticmethod
    def length(size: int) -> int:
        """Bytes of one rank's segments of this size, with what it says of them."""
        return 2 * LINE + SEGMENTS * whole_lines(size)

    def lend(self, size: int) -> Array | None:
        """Return memory of so many bytes that nobody refers to, if there is any left."""
        free = (number for number in range(LENT) if unused(self._own, number))
        number = next(free, None) if size <= self.size else None
        return None if number is None else self._own[number][:size]

    def take(self, size: int) -> tuple[Array, bool]:
        """Return where this rank puts numbers, so many bytes; whether the sums must be copied."""
        number = LENT if unused(self._own, LENT) else LENT + 1
        self._said[self._comm.rank][1]["segment"] = number
        return self._own[number][:size], number > LENT

    def add_lent(self, arrays: Sequence[Array], factor: float) -> bool:
        """Make arrays sums over the ranks, with a factor of each, if all have them in lent memory.

        All ranks call this, and it returns the same on all of them.
        """
        own = self._said[self._comm.rank][0]
        own[0] = self._place(arrays, factor)
        self._meet()
        said = np.concatenate([lent for lent, _ in self._said])
        first = said[0]
        together = first["segment"] != NOWHERE
        for each in said[1:]:
            together &= each["size"] == first["size"] and each["layout"] == first["layout"]
        if together:
            places = [
                each[place][: first["size"]].view(arrays[0].dtype)
                for each, place in zip(self._everyones, said["segment"], strict=True)
            ]
            self._add(places, said["factor"].tolist())
            self._meet()
        return bool(together)

    def _place(self, arrays: Sequence[Array], factor: float) -> tuple[int, int, int, float]:
        """What this rank says of its arrays."""
        nowhere = NOWHERE, 0, 0, factor
        if not arrays or len({array.dtype for array in arrays}) > 1:
            return nowhere
        owner = root(arrays[0])
        for number in range(LENT):
            segment = self._own[number]
            if owner is segment and all(root(array) is segment for array in arrays):
                begin = segment.ctypes.data
                places = [(array.ctypes.data - begin, array.nbytes) for array in arrays]
                size = max(map(sum, places))
                return number, size, hash(tuple(places)), factor
        return nowhere

    def add_put(self, numbers: Array) -> None:
        """Make the numbers that each rank has put sums over the ranks; all of them call this."""
        self._meet()
        places = [
            each[int(put["segment"][0])][: numbers.nbytes].view(numbers.dtype)
            for each, (_, put) in zip(self._everyones, self._said, strict=True)
        ]
        self._add(places, None)
        self._meet()

    def _meet(self) -> None:
        """Wait until all ranks are here, and see what they have written."""
        self._window.Sync()
        with self._waiting():
            self._comm.Barrier()
        self._window.Sync()

    def _add(self, places: Sequence[Array], factors: Sequence[float] | None) -> None:
        """Add up this rank's part, for all."""
        size, itemsize = len(places[0]), places[0].itemsize
        line, step = LINE // itemsize, BLOCK // itemsize
        rank, ranks = self._comm.rank, self._comm.size
        begin, end = (size * number // ranks // line * line for number in (rank, rank + 1))
        if rank == ranks - 1:
            end = size
        with np.errstate(all="ignore"):
            for start, stop in pairwise([*range(begin, end, step), end]):
                total, *parts = (each[start:stop] for each in places)
                if factors is not None:
                    for part, factor in zip((total, *parts), factors, strict=True):
                        part *= factor
                for part in parts:
                    total += part
                for part in parts:
                    part[:] = total
