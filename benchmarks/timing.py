"""One row of the suite: how often its work is called, and what is written beside its time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits

import fastconv

from . import machine

__all__ = ["limited_threads", "measure", "note", "replay", "reported_time", "turn"]

BUDGET = 0.25
"""Seconds that the rounds of one row take, unless three rounds take longer."""

SHORTEST = 2e-4
"""Seconds of one round at least: shorter work is repeated within a round."""

MOST_ROUNDS = 100

SLOW = 1.0
"""Seconds of one call from which on a single round must do."""

QUIET = 0.05
"""Seconds of sleep before the rounds. BLAS threads spin for a while after a product, on
the cores that the kernels are about to use."""


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Run the kernels, and NumPy's BLAS, on this many threads."""
    before = fastconv.get_num_threads()
    fastconv.set_num_threads(threads)
    try:
        with threadpool_limits(threads, user_api="blas"):
            yield
    finally:
        fastconv.set_num_threads(before)


def measure(benchmark: Any, work: Callable[[], object], known: float = 0.0) -> None:
    """Time `work`, which has been called at least once: compiled, caches warm.

    Where benchmarks are disabled it is called once.

    Parameters
    ----------
    known : float
        Seconds of a call before this, where it compiled nothing; 0 where it may have.
    """
    if benchmark.disabled:
        benchmark.pedantic(work)
        return
    time.sleep(QUIET)
    once = known if known > SLOW else _seconds(work)
    if once > SLOW:
        benchmark.pedantic(work, rounds=1)
        return
    once = _seconds(work)
    iterations = max(1, round(SHORTEST / once))
    rounds = min(MOST_ROUNDS, max(3, round(BUDGET / (once * iterations))))
    benchmark.pedantic(work, rounds=rounds, iterations=iterations)


def turn(work: Callable[[], object], seconds: float = 0.1) -> float:
    """One contender's turn: median time of its calls in `seconds`, the first not counted."""
    time.sleep(QUIET)  # another's threads may still spin
    work()
    times: list[float] = []
    while not times or sum(times) < seconds:
        times.append(_seconds(work))
    return statistics.median(times)


_reported = 0.0


def reported_time() -> float:
    """The clock of rows whose times other processes have taken; `replay` advances it."""
    return _reported


def replay(benchmark: Any, times: list[float]) -> None:
    """Enter times taken elsewhere as a row's rounds; its timer must be `reported_time`."""
    remaining = iter(times)

    def advance() -> None:
        global _reported
        _reported += next(remaining)

    benchmark.pedantic(advance, rounds=len(times))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def note(
    benchmark: Any,
    *,
    operation: str,
    shape: str,
    dtype: str,
    threads: int,
    backend: str,
    flops: int = 0,
    moved: int = 0,
    group: str = "",
    **more: Any,
) -> None:
    """Write what was measured beside the figure, and what share of the machine it is.

    Parameters
    ----------
    flops : int
        Operations of one call, convolutions counted as direct; 0: not counted.
    moved : int
        Bytes of one call, each input read once and each output written once; 0: not counted.
    group : str
        Rows of one group stand beside each other; by default all that differ in backend alone.
    """
    benchmark.extra_info.update(
        operation=operation,
        shape=shape,
        dtype=dtype,
        threads=threads,
        backend=backend,
        blas=machine.blas(),
        instruction_set=machine.instruction_set(backend) if backend in machine.BACKENDS else "",
        version=fastconv.__version__,
        commit=machine.commit(),
        **more,
    )
    if benchmark.disabled:
        return
    benchmark.stats.group = group or f"{operation} {shape} {dtype} t{threads}"
    seconds = benchmark.stats.stats.median
    peak = machine.peaks(dtype, threads)
    if flops:
        benchmark.extra_info["gflops"] = flops / seconds / 1e9
        benchmark.extra_info["share_of_peak"] = flops / seconds / peak.flops
    if moved:
        benchmark.extra_info["bytes"] = moved
        benchmark.extra_info["share_of_bandwidth"] = moved / seconds / peak.bandwidth
        benchmark.extra_info["share_of_roofline"] = peak.least_seconds(flops, moved) / seconds
