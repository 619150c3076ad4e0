"""Settings of the process, and the only reader of its environment.

=======================  ==========================================================
variable                 meaning
=======================  ==========================================================
FASTCONV_BACKEND         backend where nothing else names one (default ``auto``)
FASTCONV_NUM_THREADS     threads of the kernels (default: OMP_NUM_THREADS, else the
                         number of CPUs that this process may use)
FASTCONV_MAX_ISA         widest instruction set to use: baseline, avx2 or avx512
FASTCONV_CACHE_DIR       folder for compiled Numba kernels and downloaded data
=======================  ==========================================================
"""

from __future__ import annotations

import os
import warnings
from contextvars import ContextVar
from pathlib import Path

from .errors import ArgumentError, FallbackWarning
from .geometry import as_int

__all__ = ["cache_dir", "get_num_threads", "max_isa", "set_num_threads"]

ISA_LEVELS = ("baseline", "avx2", "avx512")

context_backend: ContextVar[str | None] = ContextVar("fastconv_backend", default=None)
"""Backend named by the innermost `use_backend` block."""


class _Process:
    """What `set_backend` and `set_num_threads` change, and what a fork must know."""

    backend: str | None = None
    threads: int | None = None
    parallel: bool = False  # has any kernel been told to use more than one thread?
    forked: bool = False  # is this a child forked after that?


def requested_backend(argument: str | None = None) -> tuple[str, str]:
    """Name of the wanted backend, perhaps ``"auto"``, and who asked for it.

    Precedence: argument, `use_backend`, `set_backend`, FASTCONV_BACKEND, ``auto``.
    """
    if argument is not None:
        return argument, "the backend= argument"
    if (name := context_backend.get()) is not None:
        return name, "use_backend"
    if _Process.backend is not None:
        return _Process.backend, "set_backend"
    if name := os.environ.get("FASTCONV_BACKEND", "").strip():
        return name, "FASTCONV_BACKEND"
    return "auto", "default"


def set_process_backend(name: str | None) -> None:
    """Remember the process-wide backend; `None` returns to the environment's choice."""
    _Process.backend = name


def set_num_threads(threads: int | None) -> None:
    """Set how many threads the kernels use.

    Parameters
    ----------
    threads : int or None
        At least 1; `None` returns to the environment's choice.

    Raises
    ------
    ArgumentError
        Not a whole number of at least 1.
    """
    if threads is not None:
        threads = as_int("set_num_threads", "threads", threads, 1)
    _Process.threads = threads


def get_num_threads() -> int:
    """Return how many threads the kernels use.

    Always 1 in a process that was forked after its parent had used more: the
    threads of the parent do not exist there, and waiting for them would hang.
    """
    if _Process.forked:
        return 1
    if _Process.threads is not None:
        return _Process.threads
    for variable in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        if text := os.environ.get(variable, "").strip():
            # OMP_NUM_THREADS may be a list, one number for each level of nesting.
            first = text.split(",")[0] if variable == "OMP_NUM_THREADS" else text
            try:
                number = int(first)
            except ValueError:
                number = 0
            if number < 1:
                raise ArgumentError(f"{variable} must be a whole number >= 1, got {text!r}")
            return number
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def note_parallel_work() -> None:
    """Remember that kernels were told to use more than one thread."""
    _Process.parallel = True


def _after_fork_in_child() -> None:
    if _Process.parallel and not _Process.forked:
        _Process.forked = True
        warnings.warn(
            "fastconv: this process was forked after its parent had used several threads; "
            "kernels run on one thread here. Start workers by 'spawn' to use more.",
            FallbackWarning,
            stacklevel=2,
        )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def max_isa() -> str | None:
    """Return the clamp on the instruction set, FASTCONV_MAX_ISA, or None."""
    text = os.environ.get("FASTCONV_MAX_ISA", "").strip().lower()
    if text and text not in ISA_LEVELS:
        raise ArgumentError(
            f"FASTCONV_MAX_ISA must be one of {', '.join(ISA_LEVELS)}, got {text!r}"
        )
    return text or None


def cache_dir() -> Path:
    """Return the folder for compiled kernels and downloaded data (it may not exist yet)."""
    if text := os.environ.get("FASTCONV_CACHE_DIR", "").strip():
        return Path(text).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(base) if base else Path.home() / ".cache") / "fastconv"
