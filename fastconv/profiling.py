"""Where the time goes: calls of kernels, timed, by layer and operation.

A profile stands between `fastconv.selection.active` and its callers while it is on: they get a
backend whose kernels are timed. While none is on, they get the backend itself.
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

from . import selection
from .backends.base import KERNELS, Backend
from .layers import Layer

__all__ = ["Call", "KernelTime", "Profile"]

MOST_CALLS = 1_000_000
"""Single calls that a profile keeps; the sums go on after that."""


@dataclass(frozen=True, slots=True)
class KernelTime:
    """What one kernel did for one layer.

    Attributes
    ----------
    layer : str
        Type and number, in the order of the layers' first calls; empty outside of any layer.
    kernel : str
        Name in the kernel table.
    backend : str
        Who gave the kernel.
    dtype : str
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
    """

    def __init__(self, keep_calls: bool = False) -> None:
        self.keep_calls = keep_calls
        self.calls: list[Call] = []
        self.lost_calls = 0
        self.started = perf_counter()
        self._tables: dict[str, Any] = {}
        self._own = threading.local()
        self._sums: list[dict[tuple[str, str, str, str], list[float]]] = []
        self._names: WeakKeyDictionary[Layer, str] = WeakKeyDictionary()
        self._counts: Counter[str] = Counter()

    def start(self) -> None:
        """Time what is called from now on."""
        selection.observe(self._timed_table)

    def stop(self) -> None:
        """Time nothing more; what was timed stays."""
        selection.observe(None)

    def kernels(self) -> list[KernelTime]:
        """The sums, in the order of the first calls."""
        merged: dict[tuple[str, str, str, str], list[float]] = {}
        for sums in list(self._sums):
            for key, (calls, seconds, operations) in list(sums.items()):
                total = merged.setdefault(key, [0, 0.0, 0])
                total[0] += calls
                total[1] += seconds
                total[2] += operations
        return [
            KernelTime(*key, int(calls), seconds, int(operations))
            for key, (calls, seconds, operations) in merged.items()
        ]

    def _timed_table(self, backend: Backend) -> Backend:
        table = self._tables.get(backend.name)
        if table is None or table.backend is not backend:
            table = self._tables[backend.name] = _TimedTable(backend, self)
        return table

    def note(
        self, kernel: str, backend: str, arguments: dict[str, Any], start: float, seconds: float
    ) -> None:
        """Add one call."""
        layer = self._layer_calling()
        try:
            sums = self._own.sums
        except AttributeError:
            sums = self._own.sums = {}
            self._sums.append(sums)
        key = (layer, kernel, backend, _dtype(arguments))
        total = sums.setdefault(key, [0, 0.0, 0])
        total[0] += 1
        total[1] += seconds
        total[2] += operations(arguments)
        if self.keep_calls:
            if len(self.calls) < MOST_CALLS:
                thread = threading.get_ident()
                self.calls.append(Call(layer, kernel, backend, thread, start, seconds))
            else:
                self.lost_calls += 1

    def _layer_calling(self) -> str:
        """Name of the layer that called the operation, read from the stack.

        So layers need not say who they are: they pay nothing while no profile is on.
        """
        frame = sys._getframe(3)  # note, the timed kernel, the operation: behind them the caller
        for _ in range(4):
            if frame.f_code.co_name in ("forward", "backward"):
                owner = frame.f_locals.get("self")
                if isinstance(owner, Layer):
                    return self._name(owner)
                if layers := getattr(owner, "layers", None):  # several layers run as one
                    return " + ".join(self._name(layer) for layer in layers)
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

    def __init__(self, backend: Backend, profile: Profile) -> None:
        self.backend = backend
        providers = getattr(backend, "providers", {})
        for kernel in KERNELS:
            provider = providers.get(kernel, backend.name)
            setattr(self, kernel, _timed(getattr(backend, kernel), kernel, provider, profile))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


def _timed(function: Any, kernel: str, provider: str, profile: Profile) -> Callable[..., Any]:
    names = list(inspect.signature(getattr(Backend, kernel)).parameters)[1:]

    def timed(*arguments: Any, **more: Any) -> Any:
        start = perf_counter()
        result = function(*arguments, **more)
        seconds = perf_counter() - start
        given = dict(zip(names, arguments, strict=False)) | more
        profile.note(kernel, provider, given, start, seconds)
        return result

    return timed


def _dtype(arguments: dict[str, Any]) -> str:
    """The dtype of the call: kernels take one, and their first argument has it."""
    return str(next(iter(arguments.values())).dtype)


def operations(arguments: dict[str, Any]) -> int:
    """Multiplications and additions of a kernel that takes a ``weight``; 0 for others.

    Parameters
    ----------
    arguments : dict
        Those of the call, by the names of the kernel table.
    """
    weight = arguments.get("weight")
    if weight is None:
        return 0
    if (geometry := arguments.get("geometry")) is not None:
        positions = geometry.n * geometry.oh * geometry.ow
    else:
        positions = len(arguments["x"])
    product = 2 * positions * weight.size
    if "dweight" not in arguments:
        return product
    return product * (1 + (arguments["dx"] is not None))
