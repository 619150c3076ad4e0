"""Recording what a thread's operations do: calls of kernels, and what NumPy copies for them.

While a thread records, its operations compute as always, except that none goes the short way.
Anything done neither by a kernel nor by `moved_to` must go through `computed` or `outside`, in
Python; otherwise it would not be recorded.

A trace is a recording that computes nothing that depends on what is `given` later. Its arrays have
shapes and places, but take no memory: no page of them is ever touched.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import selection
from ..backends.algorithms import named_forward
from ..backends.calls import MOVE, WRITES, Call, move
from ..backends.short import Short
from ..backends.table import KERNELS, Backend
from ..errors import DTypeError, ShapeError
from .memory import Pool, Use, drawing_from

__all__ = [
    *("Outside", "Recorder", "arrays_of", "computed", "constant", "drawn", "moved_to", "noted"),
    *("recorder", "root"),
]

Array = NDArray[Any]

_lock = threading.RLock()
"""One thread at a time records; what it does `outside` may make a recording of its own."""

_current: Recorder | None = None

if hasattr(os, "register_at_fork"):  # so that no child finds the lock held by another thread
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


class Outside:
    """A step that Python computes, between calls of kernels.

    Attributes
    ----------
    name : str
        What it is, for people.
    function : callable
        Computes from the inputs what `out` gets.
    inputs : list of array
    out : array
    """

    def __init__(
        self, name: str, function: Callable[..., Any], inputs: Sequence[Array], out: Array
    ) -> None:
        self.name = name
        self.function = function
        self.inputs = list(inputs)
        self.out = out

    def run(self) -> None:
        """Compute `out` from the inputs as they are now.

        Raises
        ------
        ShapeError, DTypeError
            The output's shape or dtype is not as it was when the network was prepared.
        """
        out = np.asarray(self.function(*self.inputs))
        for error, what in ((ShapeError, "shape"), (DTypeError, "dtype")):
            found, expected = getattr(out, what), getattr(self.out, what)
            if found != expected:
                raise error(
                    f"{self.name}: output has {what} {found}, expected {expected}, as it was when "
                    "the network was prepared"
                )
        self.out[...] = out


def root(array: Array) -> Array:
    """The array that owns the memory, as far as NumPy knows it."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def arrays_of(step: Call | Outside) -> tuple[list[Array], list[Array]]:
    """The arrays that a step reads, and those that it writes."""
    if isinstance(step, Outside):
        return list(step.inputs), [step.out]
    read: list[Array] = []
    written: list[Array] = []
    for name, value in step.arguments.items():
        if isinstance(value, np.ndarray):
            (written if name in WRITES[step.kernel] else read).append(value)
    return read, written


