"""``fastconv summary``, ``--model``, ``--init`` and ``--freeze``."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastconv.io import load_params
from fastconv.models import MODELS, make_model
from fastconv.models.build import Builder


def test_summary_is_a_table_of_the_layers(fastconv_command):
    status, out, _ = fastconv_command("summary", "--model", "lenet")
    lines = out.splitlines()
    assert status == 0
    assert lines[0].split() == [
        *("layer", "kind", "output", "parameters", "multiply-adds", "receptive", "field")
    ]
    assert lines[1].split() == [
        "conv1",
        *["Convolution", "5x5", "6", "x", "28", "x", "28", "156", "117,600", "5"],
    ]
    assert lines[-1].split() == ["in", "all", "61,706", "416,520"]


def test_summary_as_plain_data(fastconv_command):
    status, out, _ = fastconv_command("summary", "--input", "3x32x32", "--classes", "7", "--json")
    facts = json.loads(out)
    assert status == 0
    assert (facts["model"], facts["input"]) == ("deepconvnet", [3, 32, 32])
    assert facts["layers"][0]["output_shape"] == [16, 32, 32]
    assert facts["layers"][-2]["output_shape"] == [7]


def test_summary_of_a_batch_has_the_program(fastconv_command):
    status, out, _ = fastconv_command("summary", "--model", "lenet", "--batch", "3")
    assert status == 0
    _, program = out.rstrip("\n").split("\n\n")
    prepared = make_model("lenet", (1, 28, 28), 10, seed=0).prepare((3, 1, 28, 28))
    assert program == str(prepared.description)
    status, out, _ = fastconv_command("summary", "--model", "lenet", "--batch", "3", "--json")
    assert status == 0
    steps = json.loads(out)["program"]["steps"]
    assert [step["name"] for step in steps] == [step.name for step in prepared.description.steps]


@pytest.mark.parametrize("model", MODELS)
def test_summary_of_every_model_at_its_own_size(fastconv_command, monkeypatch, model):
    """No weights are drawn: those of a VGG take longer than all else."""
    monkeypatch.setattr(Builder, "randn", property(lambda self: pytest.fail("weights are drawn")))
    status, out, _ = fastconv_command("summary", "--model", model, "--classes", "7", "--json")
    facts = json.loads(out)
    assert status == 0
    digit = [1, 28, 28]
    assert facts["input"] == ([3, 224, 224] if model.startswith(("vgg", "goog")) else digit)
    assert facts["layers"][-1]["output_shape"] == [7]


@pytest.mark.parametrize(
    "model, shape, message",
    [
        ("lenet", "3x10x10", "lenet: images of 10 x 10 are too small, expected at least 12 x 12"),
        ("lenet", "1x28x11", "lenet: images of 28 x 11 are too small"),
        ("vgg16", "1x28x28", "vgg16: images of 28 x 28 are too small, expected at least 32 x 32"),
        ("googlenet", "3x1x1", "googlenet: images of 1 x 1 are too small, expected at least 31"),
        ("deepconvnet", "1x3x3", "deepconvnet: images of 3 x 3 are too small"),
    ],
)
def test_images_too_small_for_a_model(fastconv_command, model, shape, message):
    status, _, err = fastconv_command("summary", "--model", model, "--input", shape)
    assert status == 1
    assert message in err
    assert len(err.splitlines()) == 1


def test_training_a_model_that_needs_larger_images(fastconv_command, few_digits, tmp_path):
    status, _, err = fastconv_command("train", "--model", "vgg11", "--epochs", "1", "--out", "run")
    assert status == 1
    assert "vgg11: images of 28 x 28 are too small, expected at least 32 x 32" in err
    status, _, err = fastconv_command("warmup", "--model", "googlenet", "--backend", "numpy")
    assert status == 1
    assert "googlenet: images of 28 x 28 are too small" in err


@pytest.mark.parametrize("model", ["resnet20", "googlenet"])
def test_a_graph_is_drawn(fastconv_command, model, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need Matplotlib")
    options = ["--model", model, "--input", "1x32x32", "--draw", "graph.png"]
    status, out, _ = fastconv_command("summary", *options)
    assert status == 0 and out.endswith("drawn: graph.png\n")
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("text", ["28x28", "3x0x5", "axbxc"])
def test_a_shape_is_three_numbers(fastconv_command, text):
    status, _, err = fastconv_command("summary", "--input", text)
    assert status == 2
    assert f"must be CxHxW, such as 3x224x224, got {text}" in err


def test_a_run_starts_from_the_weights_of_another(fastconv_command, few_digits, whole):
    options = ["--epochs", "1", "--batch-size", "10", "--seed", "2", "--out", "next"]
    status, out, _ = fastconv_command(
        "train", *options, "--init", f"{whole}/weights.npz", "--freeze", "W[1-6]"
    )
    assert status == 0
    assert "16 arrays taken over" in out and "frozen: W1, b1, W2, b2" in out
    before, after = load_params(f"{whole}/weights.npz"), load_params("next/weights.npz")
    for number in range(1, 9):
        same = np.array_equal(before[f"W{number}"], after[f"W{number}"])
        assert same == (number <= 6)
    status, out, _ = fastconv_command("train", "--resume", "next", "--epochs", "2")
    assert status == 0 and "taken over" not in out
    np.testing.assert_array_equal(load_params("next/weights.npz")["W3"], before["W3"])


def test_another_model_trains_is_tested_and_used(fastconv_command, few_digits):
    options = [
        "--model",
        "lenet",
        "--epochs",
        "1",
        "--batch-size",
        "10",
        "--seed",
        "2",
        "--out",
        "lenet",
    ]
    assert fastconv_command("train", *options)[0] == 0
    assert "fc3.weight" in load_params("lenet/weights.npz")
    status, out, _ = fastconv_command("evaluate", "lenet", "--json")
    assert status == 0 and json.loads(out.splitlines()[-1])["model"] == "lenet"
