"""Contenders in turns: the same network, weights, images and threads for each.

On one thread all of them live in one process. On several threads each has a process of
its own, because two libraries' threads, waiting in loops for work, would disturb each
other; they work one at a time all the same, turn by turn. Every launch starts new processes.
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

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
from .data import network_for
from .processes import Child, environment

__all__ = ["Result", "hold"]


@dataclass
class Result:
    """What a tournament has found.

    Attributes
    ----------
    processes : str
        Whether the contenders shared one.
    seconds : dict of str to list of list
        By contender: for each launch, the median seconds of each turn.
    errors : dict of str to str
        Contenders that failed, or whose results were not the reference's.
    """

    processes: str
    seconds: dict[str, list[list[float]]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def medians(self) -> dict[str, list[float]]:
        """By contender, median seconds of each launch; those that failed are left out."""
        return {
            name: [statistics.median(turns) for turns in launches]
            for name, launches in self.seconds.items()
            if name not in self.errors
        }

    def ratio(self, name: str, to: str) -> float:
        """How many times as long as `to` it takes: median over the launches."""
        medians = self.medians()
        return statistics.median(a / b for a, b in zip(medians[name], medians[to], strict=True))


def hold(
    names: list[str],
    task: str,
    problem: peers.AnyProblem,
    *,
    launches: int,
    turns: int,
    **variables: str,
) -> Result:
    """Let the contenders work in turns, after their results have been compared.

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
    result = Result("one process" if threads == 1 else "a process each, in turns")
    groups = [names] if threads == 1 else [[name] for name in names]
    for _ in range(launches):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            path = Path(folder) / "problem"
            peers.save_problem(path, problem)
            children = {}
            for group in groups:
                child = Child(
                    "worker", str(path), *group, variables=environment(threads, **variables)
                )
                children |= dict.fromkeys(group, stack.enter_context(child))
            ready = [n for n in names if n not in result.errors]
            for name in ready:
                results = Path(folder) / "results.npz"
                answer = children[name].ask(check=name, task=task, to=str(results))
                error = answer.get("error") or _difference(name, task, problem, results, wanted)
                if error:
                    result.errors[name] = error
            playing = [n for n in ready if n not in result.errors]
            found: dict[str, list[float]] = {name: [] for name in playing}
            for name in playing:  # a turn that does not count: the third step is made a program
                children[name].ask(turn=name, task=task)
            for _ in range(turns):
                for name in playing:
                    found[name].append(children[name].ask(turn=name, task=task)["seconds"])
            for name in playing:
                result.seconds.setdefault(name, []).append(found[name])
    return result


def _wanted(problem: peers.AnyProblem, task: str) -> dict[str, np.ndarray]:
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
    network = network_for(problem, "float64", "numpy")
    if isinstance(problem, peers.ModelProblem):
        some = x[: peers.CHECKED]
        if task == "inference":
            return {"scores": network.predict(some)}
        return network.gradient(some, problem.t[: peers.CHECKED])
    if task == "inference":
        return {"scores": network.predict(x)}
    np.random.seed(peers.MASK_SEED)
    return network.gradient(x, problem.t)


def _difference(
    name: str, task: str, problem: peers.AnyProblem, path: Path, wanted: dict[str, np.ndarray]
) -> str:
    """What is wrong with a contender's results, or an empty text."""
    dtype = "float64" if name == peers.BOOK else problem.x.dtype.name
    if peers.CONTENDERS[name].rough:
        dtype = "bfloat16"
    ours = name.startswith("fastconv")
    with np.load(path, allow_pickle=False) as arrays:
        try:
            if task == "training step":
                limits = NETWORK_EXACT_TO
                if isinstance(problem, peers.ModelProblem):
                    limits = DEEP_EXACT_TO if ours else PEERS_DEEP_EXACT_TO
                assert_same_gradients(dict(arrays), wanted, dtype, name, limits)
            else:
                limit = EXACT_TO if ours else PEERS_EXACT_TO
                assert_same(dict(arrays), wanted, limit[dtype], name)
        except AssertionError as error:
            return str(error)
    return ""
