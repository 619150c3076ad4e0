"""Where the time goes: calls of kernels, timed, by layer and operation.

While a profile is on, the callers of `fastconv.selection.active` get a backend whose kernels are
timed; otherwise they get the backend itself.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from . import selection
from .backends.algorithms import ConvAlgorithms
from .backends.short import Short
from .backends.table import FAMILIES, KERNELS, Backend
from .layers import Layer

__all__ = ["Call", "KernelTime", "Profile"]

MOST_CALLS = 1_000_000
"""Single calls that a profile keeps; the sums go on after that."""

Key = tuple[str, str, str, str, str]
"""What a sum belongs to: layer, kernel, backend, character of the dtype, algorithm."""


@dataclass(frozen=True, slots=True)
class KernelTime:
    """What one kernel did for one layer.

    Attributes
    ----------
    layer : str
        Type and number, in the order of the layers' first calls; empty outside any layer.
    kernel : str
        Name in the kernel table.
    backend : str
        The backend that the kernel comes from.
    dtype : str
    algorithm : str
        How convolutions were computed, where the backend says; of a backward kernel that of
        the input's gradient and that of the weights'.
    calls : int
    seconds : float
        Sum over the calls, in all Python threads.
    operations : int
        Multiplications and additions of the direct way, of convolutions and affine layers.
    """

    layer: str
    kernel: str
    backend: str
    dtype: str
    algorithm: str
    calls: int
    seconds: float
    operations: int

    @property
    def gflops(self) -> float | None:
        """10^9 operations a second; None for kernels whose operations are not counted."""
        return self.operations / self.seconds / 1e9 if self.operations and self.seconds else None


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a kernel; start and seconds by the clock of `time.perf_counter`."""

    layer: str
    kernel: str
    backend: str
    thread: int
    start: float
    seconds: float


class Profile:
    """Times every kernel from `start` to `stop`.

    Parameters
    ----------
    keep_calls : bool
        Keep each call by itself, for a trace, besides the sums.

    Notes
    -----
    Operations on little data that go the short way (`fastconv.backends.short`) take less time than
    timing them would, so they are only counted, unless `time_little` sends them to the kernels.
    """

    def __init__(self, keep_calls: bool = False) -> None:
        self.keep_calls = keep_calls
        self._little = False
        self.calls: list[Call] = []
        self.lost_calls = 0
        self.started = perf_counter()
        self._tables: dict[str, Any] = {}
        self._own = threading.local()
        self._sums: list[dict[Key, list[float]]] = []
        self._names: WeakKeyDictionary[Layer, str] = WeakKeyDictionary()
        self._counts: Counter[str] = Counter()

    def start(self) -> None:
        """Time what is called from now on."""
        selection.observe(self._timed_table)

    def time_little(self) -> None:
        """Time operations on little data too: from now on kernels do them."""
        self.stop()
        self._little = True
        self._tables = {}
        self.start()

    def short_calls(self) -> int:
        """How many operations were done the short way."""
        return sum(table.short_calls() for table in self._tables.values())

    def stop(self) -> None:
        """End timing; what was timed stays."""
        selection.observe_no_more(self._timed_table)

    def kernels(self) -> list[KernelTime]:
        """The sums, in the order of the first calls."""
        merged: dict[Key, list[float]] = {}
        for sums in list(self._sums):
            for key, (calls, seconds, operations) in list(sums.items()):
                total = merged.setdefault(key, [0, 0.0, 0])
                total[0] += calls
                total[1] += seconds
                total[2] += operations
        rows = []
        for key, (calls, seconds, number) in merged.items():
            layer, kernel, backend, dtype, algorithm = key
            name = np.dtype(dtype).name
            work = (int(calls), seconds, int(number))
            rows.append(KernelTime(layer, kernel, backend, name, algorithm, *work))
        return rows

    def _timed_table(self, backend: Backend) -> Backend:
        table = self._tables.get(backend.name)
        if table is None or table.backend is not backend:
            table = self._tables[backend.name] = _TimedTable(backend, self, self._little)
        return table

    def note(
        self, what: tuple[str, str, str, str], number: int, start: float, seconds: float
    ) -> None:
        """Add one call; `what` is its key without the layer."""
        layer = self._layer_calling()
        try:
            sums = self._own.sums
        except AttributeError:
            sums = self._own.sums = {}
            self._sums.append(sums)
        key = (layer, *what)
        total = sums.get(key)
        if total is None:
            total = sums[key] = [0, 0.0, 0]
        total[0] += 1
        total[1] += seconds
        total[2] += number
        if self.keep_calls:
            if len(self.calls) < MOST_CALLS:
                thread = threading.get_ident()
                self.calls.append(Call(layer, what[0], what[1], thread, start, seconds))
            else:
                self.lost_calls += 1

    def _layer_calling(self) -> str:
        """Name of the layer that called the operation, read from the stack.

        So layers need not report themselves, which would cost time while no profile is on.
        """
        frame = sys._getframe(3)  # beyond `note`, the timed kernel and the operation: the caller
        for _ in range(4):
            if frame.f_code.co_name in ("forward", "backward"):
                owner = frame.f_locals.get("self")
                if isinstance(owner, Layer):
                    return self._name(owner.stands_for or owner)
                inside = getattr(owner, "layers", None)
                if isinstance(inside, list) and all(isinstance(one, Layer) for one in inside):
                    return " + ".join(self._name(layer) for layer in inside)  # run as one
                return type(owner).__name__  # a layer of the user's own
            if frame.f_back is None:
                break
            frame = frame.f_back
        return ""

    def _name(self, layer: Layer) -> str:
        name = self._names.get(layer)
        if name is None:
            kind = type(layer).__name__
            self._counts[kind] += 1
            name = self._names[layer] = f"{kind} {self._counts[kind]}"
        return name


