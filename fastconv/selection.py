"""Which backend runs: from the names of `fastconv.config` to the loaded objects."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from . import config
from .backends import AUTO_ORDER, BackendStatus, Registry
from .backends.table import Backend
from .errors import (
    ArgumentError,
    BackendUnavailable,
    FallbackWarning,
    FastconvError,
    UnknownBackend,
)

__all__ = [
    "active",
    "get_backend",
    "list_backends",
    "registry",
    "set_backend",
    "use_backend",
]

_told: dict[str, dict[str, Any]] = {}
_lock = threading.Lock()
_observers: list[Callable[[Backend], Backend]] = []


@cache
def registry() -> Registry:
    """The registry of this process, made on first use."""
    return Registry(config.max_isa(), config.cache_dir, config.brief_waits)


@cache
def auto_choice() -> tuple[str, str]:
    """The backend that ``auto`` means here, and why; a slower one is announced once."""
    refused = []
    for name in AUTO_ORDER:
        status = registry().status(name)
        if status.available:
            break
        refused.append(status.reason)
    if not refused:
        return name, "the fastest of " + ", ".join(AUTO_ORDER)
    why = "; ".join(refused)
    warnings.warn(f"fastconv: backend 'auto' uses {name}: {why}", FallbackWarning, stacklevel=2)
    return name, why


def active(argument: str | None = None) -> Backend:
    """Return the backend that a call made now would use, with the settings of the process.

    Parameters
    ----------
    argument : str or None
        Name from a ``backend=`` argument, which takes precedence over every other choice.

    Raises
    ------
    UnknownBackend, BackendUnavailable
        The name is not known, or cannot run here; it is never replaced by another.
    """
    version = config.Process.version
    if _found.version != version:
        _found.forget(version)
    if argument is None:
        argument = config.context_backend.get()
    backend = _found.backends.get(argument)
    return _find(argument, version) if backend is None else backend


class _Found:
    """The backends that `active` has found since a setting last changed.

    Reading all settings takes longer than the smallest kernels do.
    """

    def __init__(self) -> None:
        self.version = -1
        self.backends: dict[str | None, Backend] = {}

    def forget(self, version: int) -> None:
        """Forget what was found: settings have changed."""
        self.backends = {}  # another thread may still add to the old ones
        self.version = version


_found = _Found()


def _find(argument: str | None, version: int) -> Backend:
    name, source = config.requested_backend(argument)
    if name == "auto":
        name = auto_choice()[0]
    try:
        backend = registry().load(name)
    except FastconvError as error:
        error.add_note(f"asked for by {source}")
        raise
    now = settings()
    if reason := backend.refuses(now["math_mode"]):
        raise BackendUnavailable(reason)
    if _told.get(name) != now:
        with _lock:
            if now["threads"] > 1:
                config.note_parallel_work()
            backend.configure(**now)
            _told[name] = now
    for observer in _observers:
        backend = observer(backend)
    if _found.version == version:
        _found.backends[argument] = backend
    return backend


def observe(observer: Callable[[Backend], Backend]) -> None:
    """Let `active` hand out what `observer` makes of a backend, until `observe_no_more`."""
    _observers.append(observer)
    _found.version = -1


def observe_no_more(observer: Callable[[Backend], Backend]) -> None:
    """Stop observing; an observer that is not installed is ignored."""
    if observer in _observers:
        _observers.remove(observer)
    _found.version = -1


def observed() -> bool:
    """Whether any observer is installed."""
    return bool(_observers)


def settings() -> dict[str, Any]:
    """The arguments of `Backend.configure`."""
    return {
        "threads": config.get_num_threads(),
        "math_mode": config.get_math_mode(),
        "algorithm": config.get_conv_algorithm(),
    }


def set_backend(name: str | None) -> None:
    """Choose the backend of the whole process.

    Parameters
    ----------
    name : str or None
        ``"numpy"``, ``"numba"``, ``"cython"``, the name of another registered backend,
        ``"auto"``, or None to return to FASTCONV_BACKEND.

    Raises
    ------
    UnknownBackend, BackendUnavailable
        The name is not known, or cannot run here; the choice stays as it was.
    """
    _check(name)
    config.set_process_backend(name)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Choose the backend inside a ``with`` block, in this thread only.

    Parameters
    ----------
    name : str
        As for `set_backend`.
    """
    if name is None:
        raise ArgumentError("use_backend: expected the name of a backend, got None")
    _check(name)
    token = config.context_backend.set(name)
    try:
        yield
    finally:
        config.context_backend.reset(token)


def get_backend() -> str:
    """Return the name of the backend that a call made now would use."""
    return resolve(None)


def resolve(argument: str | None) -> str:
    """Name of the backend that ``backend=argument`` means now; ``auto`` is resolved."""
    name, _ = config.requested_backend(argument)
    if name == "auto":
        return auto_choice()[0]
    _check(name)
    return name


def instruction_set(name: str) -> str | None:
    """The instruction set of a backend's kernels, if the backend names one.

    It is the first word of that entry in the backend's description; reasons may follow.
    """
    word = re.match(r"\w+", registry().load(name).describe().get("instruction set", ""))
    return word[0] if word else None


def list_backends() -> dict[str, BackendStatus]:
    """Return every known backend with its availability.

    Each value is true where the backend can run, and has a ``reason`` with the
    remedy where it cannot. Loads each backend to find out.
    """
    return {name: registry().status(name) for name in registry().names()}


def _check(name: str | None) -> None:
    if name is not None and not isinstance(name, str):
        raise UnknownBackend(f"a backend is named by a string, got {name!r}")
    if name is not None and name != "auto":
        registry().load(name)
