"""From nothing to the first training step; import time; memory; size on disk.

Everything here happens in processes of its own. Cold: what a library compiles has to be
compiled. Warm: a process before has left its compiled code in the cache.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pytest

import fastconv

from . import peers
from .data import new_problem
from .installed_size import installed_size
from .processes import environment, told_by
from .timing import note, replay, reported_time

pytestmark = pytest.mark.benchmark(timer=reported_time)

NUMBA, COMPILED = "fastconv numba", "torch.compile channels_last"
PEERS = ("PyTorch eager channels_last", COMPILED, "JAX jit NHWC")
STARTS = {
    "fastconv cython": ("fastconv cython", "no compiling"),
    "fastconv numba, cold": (NUMBA, "cold"),
    "fastconv numba, warm": (NUMBA, "warm"),
    "PyTorch eager": ("PyTorch eager channels_last", "no compiling"),
    "torch.compile, cold": (COMPILED, "cold"),
    "torch.compile, warm": (COMPILED, "warm"),
    "JAX jit": ("JAX jit NHWC", "cold"),
}
"""Contender, and the state of what it keeps on disk; JAX keeps nothing by default."""

LONGEST = 300
"""Seconds that a process may take: one that hangs fails its row, and the others go on."""

PACKAGES = ("fastconv", "torch", "onnxruntime", "openvino", "jax")


@dataclass(frozen=True)
class _Start:
    seconds: float
    first_bytes: int
    last_bytes: int


def _start(name: str, problem: Path, cache: Path, steps: int = 1) -> _Start:
    """Start `cold_start` in a new process that keeps compiled code in `cache`."""
    where = {"FASTCONV_CACHE_DIR": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cache / "torch")}
    arguments, variables = (name, str(problem), str(steps)), environment(**where)
    begun = time.monotonic()
    told = told_by("cold_start", *arguments, variables=variables, timeout=LONGEST)
    return _Start(told["finished"] - begun, told["first"], told["last"])


def _skip_unless_it_can_start(name: str, full: bool) -> None:
    if not full and name in PEERS:
        pytest.skip(f"{name}: only where it is timed")
    if reason := peers.missing(name):
        pytest.skip(reason)


@pytest.fixture
def problem(tmp_path: Path, full: bool) -> Path:
    path = tmp_path / "problem"
    peers.save_problem(path, new_problem(100 if full else 2, fastconv.get_num_threads()))
    return path


@pytest.mark.parametrize("start", STARTS)
def test_first_training_step(
    benchmark: Any, start: str, problem: Path, tmp_path: Path, full: bool
) -> None:
    name, state = STARTS[start]
    _skip_unless_it_can_start(name, full)
    if not full and state != "no compiling":
        pytest.skip(f"{start}: compiles for long; only where it is timed")
    launches = (1 if state == "cold" and name != "JAX jit NHWC" else 3) if full else 1
    caches = [tmp_path / f"cache-{n}" for n in range(launches)]
    if state == "warm":
        caches = [tmp_path / "cache"] * launches
        _start(name, problem, caches[0])
    replay(benchmark, [_start(name, problem, cache).seconds for cache in caches])
    _note(benchmark, "process start to first training step", start, cache=state)


@pytest.mark.parametrize("state", ["cold", "warm"])
def test_compile(benchmark: Any, state: str, tmp_path: Path, full: bool) -> None:
    """First calls of Numba's kernels, one after the other: compiled, or read from the cache."""
    _skip_unless_it_can_start(NUMBA, full)
    if not full:
        pytest.skip("compiling takes long; only where it is timed")

    def first_calls() -> dict[str, list[float]]:
        cache = environment(FASTCONV_CACHE_DIR=str(tmp_path))
        return told_by("compile_times", "numba", variables=cache)

    calls = first_calls()
    if state == "warm":
        calls = first_calls()
    beyond = {kernel: first - second for kernel, (first, second) in calls.items()}
    replay(benchmark, [sum(beyond.values())])
    _note(benchmark, "first calls of all kernels", f"fastconv numba, {state}", kernels=beyond)


@pytest.mark.parametrize("name", ["fastconv cython", NUMBA, *PEERS])
def test_memory(benchmark: Any, name: str, problem: Path, tmp_path: Path, full: bool) -> None:
    _skip_unless_it_can_start(name, full)
    if not full and name == NUMBA:
        pytest.skip(f"{name}: compiles for long; only where it is timed")
    _start(name, problem, tmp_path)  # compiling takes memory of its own
    start = _start(name, problem, tmp_path, steps=100 if full else 2)
    replay(benchmark, [start.seconds])
    _note(
        benchmark,
        "peak memory",
        name,
        bytes_after_one_step=start.first_bytes,
        bytes_after_100_steps=start.last_bytes,
    )


@pytest.mark.parametrize("package", ["numpy", *PACKAGES])
def test_import(benchmark: Any, package: str, tmp_path: Path, full: bool) -> None:
    """Time of the import after NumPy's, which is a row of its own."""
    if util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    before = "" if package == "numpy" else "import numpy; "
    program = (
        f"import time; {before}start = time.perf_counter(); import {package}; "
        "print(time.perf_counter() - start)"
    )

    def once() -> float:
        # In another folder: the working folder of ``python -c`` is on its path.
        line = [sys.executable, "-c", program]
        done = subprocess.run(
            line, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
        )
        return float(done.stdout)

    once()  # files come from memory from now on
    replay(benchmark, [once() for _ in range(5 if full else 1)])
    try:
        sizes = installed_size(package)
    except metadata.PackageNotFoundError:
        sizes = {}  # a checkout on the path
    _note(benchmark, "import", package, installed_bytes=sizes)


def _note(benchmark: Any, operation: str, name: str, **more: Any) -> None:
    threads = fastconv.get_num_threads()
    shape = "DeepConvNet, batch 100"
    note(
        benchmark,
        operation=operation,
        shape=shape,
        dtype="float32",
        threads=threads,
        backend=name,
        group=operation,
        **more,
    )
