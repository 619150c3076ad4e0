"""The registry: names of backends, how each is loaded, and why one is missing.

Third-party backends come through the entry-point group ``fastconv.backends``:
the entry point's object is called without arguments and returns the backend.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from ..errors import BackendUnavailable, UnknownBackend, suggestion
from .algorithms import MATH_MODES
from .short import Short
from .table import FAMILIES, KERNELS, Backend

__all__ = ["AUTO_ORDER", "BackendStatus", "Registry"]

AUTO_ORDER = ("cython", "numba", "numpy")
"""Backends that ``auto`` tries, the fastest first."""

ENTRY_POINTS = "fastconv.backends"


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend can run here.

    Attributes
    ----------
    name : str
    available : bool
    reason : str
        Empty where it is available, else why not and what to do about it.
    math_modes : tuple of str
        Those that it runs in here.
    """

    name: str
    available: bool
    reason: str = ""
    math_modes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.available


def _no_cache() -> Path:
    raise FileNotFoundError("no cache folder was named")


class Registry:
    """Loads backends by name, once each.

    Parameters
    ----------
    max_isa : str or None
        Widest instruction set that a backend may use.
    cache_dir : callable
        Returns the folder where a backend may keep what it compiled; raises OSError where there
        is none. Called when a backend needs it.
    while_loading : callable
        Returns a context manager to enter while a backend loads its libraries.
    """

    def __init__(
        self,
        max_isa: str | None = None,
        cache_dir: Callable[[], Path] = _no_cache,
        while_loading: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.max_isa = max_isa
        self.cache_dir = cache_dir
        self.while_loading = while_loading
        self._lock = threading.RLock()
        self._loaded: dict[str, Backend] = {}
        self._failed: dict[str, str] = {}
        self._factories: dict[str, Callable[[], Any]] = {
            "cython": self._cython,
            "numba": self._numba,
            "numpy": self._numpy,
        }
        self._looked = False

    def _known(self, name: str | None = None) -> dict[str, Callable[[], Any]]:
        """All factories; third-party ones are looked up only if no other has the name.

        Looking through the installed packages takes as long as loading a backend.
        """
        with self._lock:
            if not self._looked and name not in self._factories:
                from importlib import metadata

                for entry in metadata.entry_points(group=ENTRY_POINTS):
                    self._factories.setdefault(entry.name, partial(_call_entry_point, entry))
                self._looked = True
            return self._factories

    def names(self) -> tuple[str, ...]:
        """Names of all known backends, whether or not they can run."""
        return tuple(self._known())

    def register(self, name: str, factory: Callable[[], Any]) -> None:
        """Add a backend under a new name; `factory` is called when it is first used."""
        if name in self._known(name) or name == "auto":
            raise UnknownBackend(f"register: a backend named {name!r} is registered already")
        self._factories[name] = factory

    def load(self, name: str) -> Backend:
        """Return the backend, loading it on first use.

        Raises
        ------
        UnknownBackend
            Nothing has registered the name.
        BackendUnavailable
            It cannot run here; the message says why and what to install.
        """
        backend = self._loaded.get(name)
        if backend is not None:
            return backend
        with self._lock:
            if name in self._loaded:
                return self._loaded[name]
            if name in self._failed:
                raise BackendUnavailable(self._failed[name])
            factories = self._known(name)
            if name not in factories:
                known = ["auto", *self.names()]
                raise UnknownBackend(
                    f"unknown backend {name!r}; known: {', '.join(known)}{suggestion(name, known)}"
                )
            try:
                with self.while_loading():
                    backend = complete(factories[name](), name)
            except BackendUnavailable as error:
                self._failed[name] = str(error)
                raise
            except Exception as error:
                # Whatever a broken backend raises, its user must see that it is broken.
                reason = f"{name}: loading failed with {type(error).__name__}: {error}"
                self._failed[name] = reason
                raise BackendUnavailable(reason) from error
            self._loaded[name] = backend
            return backend

    def status(self, name: str) -> BackendStatus:
        """Load the backend if need be, and say whether that worked."""
        try:
            backend = self.load(name)
        except BackendUnavailable as error:
            return BackendStatus(name, False, str(error))
        modes = tuple(mode for mode in MATH_MODES if not backend.refuses(mode))
        return BackendStatus(name, True, math_modes=modes)

    def _cython(self) -> Any:
        from .cython import create

        return create(max_isa=self.max_isa)

    def _numba(self) -> Any:
        from .numba import create

        return create(self.max_isa, self.cache_dir)

    def _numpy(self) -> Any:
        from .numpy import create

        return create()


def _call_entry_point(entry: Any) -> Any:
    return entry.load()()


def no_bfloat16(name: str, math_mode: str) -> str:
    """`Backend.refuses` of a backend that has no products of bfloat16s."""
    if math_mode != "bf16":
        return ""
    return (
        f"{name}: this backend has no math mode bf16. Remedy: the backend cython on a CPU with "
        "AVX512_BF16, or another math mode"
    )


def complete(backend: Any, name: str) -> Backend:
    """Fill families of kernels that `backend` lacks from the reference, visibly.

    ``backend.providers`` then maps each kernel to the name of the backend that
    has it. A family is taken whole, because its kernels share what they keep.
    """
    missing = [
        attribute
        for attribute in ("name", "layout", "configure", "describe")
        if not hasattr(backend, attribute)
    ]
    if missing:
        raise BackendUnavailable(f"{name}: the backend object lacks {', '.join(missing)}")
    if backend.name != name:
        raise BackendUnavailable(f"{name}: the backend object calls itself {backend.name!r}")
    providers = dict.fromkeys(KERNELS, name)
    lacking = [
        kernel
        for kernels in FAMILIES.values()
        if not all(callable(getattr(backend, kernel, None)) for kernel in kernels)
        for kernel in kernels
    ]
    if lacking:
        from .numpy import create

        reference = create()
        for kernel in lacking:
            setattr(backend, kernel, getattr(reference, kernel))
            providers[kernel] = reference.name
    backend.providers = providers
    if not hasattr(backend, "refuses"):
        backend.refuses = partial(no_bfloat16, name)
    if not hasattr(backend, "short"):
        backend.short = Short()
    return cast(Backend, backend)
