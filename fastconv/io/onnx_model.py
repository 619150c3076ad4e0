"""Networks of our layers as ONNX models, in evaluation mode.

Each layer becomes the operators of ONNX that compute what its ``forward`` does with
``train_flg=False``. The batch size stays open, and so do height and width of the
images where the caller does not fix them.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..config import get_math_mode
from ..errors import ArgumentError, MissingDependency, ShapeError
from ..geometry import as_int
from ..layers import (
    AdaptiveAveragePooling,
    Affine,
    AuxiliaryHead,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Branches,
    Chain,
    Convolution,
    Pooling,
    Shortcut,
    Subsampling,
)
from ..layers.tree import LayerPath, Tracer, children, leaves, runs_as
from .atomic import replace_file
from .onnx_graph import Graph, Shape, Writer
from .onnx_layers import WRITERS
from .onnx_views import add_view

__all__ = ["export_onnx"]

_OF_IMAGES = (AdaptiveAveragePooling, AveragePooling, Pooling, Subsampling)
"""Layers that take images of any number of channels."""

CONTAINERS = (AuxiliaryHead, Branches, Chain, Shortcut)

Value = tuple[str, Shape]
"""A value's name in the graph, and the shape of one sample."""


def export_onnx(
    network: Any,
    path: str | PathLike[str],
    *,
    input_shape: tuple[int, ...] | None = None,
    softmax: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a network to a ``.onnx`` file, in float32 and for any batch size.

    Parameters
    ----------
    network : Network, Ensemble, or an object with ``layers``
        ``layers`` is a list, or a dict as in the book's networks; ``predict`` must run them in
        that order and do nothing else, which is tested if the input's shape is known. An ensemble
        becomes one graph, with its views; its scores are logarithms of probabilities.
    path : path
        Replaced once the model is complete and has passed ONNX's checker.
    input_shape : tuple of int, optional
        Of one sample, (C, H, W) or (D,). None leaves height and width open.
    softmax : bool
        End with the softmax: the model's output is ``probabilities``, not ``scores``.
    metadata : mapping of str to str, optional
        What else the file is to say about the model, in ONNX's ``metadata_props``.

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
    members = getattr(network, "members", [network])
    layers = [_layers(member) for member in members]
    shape = _input_shape(layers[0], input_shape)
    graph = Graph(onnx)
    graph.begin(shape)
    if members == [network]:
        _add_network(graph, network, layers[0], softmax)
    else:
        _add_ensemble(graph, network, layers, softmax)
    for member, own in zip(members, layers, strict=True):
        _expect_a_row(member, own, shape)
    output = "probabilities" if softmax else "scores"
    model = graph.finish(output, type(network).__name__, metadata or {})
    onnx.checker.check_model(model, full_check=True)
    with replace_file(path) as file:
        file.write(model.SerializeToString())


def _layers(network: Any) -> list[Any]:
    layers = list(children(getattr(network, "layers", None)).values())
    if not layers:
        raise ArgumentError(
            f"export_onnx: expected a network with a list or dict of layers, "
            f"got {type(network).__name__}"
        )
    return layers


def _add_network(
    graph: Graph, network: Any, layers: list[Any], softmax: bool, prefix: str = ""
) -> None:
    """Add the layers of a network to the end of the graph."""
    graph.enter(network, prefix)
    numbered = {str(number): layer for number, layer in enumerate(layers, start=1)}
    exporter = _Exporter(graph, network)
    graph.end, graph.shape = exporter.through(numbered, (graph.end, graph.shape))
    if softmax:
        if len(graph.shape) != 1:
            raise ShapeError(f"export_onnx: softmax of scores (N, M), got shape {graph.shape}")
        graph.add("Softmax", axis=1)


def _add_ensemble(graph: Graph, ensemble: Any, layers: list[list[Any]], softmax: bool) -> None:
    """Add each member on each view, and the mean of their probabilities or its logarithm."""
    source = graph.end, graph.shape
    total, shapes = "", set()
    views = len(ensemble.views)
    weights = [
        graph.constant(f"share_{number}", weight / views)
        for number, weight in enumerate(ensemble.weights or ())
    ]
    for view in ensemble.views:
        graph.end, graph.shape = source
        add_view(graph, view)
        seen = graph.end, graph.shape
        for number, (member, own) in enumerate(zip(ensemble.members, layers, strict=True)):
            graph.end, graph.shape = seen
            _add_network(graph, member, own, True, f"{number}/")
            if weights:
                graph.add("Mul", weights[number])
            total = graph.join("Add", total, graph.end) if total else graph.end
            shapes.add(graph.shape)
    if len(shapes) > 1:
        raise ShapeError(f"export_onnx: members give scores of the shapes {_text(sorted(shapes))}")
    if not weights:
        graph.add("Mul", graph.constant("share", 1 / (len(layers) * views)))
    if not softmax:
        graph.add("Add", graph.constant("tiny", np.finfo(np.float32).tiny))  # no logarithm of 0
        graph.add("Log")


def _expect_a_row(network: Any, layers: list[Any], shape: Shape) -> None:
    """Raise `ArgumentError` unless `predict` gives what the layers in a row give."""
    sizes = [size for size in shape if isinstance(size, int)]
    if len(sizes) < len(shape) or not hasattr(network, "predict"):
        return
    x = np.random.default_rng(0).standard_normal((2, *sizes)).astype(np.float32)
    expected = np.asarray(network.predict(x))
    x = Chain(layers).forward(x, False)
    scale = np.abs(expected).max(initial=0)
    # `predict` folds normalisations into weights, and then rounds these.
    allowed = 0.1 if get_math_mode() == "bf16" else 1e-4
    if x.shape != expected.shape or not np.allclose(x, expected, rtol=0, atol=allowed * scale):
        raise ArgumentError(
            f"export_onnx: {type(network).__name__}.predict does something other than run its "
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


class _Exporter(Tracer[Value]):
    """Adds the operators of each layer to a graph; auxiliary heads only train, and add nothing."""

    def __init__(self, graph: Graph, network: Any) -> None:
        super().__init__(network if graph.dotted else None)
        self.graph = graph

    def layer(self, path: LayerPath, layer: Any, value: Value) -> Value:
        graph = self._at(path, layer)
        graph.end, graph.shape = value
        self._writer(layer)(graph, layer)
        return graph.end, graph.shape

    def join(self, path: LayerPath, layer: Any, value: Value, branches: list[Value]) -> Value:
        graph = self._at(path, layer)
        if isinstance(layer, Shortcut) and layer.projection is None:
            branches = [*branches, value]
        ends = [end for end, _ in branches]
        shapes = [shape for _, shape in branches]
        if len({len(shape) for shape in shapes}) > 1:
            raise ShapeError(f"export_onnx: {graph.layer} joins the shapes {_text(shapes)}")
        if isinstance(layer, Shortcut):
            sizes = [_common(graph, axis) for axis in zip(*shapes, strict=True)]
            return graph.join("Add", *ends), tuple(sizes)
        sizes = [_common(graph, axis) for axis in zip(*(s[1:] for s in shapes), strict=True)]
        widths = [shape[0] for shape in shapes]
        known = [width for width in widths if isinstance(width, int)]
        joined = sum(known) if len(known) == len(widths) else f"channels_{len(graph.nodes)}"
        return graph.join("Concat", *ends, axis=1), (joined, *sizes)

    def _at(self, path: LayerPath, layer: Any) -> Graph:
        """The graph, whose messages name this layer from here on."""
        self.graph.layer = f"layer {self.name(path, layer)} ({type(layer).__name__})"
        return self.graph

    def _writer(self, layer: Any) -> Writer:
        for kind, write in WRITERS.items():
            if runs_as(layer, kind):
                return write
        known = ", ".join(kind.__name__ for kind in (*WRITERS, *CONTAINERS))
        raise ArgumentError(
            f"export_onnx: {self.graph.layer} cannot be exported; known are {known}"
        )


def _common(graph: Graph, lengths: tuple[int | str, ...]) -> int | str:
    """The length that all branches have along an axis, as far as it is known."""
    known = {length for length in lengths if isinstance(length, int)}
    if len(known) > 1:
        raise ShapeError(f"export_onnx: {graph.layer} joins the lengths {_text(lengths)}")
    return known.pop() if known else lengths[0]


def _text(parts: Any) -> str:
    return " and ".join(map(str, parts))
