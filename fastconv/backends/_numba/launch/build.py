"""From a kernel's source to its address: compile it, keep it on disk, find it again.

A kernel's factory takes small ints and returns ``kernel(a, part, parts)``, which does part number
``part`` of the ``parts`` of a piece of work. The record ``a`` describes the work: see
`words.record`. A kernel is compiled as a C function, so that calling it costs no type dispatch,
and one parallel loop, compiled once, can run any kernel.
"""

from __future__ import annotations

import ctypes
import hashlib
import pickle
import platform
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import prange, types
from numba.core.ccallback import CFunc
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

from ....console import mention
from ..words.pointer import invoke
from ..words.record import DECLARED, Record
from .store import Store

__all__ = ["Builder", "Compiled", "Factory", "Kernel", "run_parts"]

Kernel = Callable[[Any, int, int], None]
Factory = Callable[..., Kernel]

CODE_SETTINGS = (
    "BOUNDSCHECK",
    "DEBUG_ARRAY_OPT_RUNTIME",
    "DEBUG_JIT",
    "DEBUG_NRT",
    "DEBUG_NRT_STACK_LIMIT",
    "DEBUGINFO_DEFAULT",
    "DISABLE_INTEL_SVML",
    "EXTEND_VARIABLE_LIFETIMES",
    "LLVM_REFPRUNE_FLAGS",
    "LLVM_REFPRUNE_PASS",
    "LOOP_VECTORIZE",
    "NRT_STATS",
    "OPT",
    "PARFOR_MAX_TUPLE_SIZE",
    "SLP_VECTORIZE",
    "USING_SVML",
)
"""Numba's settings that change machine code, besides those of the CPU and its features."""


def run_parts() -> Kernel:
    """The parallel loop: all parts of a kernel, each once."""

    def kernel(address, record, parts):  # type: ignore[no-untyped-def]
        for part in prange(parts):
            invoke(address, record, part, parts)

    return kernel


class Compiled:
    """A kernel in machine code.

    Attributes
    ----------
    record : Record or None
        What it takes; None for `run_parts`, which takes an address.
    address : int
        Where the code is.
    call : callable
        Runs it.
    """

    def __init__(self, function: Any, record: Any) -> None:
        self._function = function  # holds the code
        self.record = record
        self.address: int = function.address
        self.call: Any = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * 3)(self.address)


class Builder:
    """Compiles kernels, each once, and keeps the machine code on disk.

    Parameters
    ----------
    cache_dir : callable
        Returns the folder for the machine code; see `Store`. Below it, every state of this
        package's sources, of Numba and of the CPU has a folder of its own: Numba's own cache
        looks at one source file only, and would serve stale code after an edit of another.
    """

    def __init__(self, cache_dir: Callable[[], Path]) -> None:
        self._cache_dir = cache_dir
        self._compiled: dict[tuple[Any, ...], Compiled] = {}
        self._lock = threading.RLock()
        self._announced = False

    def serial(self, factory: Factory, *constants: int) -> Compiled:
        """Return the kernel of `factory(*constants)`, compiled."""
        return self._get(factory, constants, parallel=False)

    def parallel(self, factory: Factory) -> Compiled:
        """Return the parallel loop of `factory()`, compiled."""
        return self._get(factory, (), parallel=True)

    def _get(self, factory: Factory, constants: tuple[int, ...], parallel: bool) -> Compiled:
        key = (factory, *constants)
        found = self._compiled.get(key)
        if found is None:
            with self._lock:
                found = self._compiled.get(key) or self._build(factory, constants, parallel)
                self._compiled[key] = found
        return found

    def _build(self, factory: Factory, constants: tuple[int, ...], parallel: bool) -> Compiled:
        record = Record(factory, constants) if factory in DECLARED else None
        first = record.type if record else types.intp
        function: Any = CFunc(
            factory(*constants),
            ((first, types.intp, types.intp), types.void),
            {},
            # No check for division by zero: its exception would keep loops from being vectorised.
            {"error_model": "numpy", "parallel": parallel},
        )
        name = "-".join([factory.__name__, *map(str, constants), settings_digest()])
        function._cache = _Entry(self, name)
        function.compile()
        return Compiled(function, record)

    @cached_property
    def store(self) -> Store:
        """Where the machine code is kept, separately for all that it depends on."""
        stamp = hashlib.sha256()
        for source in sorted(Path(__file__).parents[1].rglob("*.py")):
            stamp.update(source.read_bytes())
        machine = cpu_target.target_context.codegen().magic_tuple()
        versions = (numba.__version__, llvmlite.__version__, platform.python_version())
        stamp.update(repr((machine, versions)).encode())
        return Store(self._cache_dir, stamp.hexdigest()[:16])

    def announce(self) -> None:
        """Say, once, why the first call takes so long."""
        if not self._announced:
            self._announced = True
            store = self.store
            unread = f" (of those on disk: {store.unread})" if store.unread else ""
            kept = f", kept in {store.folder} for the next time" if store.folder else ""
            message = f"fastconv: compiling Numba kernels{unread}{kept} ..."
            mention(message)


def settings_digest() -> str:
    """Short digest of the present `CODE_SETTINGS`, which may change while a process runs."""
    values = [(name, repr(getattr(numba.config, name, None))) for name in CODE_SETTINGS]
    return hashlib.sha256(repr(values).encode()).hexdigest()[:8]


class _Entry:
    """One kernel on disk, in the form in which Numba asks for it."""

    def __init__(self, builder: Builder, name: str) -> None:
        self.builder = builder
        self.name = f"{name}.nbc"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        data = self.builder.store.read(self.name)
        if data is not None:
            return CompileResult._rebuild(target_context, *pickle.loads(data))
        self.builder.announce()
        return None

    def save_overload(self, sig: Any, result: CompileResult) -> None:
        self.builder.store.write(self.name, dumps(result._reduce()))
