"""The book's definitions on fastconv: `install`, `uninstall`, `is_installed`, `stats`, `report`.

After `install`, fastconv's definitions replace the book's in the user's modules:
``common.layers``, ``common.functions``, ``common.util``, ``common.gradient``,
``common.optimizer``, ``common.trainer`` and ``dataset.mnist``, which fastconv provides whole if
the user has no such file, and any other module in the user's folders that has some of them. All
else stays the user's, and uses these. Known functions of other frameworks (`neighbours`: dezero
and CS231n) compute on kernels.
``python -m fastconv script.py`` installs and then runs a script.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .. import config, selection
from ..errors import ArgumentError, StateError
from ..ops.arrays import compute_in, network_dtype
from ..profiling import Profile
from .finder import PACKAGES, SERVED, Finder, note
from .neighbours import NEIGHBOURS, NeighbourFinder

if TYPE_CHECKING:
    from .serving import Serving
    from .summary import Account

__all__ = [
    "install",
    "is_installed",
    "load_ipython_extension",
    "report",
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
        The arguments of `install`, to be passed on to child processes.
    before : frozenset of str
        Modules of the user's packages that were imported before.
    process : int
        The process that installed it: a forked child prints nothing when it ends.
    trace : str or None
        Where to write the profile at the end, if anywhere.
    table : bool
        Whether to show the profile at the end.
    """

    settings: dict[str, Any]
    before: frozenset[str]
    finder: Finder = field(default_factory=Finder)
    neighbours: NeighbourFinder = field(init=False)
    profile: Profile = field(default_factory=Profile)
    process: int = field(default_factory=os.getpid)
    started: float = field(default_factory=perf_counter)
    trace: str | None = None
    table: bool = False

    def __post_init__(self) -> None:
        self.neighbours = NeighbourFinder(self.finder.report)

    def find_first(self) -> None:
        """Put the finders before all others."""
        self.find_no_more()
        sys.meta_path[:0] = [self.neighbours, self.finder]

    def find_no_more(self) -> None:
        """Remove the finders, unless others have removed them."""
        ours = self.neighbours, self.finder
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder not in ours]


_installation: Installation | None = None


def install(
    *,
    backend: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    serve_all: bool = False,
    map: Mapping[str, str] | None = None,
) -> None:
    """Serve the book's definitions from fastconv, from the next import on.

    A user's definition is replaced if it has the structure of one in a known edition of the book:
    names of local variables, comments and layout may differ. What the user changed stays.

    When the process ends, one line on standard error says what was served, on which backend, how
    long it took, and which of the user's own code ran. Processes that `multiprocessing` starts get
    the hook too, by whatever method. If the hook is installed already, only settings change.

    Parameters
    ----------
    backend : str, optional
        As for `fastconv.set_backend`.
    dtype : 'float32' or 'float64', optional
        The dtype that layers and functions compute in, whatever they are given; parameters keep
        their own. By default results have the dtype of the arguments.
    threads : int, optional
        As for `fastconv.set_num_threads`.
    serve_all : bool
        In the book's modules, replace every definition that has the name, arguments and methods
        of one of the book's, whatever it does.
    map : mapping of str to str, optional
        User's modules to be served in the same way as one of the book's, such as
        ``{"layers": "common.layers"}``.

    Raises
    ------
    StateError
        One of the modules was imported already, and whoever imported it would keep the old one.
    ArgumentError, UnknownBackend, BackendUnavailable
        A setting is unknown or cannot run here; nothing is installed.
    """
    global _installation
    modules = dict(map or {})
    for name, home in modules.items():
        if home not in SERVED:
            raise ArgumentError(
                f"install: map {name!r} to one of {', '.join(SERVED)}; got {home!r}"
            )
    imported = [name for name in [*SERVED, *NEIGHBOURS, *modules] if name in sys.modules]
    if _installation is not None:
        imported = [name for name in modules if name in imported]
    if imported:
        raise StateError(
            f"install: {', '.join(imported)} imported already; call fastconv.install() before "
            "the first import of these, in a notebook after a restart of its kernel"
        )
    given: dict[str, Any] = {"backend": backend, "dtype": dtype, "threads": threads}
    given |= {"serve_all": serve_all or None, "map": modules or None}
    settings = {name: value for name, value in given.items() if value is not None}
    # Check all settings before any is changed.
    if dtype is not None:
        network_dtype(dtype)
    if threads is not None:
        config.expect_threads("install", threads)
    if backend is not None:
        selection.set_backend(backend)
    if threads is not None:
        config.set_num_threads(threads)
    if dtype is not None:
        compute_in(dtype)
    if _installation is not None:
        _installation.settings |= settings
        _installation.finder.choose(serve_all, modules)
        _installation.find_first()
        return
    _installation = Installation(settings, frozenset(_modules()))
    _installation.finder.choose(serve_all, modules)
    _installation.find_first()
    _installation.profile.start()
    atexit.register(_at_exit)
    from . import spawn

    spawn.follow()


