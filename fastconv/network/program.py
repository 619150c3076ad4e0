"""A network's evaluation on inputs of one shape, decided once: which calls, and where arrays lie.

The layers evaluate one batch while their calls are recorded. Calls that the input does not reach
give the same each time, and are left out. Arrays that are written get places in one block of
memory: two whose uses do not overlap in time may have the same. Constants stay where they are: the
layers are a program's own. Calls of one backend in a row become one `Run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..backends.calls import WRITES, Call, Run, call_each
from ..layers.tree import leaves
from ..ops import empty_images
from ..ops.memory import LINE, array_in, bytes_for, fresh
from ..ops.recording import Outside, Recorder
from ..selection import active
from .description import Description, described, provider
from .fusion import FusedRow

__all__ = ["Program"]

Array = NDArray[Any]
Step = Call | Outside


class Program:
    """What a prepared network runs for one batch size. One thread at a time may run it.

    Parameters
    ----------
    layers : sequence of Layer
        Of a snapshot: their arrays must not change.
    input_shape : tuple of int
        Batch first.
    dtype : float32 or float64
    names : sequence of str, optional
        Of their `leaves`, for the description; by default their places.

    Attributes
    ----------
    x, out : array
        What goes in and what comes out.
    parts : tuple of str
        What runs, for people: a backend with the number of its calls, or a layer that is
        computed in Python.
    description : Description
        The same in full: each step, and how much memory its arrays take.
    """

    def __init__(
        self,
        layers: Sequence[Any],
        input_shape: tuple[int, ...],
        dtype: DTypeLike,
        names: Sequence[str] | None = None,
    ) -> None:
        given = _input(layers, input_shape, np.dtype(dtype))
        recorder = Recorder()
        with recorder.recording():
            out = FusedRow(layers, False).forward(given, False)
        steps = _reached(recorder.steps, given)
        places = _Places(steps, given, out)
        self.x, self.out = places.of(given), places.of(out)
        self._runs: list[Run] = []
        parts, where = [], []
        for run in _together([places.moved(step) for step in steps]):
            if isinstance(run, Outside):
                self._runs.append(run)
                parts.append(f"Python: {run.name}")
                where.append("Python")
                continue
            backend = next((call.backend for call in run if call.backend is not None), None)
            self._runs.append(getattr(backend, "program", call_each)(run))
            name = "NumPy" if backend is None else backend.name
            parts.append(f"{name}: {len(run)} calls")
            mover = name if hasattr(backend, "program") else "Python"
            where += [mover if call.backend is None else provider(call) for call in run]
        self.parts = tuple(parts)
        there = leaves(layers)
        if names is None:
            names = [name for name, _ in there]
        by_id = {id(layer): name for (_, layer), name in zip(there, names, strict=True)}
        self.description = Description(
            described(steps, where, recorder, by_id),
            places.block.nbytes - LINE,
            places.bytes_without_reuse,
        )

    def run(self) -> None:
        """Compute `out` from `x` as it is now."""
        for run in self._runs:
            run.run()


def _input(layers: Sequence[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Zeros, in the layout that the first layer's backend wants."""
    array: Array
    if len(shape) == 4:
        n, c, h, w = shape
        layout = active(getattr(layers[0], "backend", None) if layers else None).layout
        array = empty_images((n, c, h, w), dtype, layout)
    else:
        array = array_in(bytes_for(shape, dtype), shape, dtype)
    array[...] = 0
    return array


def _root(array: Array) -> Array:
    """The array that owns the memory, as far as NumPy knows it."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def arrays_of(step: Step) -> tuple[list[Array], list[Array]]:
    """The arrays that a step reads, and those that it writes."""
    if isinstance(step, Outside):
        return [step.x], [step.out]
    read: list[Array] = []
    written: list[Array] = []
    for name, value in step.arguments.items():
        if isinstance(value, np.ndarray):
            (written if name in WRITES[step.kernel] else read).append(value)
    return read, written


def _reached(steps: Sequence[Step], given: Array) -> list[Step]:
    """The steps that have a hand in what depends on what is given."""
    reached = {id(_root(given))}
    used = []
    for step in steps:
        read, written = ({id(_root(array)) for array in arrays} for arrays in arrays_of(step))
        if read & reached:
            reached |= written
        used.append(read | written)
    return [step for step, roots in zip(steps, used, strict=True) if roots & reached]


def _together(steps: Sequence[Step]) -> Iterator[list[Call] | Outside]:
    """Calls of one backend in a row, and what is computed in Python by itself."""
    calls: list[Call] = []
    backend: Any = None
    for step in steps:
        other = isinstance(step, Outside) or (
            step.backend is not None and backend is not None and step.backend is not backend
        )
        if other and calls:
            yield calls
            calls, backend = [], None
        if isinstance(step, Outside):
            yield step
            continue
        backend = step.backend or backend
        calls.append(step)
    if calls:
        yield calls


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


class _Places:
    """Where the arrays of a program lie."""

    def __init__(self, steps: Sequence[Step], given: Array, out: Array) -> None:
        self._pieces: dict[int, _Piece] = {}
        self._written = {id(_root(given))}
        for step in steps:
            self._written |= {id(_root(array)) for array in arrays_of(step)[1]}
        self._use(given, 0)
        for i, step in enumerate(steps):
            for arrays in arrays_of(step):
                for array in arrays:
                    self._use(array, i)
        self._use(out, len(steps))
        self.bytes_without_reuse = sum(_lines(piece.size) for piece in self._pieces.values())
        self.block = fresh((self._lay_out() + LINE,), np.uint8)
        self._begin = -self.block.ctypes.data % LINE

    def _use(self, array: Array, step: int) -> None:
        root = id(_root(array))
        if root not in self._written:
            return
        start = array.ctypes.data
        end = (
            start
            + array.itemsize
            + sum(
                (length - 1) * stride
                for length, stride in zip(array.shape, array.strides, strict=True)
            )
        )
        piece = self._pieces.setdefault(root, _Piece(start, 0, step, step))
        first = min(start, piece.start)
        piece.size = max(end, piece.start + piece.size) - first
        piece.start, piece.last = first, step

    def _lay_out(self) -> int:
        """Give each piece a place, the largest first; the block's bytes."""
        laid: list[_Piece] = []
        for piece in sorted(self._pieces.values(), key=lambda one: -one.size):
            beside = [
                other for other in laid if other.first <= piece.last and piece.first <= other.last
            ]
            for other in sorted(beside, key=lambda one: one.place):
                if piece.place + piece.size <= other.place:
                    break
                piece.place = max(piece.place, _lines(other.place + other.size))
            laid.append(piece)
        return max((piece.place + piece.size for piece in laid), default=0)

    def of(self, array: Array) -> Array:
        """The array at its place; a constant as it is."""
        piece = self._pieces.get(id(_root(array)))
        if piece is None:
            return array
        offset = self._begin + piece.place + array.ctypes.data - piece.start
        return np.ndarray(array.shape, array.dtype, self.block, offset, array.strides)

    def moved(self, step: Step) -> Step:
        """The step on the arrays at their places."""
        if isinstance(step, Outside):
            return Outside(step.name, step.function, self.of(step.x), self.of(step.out))
        arguments = {
            name: self.of(value) if isinstance(value, np.ndarray) else value
            for name, value in step.arguments.items()
        }
        return Call(step.backend, step.kernel, arguments)


def _lines(size: int) -> int:
    """So many bytes, rounded up to whole cache lines."""
    return -(-size // LINE) * LINE
