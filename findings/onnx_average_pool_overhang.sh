#!/bin/sh
# OpenCV 5.0.0.93 and OpenVINO 2026.4.0 (wheels of PyPI, Linux x86-64, CPython 3.11) on a valid ONNX
# model: AveragePool, 3 x 3, stride 2, ceil_mode=1, count_include_pad=1, of ones, 4 x 4, unpadded (A)
# and padded by 1 (B). The last window hangs over the padded image.
#
# One would expect the mean of the places that there are, as ONNX's reference implementation, ONNX
# Runtime and PyTorch give it: in A the corner is 1, in B 1/4. Seen: OpenCV divides by 9 in A and B, OpenVINO in B
# only. Both agree with the others if the padding is an operator of its own and
# count_include_pad is 0. The script fails where this is not so any more.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.0 \
    opencv-python-headless==5.0.0.93
cat > "$folder/pool.py" <<'END'
import sys

import cv2
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, checker, helper, save

path, pads = sys.argv[1], [int(sys.argv[2])] * 4
node = helper.make_node(
    "AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=pads, ceil_mode=1,
    count_include_pad=1,
)
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, None, None])
graph = helper.make_graph([node], "pool", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
checker.check_model(model, full_check=True)
save(model, path)
ones = np.ones((1, 1, 4, 4), np.float32)
net = cv2.dnn.readNetFromONNX(path)
net.setInput(ones)
hint = {"INFERENCE_PRECISION_HINT": "f32"}
for out in (
    onnxruntime.InferenceSession(path).run(None, {"x": ones})[0],
    openvino.Core().compile_model(path, "CPU", hint)(ones)[0],
    net.forward(),
):
    print(f"{out.ravel()[-1]:.3f}", end=" ")
END
a=$("$python" "$folder/pool.py" "$folder/a.onnx" 0)
b=$("$python" "$folder/pool.py" "$folder/b.onnx" 1)
echo "corner by ONNX Runtime, OpenVINO, OpenCV: A $a B $b"
[ "$a" = "1.000 1.000 0.444 " ] || { echo "changed: A"; exit 1; }
[ "$b" = "0.250 0.111 0.111 " ] || { echo "changed: B"; exit 1; }