def uninstall() -> None:
    """Let the next imports find the user's own modules again.

    Modules that were served are removed from `sys.modules`; objects made of them go on working.
    Backend and threads stay as they are. Does nothing if nothing is installed.
    """
    global _installation
    if _installation is None:
        return
    _installation.find_no_more()
    _installation.profile.stop()
    atexit.unregister(_at_exit)
    compute_in(None)
    served = [name for name in _installation.finder.report.served if name in sys.modules]
    for name in sorted({*_modules(), *served} - {"__main__"}, reverse=True):
        if name not in _installation.before:
            del sys.modules[name]
            package, _, module = name.rpartition(".")
            with suppress(AttributeError):
                delattr(sys.modules.get(package), module)
    _installation = None


def is_installed() -> bool:
    """Return whether the book's modules come from fastconv."""
    return _installation is not None


def stats() -> dict[str, Any]:
    """Return what was served since `install`, and where the time went.

    Returns
    -------
    dict
        Plain data that JSON can hold. ``served``: names by module; ``theirs``: the user's own
        definitions in these modules, and why; ``editions``: for each definition, the date of the
        book's edition that it is served as; ``data``: where ``load_mnist`` found its data;
        ``backend``, ``threads``; ``seconds`` since `install`, and ``kernel_seconds`` among them;
        ``short_calls``: how many operations on little data were too short to be timed;
        ``kernels``: a list of dicts ``layer, kernel, backend, dtype, algorithm, calls, seconds,
        gflops``, one for each operation of each layer (``gflops`` is None if its arithmetic is
        not counted).

    Raises
    ------
    StateError
        The hook is not installed.
    """
    return _facts("stats")


def report() -> Account:
    """Return what `stats` says so far in readable form, for notebooks, which do not end.

    Returns
    -------
    object
        Printed, it is the table of ``--profile`` and the line that a script ends with; a
        notebook shows both as HTML. It does not change later.

    Raises
    ------
    StateError
        The hook is not installed.
    """
    from .summary import Account

    return Account(_facts("report"))


def _facts(asked: str) -> dict[str, Any]:
    if _installation is None:
        raise StateError(f"{asked}: nothing is installed; call fastconv.install() first")
    from . import summary

    return summary.facts(_installation)


def _modules() -> list[str]:
    """Names of the imported modules of the user's packages, submodules first."""
    packages = {*PACKAGES, *(name.partition(".")[0] for name in NEIGHBOURS)}
    names = [name for name in sys.modules if name.partition(".")[0] in packages]
    return sorted(names, reverse=True)


def _at_exit() -> None:
    if _installation is None or _installation.process != os.getpid():
        return
    from . import summary

    summary.show(_installation)


def report_at_exit(*, table: bool, trace: str | None) -> None:
    """At the end, also show the table of kernels, and write a trace of all calls to a file."""
    assert _installation is not None
    _installation.table = table
    _installation.trace = trace
    _installation.profile.keep_calls = trace is not None
    if table or trace is not None:
        _installation.profile.time_little()


def script_serving(path: Path) -> Serving | None:
    """What is served of a script's own definitions; None if nothing is installed or found."""
    return None if _installation is None else _installation.finder.script(path)


def note_script(serving: Serving) -> None:
    """Note that a script ran with these definitions."""
    assert _installation is not None
    note(_installation.finder.report, "__main__", serving)


def look_also_in(home: str | None) -> None:
    """Find the user's packages in this folder too, if `sys.path` has none."""
    assert _installation is not None
    _installation.finder.home = home


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext fastconv``: `install`."""
    install()


def unload_ipython_extension(ipython: Any) -> None:
    """``%unload_ext fastconv``: `uninstall`."""
    uninstall()
