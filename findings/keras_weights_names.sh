#!/bin/sh
# Keras 3.15.1 (on JAX 0.10.2, h5py 3.16.0; CPython 3.11, Linux x86-64): save_weights("m.weights.h5") and load_weights.
#
# One would expect that a file of weights has them under the layers' names, so that a model whose layers have other
# names does not take them, and one whose layers stand in another order takes each by its name, as Keras 2 (by_name)
# and PyTorch do. Seen: keys are the layer's class and its number among those of the class; its name is an attribute
# that load_weights does not look at. A model with the same names in another order gets each layer's
# weights by its place, without a word. The script fails where this is not so any more.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet keras==3.15.1 jax==0.10.2 h5py==3.16.0 numpy==2.4.6
cat > "$folder/names.py" <<'END'
import sys

import h5py
import keras
import numpy as np


def model(*names):
    layers = [keras.layers.Dense(2, use_bias=False, name=name) for name in names]
    return keras.Sequential([keras.Input((2,)), *layers])


first, second = model("left", "right"), model("right", "left")
first.set_weights([np.full((2, 2), 1.0), np.full((2, 2), 2.0)])
first.save_weights(sys.argv[1])
with h5py.File(sys.argv[1]) as file:
    print(*(f"{key}={file['layers'][key]['vars'].attrs['name']}" for key in file["layers"]), end=" ")
second.load_weights(sys.argv[1])
print(*(f"{layer.name}={layer.get_weights()[0][0, 0]:g}" for layer in second.layers))
END
seen=$(KERAS_BACKEND=jax "$python" "$folder/names.py" "$folder/m.weights.h5")
echo "in the file, and loaded: $seen"
[ "$seen" = "dense=left dense_1=right right=1 left=2" ] || { echo "changed"; exit 1; }
