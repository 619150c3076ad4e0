"""Settings of the process, and the only reader of its environment.

=======================  ==========================================================
variable                 meaning
=======================  ==========================================================
FASTCONV_BACKEND         backend where nothing else names one (default ``auto``)
FASTCONV_NUM_THREADS     threads of the kernels (default: OMP_NUM_THREADS, else the
                         number of CPUs that this process may use: by its affinity,
                         and by the limit of its container, rounded up)
FASTCONV_MAX_ISA         widest instruction set to use: baseline, avx2 or avx512
FASTCONV_MATH            ``default``, ``fast`` or ``bf16``: convolutions, or all products, may
                         round more (see `set_math_mode`)
FASTCONV_CONV_ALGORITHM  ``auto`` (default), or how to compute convolutions where it
                         applies: direct, winograd2, winograd2x4, winograd4
FASTCONV_PROGRAMS        ``on`` (default), or ``off``: Python calls each kernel of a network,
                         as it does for backends without programs
FASTCONV_RANK_TIMEOUT    seconds after which a rank that hangs ends a run of several (default:
                         60; inf: never)
PMI_SIZE, PMI_RANK, ...  how many processes an MPI launcher has started, and which this is: read
                         to notice it (MPICH, Intel MPI, Open MPI, MVAPICH, Slurm)
FASTCONV_CACHE_DIR       folder for compiled Numba kernels, measured algorithms and downloaded
                         data (default: ``fastconv`` in XDG_CACHE_HOME, or in ``~/.cache``)
OMP_WAIT_POLICY,         how Numba's OpenMP threads wait (default: spin briefly, then sleep)
GOMP_SPINCOUNT
=======================  ==========================================================

Each is read once, when it is first needed, except for the cache folder's, which are read each
time. `set_backend` and its like take precedence over them.

Users may share a cache folder: each writes to a subfolder of their own. Compiled kernels are read
only if not everyone can write them, and if they belong to the user, to root, or to the folder's
owner (who does not count where anyone could have made the folder, as in ``/tmp``). Measured
algorithms are read only from the user's own subfolder.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from .backends.algorithms import ALGORITHMS, MATH_MODES
from .errors import ArgumentError, DataNotFound, FallbackWarning, suggestion
from .geometry import as_int
from .limits import cpu_quota

__all__ = [
    "cache_dir",
    "get_conv_algorithm",
    "get_math_mode",
    "get_num_threads",
    "get_programs",
    "get_rank_timeout",
    "launched",
    "limit_cpus",
    "max_isa",
    "set_conv_algorithm",
    "set_math_mode",
    "set_num_threads",
    "set_programs",
]

MOST_THREADS = 2**16
"""More than any machine has, yet few enough for the counters of the threading libraries."""

RANK_TIMEOUT = 60.0
"""Seconds; a rank may wait as long for a slow disk."""

PROGRAMS = ("on", "off")

ISA_LEVELS = ("baseline", "avx2", "avx512")

context_backend: ContextVar[str | None] = ContextVar("fastconv_backend", default=None)
"""Backend named by the innermost `use_backend` block."""

context_beside: ContextVar[bool] = ContextVar("fastconv_beside", default=False)
"""Whether this thread works beside another one whose kernels use the CPUs."""


class Process:
    """What `set_backend` and its like change, and what a fork must know."""

    version: int = 0  # grows with every change of what is here
    backend: str | None = None
    threads: int | None = None
    cpus: int | None = None  # those that other ranks of a run leave to this one
    math_mode: str | None = None
    conv_algorithm: str | None = None
    programs: str | None = None
    parallel: bool = False  # were kernels ever allowed more than one thread?
    forked: bool = False  # is this a child forked after that?
    waiting: str = ""  # how OpenMP's threads wait, where libgomp was loaded for fastconv

    @classmethod
    def change(cls, **settings: Any) -> None:
        """Set what is named; without names, note that the environment's variables have changed."""
        if settings and all(getattr(cls, name) == value for name, value in settings.items()):
            return
        for name, value in settings.items():
            setattr(cls, name, value)
        cls.version += 1


@cache
def _variable(name: str) -> str:
    """The value that an environment variable had when it was first read."""
    return os.environ.get(name, "").strip()


def read_environment_again() -> None:
    """Forget the values of the environment's variables."""
    _variable.cache_clear()
    Process.change()


def requested_backend(argument: str | None = None) -> tuple[str, str]:
    """Name of the wanted backend, perhaps ``"auto"``, and who asked for it.

    Precedence: argument, `use_backend`, `set_backend`, FASTCONV_BACKEND, ``auto``.
    """
    if argument is not None:
        return argument, "the backend= argument"
    if (name := context_backend.get()) is not None:
        return name, "use_backend"
    if Process.backend is not None:
        return Process.backend, "set_backend"
    if name := _variable("FASTCONV_BACKEND"):
        return name, "FASTCONV_BACKEND"
    return "auto", "default"


def set_process_backend(name: str | None) -> None:
    """Remember the process-wide backend; `None` returns to the environment's choice."""
    Process.change(backend=name)


