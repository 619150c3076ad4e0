"""Where the arrays of a program lie: in one block of memory, those in one place that never meet.

Each array has a place from the first step that uses it to the last. Arrays that no step writes
stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.calls import WRITES, Call
from ..ops.memory import LINE, fresh
from ..ops.recording import Outside

__all__ = ["Places", "Step", "arrays_of", "root"]

Array = NDArray[Any]
Step = Call | Outside


def root(array: Array) -> Array:
    """The array that owns the memory, as far as NumPy knows it."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def arrays_of(step: Step) -> tuple[list[Array], list[Array]]:
    """The arrays that a step reads, and those that it writes."""
    if isinstance(step, Outside):
        return list(step.inputs), [step.out]
    read: list[Array] = []
    written: list[Array] = []
    for name, value in step.arguments.items():
        if isinstance(value, np.ndarray):
            (written if name in WRITES[step.kernel] else read).append(value)
    return read, written


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

    Attributes
    ----------
    block : array of bytes
    bytes_without_reuse : int
        Its size, if each array had a place of its own.
    ending : array of bytes
        The part of it in which what is used behind the last step lies, and nothing else by then.
    """

    def __init__(self, steps: Sequence[Step], beside: Iterable[tuple[int, Array]]) -> None:
        self._pieces: dict[int, _Piece] = {}
        beside = list(beside)
        uses = [(i, array) for i, step in enumerate(steps) for array in chain(*arrays_of(step))]
        written = {id(root(array)) for _, array in beside}
        for step in steps:
            written |= {id(root(array)) for array in arrays_of(step)[1]}
        for i, array in [*beside, *uses]:
            if id(root(array)) in written:
                self._use(array, i)
        ending = [piece for piece in self._pieces.values() if piece.last == len(steps)]
        others = [piece for piece in self._pieces.values() if piece.last < len(steps)]
        end = _lay_out(ending, [])
        whole = max(end, _lay_out(others, ending))
        memory = fresh((whole + LINE,), np.uint8)
        begin = -memory.ctypes.data % LINE
        self.bytes_without_reuse = sum(_lines(piece.size) for piece in self._pieces.values())
        self.block = memory[begin : begin + whole]
        self.ending = self.block[:end]

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
        return np.ndarray(array.shape, array.dtype, self.block, offset, array.strides)

    def moved(self, step: Step) -> Step:
        """The step on the arrays at their places."""
        if isinstance(step, Outside):
            inputs = [self.of(array) for array in step.inputs]
            return Outside(step.name, step.function, inputs, self.of(step.out))
        arguments = {
            name: self.of(value) if isinstance(value, np.ndarray) else value
            for name, value in step.arguments.items()
        }
        return Call(step.backend, step.kernel, arguments)


def _lay_out(pieces: Iterable[_Piece], before: Sequence[_Piece]) -> int:
    """Give each piece a place beside those before, the largest first; where the last one ends."""
    laid = list(before)
    for piece in sorted(pieces, key=lambda one: -one.size):
        beside = [
            other for other in laid if other.first <= piece.last and piece.first <= other.last
        ]
        for other in sorted(beside, key=lambda one: one.place):
            if piece.place + piece.size <= other.place:
                break
            piece.place = max(piece.place, _lines(other.place + other.size))
        laid.append(piece)
    return max((piece.place + piece.size for piece in laid), default=0)


def _lines(size: int) -> int:
    """So many bytes, rounded up to whole cache lines."""
    return -(-size // LINE) * LINE
