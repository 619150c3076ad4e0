"""Networks of our layers as ONNX models, in evaluation mode.

Each layer becomes the operators of ONNX that compute what its ``forward`` does with
``train_flg=False``. The batch size stays open, and so do height and width of the
images where the caller does not fix them.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, MissingDependency, ShapeError, StateError
from ..geometry import as_int
from ..layers import (
    AdaptiveAveragePooling,
    Affine,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Convolution,
    Dropout,
    Pooling,
    Relu,
    Sigmoid,
    Subsampling,
)
from ..layers.containers import run_layer
from ..layers.tree import children, leaves
from .atomic import replace_file
from .onnx_containers import Exporter
from .onnx_elementwise import ELEMENTWISE
from .onnx_graph import Graph, Shape, Writer
from .onnx_images import IMAGES

__all__ = ["export_onnx"]

_OF_IMAGES = (AdaptiveAveragePooling, AveragePooling, Pooling, Subsampling)
"""Layers that take images of any number of channels."""


def export_onnx(
    network: Any,
    path: str | PathLike[str],
    *,
    input_shape: tuple[int, ...] | None = None,
    softmax: bool = False,
) -> None:
    """Write a network to a ``.onnx`` file, in float32 and for any batch size.

    Parameters
    ----------
    network : Network, or an object with ``layers``
        ``layers`` is a list, or a dict as in the book's networks; ``predict`` must run them in
        that order and do nothing else, which is tested if the input's shape is known.
    path : path
        Replaced once the model is complete and has passed ONNX's checker.
    input_shape : tuple of int, optional
        Of one sample, (C, H, W) or (D,). None leaves height and width open.
    softmax : bool
        End with the softmax: the model's output is ``probabilities``, not ``scores``.

    Raises
    ------
    ArgumentError
        A layer cannot be exported, or ``predict`` does more than run the layers.
    ShapeError
        The layers do not fit the input's shape.
    StateError
        A BatchNormalization has no running statistics yet.
    WeightsError
        Parameters or statistics are NaN or infinite.
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
            "exporting to ONNX needs the package onnx: pip install onnx"
        ) from error
    layers = list(children(getattr(network, "layers", None)).values())
    if not layers:
        raise ArgumentError(
            f"export_onnx: expected a network with a list or dict of layers, "
            f"got {type(network).__name__}"
        )
    shape = _input_shape(layers, input_shape)
    graph = Graph(onnx, network)
    graph.begin(shape)
    numbered = {str(number): layer for number, layer in enumerate(layers, start=1)}
    exporter = Exporter(graph, _WRITERS, network)
    graph.end, graph.shape = exporter.through(numbered, (graph.end, shape))
    if softmax:
        if len(graph.shape) != 1:
            raise ShapeError(f"export_onnx: softmax of scores (N, M), got shape {graph.shape}")
        graph.add("Softmax", axis=1)
    _expect_a_row(network, layers, shape)
    model = graph.finish("probabilities" if softmax else "scores", type(network).__name__)
    onnx.checker.check_model(model, full_check=True)
    with replace_file(path) as file:
        file.write(model.SerializeToString())


def _expect_a_row(network: Any, layers: list[Any], shape: Shape) -> None:
    """Raise `ArgumentError` unless `predict` gives what the layers in a row give."""
    sizes = [size for size in shape if isinstance(size, int)]
    if len(sizes) < len(shape) or not hasattr(network, "predict"):
        return
    x = np.random.default_rng(0).standard_normal((2, *sizes)).astype(np.float32)
    expected = np.asarray(network.predict(x))
    for layer in layers:
        x = run_layer(layer, x, False)
    scale = np.abs(expected).max(initial=0)
    if x.shape != expected.shape or not np.allclose(x, expected, rtol=0, atol=1e-4 * scale):
        raise ArgumentError(
            f"export_onnx: {type(network).__name__}.predict does something else than run its "
            "layers one after the other, and only that can be exported"
        )


def _input_shape(layers: list[Any], given: tuple[int, ...] | None) -> Shape:
    """Shape of one sample, with names for unknown lengths."""
    if given is not None:
        sizes = tuple(as_int("export_onnx", "input_shape", size, 1) for size in given)
        if len(sizes) not in (1, 3):
            raise ArgumentError(f"export_onnx: input_shape must be (D,) or (C, H, W), got {given}")
        return sizes
    for _, layer in leaves(layers):
        if isinstance(layer, Convolution):
            return (layer.W.shape[1] * layer.groups, "height", "width")
        if isinstance(layer, Affine):
            return (layer.W.shape[0],)
        if isinstance(layer, BatchNormalization):
            return (np.size(layer.gamma),)
        if isinstance(layer, BatchNormalization2d):
            return (np.size(layer.gamma), "height", "width")
        if isinstance(layer, _OF_IMAGES):
            return ("channels", "height", "width")
    raise ArgumentError(
        "export_onnx: the layers do not determine the input's shape: pass input_shape"
    )


# ---- one writer for each layer of numbers -----------------------------------------------


def _affine(graph: Graph, layer: Affine) -> None:
    features, units = layer.W.shape
    graph.expect_features(features)
    if len(graph.shape) != 1:
        graph.add("Flatten", axis=1)
    trained = graph.trained(layer, *layer.parameter_names)
    graph.add("Gemm", *trained, transB=int(graph.dotted))
    graph.shape = (units,)


def _batch_normalization(graph: Graph, layer: BatchNormalization) -> None:
    graph.expect_features(np.size(layer.gamma))
    if layer.running_mean is None or layer.running_var is None:
        raise StateError(
            f"export_onnx: {graph.layer} has no running statistics: train the network, or "
            "pass running_mean and running_var to the layer"
        )
    operands = graph.trained(layer, *layer.parameter_names, *layer.buffer_names)
    images = len(graph.shape) == 3
    source = graph.end
    if images:  # it has statistics for each activation
        shape = graph.add("Shape")
        graph.join("Flatten", source, axis=1)
    graph.add("BatchNormalization", *operands, epsilon=float(layer.epsilon))
    if images:
        graph.add("Reshape", shape)


def _dropout(graph: Graph, layer: Dropout) -> None:
    if layer.inverted:  # it does nothing in evaluation
        return
    kept = graph.constant(f"kept_{len(graph.nodes)}", 1.0 - float(layer.dropout_ratio))
    graph.add("Mul", kept)


def _relu(graph: Graph, layer: Relu) -> None:
    graph.add("Relu")


def _sigmoid(graph: Graph, layer: Sigmoid) -> None:
    graph.add("Sigmoid")


_WRITERS: dict[type, Writer] = {
    Affine: _affine,
    BatchNormalization: _batch_normalization,
    Dropout: _dropout,
    Relu: _relu,
    Sigmoid: _sigmoid,
    **ELEMENTWISE,
    **IMAGES,
}
