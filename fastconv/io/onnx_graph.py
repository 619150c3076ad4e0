"""An ONNX graph under construction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._version import __version__
from ..errors import DTypeError, ShapeError, WeightsError

__all__ = ["Graph", "Shape", "Writer"]

OPSET, IR_VERSION = 17, 8
"""Versions of 2022, which every current reader of ONNX supports."""


Shape = tuple[int | str, ...]
"""Shape of one sample; unknown lengths have names."""

Writer = Callable[["Graph", Any], Any]
"""Adds a layer's operators to the end of a graph."""


class Graph:
    """Operators, and what the writers of layers must know.

    Parameters
    ----------
    onnx : module

    Attributes
    ----------
    end : str
        Output of the operator that was added last, and input of the next one.
    shape : tuple of int or str
        Shape of one sample there.
    layer : str
        The layer that is being written, for messages.
    dotted : bool
        Whether arrays have PyTorch's names, and affine weights PyTorch's order of axes.
    """

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.layer = "input"
        self.shape: Shape = ()

    def begin(self, shape: Shape) -> None:
        """Start from the input."""
        self.shape = shape
        self.inputs = [self.described("input", shape)]
        self.end = "input"

    def enter(self, network: Any, prefix: str = "") -> None:
        """Begin with the layers of a network; a Network says what its arrays are called."""
        self.dotted = getattr(network, "dotted", False)
        self.prefix, self.numbered = prefix, 0
        arrays = network.named_arrays() if hasattr(network, "named_arrays") else ()
        self.array_names = {(id(layer), name): key for key, layer, name in arrays}

    def described(self, name: str, shape: Shape) -> Any:
        """Describe an input or output of the graph, whose first axis is the batch."""
        float32 = self.onnx.TensorProto.FLOAT
        return self.onnx.helper.make_tensor_value_info(name, float32, ("batch", *shape))

    def constant(self, name: str, values: Any) -> str:
        """Add an array to the model, as float32, and return its name."""
        array = np.asarray(values)
        if lost := int(np.count_nonzero(~np.isfinite(array))):
            raise WeightsError(
                f"export_onnx: {name} of {self.layer} has {lost} of {array.size} numbers that are "
                "NaN or infinite, as the weights of a run that has diverged"
            )
        with np.errstate(over="ignore"):
            array32 = np.array(array, np.float32, order="C")
        if not np.isfinite(array32).all():
            raise DTypeError(
                f"export_onnx: {name} of {self.layer} has numbers beyond the range of float32"
            )
        return self._keep(name, array32)

    def whole_numbers(self, name: str, values: list[int]) -> str:
        """Add a list of int to the model, for operators whose settings are inputs."""
        return self._keep(f"{name}_{len(self.nodes)}", np.array(values, np.int64))

    def _keep(self, name: str, array: np.ndarray) -> str:
        # A layer in several places of the network has its arrays once.
        self.constants.setdefault(name, self.onnx.numpy_helper.from_array(array, name))
        return name

    def trained(self, layer: Any, *names: str) -> list[str]:
        """Add these arrays of a layer, and return their names in the network."""
        self.numbered += 1
        found = []
        for name in names:
            key = self.array_names.get((id(layer), name), f"{name}{self.numbered}")
            values = np.asarray(getattr(layer, name))
            turned = self.dotted and values.ndim == 2
            found.append(self.constant(self.prefix + key, values.T if turned else values))
        return found

    def add(self, operator: str, *operands: str, **settings: Any) -> str:
        """Add an operator on the last one's output, and return the name of its output."""
        return self.join(operator, self.end, *operands, **settings)

    def pad(self, before: list[int], after: list[int]) -> str:
        """Add zeros before and after the last output, along each axis."""
        # The mode is ONNX's default, which pnnx needs to be told.
        return self.add("Pad", self.whole_numbers("pads", before + after), mode="constant")

    def join(self, operator: str, *operands: str, **settings: Any) -> str:
        """Add an operator on these operands alone, and return the name of its output."""
        self.end = f"{operator}_{len(self.nodes)}"
        self.nodes.append(
            self.onnx.helper.make_node(operator, operands, [self.end], name=self.end, **settings)
        )
        return self.end

    def finish(self, output: str, name: str, metadata: Mapping[str, str]) -> Any:
        """Return the model, whose output is that of the last operator."""
        helper = self.onnx.helper
        self.nodes.append(helper.make_node("Identity", [self.end], [output], name=output))
        outputs, constants = [self.described(output, self.shape)], list(self.constants.values())
        graph = helper.make_graph(self.nodes, name, self.inputs, outputs, constants)
        model = helper.make_model(
            graph,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="fastconv",
            producer_version=__version__,
        )
        helper.set_model_props(model, dict(metadata))
        return model

    def expect_images(self) -> None:
        """Raise `ShapeError` unless a sample is an image."""
        if len(self.shape) != 3:
            raise ShapeError(f"export_onnx: {self.layer} expects images, got shape {self.shape}")

    def expect_channels(self, expected: int) -> None:
        """Raise `ShapeError` unless a sample is an image with this many channels."""
        if len(self.shape) != 3 or (self.shape[0] != expected and isinstance(self.shape[0], int)):
            raise ShapeError(
                f"export_onnx: {self.layer} expects {expected} channels of images, "
                f"got the shape {self.shape}"
            )

    def expect_features(self, expected: int) -> None:
        """Raise `ShapeError` if the sample's shape is known and has another number of values."""
        if all(isinstance(size, int) for size in self.shape):
            got = math.prod(int(size) for size in self.shape)
            if got != expected:
                raise ShapeError(
                    f"export_onnx: {self.layer} expects {expected} numbers for each sample, "
                    f"got {got} (shape {self.shape})"
                )
