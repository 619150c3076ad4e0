"""``fastconv export``: runs and files of weights as ONNX models."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from fastconv import DeepConvNet
from fastconv.cli import main as cli
from fastconv.functions import softmax
from fastconv.models import make_model
from fastconv.network import Network

from ..onnx_session import Session, affine, assert_same, images

pytest.importorskip("onnx", reason="the package onnx is not installed")


def command(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


SMALL = [{"filter_num": 2, "filter_size": 3, "pad": pad, "stride": 1} for pad in (1, 1, 1, 2, 1, 1)]


@pytest.mark.parametrize(
    "network",
    [
        DeepConvNet(seed=1),
        DeepConvNet((3, 28, 28), *SMALL, hidden_size=7, output_size=4, seed=2, dtype="float64"),
    ],
    ids=["default", "small"],
)
def test_export_a_file_of_weights(tmp_path, capsys, network):
    network.save_params(tmp_path / "w.npz")
    done = command("export", tmp_path / "w.npz", tmp_path / "m.onnx", "--json")
    shown = capsys.readouterr()
    channels = network.params["W1"].shape[1]
    assert done == 0, shown.err
    assert json.loads(shown.out) == {
        "output": str(tmp_path / "m.onnx"),
        "model": "deepconvnet",
        "input_shape": [channels, "height", "width"],
    }
    x = images(3, channels, 28, 28)
    assert_same(Session(tmp_path / "m.onnx")(x), network.predict(x))


def test_images_of_a_size_that_the_weights_do_not_tell(tmp_path):
    """Both 28 x 28 and 32 x 32 give 4 x 4 at the end; the model takes what the network did."""
    network = DeepConvNet((1, 32, 32), seed=1)
    network.save_params(tmp_path / "w.npz")
    assert command("export", tmp_path / "w.npz", tmp_path / "m.onnx") == 0
    x = images(2, 1, 32, 32)
    assert_same(Session(tmp_path / "m.onnx")(x), network.predict(x))


@pytest.mark.parametrize("model", ["deepconvnet", "lenet", "resnet20"])
def test_export_a_run(tmp_path, capsys, model):
    config = {
        "model": model,
        "data": "digits",
        "data_dir": None,
        "epochs": 1,
        "batch_size": 100,
        "optimizer": "adam",
        "lr": 0.001,
        "backend": "numpy",
        "dtype": "float32",
        "threads": 1,
        "seed": 3,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = make_model(model, (1, 28, 28), 10, seed=4)
    x = images(3, 1, 28, 28)
    network.gradient(x, np.arange(3))  # moves running statistics, where there are any
    network.save_params(tmp_path / "weights.npz")
    done = command("export", tmp_path, tmp_path / "m.onnx", "--softmax")
    shown = capsys.readouterr()
    assert done == 0, shown.err
    assert f"{model}, float32, input (N, 1, 28, 28)" in shown.out
    assert_same(Session(tmp_path / "m.onnx")(x), softmax(network.predict(x)))


PAD_2 = [{"filter_num": 2, "filter_size": 3, "pad": 2, "stride": 1}] * 6
OTHERS = {
    "two layers": (Network([affine(6, 5), affine(5)], "float32"), "not the weights of a DeepConvN"),
    "other pads": (DeepConvNet((1, 28, 28), *PAD_2), "does not tell pads, strides and the size"),
    "larger images": (DeepConvNet((1, 36, 36), *SMALL), "W7 has shape .* these do not fit"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_export_refuses_weights_of_another_network(tmp_path, capsys, name):
    network, message = OTHERS[name]
    network.save_params(tmp_path / "w.npz")
    assert command("export", tmp_path / "w.npz", tmp_path / "m.onnx") == 1
    assert not (tmp_path / "m.onnx").exists()
    shown = capsys.readouterr()
    assert re.search(message, shown.err)
    assert r"fastconv.io.export_onnx(network, path)" in shown.err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("export absent m.onnx", 2, "absent does not exist: expected a run folder or a weights"),
        ("export . m.onnx", 2, "has no config.json: expected the folder of a training run"),
        ("export w.npz m.txt", 2, "m.txt must end in .onnx"),
        ("export w.npz absent/m.onnx", 1, "no folder absent to write it to"),
    ],
)
def test_export_refuses(tmp_path, monkeypatch, capsys, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    DeepConvNet(seed=0).save_params("w.npz")
    assert command(*arguments.split()) == status
    assert message in capsys.readouterr().err
