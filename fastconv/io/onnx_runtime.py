"""ONNX models, run by ONNX Runtime."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataCorrupt, MissingDependency
from ..functions import softmax
from .whole import read_whole

__all__ = ["OnnxModel"]


class OnnxModel:
    """A model with one input, images, and one output, ``scores`` or ``probabilities``.

    Parameters
    ----------
    path : path
    threads : int

    Attributes
    ----------
    metadata : dict of str to str
        What the file says about the model.
    classes : int or str
        How many numbers the output has for an image; a name if that is open.
    runtime : str
        What runs it, with its version.

    Raises
    ------
    DataNotFound, DataCorrupt
        No such file, or none of an ONNX model.
    MissingDependency
        The package onnxruntime is not installed.
    """

    def __init__(self, path: str | PathLike[str], threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependency(
                "running an ONNX model needs ONNX Runtime: pip install onnxruntime"
            ) from error
        self.path = Path(path)
        self.runtime = f"onnxruntime {onnxruntime.__version__}"
        data = read_whole(self.path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what goes wrong is raised as well
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of many types
            raise DataCorrupt(f"{path}: not an ONNX model ({error})") from error
        self._input = self._session.get_inputs()[0].name
        output = self._session.get_outputs()[0]
        self._output, self.classes = output.name, output.shape[-1]
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def probabilities(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return probabilities (N, classes) of images (N, C, H, W)."""
        images = np.ascontiguousarray(x, np.float32)
        try:
            (out, *_) = self._session.run([self._output], {self._input: images})
        except Exception as error:
            raise DataCorrupt(f"{self.path}: cannot compute images {x.shape} ({error})") from error
        return out if self._output == "probabilities" else softmax(out)
