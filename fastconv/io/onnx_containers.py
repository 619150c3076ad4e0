"""The layers of a network written to an ONNX graph one after the other, branches side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..layers import AuxiliaryHead, Branches, Chain, Shortcut, SoftmaxWithLoss
from ..layers.tree import Path, Tracer, runs_as
from .onnx_graph import Graph, Shape, Writer

__all__ = ["Exporter"]

CONTAINERS = (AuxiliaryHead, Branches, Chain, Shortcut)

Value = tuple[str, Shape]
"""A value's name in the graph, and the shape of one sample."""


class Exporter(Tracer[Value]):
    """Adds the operators of each layer to a graph; auxiliary heads only train, and add nothing.

    Parameters
    ----------
    graph : Graph
    writers : dict of type to Writer
        By the class of a layer.
    network : Network, or an object with ``layers``
    """

    def __init__(self, graph: Graph, writers: Mapping[type, Writer], network: Any) -> None:
        super().__init__(network if graph.dotted else None)
        self.graph = graph
        self.writers = writers

    def layer(self, path: Path, layer: Any, value: Value) -> Value:
        """Add a layer's operators."""
        graph = self._at(path, layer)
        graph.end, graph.shape = value
        self._writer(layer)(graph, layer)
        return graph.end, graph.shape

    def join(self, path: Path, layer: Any, value: Value, branches: list[Value]) -> Value:
        """Add the operator that joins the branches."""
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

    def _at(self, path: Path, layer: Any) -> Graph:
        """The graph, whose messages name this layer from here on."""
        self.graph.layer = f"layer {self.name(path, layer)} ({type(layer).__name__})"
        return self.graph

    def _writer(self, layer: Any) -> Writer:
        for kind, write in self.writers.items():
            if runs_as(layer, kind):
                return write
        remedy = ": pass softmax=True for it" if isinstance(layer, SoftmaxWithLoss) else ""
        known = ", ".join(kind.__name__ for kind in (*self.writers, *CONTAINERS))
        raise ArgumentError(
            f"export_onnx: {self.graph.layer} cannot be exported{remedy}; known are {known}"
        )


def _common(graph: Graph, lengths: tuple[int | str, ...]) -> int | str:
    """The length that all branches have along an axis, as far as it is known."""
    known = {length for length in lengths if isinstance(length, int)}
    if len(known) > 1:
        raise ShapeError(f"export_onnx: {graph.layer} joins the lengths {_text(lengths)}")
    return known.pop() if known else lengths[0]


def _text(parts: Any) -> str:
    return " and ".join(map(str, parts))
