"""Facts that every figure is stated with: processor, threads, BLAS, version, commit, peaks."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

import fastconv
from fastconv import selection

from .peaks import bandwidth, fma_peak

__all__ = [
    "BACKENDS",
    "Peaks",
    "blas",
    "commit",
    "facts",
    "instruction_set",
    "peaks",
    "processor",
    "summary",
]

BACKENDS = ("cython", "numba", "numpy")


@dataclass(frozen=True)
class Peaks:
    """What this machine can do at most on some number of threads.

    Attributes
    ----------
    flops : float
        Operations a second of one dtype.
    bandwidth : float
        Bytes a second, read plus written, to and from memory.
    """

    flops: float
    bandwidth: float

    def least_seconds(self, flops: int, moved: int) -> float:
        """The roofline: nothing can take less, if its data comes from memory."""
        return max(flops / self.flops, moved / self.bandwidth)


@cache
def peaks(dtype: str, threads: int) -> Peaks:
    """Measure, once in a process."""
    return Peaks(fma_peak(dtype, threads), _bandwidth(threads))


_bandwidth = cache(bandwidth)


def measured_peaks(threads: tuple[int, ...]) -> dict[str, Any]:
    """The peaks as plain data, for the head of a report."""
    return {
        str(count): {
            "float32 GFLOP/s": peaks("float32", count).flops / 1e9,
            "float64 GFLOP/s": peaks("float64", count).flops / 1e9,
            "GB/s": peaks("float32", count).bandwidth / 1e9,
        }
        for count in threads
    }


def blas() -> str:
    """NumPy's BLAS and the architecture that it picked, which decides NumPy's figures."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    # SciPy brings another one; NumPy's lies in NumPy's own folder, where it is bundled.
    home = Path(np.__file__).parents[1]
    own = [p for p in pools if Path(p["filepath"]).parent.name.startswith("numpy")] or [
        p for p in pools if Path(p["filepath"]).is_relative_to(home)
    ]
    return "; ".join(
        f"{pool['internal_api']} {pool['version']} {pool.get('architecture', 'unknown')}"
        for pool in own or pools
    )


def instruction_set(backend: str) -> str:
    """Widest instruction set that the backend's kernels use here."""
    return (
        selection.registry()
        .load(backend)
        .describe()
        .get("instruction set", "chosen by NumPy and its BLAS")
    )


@cache
def commit() -> str:
    """Commit of the checkout that holds this suite, with ``+`` where files differ from it."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    name = git("rev-parse", "--short=12", "HEAD")
    if not name:
        return "unknown"
    return name + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def processor() -> str:
    """Name of the processor, as far as the system tells it."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def summary() -> str:
    """Processor, libraries and commit on one line."""
    return (
        f"{processor()}; NumPy {np.__version__}, BLAS {blas()}; fastconv {fastconv.__version__}, "
        f"commit {commit()}"
    )


def facts(threads: tuple[int, ...]) -> dict[str, Any]:
    """What a reader must know before any figure of a measurement."""
    return {
        "processor": processor(),
        "threads": max(threads),
        "fastconv": fastconv.__version__,
        "commit": commit(),
        "numpy": np.__version__,
        "blas": blas(),
        "instruction sets": {
            name: instruction_set(name) for name in BACKENDS if selection.registry().status(name)
        },
        "peaks": measured_peaks(threads),
    }
