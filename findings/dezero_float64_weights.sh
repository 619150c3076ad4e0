#!/bin/sh
# dezero 0.0.13 (PyPI; "Deep Learning from Scratch 3") with NumPy 2.2.6, CPython 3.11:
#
#     Conv2d(4, 3, dtype=np.float32, in_channels=1).W.dtype    ->  float64
#     Linear(4, dtype=np.float32, in_size=3).W.dtype           ->  float64
#
# One would expect the dtype that was asked for, and the layers' own default: float32, which
# they had up to NumPy 1. The initial weights are cast to it, and then multiplied by a NumPy
# scalar of float64, which in NumPy 2 (NEP 50) counts as much as an array. So networks of dezero
# train in float64, in twice the memory and at half the speed, and nothing says so.
# (dezero asks for np.int, which is no more; the script gives it that, so that it can be imported.)
# The script fails where this is not so any more.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet dezero==0.0.13 numpy==2.2.6 matplotlib==3.10.0
cat > "$folder/weights.py" <<'END'
import numpy as np

setattr(np, "int", int)
from dezero.layers import Conv2d, Linear

convolution = Conv2d(4, 3, dtype=np.float32, in_channels=1)
linear = Linear(4, dtype=np.float32, in_size=3)
print(convolution.W.dtype, linear.W.dtype, convolution.b.dtype)
END
seen=$("$python" -W ignore "$folder/weights.py")
echo "weights of Conv2d, of Linear, bias, for dtype=np.float32: $seen"
[ "$seen" = "float64 float64 float32" ] || { echo "changed: the dtype is that asked for"; exit 1; }
