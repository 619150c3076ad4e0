"""ONNX Runtime on the CPU: inference on the network as fastconv exports it."""

from __future__ import annotations

import numpy as np
import onnxruntime

from . import ModelProblem, Problem
from .exported import exported

__all__ = ["make"]


def make(mode: str, problem: Problem | ModelProblem) -> OnnxRuntime:
    """Return the contender; it has no modes and no training."""
    return OnnxRuntime(problem)


class OnnxRuntime:
    def __init__(self, problem: Problem | ModelProblem) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = problem.threads
        options.inter_op_num_threads = 1
        with exported(problem) as path:
            self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self.x, self.checked = problem.x, problem.checked

    def scores(self) -> np.ndarray:
        return self.session.run(["scores"], {"input": self.x})[0][: self.checked]

    def infer(self) -> None:
        self.session.run(["scores"], {"input": self.x})
