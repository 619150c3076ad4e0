"""OpenVINO on the CPU: inference on the network as fastconv exports it."""

from __future__ import annotations

import numpy as np
import openvino

from . import ModelProblem, Problem
from .exported import exported

__all__ = ["make"]


def make(mode: str, problem: Problem | ModelProblem) -> OpenVino:
    """Return the contender; `mode` is what it computes in, and it has no training."""
    return OpenVino(mode, problem)


class OpenVino:
    """Compiled for the problem's batch, for the shortest time of one call."""

    def __init__(self, mode: str, problem: Problem | ModelProblem) -> None:
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": problem.threads,
            # Where the CPU has bfloat16, it computes float32 models in that unless told not to.
            "INFERENCE_PRECISION_HINT": mode,
        }
        core = openvino.Core()
        with exported(problem) as path:
            model = core.read_model(path)
            model.reshape(problem.x.shape)
            self.compiled = core.compile_model(model, "CPU", options)
        self.request = self.compiled.create_infer_request()
        self.x, self.checked = problem.x, problem.checked

    def scores(self) -> np.ndarray:
        return self._run()[: self.checked].copy()

    def infer(self) -> None:
        self._run()

    def _run(self) -> np.ndarray:
        """Scores in the library's own memory: nothing is copied in or out."""
        return self.request.infer(self.x, share_inputs=True, share_outputs=True)[0]
