"""A network as a table: shapes, parameters, multiply-adds, receptive fields.

Depth is best read off two columns: the receptive field, how many pixels of the image a number
behind the layer can depend on, and the parameters that it takes. Two 3x3 convolutions see as
much as one of 5x5, with 18 weights for each pair of channels and not 25.

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import ops
from ..layers import (
    AdaptiveAveragePooling,
    Affine,
    AveragePooling,
    Convolution,
    Pooling,
    Subsampling,
)
from ..layers.containers import AuxiliaryHead, Branches, Chain, Shortcut, run_layer
from .network import Network

__all__ = ["LayerFacts", "layer_facts", "summary"]


@dataclass(frozen=True)
class LayerFacts:
    """One layer in a network, for one image.

    Attributes
    ----------
    name : str
        Dotted name.
    kind : str
        Class of the layer, for a convolution with its filters.
    output_shape : tuple of int
        Of one sample.
    parameters : int
        Trained numbers.
    multiply_adds : int
        Of forward, the direct way.
    receptive_field : int
        Side of the square of the image's pixels that an output depends on.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: int


@dataclass(frozen=True)
class _Field:
    """How far an output sees: `size` pixels across, and `step` pixels between neighbours."""

    size: int = 1
    step: int = 1

    def behind(self, window: int, stride: int) -> _Field:
        return _Field(self.size + (window - 1) * self.step, self.step * stride)


def layer_facts(network: Network, input_shape: tuple[int, ...]) -> list[LayerFacts]:
    """Facts about each layer, for one sample of this shape, in the order in which they run.

    An image of zeros is run through the network in evaluation; auxiliary heads, which
    only train, are listed as well.
    """
    found: list[LayerFacts] = []
    names = {id(layer): name for name, layer in network.named_layers()}
    x = np.zeros((1, *input_shape), network.dtype)
    whole = max(input_shape[1:], default=1)

    def leaf(layer: Any, x: Any, field: _Field) -> tuple[Any, _Field]:
        out = run_layer(layer, x, False)
        field = _behind(layer, x, field, whole)
        parameters = sum(np.size(getattr(layer, name)) for name in layer.parameter_names)
        found.append(
            LayerFacts(
                names[id(layer)],
                _kind(layer),
                out.shape[1:],
                parameters,
                _multiply_adds(layer, out.shape),
                min(field.size, whole),
            )
        )
        return out, field

    _walk(Chain(network.layers), x, _Field(), leaf)
    return found


def _walk(layer: Any, x: Any, field: _Field, leaf: Callable[..., Any]) -> tuple[Any, _Field]:
    """Run a layer, calling `leaf` for each that holds no others."""
    match layer:
        case Chain():
            for inner in layer.layers.values():
                x, field = _walk(inner, x, field, leaf)
            return x, field
        case Branches():
            ways = [_walk(inner, x, field, leaf) for inner in layer.layers.values()]
            return ops.concatenate([out for out, _ in ways]), _widest(ways)
        case Shortcut():
            ways = [_walk(inner, x, field, leaf) for inner in layer.layers.values()]
            return ways[0][0], _widest(ways)
        case AuxiliaryHead():
            _walk(layer.head, x, field, leaf)
            return x, field
    return leaf(layer, x, field)


def _widest(ways: list[tuple[Any, _Field]]) -> _Field:
    return max((field for _, field in ways), key=lambda field: field.size)


def _behind(layer: Any, x: Any, field: _Field, whole: int) -> _Field:
    if isinstance(layer, Convolution):
        reach = layer.dilation * (max(layer.W.shape[2:]) - 1) + 1
        return field.behind(reach, layer.stride)
    if isinstance(layer, Pooling | AveragePooling):
        return field.behind(max(layer.pool_h, layer.pool_w), layer.stride)
    if isinstance(layer, Subsampling):
        return field.behind(1, layer.stride)
    if isinstance(layer, Affine | AdaptiveAveragePooling):
        return _Field(whole, field.step)
    return field


def _kind(layer: Any) -> str:
    name = type(layer).__name__
    if isinstance(layer, Convolution):
        height, width = layer.W.shape[2:]
        stride = f"/{layer.stride}" if layer.stride > 1 else ""
        return f"{name} {height}x{width}{stride}"
    if isinstance(layer, Pooling | AveragePooling):
        return f"{name} {layer.pool_h}x{layer.pool_w}/{layer.stride}"
    return name


def _multiply_adds(layer: Any, out_shape: tuple[int, ...]) -> int:
    if isinstance(layer, Convolution):
        return layer.W.size * math.prod(out_shape[2:])
    return layer.W.size if isinstance(layer, Affine) else 0


def summary(network: Network, input_shape: tuple[int, ...]) -> str:
    """The table, a line a layer and one for the sum, as text.

    Parameters
    ----------
    network : Network
    input_shape : tuple of int
        Of one sample, such as (3, 224, 224).
    """
    facts = layer_facts(network, input_shape)
    lines = [("layer", "kind", "output", "parameters", "multiply-adds", "receptive field")]
    lines += [
        (
            fact.name,
            fact.kind,
            " x ".join(map(str, fact.output_shape)),
            f"{fact.parameters:,}" if fact.parameters else "",
            f"{fact.multiply_adds:,}" if fact.multiply_adds else "",
            str(fact.receptive_field),
        )
        for fact in facts
    ]
    parameters, work = (
        sum(fact.parameters for fact in facts),
        sum(fact.multiply_adds for fact in facts),
    )
    lines.append(("in all", "", "", f"{parameters:,}", f"{work:,}", ""))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if place < 2 else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
