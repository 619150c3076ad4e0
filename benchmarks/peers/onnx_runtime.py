"""ONNX Runtime on the CPU: inference on the network as fastconv exports it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

from fastconv.io import export_onnx

from ..data import network_of
from . import Problem

__all__ = ["make"]


def make(mode: str, problem: Problem) -> OnnxRuntime:
    """Return the contender; it has no modes and no training."""
    return OnnxRuntime(problem)


class OnnxRuntime:
    def __init__(self, problem: Problem) -> None:
        network = network_of("float32", "numpy")
        network.set_params(problem.params)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = problem.threads
        options.inter_op_num_threads = 1
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            export_onnx(network, path, input_shape=problem.x.shape[1:])
            self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self.x = problem.x

    def scores(self) -> np.ndarray:
        return self.session.run(["scores"], {"input": self.x})[0]

    def infer(self) -> None:
        self.session.run(["scores"], {"input": self.x})
