"""Activations and local response normalisation as ONNX operators, a writer for each layer.

A writer takes the graph of `onnx_graph` and adds to its end.
"""

from __future__ import annotations

import math

from ..errors import ArgumentError
from ..layers import Elu, Gelu, LeakyRelu, LocalResponseNormalization, Silu, Tanh
from .onnx_graph import Graph, Writer

__all__ = ["ELEMENTWISE"]


def _local_response(graph: Graph, layer: LocalResponseNormalization) -> None:
    graph.expect_images()
    if layer.size % 2 == 0:  # ONNX puts the extra channel on the other side
        raise ArgumentError(
            f"export_onnx: {graph.layer} has a window of {layer.size} channels, and ONNX has "
            "it only for odd numbers"
        )
    settings = {"alpha": layer.alpha, "beta": layer.beta, "bias": layer.k}
    settings = {name: float(value) for name, value in settings.items()}
    graph.add("LRN", size=int(layer.size), **settings)


def _leaky_relu(graph: Graph, layer: LeakyRelu) -> None:
    graph.add("LeakyRelu", alpha=float(layer.slope))


def _elu(graph: Graph, layer: Elu) -> None:
    graph.add("Elu", alpha=float(layer.alpha))


def _gelu(graph: Graph, layer: Gelu) -> None:
    x, number = graph.end, len(graph.nodes)
    graph.add("Mul", graph.constant(f"scale_{number}", math.sqrt(0.5)))
    graph.add("Erf")
    graph.add("Add", graph.constant(f"one_{number}", 1.0))
    graph.add("Mul", x)
    graph.add("Mul", graph.constant(f"half_{number}", 0.5))


def _silu(graph: Graph, layer: Silu) -> None:
    x = graph.end
    graph.add("Sigmoid")
    graph.add("Mul", x)


def _tanh(graph: Graph, layer: Tanh) -> None:
    graph.add("Tanh")


ELEMENTWISE: dict[type, Writer] = {
    Elu: _elu,
    Gelu: _gelu,
    LeakyRelu: _leaky_relu,
    LocalResponseNormalization: _local_response,
    Silu: _silu,
    Tanh: _tanh,
}
"""The writer by the class of the layer."""
