"""A network as a table: shapes, parameters, multiply-adds, receptive fields.

Two columns show what depth is good for: the receptive field, the part of the image that one output
of a layer can depend on, and the parameters. Two 3x3 convolutions see as much as one of 5x5, with
18 weights for each pair of channels instead of 25.

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import ops
from ..console import in_columns
from ..errors import ShapeError
from ..geometry import Stride, both_ways, shown_stride, span
from ..layers import (
    AdaptiveAveragePooling,
    Affine,
    AveragePooling,
    Convolution,
    Pooling,
    Subsampling,
)
from ..layers.base import parameter_names
from ..layers.containers import AuxiliaryHead, Shortcut, run_layer
from ..layers.tree import LayerPath, Tracer, leaves
from .network import Network

__all__ = ["LayerFacts", "layer_facts", "summary"]

MOST_SIDE = 64
"""Up to which side the smallest image is looked for: trying larger ones takes long."""


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
        Number of trained values.
    multiply_adds : int
        Of a forward by the direct algorithm.
    receptive_field : int
        Side, in pixels, of the square of the image that one output depends on.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: int


@dataclass(frozen=True)
class _Field:
    """Receptive field, down and across: `size` pixels, `step` between neighbouring outputs."""

    size: tuple[int, int] = (1, 1)
    step: tuple[int, int] = (1, 1)

    def behind(self, window: tuple[int, int], stride: Stride) -> _Field:
        down, across = both_ways("summary", "stride", stride, 1)
        (h, w), (y, x) = self.size, self.step
        return _Field((h + (window[0] - 1) * y, w + (window[1] - 1) * x), (y * down, x * across))


def layer_facts(network: Network, input_shape: tuple[int, ...]) -> list[LayerFacts]:
    """Return facts about each layer, in the order they run, for one sample of this shape.

    An image of zeros runs through the network in evaluation, and also through auxiliary heads.

    Raises
    ------
    ShapeError
        The network does not take such a sample; of an image that is too small, the message says
        which the smallest square is.
    """
    try:
        return _found(network, input_shape)
    except ShapeError as error:
        least = _least_side(network, input_shape)
        if least is None:
            raise
        raise ShapeError(
            f"images of {' x '.join(map(str, input_shape))} are too small for the network, which "
            f"takes squares of at least {least} x {least}: {error}"
        ) from None


def _found(network: Network, input_shape: tuple[int, ...]) -> list[LayerFacts]:
    facts = _Facts(network, max(input_shape[1:], default=1))
    facts.through(network, (np.zeros((1, *input_shape), network.dtype), _Field()))
    return facts.found


def _least_side(network: Network, shape: tuple[int, ...]) -> int | None:
    """The side of the smallest square that the network takes, if one of this shape is smaller."""
    if len(shape) != 3:
        return None
    for side in range(1, MOST_SIDE + 1):
        try:
            _found(network, (shape[0], side, side))
        except ShapeError:
            continue
        return side if min(shape[1:]) < side else None
    return None


class _Facts(Tracer[tuple[Any, _Field]]):
    """Runs an image, of `whole` pixels along its longer side, and notes facts about each layer."""

    def __init__(self, network: Network, whole: int) -> None:
        super().__init__(network)
        self.whole = whole
        self.found: list[LayerFacts] = []

    def layer(self, path: LayerPath, layer: Any, value: tuple[Any, _Field]) -> tuple[Any, _Field]:
        x, field = value
        out, field = run_layer(layer, x, False), _behind(layer, field, self.whole)
        self.found.append(
            LayerFacts(
                self.name(path, layer),
                _kind(layer),
                out.shape[1:],
                sum(
                    np.size(getattr(leaf, name))
                    for _, leaf in leaves([layer])
                    for name in parameter_names(leaf)
                ),
                _multiply_adds(layer, out.shape),
                min(max(field.size), self.whole),
            )
        )
        return out, field

    def join(
        self, path: LayerPath, layer: Any, value: Any, branches: list[tuple[Any, _Field]]
    ) -> tuple[Any, _Field]:
        field = max((field for _, field in branches), key=lambda field: max(field.size))
        if isinstance(layer, Shortcut):
            return branches[0][0], field
        return ops.concatenate([out for out, _ in branches]), field

    def head(self, path: LayerPath, layer: AuxiliaryHead, value: Any) -> Any:
        self.through(layer, value, path)
        return value


def _behind(layer: Any, field: _Field, whole: int) -> _Field:
    if isinstance(layer, Convolution):
        height, width = layer.W.shape[2:]
        spans = span(height, layer.dilation), span(width, layer.dilation)
        return field.behind(spans, layer.stride)
    if isinstance(layer, Pooling | AveragePooling):
        return field.behind((layer.pool_h, layer.pool_w), layer.stride)
    if isinstance(layer, Subsampling):
        return field.behind((1, 1), layer.stride)
    if isinstance(layer, Affine | AdaptiveAveragePooling):
        return _Field((whole, whole), field.step)
    return field


def _kind(layer: Any) -> str:
    name = type(layer).__name__
    if isinstance(layer, Convolution):
        height, width = layer.W.shape[2:]
        stride = shown_stride(layer.stride)
        return f"{name} {height}x{width}" + (f"/{stride}" if stride != "1" else "")
    if isinstance(layer, Pooling | AveragePooling):
        return f"{name} {layer.pool_h}x{layer.pool_w}/{shown_stride(layer.stride)}"
    return name


def _multiply_adds(layer: Any, out_shape: tuple[int, ...]) -> int:
    if isinstance(layer, Convolution):
        return layer.W.size * math.prod(out_shape[2:])
    return layer.W.size if isinstance(layer, Affine) else 0


def summary(network: Network, input_shape: tuple[int, ...]) -> str:
    """Return the table as text: a line for each layer, and one for the sums.

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
    parameters = sum(fact.parameters for fact in facts)
    work = sum(fact.multiply_adds for fact in facts)
    lines.append(("in all", "", "", f"{parameters:,}", f"{work:,}", ""))
    return in_columns(lines, right=range(2, 6))
