"""fastconv and the book's own code against other libraries: the same network and weights.

Group = task and threads. The rows of a group come from one tournament, whose contenders
take turns; `extra_info` has the ratio to each fastconv backend and whether they shared a process.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Any

import pytest

from . import peers, tournament
from .data import new_problem
from .timing import note, replay, reported_time

OURS = ("fastconv cython", "fastconv numba")


def cannot_run(name: str, full: bool) -> str:
    """Why a contender has to be left out, or an empty text."""
    if not full and name.startswith("torch.compile"):
        return f"{name}: compiles for a minute; only where it is timed"
    return peers.missing(name)


@cache
def _tournament(task: str, threads: int, full: bool) -> tournament.Result:
    names = [
        name
        for name, contender in peers.CONTENDERS.items()
        if task in contender.tasks and not cannot_run(name, full)
    ]
    images, launches, turns = (100, 3, 5) if full else (2, 1, 1)
    problem = new_problem(images, threads)
    return tournament.hold(names, task, problem, launches=launches, turns=turns)


@pytest.mark.benchmark(timer=reported_time)
@pytest.mark.parametrize("task", ["inference", "training step"])
@pytest.mark.parametrize("name", peers.CONTENDERS)
def test_peer(benchmark: Any, name: str, task: str, threads: int, full: bool) -> None:
    contender = peers.CONTENDERS[name]
    if task not in contender.tasks:
        pytest.skip(f"{name} has no {task}")
    if not full and (task == "inference") != (threads == 1):
        pytest.skip("as a test, one task in one process, the other in a process each")
    if reason := cannot_run(name, full):
        pytest.skip(reason)
    result = _tournament(task, threads, full)
    if name in result.errors:
        pytest.fail(result.errors[name], pytrace=False)
    replay(benchmark, [seconds for launch in result.seconds[name] for seconds in launch])
    note(
        benchmark,
        operation=f"{task} against peers",
        shape="DeepConvNet, batch 100",
        dtype="float64" if name == peers.BOOK else "float32",
        threads=threads,
        backend=name,
        library={module: metadata.version(module) for module in contender.needs},
        processes=result.processes,
        launches=len(result.seconds[name]),
        times_as_long_as={
            ours: result.ratio(name, ours) for ours in OURS if ours in result.medians()
        },
        # The book's code computes in float64 and stands in the same group.
        group=f"{task} DeepConvNet, batch 100, t{threads}",
    )
