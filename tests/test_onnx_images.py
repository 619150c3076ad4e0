"""ONNX models of pooling and of batch normalisation per channel; the rest is in `test_onnx`."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.errors import ArgumentError, ShapeError
from fastconv.io import export_onnx
from fastconv.layers import (
    AdaptiveAveragePooling,
    AveragePooling,
    BatchNormalization2d,
    GlobalAveragePooling,
    Pooling,
    Relu,
    Subsampling,
)
from fastconv.network import Network

from .onnx_session import Session, affine, assert_same, convolution, images

pytest.importorskip("onnx", reason="the package onnx is not installed")


def normalization(channels: int) -> BatchNormalization2d:
    rng = np.random.default_rng(channels)
    gamma, beta, mean = rng.standard_normal((3, channels)).astype(np.float32)
    variance = rng.uniform(0.1, 2, channels).astype(np.float32)
    return BatchNormalization2d(gamma, beta, running_mean=mean, running_var=variance)


CHAINS = {
    "max pooling in ceil mode": [Pooling(3, 2, 2, 1, ceil_mode=True)],
    "max pooling in ceil mode, with gaps": [Pooling(2, 2, 3, ceil_mode=True)],
    "average pooling": [AveragePooling(3, 2, 2, 1)],
    "average pooling of real places": [AveragePooling(3, 2, 2, 1, count_padding=False)],
    "average pooling in ceil mode": [AveragePooling(3, 3, 2, 1, True)],
    "average pooling in ceil mode of real places": [AveragePooling(3, 3, 2, 1, True, False)],
    "average pooling in ceil mode, no window in the padding": [AveragePooling(2, 2, 2, 1, True)],
    "average pooling, two strides, padding by side": [
        AveragePooling(3, 2, (2, 1), ((0, 2), (1, 0))),
        AveragePooling(2, 3, (1, 2), ((1, 0), (2, 1)), True),
        AveragePooling(2, 2, 1, "same", count_padding=False),
    ],
    "normalization": [normalization(2), Relu()],
    "adaptive pooling to one": [AdaptiveAveragePooling(1, 1)],
    "subsampling": [Subsampling(2, 0)],
    "subsampling in steps of 3, an odd number of channels more": [Subsampling(3, 5)],
    "channels alone": [Subsampling(1, 4), Relu()],
    "global average pooling": [
        convolution(),
        normalization(4),
        Relu(),
        GlobalAveragePooling(),
        affine(4),
    ],
}


@pytest.mark.parametrize("open_size", [False, True], ids=["fixed", "open"])
@pytest.mark.parametrize("name", CHAINS)
def test_every_layer(tmp_path, name, open_size):
    network = Network(CHAINS[name], "float32")
    export_onnx(network, tmp_path / "m.onnx", input_shape=None if open_size else (2, 8, 7))
    session = Session(tmp_path / "m.onnx")
    for batch in (1, 5):
        x = images(batch, 2, 8, 7)
        assert_same(session(x), network.predict(x))


def test_channels_that_do_not_fit(tmp_path):
    network = Network([convolution(), normalization(3)], "float32")
    with pytest.raises(ShapeError, match=r"layer 2 \(BatchNormalization2d\) expects 3 channels"):
        export_onnx(network, tmp_path / "m.onnx")


def test_a_window_that_only_onnx_has_is_refused(tmp_path):
    network = Network([Pooling(2, 2, 3, 1, ceil_mode=True)], "float32")
    with pytest.raises(ArgumentError, match=r"layer 1 \(Pooling\) one window more in ceil mode"):
        export_onnx(network, tmp_path / "m.onnx", input_shape=(2, 8, 7))


@pytest.mark.parametrize("counts", [(2, 3), (8, 7), (4, 1), (5, 5), (11, 16), (1, 7)])
def test_adaptive_pooling(tmp_path, counts):
    """Windows that overlap, that are the pixels, that are one, and more of them than pixels."""
    network = Network([Relu(), AdaptiveAveragePooling(*counts)], "float32")
    export_onnx(network, tmp_path / "m.onnx", input_shape=(3, 8, 7))
    x = images(5, 3, 8, 7)
    assert_same(Session(tmp_path / "m.onnx")(x), network.predict(x))


def test_same_of_unknown_images(tmp_path):
    """Of stride 1 the padding is known; of another it depends on the size."""
    network = Network([convolution(4, 2, (2, 3), 1, "same"), Relu(), Pooling(2, 2, 2)], "float32")
    export_onnx(network, tmp_path / "m.onnx")
    x = images(2, 2, 7, 8)
    assert_same(Session(tmp_path / "m.onnx")(x), network.predict(x))
    network = Network([Relu(), Pooling(3, 3, (1, 2), "same")], "float32")
    message = r"the padding of layer 2 \(Pooling\) depends on the size of the images"
    with pytest.raises(ArgumentError, match=message):
        export_onnx(network, tmp_path / "m.onnx")
    export_onnx(network, tmp_path / "m.onnx", input_shape=(2, 8, 7))
    x = images(2, 2, 8, 7)
    assert_same(Session(tmp_path / "m.onnx")(x), network.predict(x))


def test_adaptive_pooling_of_unknown_images_is_refused(tmp_path):
    network = Network([convolution(), AdaptiveAveragePooling(2, 3)], "float32")
    message = r"windows of layer 2 \(AdaptiveAveragePooling\) depend on the size"
    with pytest.raises(ArgumentError, match=message):
        export_onnx(network, tmp_path / "m.onnx")
