#!/bin/sh
# pnnx 20261020 (wheel of PyPI, Linux x86-64, CPython 3.11) on a valid ONNX model of one operator,
# Pad, operator set 17, which does not name its mode.
#
# One would expect zeros around the image: "constant" is ONNX's default for `mode`. Seen: pnnx ends
# with status 0, but writes a layer "Pad", which ncnn does not have: its load_param fails (ncnn
# 1.0.20261020). With mode="constant" written out, pnnx makes it ncnn's layer "Padding", which loads.
# The script fails where this is not so any more.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet numpy==2.4.6 onnx==1.23.2
"$python" -m pip install --quiet --no-deps pnnx==20261020 # the converter alone
cat > "$folder/pad.py" <<'END'
import sys

from onnx import TensorProto, checker, helper, save

path, named = sys.argv[1], {"mode": "constant"} if sys.argv[2] == "named" else {}
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 6, 6])
pads = helper.make_tensor("pads", TensorProto.INT64, [8], [0, 0, 1, 1, 0, 0, 1, 1])
node = helper.make_node("Pad", ["x", "pads"], ["y"], **named)
graph = helper.make_graph([node], "pad", [x], [y], [pads])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
checker.check_model(model, full_check=True)
save(model, path)
END
for how in default named; do
    "$python" "$folder/pad.py" "$folder/$how.onnx" "$how"
    pnnx=$("$python" -c 'import importlib.util; print(importlib.util.find_spec("pnnx").submodule_search_locations[0])')
    (cd "$folder" && "$pnnx/pnnx" "$how.onnx" 'inputshape=[1,2,4,4]' >/dev/null 2>&1)
done
layer() { awk 'NR > 2 && $1 ~ /^Pad/ { print $1 }' "$folder/$1.ncnn.param"; }
echo "layers of ncnn: default $(layer default), named $(layer named)"
[ "$(layer default)" = "Pad" ] || { echo "changed: the default is understood"; exit 1; }
[ "$(layer named)" = "Padding" ] || { echo "changed: the named mode is not understood"; exit 1; }
