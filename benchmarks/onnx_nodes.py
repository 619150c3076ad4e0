"""ONNX's own node tests, each by a layer of fastconv: right, wrong, or what cannot be said.

::

    pip install '.[onnx]'
    python benchmarks/onnx_nodes.py
    python benchmarks/onnx_nodes.py --backend numpy --operator Conv

The onnx package has inputs and outputs for each operator. Of the operators that are a layer here, a
test is right if the layer's output is that of the test, within its tolerance. What a layer cannot
say is counted with its reason. The exit status is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv
from fastconv.functions import softmax
from fastconv.geometry import same_pads, span
from fastconv.layers import (
    Affine,
    AveragePooling,
    BatchNormalization2d,
    Convolution,
    Elu,
    Gelu,
    GlobalAveragePooling,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Relu,
    Sigmoid,
    Silu,
    Tanh,
)

Settings = dict[str, Any]
Inputs = list[np.ndarray]


class Unsaid(Exception):
    """What the operator has and the layer lacks."""


def images(x: np.ndarray) -> None:
    """Only images in floats."""
    if x.ndim != 4:
        raise Unsaid(f"{x.ndim - 2}-dimensional windows")
    if x.dtype.kind != "f":
        raise Unsaid("integers")


def windows(settings: Settings, x: np.ndarray, sides: list[int]) -> tuple[Any, Any, int]:
    """Stride, padding and dilation of windows with these sides."""
    images(x)
    down, across = settings.get("strides", [1, 1])
    dilations = settings.get("dilations", [1, 1])
    if dilations[0] != dilations[1]:
        raise Unsaid("dilation of two numbers")
    top, left, bottom, right = settings.get("pads", [0, 0, 0, 0])
    pad: Any = ((top, bottom), (left, right))
    auto = settings.get("auto_pad", b"NOTSET")
    if auto == b"SAME_UPPER":
        pad = "same"
    elif auto == b"SAME_LOWER":  # the odd zero is at the beginning
        spans = [span(side, dilations[0]) for side in sides]
        pad = tuple(
            same_pads(*axis)[::-1] for axis in zip(x.shape[2:], spans, (down, across), strict=True)
        )
    return (down, across), pad, dilations[0]


def conv(settings: Settings, x: np.ndarray, W: np.ndarray, b: Any = None) -> np.ndarray:
    stride, pad, dilation = windows(settings, x, list(W.shape[2:]))
    groups = settings.get("group", 1)
    return Convolution(W, b, stride, pad, dilation=dilation, groups=groups).forward(x)


def max_pool(settings: Settings, x: np.ndarray) -> np.ndarray:
    stride, pad, dilation = windows(settings, x, settings["kernel_shape"])
    if dilation != 1:
        raise Unsaid("dilation of poolings")
    if settings["outputs"] > 1:
        raise Unsaid("the places of the maxima")
    ceil_mode = bool(settings.get("ceil_mode", 0))
    return Pooling(*settings["kernel_shape"], stride, pad, ceil_mode=ceil_mode).forward(x)


def average_pool(settings: Settings, x: np.ndarray) -> np.ndarray:
    stride, pad, dilation = windows(settings, x, settings["kernel_shape"])
    if dilation != 1:
        raise Unsaid("dilation of poolings")
    how = {
        "ceil_mode": bool(settings.get("ceil_mode", 0)),
        "count_padding": bool(settings.get("count_include_pad", 0)),
    }
    return AveragePooling(*settings["kernel_shape"], stride, pad, **how).forward(x)


def global_average(settings: Settings, x: np.ndarray) -> np.ndarray:
    return GlobalAveragePooling().forward(x).reshape(*x.shape[:2], 1, 1)


def lrn(settings: Settings, x: np.ndarray) -> np.ndarray:
    numbers = (settings.get(n, d) for n, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return LocalResponseNormalization(settings["size"], *numbers).forward(x)


def batch_norm(
    settings: Settings, x: np.ndarray, gamma: Any, beta: Any, mean: Any, variance: Any
) -> np.ndarray:
    if settings.get("training_mode"):
        raise Unsaid("a running variance that is biased")
    epsilon = settings.get("epsilon", 1e-5)
    layer = BatchNormalization2d(
        gamma, beta, epsilon=epsilon, running_mean=mean, running_var=variance
    )
    return layer.forward(x, False)


def gelu(settings: Settings, x: np.ndarray) -> np.ndarray:
    if settings.get("approximate", b"none") != b"none":
        raise Unsaid("GELU by tanh")
    return Gelu().forward(x)


def swish(settings: Settings, x: np.ndarray) -> np.ndarray:
    if settings.get("alpha", 1.0) != 1.0:
        raise Unsaid("Swish of another slope")
    return Silu().forward(x)


def gemm(settings: Settings, x: np.ndarray, W: np.ndarray, b: Any = None) -> np.ndarray:
    """An affine layer, whose weights the factors are part of."""
    if settings.get("transA"):
        raise Unsaid("samples along the second axis")
    if b is not None and b.ndim == 2 and len(b) > 1:
        raise Unsaid("a bias for each sample")
    W = settings.get("alpha", 1.0) * (W.T if settings.get("transB") else W)
    if b is not None:
        b = np.broadcast_to(settings.get("beta", 1.0) * b, (1, W.shape[1]))[0]
    return Affine(W.astype(x.dtype), None if b is None else b.astype(x.dtype)).forward(x)


def softmax_of(settings: Settings, x: np.ndarray) -> np.ndarray:
    if settings.get("axis", -1) not in (-1, x.ndim - 1):
        raise Unsaid("softmax along another axis than the last")
    return np.asarray(softmax(x))


OPERATORS: dict[str, Callable[..., np.ndarray]] = {
    "Conv": conv,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average,
    "LRN": lrn,
    "BatchNormalization": batch_norm,
    "Gemm": gemm,
    "Relu": lambda settings, x: Relu().forward(x),
    "LeakyRelu": lambda settings, x: LeakyRelu(settings.get("alpha", 0.01)).forward(x),
    "Elu": lambda settings, x: Elu(settings.get("alpha", 1.0)).forward(x),
    "Sigmoid": lambda settings, x: Sigmoid().forward(x),
    "Tanh": lambda settings, x: Tanh().forward(x),
    "Gelu": gelu,
    "Swish": swish,
    "Softmax": softmax_of,
}


def outcome(case: Any, helper: Any) -> str:
    """What became of a test: right, wrong and how far, or the reason why it cannot be said."""
    (node,) = case.model.graph.node
    settings = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    settings["outputs"] = len(node.output)
    for inputs, outputs in case.data_sets:
        try:
            got = OPERATORS[node.op_type](settings, *inputs)
        except Unsaid as reason:
            return str(reason)
        expected = outputs[0]
        if got.shape != expected.shape:
            return f"wrong: {got.shape}, expected {expected.shape}"
        if not np.allclose(got, expected, rtol=case.rtol, atol=case.atol, equal_nan=True):
            return f"wrong by {np.abs(got - expected).max():.0e}"
    return "right"


def main() -> None:
    """Print a line for each test that is not right, and the counts."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/onnx_nodes.py",
        description="ONNX's own node tests, each by a layer of fastconv.",
        epilog="example: python benchmarks/onnx_nodes.py --backend numpy --operator Conv",
    )
    parser.add_argument("--backend", help="default: the fastest")
    parser.add_argument("--operator", choices=OPERATORS, action="append")
    options = parser.parse_args()
    import onnx
    from onnx.backend.test.case.node import collect_testcases

    if options.backend:
        fastconv.set_backend(options.backend)
    chosen = options.operator or list(OPERATORS)
    counts: Counter[str] = Counter()
    with np.errstate(all="ignore"):  # of what ONNX's references compute
        cases = collect_testcases(None)
    for case in cases:
        operators = [node.op_type for node in case.model.graph.node]
        if len(operators) == 1 and operators[0] in chosen:
            word = outcome(case, onnx.helper)
            counts[word] += 1
            if word != "right":
                print(f"{case.name}: {word}")
    print(f"\nonnx {onnx.__version__}: {counts.total()} tests")
    for word, count in counts.most_common():
        print(f"{count:3} {word}")
    sys.exit(any(word.startswith("wrong") for word in counts))


if __name__ == "__main__":
    main()
