"""A process that holds contenders, warm, and lets them work when it is told to.

``{"check": name, "task": task, "to": path}`` writes the contender's results there,
``{"turn": name, "task": task}`` answers with the median seconds of a turn.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from . import peers
from .processes import answer_requests
from .timing import turn


class Worker:
    """Contenders of one problem, each made when it is first asked for."""

    def __init__(self, problem: peers.AnyProblem, names: list[str]) -> None:
        self.problem, self.names = problem, names
        self.contenders: dict[str, Any] = {}

    def answer(self, request: dict[str, str]) -> dict[str, Any]:
        """Do what is asked; where that fails, the answer is the traceback."""
        name = request.get("check") or request["turn"]
        try:
            if name not in self.names:
                raise KeyError(f"{name} does not live in this process")
            if name not in self.contenders:
                self.contenders[name] = peers.make(name, self.problem)
            return self._work(self.contenders[name], request)
        except Exception:
            return {"error": traceback.format_exc()}  # the other contenders go on

    def _work(self, contender: Any, request: dict[str, str]) -> dict[str, Any]:
        inference = request["task"] == "inference"
        if "check" in request:
            results = {"scores": contender.scores()} if inference else contender.gradients()
            np.savez(request["to"], **results)
            return {"done": True}
        return {"seconds": turn(contender.infer if inference else contender.step)}


if __name__ == "__main__":
    problem = peers.load_problem(Path(sys.argv[1]))
    if hasattr(os, "sched_setaffinity"):
        # Some libraries cannot be told how many threads to take: they count processors.
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[: problem.threads])
    answer_requests(Worker(problem, sys.argv[2:]).answer)
