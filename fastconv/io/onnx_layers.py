"""Layers as ONNX operators: a writer for each layer.

A writer takes a graph (`onnx_graph`) and adds to its end. For images of unknown size, the lengths
have names; layers that keep the size keep the names.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import ArgumentError, StateError
from ..geometry import Pads, both_ways, window_geometry
from ..layers import (
    AdaptiveAveragePooling,
    Affine,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Convolution,
    Dropout,
    Elu,
    Gelu,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Relu,
    Sigmoid,
    Silu,
    Subsampling,
    Tanh,
)
from .onnx_graph import Graph, Writer

__all__ = ["WRITERS"]


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


def _convolution(graph: Graph, layer: Convolution) -> None:
    filters, channels, height, width = layer.W.shape
    graph.expect_channels(channels * layer.groups)
    trained = graph.trained(layer, *layer.parameter_names)
    dilation = int(layer.dilation)
    size, strides, pads = _windows(graph, layer, height, width, dilation)
    graph.add(
        "Conv",
        *trained,
        kernel_shape=[height, width],
        strides=[*strides],
        pads=[*pads],
        dilations=[dilation, dilation],
        group=int(layer.groups),
    )
    graph.shape = (filters, *size)


def _pooling(graph: Graph, layer: Pooling) -> None:
    _add_pooling(graph, "MaxPool", layer)


def _average_pooling(graph: Graph, layer: AveragePooling) -> None:
    _add_pooling(graph, "AveragePool", layer, counts=layer.count_padding)


def _add_pooling(
    graph: Graph, operator: str, layer: Pooling | AveragePooling, counts: bool | None = None
) -> None:
    """Add max pooling, or average pooling that counts the padding or not.

    Runtimes differ in whether a window that hangs over the padded image is divided by all of its
    places. So in ceil mode no padding is counted; an operator of its own adds it to the image.
    """
    graph.expect_images()
    height, width = int(layer.pool_h), int(layer.pool_w)
    size, strides, pads = _windows(graph, layer, height, width, ceil_mode=layer.ceil_mode)
    begins, ends = [*pads[:2]], [*pads[2:]]
    if layer.ceil_mode:
        axes = zip(graph.shape[1:], (height, width), size, strides, begins, ends, strict=True)
        ends = [_end_pad(graph, *axis) for axis in axes]
    known = all(isinstance(length, int) for length in graph.shape[1:])
    if counts and layer.ceil_mode and (known or not any(pads)):
        if any(pads):
            graph.pad([0, 0, *begins], [0, 0, *ends])
        begins, ends, counts = [0, 0], [0, 0], False
    graph.add(
        operator,
        kernel_shape=[height, width],
        strides=[*strides],
        pads=[*begins, *ends],
        ceil_mode=int(layer.ceil_mode),
        **({} if counts is None else {"count_include_pad": int(counts)}),
    )
    graph.shape = (graph.shape[0], *size)


def _end_pad(
    graph: Graph,
    size: int | str,
    window: int,
    count: int | str,
    stride: int,
    before: int,
    after: int,
) -> int:
    """Padding at the end of an axis with which ONNX's ceil mode finds `count` windows.

    In these versions ONNX keeps a last window that begins in the padding. Where we leave it out,
    the padding ends with our last window. (For images of unknown size, ONNX Runtime leaves it
    out itself.)
    """
    if isinstance(size, str) or isinstance(count, str):
        return after
    behind = size + after - ((count - 1) * stride - before + window)  # negative: it overhangs
    end = after - max(behind, 0)
    if end < 0:
        raise ArgumentError(
            f"export_onnx: ONNX would give {graph.layer} one window more in ceil mode, which "
            f"begins beyond the image: a stride of {stride} leaves gaps between its windows"
        )
    return end


def _windows(
    graph: Graph,
    layer: Convolution | Pooling | AveragePooling,
    height: int,
    width: int,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> tuple[tuple[int | str, int | str], tuple[int, int], Pads]:
    """Rows and columns of windows, their strides, and the padding around the image.

    For images of unknown size, rows and columns are names.
    """
    op = f"export_onnx {graph.layer}"
    window = (height, width, layer.stride, layer.pad, dilation, ceil_mode)
    _, rows, columns = graph.shape
    if isinstance(rows, int) and isinstance(columns, int):
        g = window_geometry(op, (1, 1, rows, columns), *window)
        return (g.oh, g.ow), g.strides, g.pads
    if layer.pad == "same" and both_ways(op, "stride", layer.stride, 1) != (1, 1):
        raise ArgumentError(
            f"export_onnx: the padding of {graph.layer} depends on the size of the images: pass "
            "input_shape"
        )
    # Of an image that holds a window: the padding is that of any size.
    g = window_geometry(op, (1, 1, dilation * height, dilation * width), *window)
    number, (span_h, span_w), (top, left, bottom, right) = len(graph.nodes), g.span, g.pads
    same_rows = g.strides[0] == 1 and span_h == top + bottom + 1
    same_columns = g.strides[1] == 1 and span_w == left + right + 1
    return (
        (rows if same_rows else f"height_{number}", columns if same_columns else f"width_{number}"),
        g.strides,
        g.pads,
    )


def _adaptive_average_pooling(graph: Graph, layer: AdaptiveAveragePooling) -> None:
    """Multiply each axis by a matrix of averages: windows may overlap and differ in size."""
    graph.expect_images()
    channels, *size = graph.shape
    counts = [int(layer.out_h), int(layer.out_w)]
    if counts == [1, 1]:
        graph.add("GlobalAveragePool")
    elif size != counts:
        height, width = size
        if isinstance(height, str) or isinstance(width, str):
            raise ArgumentError(
                f"export_onnx: the windows of {graph.layer} depend on the size of the images: "
                "pass input_shape"
            )
        columns = graph.constant(f"columns_{len(graph.nodes)}", _averages(width, counts[1]).T)
        graph.add("MatMul", columns)
        rows = graph.constant(f"rows_{len(graph.nodes)}", _averages(height, counts[0]))
        graph.join("MatMul", rows, graph.end)
    graph.shape = (channels, *counts)


def _averages(size: int, count: int) -> np.ndarray:
    """(count, size): row i averages places i*size/count to (i + 1)*size/count."""
    out = np.zeros((count, size))
    for i, row in enumerate(out):
        begin, end = i * size // count, math.ceil((i + 1) * size / count)
        row[begin:end] = 1 / (end - begin)
    return out


def _subsampling(graph: Graph, layer: Subsampling) -> None:
    graph.expect_images()
    stride, more = layer.stride, layer.more_channels
    channels, *size = graph.shape
    if stride > 1:  # windows of one pixel: fewer runtimes have Slice with steps
        graph.add("MaxPool", kernel_shape=[1, 1], strides=[stride, stride])
        number = len(graph.nodes)
        size = [
            f"{axis}_{number}" if isinstance(length, str) else -(-length // stride)
            for axis, length in zip(("height", "width"), size, strict=True)
        ]
    if more:
        first = more // 2
        graph.pad([0, first, 0, 0], [0, more - first, 0, 0])
        channels = f"channels_{len(graph.nodes)}" if isinstance(channels, str) else channels + more
    graph.shape = (channels, *size)


def _batch_normalization_2d(graph: Graph, layer: BatchNormalization2d) -> None:
    channels = np.size(layer.gamma)
    graph.expect_channels(channels)
    operands = graph.trained(layer, *layer.parameter_names, *layer.buffer_names)
    graph.add("BatchNormalization", *operands, epsilon=float(layer.epsilon))
    graph.shape = (channels, *graph.shape[1:])


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


def _operator(name: str) -> Writer:
    """The writer of a layer that is one operator without settings."""
    return lambda graph, layer: graph.add(name)


WRITERS: dict[type, Writer] = {
    Affine: _affine,
    BatchNormalization: _batch_normalization,
    Dropout: _dropout,
    Relu: _operator("Relu"),
    Sigmoid: _operator("Sigmoid"),
    Elu: _elu,
    Gelu: _gelu,
    LeakyRelu: _leaky_relu,
    LocalResponseNormalization: _local_response,
    Silu: _silu,
    Tanh: _operator("Tanh"),
    AdaptiveAveragePooling: _adaptive_average_pooling,
    AveragePooling: _average_pooling,
    BatchNormalization2d: _batch_normalization_2d,
    Convolution: _convolution,
    Pooling: _pooling,
    Subsampling: _subsampling,
}
"""The writer by the class of the layer."""
