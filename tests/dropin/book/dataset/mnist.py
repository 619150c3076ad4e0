"""Digits from the four IDX files in this folder, however many they hold."""

import gzip
import os

import numpy as np

key_file = {
    "train_img": "train-images-idx3-ubyte.gz",
    "train_label": "train-labels-idx1-ubyte.gz",
    "test_img": "t10k-images-idx3-ubyte.gz",
    "test_label": "t10k-labels-idx1-ubyte.gz",
}
dataset_dir = os.path.dirname(os.path.abspath(__file__))
img_size = 784


def _read(name, offset):
    with gzip.open(os.path.join(dataset_dir, key_file[name])) as f:
        return np.frombuffer(f.read(), np.uint8, offset=offset)


def load_mnist(normalize=True, flatten=True, one_hot_label=False):
    sets = []
    for part in ("train", "test"):
        x = _read(part + "_img", 16).reshape(-1, img_size)
        t = _read(part + "_label", 8)
        if normalize:
            x = x.astype(np.float32) / 255.0
        if one_hot_label:
            t = np.eye(10)[t]
        if not flatten:
            x = x.reshape(-1, 1, 28, 28)
        sets.append((x, t))
    return tuple(sets)
