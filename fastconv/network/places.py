"""Where the arrays of a program lie: in one block of memory, those in one place that never meet.

Each array has a place from the first step that uses it to the last. What the program is for, used
behind its last step, has memory of its own. Arrays that no step writes stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.calls import Call
from ..ops.memory import LINE, fresh, whole_lines
from ..ops.recording import Outside, arrays_of, root

__all__ = ["Places", "Step", "aligned", "on_others", "with_results_in"]

Array = NDArray[Any]
Step = Call | Outside


@dataclass
class _Piece:
    """Memory that one or several arrays lie in, from its first byte that is used.

    Attributes
    ----------
    start, size : int
        Address and bytes, as recorded.
    first, last : int
        The first and the last step that use it.
    place : int
        Where it lies in the block.
    """

    start: int
    size: int
    first: int
    last: int
    place: int = 0


class Places:
    """Where the arrays of a program lie.

    Parameters
    ----------
    steps : sequence of Step
    beside : iterable of (int, array)
        What is given to the steps or taken from them, and in front of which step; that behind the
        last has their number.
    memory : callable, optional
        Gives `results` so many bytes, begun at a cache line.

    Attributes
    ----------
    block, results : arrays of bytes
        Where all arrays lie, and where those do that are used behind the last step.
    bytes_without_reuse : int
        Their size, if each array had a place of its own.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        beside: Iterable[tuple[int, Array]],
        memory: Callable[[int], Array] | None = None,
    ) -> None:
        self._pieces: dict[int, _Piece] = {}
        beside = list(beside)
        uses = [(i, array) for i, step in enumerate(steps) for array in chain(*arrays_of(step))]
        written = {id(root(array)) for _, array in beside}
        for step in steps:
            written |= {id(root(array)) for array in arrays_of(step)[1]}
        for i, array in [*beside, *uses]:
            if id(root(array)) in written:
                self._use(array, i)
        self._end = len(steps)
        pieces = self._pieces.values()
        self.block = aligned(_lay_out([one for one in pieces if one.last < self._end]))
        size = _lay_out([one for one in pieces if one.last == self._end])
        self.results = (memory or aligned)(size)
        self.bytes_without_reuse = sum(whole_lines(piece.size) for piece in pieces)

    def _use(self, array: Array, step: int) -> None:
        start = array.ctypes.data
        end = (
            start
            + array.itemsize
            + sum(
                (length - 1) * stride
                for length, stride in zip(array.shape, array.strides, strict=True)
            )
        )
        piece = self._pieces.setdefault(id(root(array)), _Piece(start, 0, step, step))
        first = min(start, piece.start)
        piece.size = max(end, piece.start + piece.size) - first
        piece.start = first
        piece.first, piece.last = min(piece.first, step), max(piece.last, step)

    def of(self, array: Array) -> Array:
        """The array at its place; a constant as it is."""
        piece = self._pieces.get(id(root(array)))
        if piece is None:
            return array
        offset = piece.place + array.ctypes.data - piece.start
        memory = self.results if piece.last == self._end else self.block
        return np.ndarray(array.shape, array.dtype, memory, offset, array.strides)

    def moved(self, step: Step) -> Step:
        """The step on the arrays at their places."""
        return on_others(step, self.of)


def with_results_in(memory: Array, results: Array, step: Step) -> Step:
    """A step that was `moved`, with what lies in `results` in other memory instead."""
    owner = root(results)

    def there(array: Array) -> Array:
        if root(array) is not owner:
            return array
        offset = array.ctypes.data - results.ctypes.data
        return np.ndarray(array.shape, array.dtype, memory, offset, array.strides)

    return on_others(step, there)


def on_others(step: Step, other: Callable[[Array], Array]) -> Step:
    """The step, with another array for each of its own."""
    if isinstance(step, Outside):
        return Outside(step.name, step.function, [*map(other, step.inputs)], other(step.out))
    arguments = {
        name: other(value) if isinstance(value, np.ndarray) else value
        for name, value in step.arguments.items()
    }
    return replace(step, arguments=arguments)


def aligned(size: int) -> Array:
    """So many bytes, begun at a cache line."""
    memory = fresh((size + LINE,), np.uint8)
    begin = -memory.ctypes.data % LINE
    return memory[begin : begin + size]


def _lay_out(pieces: Iterable[_Piece]) -> int:
    """Give each piece a place, the largest first; where the last one ends."""
    laid: list[_Piece] = []
    for piece in sorted(pieces, key=lambda one: -one.size):
        beside = [
            other for other in laid if other.first <= piece.last and piece.first <= other.last
        ]
        for other in sorted(beside, key=lambda one: one.place):
            if piece.place + piece.size <= other.place:
                break
            piece.place = max(piece.place, whole_lines(other.place + other.size))
        laid.append(piece)
    return max((piece.place + piece.size for piece in laid), default=0)