def set_num_threads(threads: int | None) -> None:
    """Set how many threads the kernels use.

    Kernels obey no other limit: `threadpoolctl.threadpool_limits` changes OpenMP's default, which
    they ignore. The NumPy backend's matrix products run on the threads of NumPy's BLAS, and those
    `threadpool_limits` does limit.

    Parameters
    ----------
    threads : int or None
        At least 1; `None` returns to the environment's choice.

    Raises
    ------
    ArgumentError
        Not a whole number between 1 and `MOST_THREADS`.
    """
    wanted = None if threads is None else expect_threads("set_num_threads", threads)
    Process.change(threads=wanted)


def expect_threads(op: str, threads: int) -> int:
    """`threads` as an int from 1 to `MOST_THREADS`, or an `ArgumentError`."""
    return as_int(op, "threads", threads, 1, MOST_THREADS)


def get_num_threads() -> int:
    """Return how many threads the kernels use.

    Always 1 in a process that was forked after its parent had used more: the
    threads of the parent do not exist there, and waiting for them would hang.
    """
    if Process.forked:
        return 1
    if Process.threads is not None:
        return Process.threads
    for variable in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        if text := _variable(variable):
            # OMP_NUM_THREADS may be a list, one number for each level of nesting.
            first = text.split(",")[0] if variable == "OMP_NUM_THREADS" else text
            try:
                number = int(first)
            except ValueError:
                number = 0
            if not 1 <= number <= MOST_THREADS:
                raise ArgumentError(
                    f"{variable} must be a whole number from 1 to {MOST_THREADS}, got {text!r}"
                )
            return number
    return count_cpus()


def count_cpus() -> int:
    """Return how many CPUs this process may use.

    A container's limit may be a fraction. It is rounded up, because one thread would leave half a
    CPU of 1.5 unused.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = container_cpus()
    return min(cpus or 1, math.ceil(quota) if quota else sys.maxsize, Process.cpus or sys.maxsize)


def limit_cpus(cpus: int | None) -> None:
    """Let `count_cpus` count no more than so many: others of this machine's belong to other ranks.

    None takes the limit away.
    """
    Process.change(cpus=cpus)


class Launched(NamedTuple):
    """Which of how many processes this is, that a launcher has started together."""

    rank: int
    size: int


LAUNCHERS = (
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", ""),
)
"""The variables that have a process's number, how many there are, and how many on its machine."""


def launched() -> Launched:
    """Return the process's number and how many an MPI launcher has started; alone, 0 and 1."""
    for rank, size, _ in LAUNCHERS:
        with suppress(ValueError):  # not set, or no launcher's
            return Launched(int(_variable(rank)), int(_variable(size)))
    return Launched(0, 1)


def launched_here() -> tuple[str, int]:
    """Return the variable that has each process's number, and how many are on this machine.

    They are empty and 0 where no launcher says so.
    """
    for rank, size, local in LAUNCHERS:
        if _variable(rank) and _variable(size):
            return rank, int(number) if (number := _variable(local)).isdigit() else 0
    return "", 0


def get_rank_timeout() -> float:
    """Return after how many seconds a rank that hangs ends a run of several ranks."""
    text = _variable("FASTCONV_RANK_TIMEOUT")
    try:
        seconds = float(text or RANK_TIMEOUT)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise ArgumentError(f"FASTCONV_RANK_TIMEOUT must be seconds above 0, got {text!r}")
    return seconds


@cache
def container_cpus() -> float | None:
    """CPUs that the container's limit allowed when it was first read, or None without a limit."""
    return cpu_quota()


def threads_here() -> int:
    """How many threads a call made here may use: one, if it runs beside another thread's."""
    return 1 if context_beside.get() else get_num_threads()


def set_math_mode(mode: str | None) -> None:
    """Set how exact convolutions and affine layers must be.

    Parameters
    ----------
    mode : {"default", "fast", "bf16"} or None
        ``"default"`` rounds no worse than a plain float32 sum of products. ``"fast"``
        also allows Winograd's F(4x4, 3x3) for 3x3 filters of stride 1: relative errors up to
        about 1e-5 in float32, of the largest value of the result (1e-14 in float64). With
        ``"bf16"``, float32 convolutions and affine layers multiply what they are given rounded to
        bfloat16, and add in float32: errors of a few 1e-3. A backend or CPU without
        such products refuses to run in that mode.
        None returns to FASTCONV_MATH.

    Raises
    ------
    ArgumentError
        Another mode.
    """
    if mode is not None:
        mode = _one_of("set_math_mode: mode", mode, MATH_MODES)
    Process.change(math_mode=mode)


def get_math_mode() -> str:
    """Return the math mode: ``"default"``, ``"fast"`` or ``"bf16"``."""
    if Process.math_mode is not None:
        return Process.math_mode
    return _from_environment("FASTCONV_MATH", MATH_MODES) or "default"


