"""Times kernels and DeepConvNet of whichever fastconv it finds: started by `guard`.

``{"backend": backend, "dtype": dtype, "name": one of `names`}`` is answered by the median
seconds of a turn, or by null where this fastconv does not have it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv
from fastconv import selection
from fastconv.errors import BackendUnavailable

from . import peers
from .data import new_problem
from .processes import answer_requests
from .shapes import IMAGES
from .timing import turn

NETWORK = {f"deepconvnet:{task}": task for task in peers.NETWORK_TASKS}


def names() -> list[str]:
    """What can be timed: the whole network's tasks, and every kernel on every shape."""
    return [*NETWORK, *_kernel_cases()]


def _kernel_cases() -> dict[str, Any]:
    try:
        from .cases import cases
    except ImportError as error:  # a commit whose kernel table lies elsewhere still has networks
        print(f"no kernel is timed: {error}", file=sys.stderr)
        return {}
    return {str(case): case for case in cases(full=True)}


class Timer:
    """Keeps the latest work ready: the memory of one at a time."""

    def __init__(self) -> None:
        self.cases = _kernel_cases()
        self.latest: dict[str, str] = {}
        self.work: Callable[[], object] | None = None

    def answer(self, request: dict[str, str]) -> dict[str, float | None]:
        """Take a turn."""
        if request != self.latest:
            self.latest, self.work = request, None
            try:
                self.work = self._prepare(**request)
            except BackendUnavailable as error:
                print(error, file=sys.stderr)
        return {"seconds": None if self.work is None else turn(self.work, seconds=0.03)}

    def _prepare(self, backend: str, dtype: str, name: str) -> Callable[[], object] | None:
        table = selection.active(backend)
        if name in NETWORK:
            problem = new_problem(IMAGES, fastconv.get_num_threads(), dtype)
            contender = peers.make(f"fastconv {backend}", problem)
            return contender.infer if NETWORK[name] == "inference" else contender.step
        if name not in self.cases or not hasattr(table, self.cases[name].kernel):
            return None
        from .cases import prepare

        case = self.cases[name]
        call = prepare(case, table, dtype, case.inputs(np.random.default_rng(0)))
        call()
        return call


if __name__ == "__main__":
    answer_requests(Timer().answer)
