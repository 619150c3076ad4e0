"""Networks of our layers as ONNX models, in evaluation mode.

Each layer becomes the operators of ONNX that compute what its ``forward`` does with
``train_flg=False``. The batch size stays open, and so do height and width of the
images where the caller does not fix them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .._version import __version__
from ..errors import ArgumentError, DTypeError, MissingDependency, ShapeError, StateError
from ..geometry import as_int, window_geometry
from ..layers import (
    Affine,
    BatchNormalization,
    Convolution,
    Dropout,
    Pooling,
    Relu,
    Sigmoid,
    SoftmaxWithLoss,
)
from .atomic import replace_file
from .onnx_elementwise import ELEMENTWISE

__all__ = ["export_onnx"]

OPSET, IR_VERSION = 17, 8
"""The versions of 2022: whatever reads ONNX today reads these."""

_TWO_MODES = (BatchNormalization, Dropout)


def export_onnx(
    network: Any,
    path: str | PathLike[str],
    *,
    input_shape: tuple[int, ...] | None = None,
    softmax: bool = False,
) -> None:
    """Write a network to a ``.onnx`` file: float32, for any batch size.

    Parameters
    ----------
    network : Network, or an object with ``layers``
        ``layers`` is a list, or the dict of the book's own networks; ``predict`` must
        run them in that order and do nothing else. Where the input's shape is known,
        that is tried.
    path : path
        Replaced once the model is whole and the checker of ONNX has passed it.
    input_shape : tuple of int, optional
        Of one sample, (C, H, W) or (D,). None leaves height and width open, which the
        layers then decide as they do here.
    softmax : bool
        End with the softmax: the model's output is ``probabilities``, not ``scores``.

    Raises
    ------
    ArgumentError
        A layer that has no counterpart here, or a ``predict`` that does more than run the
        layers.
    ShapeError
        Layers that do not fit the input's shape.
    StateError
        A BatchNormalization that has no running statistics yet.
    DTypeError
        Parameters beyond the range of float32.
    MissingDependency
        The package onnx is not installed.

    Notes
    -----
    Parameters in float64 are rounded to float32: ONNX Runtime has no float64 convolution.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ArgumentError(f"export_onnx: {path.name} must end in .onnx")
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency(
            "exporting to ONNX needs the package onnx: pip install 'fastconv[onnx]'"
        ) from error
    graph = _Graph(onnx)
    layers = _layers(network)
    shape = _input_shape(layers, input_shape)
    graph.begin(shape)
    for number, layer in enumerate(layers, start=1):
        graph.layer = f"layer {number} ({type(layer).__name__})"
        _writer(graph, layer)(graph, layer)
    if softmax:
        if len(graph.shape) != 1:
            raise ShapeError(f"export_onnx: softmax of scores (N, M), got shape {graph.shape}")
        graph.add("Softmax", axis=1)
    _expect_a_chain(network, layers, shape)
    model = graph.finish("probabilities" if softmax else "scores", type(network).__name__)
    onnx.checker.check_model(model, full_check=True)
    with replace_file(path) as file:
        file.write(model.SerializeToString())


def _layers(network: Any) -> list[Any]:
    layers = getattr(network, "layers", None)
    if isinstance(layers, Mapping):
        layers = list(layers.values())
    if not isinstance(layers, list | tuple) or not layers:
        raise ArgumentError(
            f"export_onnx: expected a network with a list or dict of layers, "
            f"got {type(network).__name__}"
        )
    return list(layers)


def _expect_a_chain(network: Any, layers: list[Any], shape: tuple[int | str, ...]) -> None:
    """Raise `ArgumentError` where `predict` gives something else than the layers in a row."""
    sizes = [size for size in shape if isinstance(size, int)]
    if len(sizes) < len(shape) or not hasattr(network, "predict"):
        return
    x = np.random.default_rng(0).standard_normal((2, *sizes)).astype(np.float32)
    expected = np.asarray(network.predict(x))
    for layer in layers:
        x = layer.forward(x, False) if isinstance(layer, _TWO_MODES) else layer.forward(x)
    scale = np.abs(expected).max(initial=0)
    if x.shape != expected.shape or not np.allclose(x, expected, rtol=0, atol=1e-4 * scale):
        raise ArgumentError(
            f"export_onnx: {type(network).__name__}.predict does something else than run its "
            "layers one after the other, and only that can be exported"
        )


def _input_shape(layers: list[Any], given: tuple[int, ...] | None) -> tuple[int | str, ...]:
    """Shape of one sample, with names for the lengths that are not known."""
    if given is not None:
        sizes = tuple(as_int("export_onnx", "input_shape", size, 1) for size in given)
        if len(sizes) not in (1, 3):
            raise ArgumentError(f"export_onnx: input_shape must be (D,) or (C, H, W), got {given}")
        return sizes
    for layer in layers:
        if isinstance(layer, Convolution):
            return (layer.W.shape[1] * layer.groups, "height", "width")
        if isinstance(layer, Affine):
            return (layer.W.shape[0],)
        if isinstance(layer, BatchNormalization):
            return (np.size(layer.gamma),)
        if isinstance(layer, Pooling):
            return ("channels", "height", "width")
    raise ArgumentError("export_onnx: no layer tells the shape of the input: pass input_shape")