def set_conv_algorithm(algorithm: str | None) -> None:
    """Set how convolutions are computed, where the algorithm applies; elsewhere directly.

    Parameters
    ----------
    algorithm : {"auto", "direct", "winograd2", "winograd2x4", "winograd4"} or None
        ``"auto"`` chooses by shape and math mode; the others are described in
        `fastconv.backends.algorithms`. None returns to FASTCONV_CONV_ALGORITHM.

    Raises
    ------
    ArgumentError
        Another algorithm.
    """
    if algorithm is not None:
        algorithm = _one_of("set_conv_algorithm: algorithm", algorithm, ALGORITHMS)
    Process.change(conv_algorithm=algorithm)


def get_conv_algorithm() -> str:
    """Return the algorithm asked for: ``"auto"`` unless one is forced."""
    if Process.conv_algorithm is not None:
        return Process.conv_algorithm
    return _from_environment("FASTCONV_CONV_ALGORITHM", ALGORITHMS) or "auto"


def set_programs(programs: str | None) -> None:
    """Set whether networks run as programs: calls recorded once, and repeated without Python.

    Results are the same. Without programs, a debugger or a profiler sees each kernel call of a
    training step or a prepared network.

    Parameters
    ----------
    programs : {"on", "off"} or None
        None returns to FASTCONV_PROGRAMS.

    Raises
    ------
    ArgumentError
        Another word.
    """
    if programs is not None:
        programs = _one_of("set_programs: programs", programs, PROGRAMS)
    Process.change(programs=programs)


def get_programs() -> str:
    """Return whether networks run as programs, ``"on"`` or ``"off"``."""
    if Process.programs is not None:
        return Process.programs
    return _from_environment("FASTCONV_PROGRAMS", PROGRAMS) or "on"


def _from_environment(variable: str, allowed: tuple[str, ...]) -> str | None:
    text = _variable(variable).lower()
    return _one_of(variable, text, allowed) if text else None


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ArgumentError(
            f"{name} must be one of {', '.join(allowed)}, got {value!r}{suggestion(value, allowed)}"
        )
    return value


def note_parallel_work() -> None:
    """Remember that kernels were allowed more than one thread."""
    Process.parallel = True


def _after_fork_in_child() -> None:
    if Process.parallel and not Process.forked:
        Process.change(forked=True)
        warnings.warn(
            "fastconv: this process was forked after its parent had used several threads; "
            "kernels run on one thread here. Start workers by 'spawn' to use more.",
            FallbackWarning,
            stacklevel=2,
        )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


SPINS = "5000"
"""How often a waiting thread looks again before it sleeps: some 50 to 250 microseconds.

Long enough for most pauses between kernels: a step of DeepConvNet on two threads takes some 7 %
longer than with endless spinning. Short enough that with four or ten other busy processes on two
CPUs, two threads take no longer than one; from 10000 on they do.
"""

WAIT_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@contextmanager
def brief_waits() -> Iterator[None]:
    """Have threads wait briefly, then sleep, if the ``with`` block loads GCC's OpenMP.

    By default they spin for milliseconds. On busy CPUs a spinning thread takes time from the one
    that it waits for, and two threads are slower than one. libgomp reads how to wait from the
    environment when it is loaded, so the environment is changed for that long. A user's own
    setting stands.
    """
    said = next((name for name in WAIT_VARIABLES if name in os.environ), None)
    first = not _libgomp_is_loaded()
    if said is None and first:
        os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        yield
    finally:
        if said is None and first:
            os.environ.pop("GOMP_SPINCOUNT", None)
    if first and _libgomp_is_loaded():
        briefly = f"{SPINS} spins, then asleep"
        Process.waiting = briefly if said is None else f"as {said}={os.environ[said]} says"


def waiting() -> str:
    """How OpenMP's threads, which run Numba's kernels, wait for work and for each other."""
    if Process.waiting:
        return Process.waiting
    if _libgomp_is_loaded():
        return "as set when libgomp was loaded, before fastconv's kernels"
    return "GCC's OpenMP is not loaded"


def _libgomp_is_loaded() -> bool:
    import ctypes

    try:
        ctypes.CDLL("libgomp.so.1", os.RTLD_NOLOAD)
    except (AttributeError, OSError):  # this system cannot tell, or libgomp is not loaded
        return False
    return True


def max_isa() -> str | None:
    """Return the clamp on the instruction set, FASTCONV_MAX_ISA, or None."""
    return _from_environment("FASTCONV_MAX_ISA", ISA_LEVELS)


def cache_dir() -> Path:
    """Return the folder for compiled kernels, choices and downloads (it may not exist yet).

    Raises
    ------
    DataNotFound
        No folder is named, and the user has no home folder, like an unknown user id in a
        container.
    """
    named = os.environ.get("FASTCONV_CACHE_DIR", "").strip()
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    try:
        if named:
            return Path(named).expanduser().absolute()
        # The XDG standard, which defines the variable, says to ignore a relative path.
        cache = Path(base) if Path(base).is_absolute() else Path.home().absolute() / ".cache"
        return cache / "fastconv"
    except (RuntimeError, OSError) as error:
        source = f"FASTCONV_CACHE_DIR={named}" if named else "no home folder"
        missing = DataNotFound(f"no cache folder: {source}: {error}")
        missing.add_note("remedy: set FASTCONV_CACHE_DIR to a folder")
        raise missing from None