class _TimedTable:
    """A backend whose kernels report to a profile; all else is the backend's own."""

    def __init__(self, backend: Backend, profile: Profile, little: bool) -> None:
        self.backend = backend
        self.name, self.layout = backend.name, backend.layout  # asked for at every call
        self.short = Short() if little else backend.short
        self._before = self.short.calls
        for kernel in KERNELS:
            setattr(self, kernel, _timed(backend, kernel, profile))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def short_calls(self) -> int:
        return self.short.calls - self._before


def _timed(backend: Backend, kernel: str, profile: Profile) -> Callable[..., Any]:
    function = getattr(backend, kernel)
    provider = getattr(backend, "providers", {}).get(kernel, backend.name)
    names = list(inspect.signature(getattr(Backend, kernel)).parameters)[1:]
    say = getattr(backend, "conv2d_algorithms", None) if provider == backend.name else None
    counted = "weight" in names
    convolution = kernel in FAMILIES["conv2d"] + FAMILIES["conv2d_block"]

    def timed(*arguments: Any, **more: Any) -> Any:
        start = perf_counter()
        result = function(*arguments, **more)
        seconds = perf_counter() - start
        algorithm, number = "", 0
        if counted:
            given = dict(zip(names, arguments, strict=False)) | more
            number = operations(given)
            if convolution and say is not None:
                algorithm = _algorithm(say, given)
        # Kernels take one dtype, and their first argument has it; its name takes longer to ask.
        dtype = (arguments[0] if arguments else more[names[0]]).dtype.char
        profile.note((kernel, provider, dtype, algorithm), number, start, seconds)
        return result

    return timed


def operations(arguments: dict[str, Any]) -> int:
    """Multiplications and additions, the direct way, of a kernel that takes a ``weight``.

    Parameters
    ----------
    arguments : dict
        Those of the call, by the names of the kernel table.
    """
    weight, geometry = arguments["weight"], arguments.get("geometry")
    if geometry is None:
        product = 2 * len(arguments["x"]) * weight.size
    else:
        product = 2 * geometry.n * geometry.oh * geometry.ow * weight.size
    if "dweight" not in arguments:
        return product
    return product * ((arguments["dweight"] is not None) + (arguments["dx"] is not None))


def _algorithm(say: Callable[..., ConvAlgorithms], arguments: dict[str, Any]) -> str:
    """How the backend says that it computes this convolution."""
    way = say(arguments["geometry"], len(arguments["weight"]), arguments.get("pool", False))
    if "dweight" not in arguments:
        return way.forward
    if arguments["dx"] is None:
        return way.weight_gradient
    if arguments["dweight"] is None:
        return way.input_gradient
    return f"{way.input_gradient}, {way.weight_gradient}"
