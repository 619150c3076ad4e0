"""The book's module names on fastconv: `install`, `uninstall`, `is_installed`, `stats`.

After `install`, ``common.layers``, ``common.functions``, ``common.util``, ``common.gradient``,
``common.optimizer``, ``common.trainer`` and ``dataset.mnist`` come from fastconv; all other
modules of ``common`` and ``dataset`` come from the user's folders, and run on these.
``python -m fastconv script.py`` installs and then runs a script.
"""

from __future__ import annotations

import atexit
import os
import sys
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from .. import config, selection
from ..errors import StateError
from ..network import network_dtype
from ..ops.arrays import compute_in
from ..profiling import Profile
from .finder import PACKAGES, SERVED, Finder

__all__ = [
    "install",
    "is_installed",
    "load_ipython_extension",
    "stats",
    "uninstall",
    "unload_ipython_extension",
]


@dataclass
class Installation:
    """One installed hook.

    Attributes
    ----------
    settings : dict
        What `install` was told, for a child process to be told the same.
    before : frozenset of str
        Modules of the user's packages that were there before.
    process : int
        Its process: a forked child says nothing at its end.
    trace : str or None
        Where to write the profile at the end, if anywhere.
    table : bool
        Whether to show the profile at the end.
    """

    settings: dict[str, Any]
    before: frozenset[str]
    finder: Finder = field(default_factory=Finder)
    profile: Profile = field(default_factory=Profile)
    process: int = field(default_factory=os.getpid)
    started: float = field(default_factory=perf_counter)
    trace: str | None = None
    table: bool = False


_installation: Installation | None = None


def install(
    *, backend: str | None = None, dtype: str | None = None, threads: int | None = None
) -> None:
    """Serve the book's modules from fastconv, from the next import on.

    At the end of the process one line on standard error says what was served, on which
    backend, how long it took, and what of the user's own files ran. Processes that
    `multiprocessing` starts get the hook too, however it starts them. Where the hook is
    installed already, only the settings change.

    Parameters
    ----------
    backend : str, optional
        As for `fastconv.set_backend`.
    dtype : 'float32' or 'float64', optional
        Layers and functions compute in it, whatever they are given; parameters keep the
        dtype that they have. By default results have the dtype of what goes in.
    threads : int, optional
        As for `fastconv.set_num_threads`.

    Raises
    ------
    StateError
        One of the modules was imported already, so that its users would keep the old one.
    ArgumentError, UnknownBackend, BackendUnavailable
        A setting that is not known or cannot run here; nothing is installed.
    """
    global _installation
    imported = [name for name in SERVED if name in sys.modules]
    if _installation is None and imported:
        raise StateError(
            f"install: {', '.join(imported)} imported already; call fastconv.install() before "
            "the first import of these, in a notebook after a restart of its kernel"
        )
    given = {"backend": backend, "dtype": dtype, "threads": threads}
    settings = {name: value for name, value in given.items() if value is not None}
    if dtype is not None:
        network_dtype(dtype)
    if threads is not None:
        config.set_num_threads(threads)
    if backend is not None:
        selection.set_backend(backend)
    if dtype is not None:
        compute_in(dtype)
    if _installation is not None:
        _installation.settings |= settings
        return
    _installation = Installation(settings, frozenset(_modules()))
    sys.meta_path.insert(0, _installation.finder)
    _installation.profile.start()
    atexit.register(_at_exit)
    from . import spawn

    spawn.follow()


def uninstall() -> None:
    """Let the next imports find the user's own modules again.

    What was imported meanwhile is forgotten by the import system; objects made of it go on
    working. Backend and threads stay as they are. Does nothing where nothing is installed.
    """
    global _installation
    if _installation is None:
        return
    sys.meta_path.remove(_installation.finder)
    _installation.profile.stop()
    atexit.unregister(_at_exit)
    compute_in(None)
    for name in _modules():
        if name not in _installation.before:
            del sys.modules[name]
            package, _, module = name.rpartition(".")
            vars(sys.modules[package]).pop(module, None) if package in sys.modules else None
    _installation = None


def is_installed() -> bool:
    """Return whether the book's modules come from fastconv."""
    return _installation is not None


def stats() -> dict[str, Any]:
    """Return what was served since `install`, and where the time went.

    Returns
    -------
    dict
        Plain data that JSON can hold. ``served``: module to names; ``theirs``: what of these
        modules is the user's own, and why; ``data``: where ``load_mnist`` found its data;
        ``backend``, ``threads``; ``seconds`` since `install` and ``kernel_seconds`` of them;
        ``short_calls``, how many operations on little data were too short to be timed;
        ``kernels``: a list of dicts ``layer, kernel, backend, dtype, algorithm, calls, seconds,
        gflops``, one for each operation of each layer (``gflops`` is None where operations
        are not counted).

    Raises
    ------
    StateError
        The hook is not installed.
    """
    if _installation is None:
        raise StateError("stats: nothing is installed; call fastconv.install() first")
    from . import summary

    return summary.facts(_installation)


def _modules() -> list[str]:
    """Names of the imported modules of the user's packages, parts before wholes."""
    names = [name for name in sys.modules if name.partition(".")[0] in PACKAGES]
    return sorted(names, reverse=True)


def _at_exit() -> None:
    if _installation is None or _installation.process != os.getpid():
        return
    from . import summary

    summary.show(_installation)


def report_at_exit(*, table: bool, trace: str | None) -> None:
    """Show the table of kernels at the end too, and write a trace of all calls to a file."""
    assert _installation is not None
    _installation.table = table
    _installation.trace = trace
    _installation.profile.keep_calls = trace is not None
    if table or trace is not None:
        _installation.profile.time_little()


def look_also_in(home: str | None) -> None:
    """Find the user's packages in this folder too, where the path has none."""
    assert _installation is not None
    _installation.finder.home = home


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext fastconv``: `install`."""
    install()


def unload_ipython_extension(ipython: Any) -> None:
    """``%unload_ext fastconv``: `uninstall`."""
    uninstall()
