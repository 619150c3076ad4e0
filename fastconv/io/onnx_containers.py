"""Layers made of layers as ONNX operators: what each holds, and how the ways are joined."""

from __future__ import annotations

from typing import Any

from ..errors import ShapeError
from ..layers import AuxiliaryHead, Branches, Chain, Shortcut
from .onnx_graph import Graph, Shape, Writer

__all__ = ["CONTAINERS"]


def _chain(graph: Graph, layer: Chain) -> None:
    for name, child in layer.layers.items():
        graph.write(name, child)


def _branches(graph: Graph, layer: Branches) -> None:
    ends, shapes = _ways(graph, list(layer.layers.items()))
    sizes = [_common(graph, axis) for axis in zip(*(shape[1:] for shape in shapes), strict=True)]
    widths = [shape[0] for shape in shapes]
    known = [width for width in widths if isinstance(width, int)]
    graph.join("Concat", *ends, axis=1)
    joined = sum(known) if len(known) == len(widths) else f"channels_{len(graph.nodes)}"
    graph.shape = (joined, *sizes)


def _shortcut(graph: Graph, layer: Shortcut) -> None:
    start = graph.end, graph.shape
    ends, shapes = _ways(graph, list(layer.layers.items()))
    if layer.projection is None:
        ends.append(start[0])
        shapes.append(start[1])
    graph.shape = tuple(_common(graph, axis) for axis in zip(*shapes, strict=True))
    graph.join("Add", *ends)


def _auxiliary_head(graph: Graph, layer: AuxiliaryHead) -> None:
    """Nothing: it only trains."""


def _ways(graph: Graph, layers: list[tuple[str, Any]]) -> tuple[list[str], list[Shape]]:
    """What each of these layers gives of the same input, and its shape."""
    own, end, shape = graph.layer, graph.end, graph.shape
    ends, shapes = [], []
    for name, layer in layers:
        graph.end, graph.shape = end, shape
        graph.write(name, layer)
        ends.append(graph.end)
        shapes.append(graph.shape)
    graph.layer = own
    if len({len(shape) for shape in shapes}) > 1:
        raise ShapeError(f"export_onnx: {graph.layer} joins the shapes {_text(shapes)}")
    return ends, shapes


def _common(graph: Graph, lengths: tuple[int | str, ...]) -> int | str:
    """The length that all ways have along an axis, as far as it is known."""
    known = {length for length in lengths if isinstance(length, int)}
    if len(known) > 1:
        raise ShapeError(f"export_onnx: {graph.layer} joins the lengths {_text(lengths)}")
    return known.pop() if known else lengths[0]


def _text(parts: Any) -> str:
    return " and ".join(map(str, parts))


CONTAINERS: dict[type, Writer] = {
    AuxiliaryHead: _auxiliary_head,
    Branches: _branches,
    Chain: _chain,
    Shortcut: _shortcut,
}
"""The writer by the class of the layer."""
