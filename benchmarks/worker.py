"""A process that holds contenders, warm, and runs them when it is told to.

Requests come as lines of JSON on standard input, answers leave on standard output:
``{"check": name, "task": task, "to": path}`` writes the contender's results there,
``{"turn": name, "task": task}`` answers with the median seconds of a turn.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from . import peers
from .timing import turn


def serve(problem_file: str, names: list[str]) -> None:
    """Build the contenders, say so, and answer requests until the input ends."""
    # Libraries print; what they print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    problem = peers.load_problem(Path(problem_file))
    if hasattr(os, "sched_setaffinity"):
        # Some libraries cannot be told how many threads to take: they count processors.
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[: problem.threads])
    contenders: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        name = request.get("check") or request["turn"]
        try:
            if name not in names:
                raise KeyError(f"{name} does not live in this process")
            if name not in contenders:
                contenders[name] = peers.make(name, problem)
            answer = _answer(contenders[name], request)
        except Exception:
            # The process that asked fails with this text; the others' contenders go on.
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(contender: Any, request: dict[str, str]) -> dict[str, Any]:
    inference = request["task"] == "inference"
    if "check" in request:
        results = {"scores": contender.scores()} if inference else contender.gradients()
        np.savez(request["to"], **results)
        return {"done": True}
    return {"seconds": turn(contender.infer if inference else contender.step)}


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