class Recorder:
    """What one thread's operations did.

    Parameters
    ----------
    traces : bool
        Whether to compute nothing that depends on what is `given` later.

    Attributes
    ----------
    steps : list of Call and Outside
        In order. They hold their arrays, so that no array takes another one's memory.
    makers : dict of int to object
        The maker of each step that was made inside `by`, by the step's `id`.
    made : dict of int to tuple of int
        The shape of what a maker made, by the maker's `id`.
    constants : list of array
        Arrays that operations read, with the same numbers each time.
    draws : list of (array, callable)
        Arrays that were drawn at random, and functions that draw them again.
    notes : list of (callable, list of array)
        The calls of `noted`.
    """

    def __init__(self, traces: bool = False) -> None:
        self.traces = traces
        self.steps: list[Call | Outside] = []
        self.makers: dict[int, Any] = {}
        self.made: dict[int, tuple[int, ...]] = {}
        self.constants: list[Array] = []
        self.draws: list[tuple[Array, Callable[[], Array]]] = []
        self.notes: list[tuple[Callable[..., Any], list[Array]]] = []
        self.thread: int | None = None
        self._later: set[int] = set()
        self._maker: Any = None
        self._tables: dict[str, Any] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what this thread does inside the block."""
        global _current
        with _lock, drawing_from(Use(Pool())) if self.traces else nullcontext():
            before = _current
            try:  # begins here, since Ctrl-C must not leave the thread recording
                _current, self.thread = self, threading.get_ident()
                selection.observe(self._table)
                yield
            finally:
                selection.observe_no_more(self._table)
                self.thread, _current = None, before
                self._tables.clear()  # they refer to this object, which would wait for `gc`

    def by(self, maker: Any, function: Callable[..., Array], *arguments: Any) -> Array:
        """Call a function, and attribute the steps that it records to this maker.

        Nested calls attribute them to the innermost maker.
        """
        before, self._maker = self._maker, maker
        try:
            out = function(*arguments)
        finally:
            self._maker = before
        self.made[id(maker)] = np.shape(out)
        return out

    def given(self, array: Array) -> Array:
        """Return the array, whose numbers come later."""
        if self.traces:
            self._later.add(id(root(array)))
        return array

    def waits(self, arrays: Sequence[Array]) -> bool:
        """Whether any of these arrays gets its numbers later."""
        return any(id(root(array)) in self._later for array in arrays)

    def add(self, step: Call | Outside) -> bool:
        """Add a step to the recording; return whether it must be computed now."""
        self.steps.append(step)
        self.makers[id(step)] = self._maker
        if not self._later:
            return True
        read, written = arrays_of(step)
        if not self.waits(read):
            return True
        self._later |= {id(root(array)) for array in written}
        return False

    def here(self) -> bool:
        """Whether the calling thread is the one that records."""
        return self.thread == threading.get_ident()

    def outside(self, name: str, function: Callable[[Array], Any], x: Array) -> Array:
        """Return function(x), recorded as a step that Python computes."""
        if self.traces:
            raise AssertionError(f"{name}: what it makes of numbers cannot be traced")
        thread, self.thread = self.thread, None
        try:
            out = np.array(function(x), order="K")
        finally:
            self.thread = thread
        self.add(Outside(name, function, [x], out))
        return out

    def _table(self, backend: Backend) -> Backend:
        table: Any = self._tables.get(backend.name)
        if table is None:
            table = self._tables[backend.name] = _RecordingTable(backend, self)
        return table


class _RecordingTable:
    """A backend that records calls of the recording thread; all else is the backend's own."""

    def __init__(self, backend: Backend, recorder: Recorder) -> None:
        self.backend = backend
        self.recorder = recorder
        self.name, self.layout = backend.name, backend.layout
        for kernel in KERNELS:
            setattr(self, kernel, _recorded(backend, kernel, recorder))

    @property
    def short(self) -> Short:
        return Short() if self.recorder.here() else self.backend.short

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


def _recorded(backend: Backend, kernel: str, recorder: Recorder) -> Callable[..., Any]:
    function = getattr(backend, kernel)
    own = selection.registry().load(backend.name)  # not what another observer makes of it
    names = list(inspect.signature(getattr(Backend, kernel)).parameters)[1:]

    def recorded(*arguments: Any, **more: Any) -> Any:
        if recorder.here():
            if kernel not in WRITES:
                raise KeyError(f"{kernel}: calls.WRITES does not say what it writes")
            given = dict(zip(names, arguments, strict=False)) | more
            by = named_forward() if kernel.startswith("conv2d") else "auto"
            if not recorder.add(Call(own, kernel, given, by)):
                return None
        return function(*arguments, **more)

    return recorded


def recorder() -> Recorder | None:
    """The recorder of the calling thread, if it records."""
    current = _current
    return current if current is not None and current.here() else None


def constant(array: Array) -> Array:
    """Return the array; an operation has made it, with the same numbers each time."""
    if _current is not None and (to := recorder()) is not None:
        to.constants.append(array)
    return array


def drawn(draw: Callable[[], Array], shape: tuple[int, ...], dtype: Any) -> Array:
    """Return what `draw` does: random numbers, new ones each time; a trace draws nothing."""
    if _current is None or (to := recorder()) is None:
        return draw()
    array = to.given(np.zeros(shape, dtype)) if to.traces else draw()
    to.draws.append((array, draw))
    return array


def computed(name: str, function: Callable[..., Array], *inputs: Array) -> Array:
    """Return the new array that `function` computes from the inputs: an operation in NumPy.

    In a trace, the function gets zeros for inputs whose numbers come later: only the shape and the
    dtype of its result count.
    """
    if _current is None or (to := recorder()) is None:
        return function(*inputs)
    if to.waits(inputs):
        with np.errstate(all="ignore"):
            out = function(*map(np.zeros_like, inputs))
    else:
        out = function(*inputs)
    to.add(Outside(name, function, inputs, out))
    return out


def noted(note: Callable[..., Any], *arrays: Array) -> None:
    """Call `note` with these arrays, now and at each repetition; a trace only records the call."""
    if _current is not None and (to := recorder()) is not None:
        to.notes.append((note, list(arrays)))
        if to.traces:
            return
    note(*arrays)


def moved_to(out: Array, source: Array, factor: float = 1) -> None:
    """out = source * factor: operations copy numbers this way, so that it is recorded."""
    if _current is not None and (to := recorder()) is not None:
        call = Call(None, MOVE, {"source": source, "factor": factor, "out": out})
        if not to.add(call):
            return
    move(source, factor, out)
