"""ONNX Runtime on the CPU: inference on a graph made from the network's parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from . import PADS, Problem

__all__ = ["make"]


def make(mode: str, problem: Problem) -> Any:
    """Return the contender; it has no modes and no training."""
    return OnnxRuntime(problem)


def model(params: dict[str, np.ndarray]) -> onnx.ModelProto:
    """DeepConvNet for evaluation as an ONNX model."""
    nodes: list[Any] = []
    here = "x"

    def add(operation: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{operation.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(operation, inputs, [name], **attributes))
        return name

    for number, pad in enumerate(PADS, start=1):
        here = add("Conv", [here, f"W{number}", f"b{number}"], pads=[pad] * 4)
        here = add("Relu", [here])
        if number % 2 == 0:
            here = add("MaxPool", [here], kernel_shape=[2, 2], strides=[2, 2])
    here = add("Flatten", [here])
    here = add("Gemm", [here, "W7", "b7"])
    here = add("Relu", [here])
    here = add("Mul", [here, "half"])
    here = add("Gemm", [here, "W8", "b8"])
    nodes.append(helper.make_node("Mul", [here, "half"], ["scores"]))
    constants = params | {"half": np.array(0.5, np.float32)}
    graph = helper.make_graph(
        nodes,
        "DeepConvNet",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(made)
    return made


class OnnxRuntime:
    def __init__(self, problem: Problem) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = problem.threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            model(problem.params).SerializeToString(), options, ["CPUExecutionProvider"]
        )
        self.x = problem.x

    def scores(self) -> np.ndarray:
        return self.session.run(["scores"], {"x": self.x})[0]

    def infer(self) -> None:
        self.session.run(["scores"], {"x": self.x})
