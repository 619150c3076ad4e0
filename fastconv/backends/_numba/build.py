"""From the text of a kernel to its address: compile it, keep it on disk, find it again.

A kernel's factory takes small ints and returns ``kernel(block, part, parts)``: it does
part number ``part`` of ``parts`` of the work that the integers at the address ``block``
describe. It is compiled as a C function, so that calling it costs no type dispatch, and
so that one parallel loop, compiled once, can run any of them.
"""

from __future__ import annotations

import hashlib
import pickle
import platform
import tempfile
import threading
import warnings
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

from ...console import mention
from ...errors import FallbackWarning
from .pointer import invoke

__all__ = ["Builder", "Factory", "Kernel"]

Kernel = Callable[[int, int, int], None]
Factory = Callable[..., Kernel]

DIGEST = hashlib.sha256().digest_size


def run_parts() -> Kernel:
    """The parallel loop: all parts of a kernel, each once."""

    def kernel(address, block, parts):  # type: ignore[no-untyped-def]
        for part in prange(parts):
            invoke(address, block, part, parts)

    return kernel


class Builder:
    """Compiles kernels, each once, and keeps the machine code on disk.

    Parameters
    ----------
    cache_dir : Path
        Folder for the machine code. Below it, every state of this package's sources, of
        Numba and of the CPU has a folder of its own: Numba's own cache looks at one
        source file only, and would serve stale code after an edit of another.
    """

    def __init__(self, cache_dir: Path) -> None:
        self.cache_dir = cache_dir
        self.reason = ""  # why nothing can be kept on disk
        self._compiled: dict[tuple[Any, ...], CFunc] = {}
        self._lock = threading.RLock()
        self._announced = False

    def serial(self, factory: Factory, *constants: int) -> CFunc:
        """Return the kernel of `factory(*constants)`, compiled."""
        return self._get(factory, constants, parallel=False)

    def parallel(self) -> CFunc:
        """Return the parallel loop, compiled."""
        return self._get(run_parts, (), parallel=True)

    def _get(self, factory: Factory, constants: tuple[int, ...], parallel: bool) -> Any:
        key = (factory, *constants)
        found = self._compiled.get(key)
        if found is None:
            with self._lock:
                found = self._compiled.get(key) or self._build(factory, constants, parallel)
                self._compiled[key] = found
        return found

    def _build(self, factory: Factory, constants: tuple[int, ...], parallel: bool) -> Any:
        function: Any = CFunc(
            factory(*constants),
            ((types.intp,) * 3, types.void),
            {},
            # No check for division by zero: its exception would end every fast loop early.
            {"error_model": "numpy", "parallel": parallel},
        )
        name = "-".join([factory.__name__, *map(str, constants)])
        function._cache = _Entry(self, name)
        function.compile()
        return function

    @cached_property
    def folder(self) -> Path | None:
        """Where the machine code is kept, or None where that cannot be written."""
        stamp = hashlib.sha256()
        for source in sorted(Path(__file__).parent.glob("*.py")):
            stamp.update(source.read_bytes())
        machine = cpu_target.target_context.codegen().magic_tuple()
        versions = (numba.__version__, llvmlite.__version__, platform.python_version())
        stamp.update(repr((machine, versions)).encode())
        folder = self.cache_dir / stamp.hexdigest()[:16]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            self.cannot_keep(error)
            return None
        return folder

    def cannot_keep(self, error: OSError) -> None:
        """Say, once, that every process will have to compile anew, and why."""
        if not self.reason:
            self.reason = str(error)
            warnings.warn(
                f"fastconv: compiled Numba kernels cannot be kept in {self.cache_dir} ({error}); "
                "each process compiles them anew. Set FASTCONV_CACHE_DIR to a folder that can "
                "be written.",
                FallbackWarning,
                stacklevel=2,
            )

    def announce(self) -> None:
        """Say, once, why the first call takes so long."""
        if not self._announced:
            self._announced = True
            kept = f", kept in {self.folder} for the next time" if self.folder else ""
            mention(f"fastconv: compiling Numba kernels{kept} ...")


class _Entry:
    """One kernel on disk, in the form in which Numba asks for it."""

    def __init__(self, builder: Builder, name: str) -> None:
        self.builder = builder
        self.name = f"{name}.nbc"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        folder = self.builder.folder
        path = folder / self.name if folder else None
        if path and path.exists():
            content = path.read_bytes()
            digest, data = content[:DIGEST], content[DIGEST:]
            if digest == hashlib.sha256(data).digest():  # else it is damaged: compile anew
                return CompileResult._rebuild(target_context, *pickle.loads(data))
        self.builder.announce()
        return None

    def save_overload(self, sig: Any, result: CompileResult) -> None:
        folder = self.builder.folder
        if folder is None:
            return
        data = dumps(result._reduce())
        try:
            # Complete before it gets its name: other processes may look for it now.
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
                file.write(hashlib.sha256(data).digest() + data)
            Path(file.name).replace(folder / self.name)
        except OSError as error:
            self.builder.cannot_keep(error)
