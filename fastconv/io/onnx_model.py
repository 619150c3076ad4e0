"""Networks of our layers as ONNX models, in evaluation mode.

Each layer becomes the operators of ONNX that compute what its ``forward`` does with
``train_flg=False``. The batch size stays open, and so do height and width of the
images where the caller does not fix them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, MissingDependency, ShapeError, StateError
from ..geometry import as_int, window_geometry
from ..layers import (
    Affine,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Convolution,
    Dropout,
    GlobalAveragePooling,
    Pooling,
    Relu,
    Sigmoid,
    SoftmaxWithLoss,
)
from .atomic import replace_file
from .onnx_elementwise import ELEMENTWISE
from .onnx_graph import Graph

__all__ = ["export_onnx"]

_TWO_MODES = (BatchNormalization, BatchNormalization2d, Dropout)


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
    graph = Graph(onnx)
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
        if isinstance(layer, BatchNormalization2d):
            return (np.size(layer.gamma), "height", "width")
        if isinstance(layer, Pooling | AveragePooling | GlobalAveragePooling):
            return ("channels", "height", "width")
    raise ArgumentError("export_onnx: no layer tells the shape of the input: pass input_shape")


# ---- one writer for each layer ------------------------------------------------------


def _weight_and_bias(graph: Graph, layer: Affine | Convolution) -> list[str]:
    """Add a layer's trained arrays to the model and return their names."""
    graph.trained += 1
    names = "W" if layer.b is None else "Wb"
    return [graph.constant(f"{name}{graph.trained}", getattr(layer, name)) for name in names]


def _convolution(graph: Graph, layer: Convolution) -> None:
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


def _pooling(graph: Graph, layer: Pooling) -> None:
    _add_pooling(graph, "MaxPool", layer)


def _average_pooling(graph: Graph, layer: AveragePooling) -> None:
    _add_pooling(graph, "AveragePool", layer, count_include_pad=int(layer.count_padding))


def _add_pooling(
    graph: Graph, operator: str, layer: Pooling | AveragePooling, **settings: Any
) -> None:
    _expect_images(graph)
    height, width = int(layer.pool_h), int(layer.pool_w)
    stride, pad = int(layer.stride), int(layer.pad)
    size = _windows(graph, height, width, stride, pad, ceil_mode=layer.ceil_mode)
    axes = zip(graph.shape[1:], (height, width), size, strict=True)
    ends = [_end_pad(graph, *axis, stride, pad) if layer.ceil_mode else pad for axis in axes]
    graph.add(
        operator,
        kernel_shape=[height, width],
        strides=[stride, stride],
        pads=[pad, pad, *ends],
        ceil_mode=int(layer.ceil_mode),
        **settings,
    )
    graph.shape = (graph.shape[0], *size)


def _end_pad(
    graph: Graph, size: int | str, window: int, count: int | str, stride: int, pad: int
) -> int:
    """Padding behind an axis with which ONNX's ceil mode finds `count` windows.

    That of these versions also keeps a last window that begins in the padding. Where we have
    left one out, the padding ends with the last of ours. (Of images of unknown size ONNX
    Runtime leaves it out itself.)
    """
    if isinstance(size, str) or isinstance(count, str):
        return pad
    behind = size + pad - ((count - 1) * stride - pad + window)  # negative: it overhangs
    end = pad - max(behind, 0)
    if end < 0:
        raise ArgumentError(
            f"export_onnx: ONNX would give {graph.layer} one window more in ceil mode, which "
            f"begins behind the image: a stride of {stride} leaves gaps between its windows"
        )
    return end


def _global_average_pooling(graph: Graph, layer: GlobalAveragePooling) -> None:
    _expect_images(graph)
    graph.add("GlobalAveragePool")
    graph.shape = (graph.shape[0], 1, 1)


def _expect_images(graph: Graph) -> None:
    if len(graph.shape) != 3:
        raise ShapeError(f"export_onnx: {graph.layer} expects images, got shape {graph.shape}")


