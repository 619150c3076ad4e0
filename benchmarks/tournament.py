"""Contenders in turns: the same network, weights, images and threads for each.

On one thread all of them live in one process. On several threads each has a process of
its own, because two libraries' threads, waiting in loops for work, would disturb each
other; they run one at a time all the same, turn by turn. Every launch starts anew.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.layers import Convolution

from . import peers
from .check import (
    DEEP_EXACT_TO,
    EXACT_TO,
    NETWORK_EXACT_TO,
    PEERS_DEEP_EXACT_TO,
    PEERS_EXACT_TO,
    assert_same,
    assert_same_gradients,
)
from .data import network_of
from .launch import command, environment

__all__ = ["Result", "hold"]

BOOK = "book (NumPy, float64)"

AnyProblem = peers.Problem | peers.ConvProblem | peers.ModelProblem


@dataclass
class Result:
    """What a tournament has found.

    Attributes
    ----------
    way : str
        Whether the contenders shared a process.
    seconds : dict of str to list of list
        By contender: for each launch, the median seconds of each turn.
    errors : dict of str to str
        Contenders that failed, or whose results were not the reference's.
    """

    way: str
    seconds: dict[str, list[list[float]]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def ratio(self, name: str, to: str) -> float:
        """How many times as long as `to` it takes: median over the launches."""
        pairs = zip(self.seconds[name], self.seconds[to], strict=True)
        return statistics.median(statistics.median(a) / statistics.median(b) for a, b in pairs)


def hold(
    names: list[str],
    task: str,
    problem: AnyProblem,
    *,
    launches: int,
    turns: int,
    **variables: str,
) -> Result:
    """Let the contenders run in turns, after their results have been compared.

    Parameters
    ----------
    names : list of str
        Of `peers.CONTENDERS`.
    task : {"inference", "training step", "convolution"}
    problem
        What they compute on; it says on how many threads.
    launches, turns : int
        How often the processes are started, and turns of each contender in a launch.
    **variables
        Environment of the processes.
    """
    threads = problem.threads
    wanted = _wanted(problem, task)
    deep = isinstance(problem, peers.ModelProblem)
    dtype = problem.x.dtype.name
    result = Result("one process" if threads == 1 else "a process each, in turns")
    groups = [names] if threads == 1 else [[name] for name in names]
    for _ in range(launches):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            path = Path(folder) / "problem.npz"
            peers.save_problem(path, problem)
            homes = {}
            for group in groups:
                home = stack.enter_context(_Process(path, group, threads, variables))
                homes |= dict.fromkeys(group, home)
            ready = [n for n in names if n not in result.errors]
            for name in ready:
                results = Path(folder) / "results.npz"
                error = _check(homes[name], name, task, dtype, results, wanted, deep)
                if error:
                    result.errors[name] = error
            playing = [n for n in ready if n not in result.errors]
            found: dict[str, list[float]] = {name: [] for name in playing}
            for _ in range(turns):
                for name in playing:
                    found[name].append(homes[name].ask(turn=name, task=task)["seconds"])
            for name in playing:
                result.seconds.setdefault(name, []).append(found[name])
    return result


class _Process:
    """A worker process, from start to end of a ``with`` block."""

    def __init__(
        self, problem: Path, names: list[str], threads: int, variables: dict[str, str]
    ) -> None:
        count = str(threads)
        self.process = subprocess.Popen(
            command("worker", str(problem), *names),
            env=environment(
                FASTCONV_NUM_THREADS=count,
                OMP_NUM_THREADS=count,
                OPENBLAS_NUM_THREADS=count,
                **variables,
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()  # tells it to end
        self.process.wait()
        self.process.stdout.close()

    def ask(self, **request: str) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {request} ended, status {self.process.wait()}")
        return json.loads(line)


def _wanted(problem: AnyProblem, task: str) -> dict[str, np.ndarray]:
    """The reference backend's results in float64."""
    x = problem.x.astype(np.float64)
    if isinstance(problem, peers.ConvProblem):
        p = problem
        weight, bias = p.weight.astype(np.float64), p.bias.astype(np.float64)
        layer = Convolution(weight, bias, p.stride, p.pad, backend="numpy")
        found = {"out": layer.forward(x)}
        dx = layer.backward(p.dout.astype(np.float64), input_gradient=p.input_gradient)
        found |= {"dweight": layer.dW, "dbias": layer.db}
        return found if dx is None else found | {"dx": dx}
    if isinstance(problem, peers.ModelProblem):
        network = peers.new_model(problem.network, "float64", "numpy")
        network.set_state(problem.state)
        some = x[: peers.CHECKED]
        if task == "inference":
            return {"scores": network.predict(some)}
        return network.gradient(some, problem.t[: peers.CHECKED])
    network = network_of("float64", "numpy")
    network.set_params(problem.params)
    if task == "inference":
        return {"scores": network.predict(x)}
    np.random.seed(peers.MASK_SEED)
    return network.gradient(x, problem.t)


def _check(
    home: _Process,
    name: str,
    task: str,
    dtype: str,
    path: Path,
    wanted: dict[str, np.ndarray],
    deep: bool,
) -> str:
    """Return what is wrong with a contender's results, or an empty text."""
    answer = home.ask(check=name, task=task, to=str(path))
    if "error" in answer:
        return answer["error"]
    dtype = "float64" if name == BOOK else dtype
    with np.load(path, allow_pickle=False) as arrays:
        ours = name.startswith("fastconv")
        try:
            if task == "training step":
                deep_limits = DEEP_EXACT_TO if ours else PEERS_DEEP_EXACT_TO
                limits = deep_limits if deep else NETWORK_EXACT_TO
                assert_same_gradients(dict(arrays), wanted, dtype, name, limits)
            else:
                limit = EXACT_TO if ours else PEERS_EXACT_TO
                assert_same(dict(arrays), wanted, limit[dtype], name)
        except AssertionError as error:
            return str(error)
    return ""
