"""An ONNX graph in the making, one operator behind the other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._version import __version__
from ..errors import DTypeError, ShapeError

__all__ = ["Graph"]

OPSET, IR_VERSION = 17, 8
"""The versions of 2022: whatever reads ONNX today reads these."""


class Graph:
    """One chain of operators, and what the layers that write it must know.

    Attributes
    ----------
    shape : tuple of int or str
        Of one sample at the end of the chain; str where it is not known.
    layer : str
        The layer that is being written, for messages.
    """

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.trained = 0
        self.layer = "input"
        self.shape: tuple[int | str, ...] = ()

    def begin(self, shape: tuple[int | str, ...]) -> None:
        """Start from the input."""
        self.shape = shape
        self.inputs = [self.described("input", shape)]
        self.end = "input"

    def described(self, name: str, shape: tuple[int | str, ...]) -> Any:
        """A value of the graph's interface, whose first axis is the batch."""
        float32 = self.onnx.TensorProto.FLOAT
        return self.onnx.helper.make_tensor_value_info(name, float32, ("batch", *shape))

    def constant(self, name: str, values: Any) -> str:
        """Add an array to the model, as float32, and return its name."""
        array = np.asarray(values)
        with np.errstate(over="ignore"):
            array32 = np.array(array, np.float32, order="C")
        if not np.array_equal(np.isfinite(array32), np.isfinite(array)):
            raise DTypeError(
                f"export_onnx: {name} of {self.layer} has numbers beyond the range of float32"
            )
        self.constants.append(self.onnx.numpy_helper.from_array(array32, name))
        return name

    def add(self, operator: str, *operands: str, source: str | None = None, **settings: Any) -> str:
        """Add an operator at the end of the chain (or at `source`) and return its output."""
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(
            self.onnx.helper.make_node(
                operator, [source or self.end, *operands], [output], name=output, **settings
            )
        )
        self.end = output
        return output

    def finish(self, output: str, name: str) -> Any:
        """The whole as a model, with the chain's end as its output."""
        helper = self.onnx.helper
        self.nodes.append(helper.make_node("Identity", [self.end], [output], name=output))
        graph = helper.make_graph(
            self.nodes, name, self.inputs, [self.described(output, self.shape)], self.constants
        )
        return helper.make_model(
            graph,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="fastconv",
            producer_version=__version__,
        )

    def expect_features(self, expected: int) -> None:
        """Raise `ShapeError` where a sample is known not to have this many numbers."""
        if all(isinstance(size, int) for size in self.shape):
            got = math.prod(int(size) for size in self.shape)
            if got != expected:
                raise ShapeError(
                    f"export_onnx: {self.layer} expects {expected} numbers for each sample, "
                    f"got {got} (shape {self.shape})"
                )