def _windows(
    graph: Graph,
    height: int,
    width: int,
    stride: int,
    pad: int,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> tuple[int | str, int | str]:
    """Rows and columns of windows, by number or, of an image of unknown size, by name."""
    _, rows, columns = graph.shape
    if isinstance(rows, int) and isinstance(columns, int):
        image = (1, 1, rows, columns)
        window = (height, width, stride, pad, dilation, ceil_mode)
        found = window_geometry(f"export_onnx {graph.layer}", image, *window)
        return found.oh, found.ow
    number = len(graph.nodes)
    return f"height_{number}", f"width_{number}"


def _affine(graph: Graph, layer: Affine) -> None:
    features, units = layer.W.shape
    graph.expect_features(features)
    if len(graph.shape) != 1:
        graph.add("Flatten", axis=1)
    graph.add("Gemm", *_weight_and_bias(graph, layer))
    graph.shape = (units,)


def _batch_normalization(graph: Graph, layer: BatchNormalization) -> None:
    graph.expect_features(np.size(layer.gamma))
    operands = _statistics(graph, layer)
    images = len(graph.shape) == 3
    source = graph.end
    if images:  # statistics for each activation, not for each channel
        shape = graph.add("Shape")
        graph.add("Flatten", source=source, axis=1)
    graph.add("BatchNormalization", *operands, epsilon=float(layer.epsilon))
    if images:
        graph.add("Reshape", shape)


def _batch_normalization_2d(graph: Graph, layer: BatchNormalization2d) -> None:
    channels = np.size(layer.gamma)
    _expect_images(graph)
    if graph.shape[0] not in (channels, "channels"):
        raise ShapeError(
            f"export_onnx: {graph.layer} expects {channels} channels, got the shape {graph.shape}"
        )
    operands = _statistics(graph, layer)
    graph.add("BatchNormalization", *operands, epsilon=float(layer.epsilon))
    graph.shape = (channels, *graph.shape[1:])


def _statistics(graph: Graph, layer: BatchNormalization | BatchNormalization2d) -> list[str]:
    """Operands of a normalisation in evaluation."""
    if layer.running_mean is None or layer.running_var is None:
        raise StateError(
            f"export_onnx: {graph.layer} has no running statistics: they come with training, "
            "or as its arguments running_mean and running_var"
        )
    graph.trained += 1
    names = (*layer.parameter_names, *layer.buffer_names)
    return [graph.constant(f"{name}{graph.trained}", getattr(layer, name)) for name in names]


def _dropout(graph: Graph, layer: Dropout) -> None:
    if layer.inverted:  # evaluation does nothing
        return
    kept = graph.constant(f"kept_{len(graph.nodes)}", 1.0 - float(layer.dropout_ratio))
    graph.add("Mul", kept)


def _relu(graph: Graph, layer: Relu) -> None:
    graph.add("Relu")


def _sigmoid(graph: Graph, layer: Sigmoid) -> None:
    graph.add("Sigmoid")


_WRITERS: dict[type, Callable[[Graph, Any], None]] = {
    Affine: _affine,
    AveragePooling: _average_pooling,
    BatchNormalization: _batch_normalization,
    BatchNormalization2d: _batch_normalization_2d,
    Convolution: _convolution,
    Dropout: _dropout,
    GlobalAveragePooling: _global_average_pooling,
    Pooling: _pooling,
    Relu: _relu,
    Sigmoid: _sigmoid,
    **ELEMENTWISE,
}


def _writer(graph: Graph, layer: Any) -> Callable[[Graph, Any], None]:
    # A subclass with a forward of its own may compute anything.
    for kind, write in _WRITERS.items():
        if isinstance(layer, kind) and type(layer).forward is kind.forward:  # type: ignore[attr-defined]
            return write
    remedy = ": pass softmax=True for it" if isinstance(layer, SoftmaxWithLoss) else ""
    known = ", ".join(kind.__name__ for kind in _WRITERS)
    raise ArgumentError(f"export_onnx: {graph.layer} cannot be exported{remedy}; known are {known}")
