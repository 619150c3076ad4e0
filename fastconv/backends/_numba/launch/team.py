"""Kernels on one thread or many: the only file that meets Numba's threading layers."""

from __future__ import annotations

import threading
import warnings
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numba

from ....errors import BackendUnavailable, FallbackWarning
from ...shared.work import worth
from .build import Builder, Compiled, Factory, run_parts
from .machine import Machine
from .recording import Recording, record, recording, run_launches, run_launches_on_several

__all__ = ["Launches", "Ran", "Team"]

Ran = dict[tuple[Factory, tuple[int, ...], str, bool], int]
"""How often each kernel ran, by factory, constants, caller's note, and if on several threads."""

settings: Any = numba.config

DEFAULT_ORDER = ["tbb", "omp", "workqueue"]


def open_layer() -> AbstractContextManager[Any]:
    """Start Numba's threads, by OpenMP unless the user chose otherwise.

    Returns
    -------
    context manager
        To be held while in a parallel loop.
    """
    # The first start of the threads decides for the process; the user's setting is put back.
    order = settings.THREADING_LAYER_PRIORITY
    if order == DEFAULT_ORDER:
        settings.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
    try:
        numba.get_num_threads()  # starts them
    except ValueError as error:
        # Leave out Numba's hint: pip puts tbb where Numba does not look.
        reason = " ".join(str(error).partition("HINT")[0].split()).rstrip(".")
        raise BackendUnavailable(
            f"numba: threading layer {settings.THREADING_LAYER!r} cannot be started: {reason}; "
            "unset NUMBA_THREADING_LAYER, or use one thread"
        ) from error
    finally:
        settings.THREADING_LAYER_PRIORITY = order
    if numba.threading_layer() != "workqueue":
        return nullcontext()
    warnings.warn(
        "fastconv: Numba runs on its 'workqueue' threading layer, which only one Python thread "
        "may enter at a time and which is slow to enter: kernels called from several threads "
        "wait for each other. Install OpenMP's library for another (apt-get install libgomp1).",
        FallbackWarning,
        stacklevel=2,
    )
    return threading.Lock()


class _Own(threading.local):
    """What the calls of one Python thread have run."""

    def __init__(self) -> None:
        self.ran: Ran = {}


class Team:
    """Calls kernels, in as many parts as there are threads, and counts what ran.

    Parameters
    ----------
    builder : Builder
        Where the kernels come from.
    machine : Machine
        What they are compiled for.

    Attributes
    ----------
    threads : int
        With 1, no threading layer is started or entered.
    """

    def __init__(self, builder: Builder, machine: Machine) -> None:
        self.builder = builder
        self.machine = machine
        self.threads = 1
        self._opening = threading.Lock()
        self._gate: AbstractContextManager[Any] | None = None
        self._own = _Own()

    def parts(self, work: int) -> int:
        """Threads that so much work is worth; see `worth`."""
        return worth(self.threads, work)

    def run(
        self,
        factory: Factory,
        constants: tuple[int, ...],
        parts: int,
        *fields: dict[str, Any],
        note: str = "",
        of_weights: bool = False,
    ) -> None:
        """Run all parts of the kernel `factory(*constants)` on a record of these fields, by name.

        `note` goes into `ran`: what these arguments make the machine code do. A kernel whose
        results are made `of_weights` alone is not repeated by a recording in which weights stay,
        so that its results must be kept.
        """
        kernel = self.builder.serial(factory, *constants)
        record = kernel.record.pack(*fields)
        if parts == 1:
            kernel.call(record.buffer_info()[0], 0, 1)
        else:
            self._run_on_several(kernel, record, parts)
        key, ran = (factory, constants, note, parts > 1), self._own.ran
        ran[key] = ran.get(key, 0) + 1
        to = recording()
        if to is not None and not (of_weights and to.weights_stay):
            to.keep(fields)
            to.add(kernel, record, parts, key)

    def _run_on_several(self, kernel: Compiled, record: array[int], parts: int) -> None:
        with self._threads():
            loop = self.builder.parallel(run_parts)
            numba.set_num_threads(min(parts, settings.NUMBA_NUM_THREADS))
            loop.call(kernel.address, record.buffer_info()[0], parts)

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """Inside, this thread may run parallel loops, and set their number of threads."""
        with self._layer():
            before = numba.get_num_threads()
            try:
                yield
            finally:
                numba.set_num_threads(before)  # it is the caller's setting

    def record(self, functions: list[Callable[[], None]], weights_stay: bool = True) -> Launches:
        """Call the functions, each a call of a kernel, and return their launches."""
        return Launches(self, record(self.builder, functions, weights_stay))

    @property
    def ran(self) -> Ran:
        """What the calls of this Python thread have run."""
        return self._own.ran

    def _layer(self) -> AbstractContextManager[Any]:
        if self._gate is None:
            with self._opening:
                self._gate = self._gate or open_layer()
        return self._gate

    def layer(self) -> str:
        """Name of the threading layer, once there is one."""
        return numba.threading_layer() if self._gate else "none yet (no call on several threads)"


class Launches:
    """Launches of kernels that a team has recorded. One thread at a time may run them.

    Parameters
    ----------
    team : Team
    recorded : Recording
    """

    def __init__(self, team: Team, recorded: Recording) -> None:
        self._team = team
        self._recorded = recorded
        self._on_several = recorded.most_parts > 1
        builder = team.builder
        if self._on_several:
            with team._layer():
                self._loop = builder.parallel(run_launches_on_several)
        else:
            self._loop = builder.serial(run_launches)
        self._table = array("q")
        for launch in recorded.launches:
            self._table += self._loop.record.pack(launch)
        self._arguments = (
            self._table.buffer_info()[0],
            len(recorded.launches),
            settings.NUMBA_NUM_THREADS,
        )

    def run(self) -> None:
        """Launch them again, in their order."""
        with self._team._threads() if self._on_several else nullcontext():
            self._loop.call(*self._arguments)
        ran = self._team.ran
        for key, count in self._recorded.ran().items():
            ran[key] = ran.get(key, 0) + count
