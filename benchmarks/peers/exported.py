"""The network as fastconv exports it, for libraries that read ONNX files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastconv.io import export_onnx

from ..data import network_for
from . import ModelProblem, Problem

__all__ = ["exported"]


@contextmanager
def exported(problem: Problem | ModelProblem) -> Iterator[Path]:
    """Inside the block, the file of the problem's network, for any batch size."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        network = network_for(problem, "float32", "numpy")
        export_onnx(network, path, input_shape=problem.x.shape[1:])
        yield path