class _Graph:
    """An ONNX graph in the making: one chain of operators.

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


# ---- one writer for each layer ------------------------------------------------------


def _weight_and_bias(graph: _Graph, layer: Affine | Convolution) -> list[str]:
    """Add a layer's trained arrays to the model and return their names."""
    graph.trained += 1
    names = "W" if layer.b is None else "Wb"
    return [graph.constant(f"{name}{graph.trained}", getattr(layer, name)) for name in names]


def _convolution(graph: _Graph, layer: Convolution) -> None:
    filters, channels, height, width = layer.W.shape
    channels *= layer.groups
    if len(graph.shape) != 3 or graph.shape[0] not in (channels, "channels"):
        raise ShapeError(
            f"export_onnx: {graph.layer} expects {channels} channels of images, "
            f"got the shape {graph.shape}"
        )
    trained = _weight_and_bias(graph, layer)
    stride, pad, dilation = int(layer.stride), int(layer.pad), int(layer.dilation)
    size = _windows(graph, height, width, stride, pad, dilation)
    graph.add(
        "Conv",
        *trained,
        kernel_shape=[height, width],
        strides=[stride, stride],
        pads=[pad] * 4,
        dilations=[dilation, dilation],
        group=int(layer.groups),
    )
    graph.shape = (filters, *size)


def _pooling(graph: _Graph, layer: Pooling) -> None:
    if len(graph.shape) != 3:
        raise ShapeError(f"export_onnx: {graph.layer} expects images, got shape {graph.shape}")
    height, width = int(layer.pool_h), int(layer.pool_w)
    stride, pad = int(layer.stride), int(layer.pad)
    size = _windows(graph, height, width, stride, pad)
    graph.add("MaxPool", kernel_shape=[height, width], strides=[stride, stride], pads=[pad] * 4)
    graph.shape = (graph.shape[0], *size)


def _windows(
    graph: _Graph, height: int, width: int, stride: int, pad: int, dilation: int = 1
) -> tuple[int | str, int | str]:
    """Rows and columns of windows, by number or, of an image of unknown size, by name."""
    _, rows, columns = graph.shape
    if isinstance(rows, int) and isinstance(columns, int):
        image = (1, 1, rows, columns)
        window = (height, width, stride, pad, dilation)
        found = window_geometry(f"export_onnx {graph.layer}", image, *window)
        return found.oh, found.ow
    number = len(graph.nodes)
    return f"height_{number}", f"width_{number}"


def _affine(graph: _Graph, layer: Affine) -> None:
    features, units = layer.W.shape
    graph.expect_features(features)
    if len(graph.shape) != 1:
        graph.add("Flatten", axis=1)
    graph.add("Gemm", *_weight_and_bias(graph, layer))
    graph.shape = (units,)


def _batch_normalization(graph: _Graph, layer: BatchNormalization) -> None:
    if layer.running_mean is None or layer.running_var is None:
        raise StateError(
            f"export_onnx: {graph.layer} has no running statistics: they come with training, "
            "or as its arguments running_mean and running_var"
        )
    graph.expect_features(np.size(layer.gamma))
    graph.trained += 1
    operands = [
        graph.constant(f"{name}{graph.trained}", values)
        for name, values in (
            ("gamma", layer.gamma),
            ("beta", layer.beta),
            ("running_mean", layer.running_mean),
            ("running_var", layer.running_var),
        )
    ]
    images = len(graph.shape) == 3
    source = graph.end
    if images:  # statistics for each activation, not for each channel
        shape = graph.add("Shape")
        graph.add("Flatten", source=source, axis=1)
    graph.add("BatchNormalization", *operands, epsilon=float(layer.epsilon))
    if images:
        graph.add("Reshape", shape)


def _dropout(graph: _Graph, layer: Dropout) -> None:
    if layer.inverted:  # evaluation does nothing
        return
    kept = graph.constant(f"kept_{len(graph.nodes)}", 1.0 - float(layer.dropout_ratio))
    graph.add("Mul", kept)


def _relu(graph: _Graph, layer: Relu) -> None:
    graph.add("Relu")


def _sigmoid(graph: _Graph, layer: Sigmoid) -> None:
    graph.add("Sigmoid")


_WRITERS: dict[type, Callable[[_Graph, Any], None]] = {
    Affine: _affine,
    BatchNormalization: _batch_normalization,
    Convolution: _convolution,
    Dropout: _dropout,
    Pooling: _pooling,
    Relu: _relu,
    Sigmoid: _sigmoid,
    **ELEMENTWISE,
}


def _writer(graph: _Graph, layer: Any) -> Callable[[_Graph, Any], None]:
    # A subclass with a forward of its own may compute anything.
    for kind, write in _WRITERS.items():
        if isinstance(layer, kind) and type(layer).forward is kind.forward:  # type: ignore[attr-defined]
            return write
    remedy = ": pass softmax=True for it" if isinstance(layer, SoftmaxWithLoss) else ""
    known = ", ".join(kind.__name__ for kind in _WRITERS)
    raise ArgumentError(f"export_onnx: {graph.layer} cannot be exported{remedy}; known are {known}")
