"""``fastconv evaluate``, ``predict`` and ``info``, and the help of each command."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv.cli import main as cli
from fastconv.datasets import load_mnist
from fastconv.experiment import bundled
from fastconv.network import choices, measuring

from .conftest import FILES


def test_evaluate_counts_what_the_network_answers(whole, few_digits, pixels, fastconv_command):
    status, out, _ = fastconv_command("evaluate", whole, "--out", "pictures")
    assert status == 0
    network = fastconv.DeepConvNet()
    network.load_params(Path(whole, "weights.npz"))
    _, (x_test, t_test) = few_digits
    correct = round(41 * network.accuracy(x_test, t_test))
    assert f"test accuracy {100 * correct / 41:.2f} % ({correct}/41)" in out
    pytest.importorskip("matplotlib", reason="draws the pictures")
    drawn = sorted(path.name for path in Path("pictures").iterdir())
    assert drawn == ["confusion.png", "mistakes.csv", "mistakes.json", "mistakes.png"]
    assert out.count("drawn: pictures/") == 2


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pkl"])
def test_evaluate_a_file_of_weights(whole, few_digits, fastconv_command, ending):
    if ending == ".safetensors":
        pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    network = fastconv.DeepConvNet()
    network.load_params(Path(whole, "weights.npz"))
    network.save_params(f"alone{ending}", allow_pickle=True)
    status, _, err = fastconv_command("evaluate", f"alone{ending}")
    assert status == 2
    assert "--data" in err
    status, out, _ = fastconv_command("evaluate", f"alone{ending}", "--data", "digits")
    assert status == 0
    assert "no pictures: name a folder for them by --out" in out
    expected = fastconv_command("evaluate", whole)[1]
    accuracy = re.compile(r"test accuracy .*\)")
    assert accuracy.search(out)[0] == accuracy.search(expected)[0]


def test_predict_prints_label_and_shares(whole, few_digits, fastconv_command):
    image_module = pytest.importorskip("PIL.Image", reason="predict reads pictures")
    _, (x_test, _) = few_digits
    pixels = np.rint(255 * x_test[3, 0]).astype(np.uint8)
    image_module.fromarray(pixels).save("one.png")
    image_module.fromarray(255 - pixels).save("two.png")
    status, out, err = fastconv_command("predict", whole, "one.png", "two.png")
    assert (status, err) == (0, "")
    first, first_shares, second, second_shares = out.splitlines()
    label = first.removeprefix("one.png: ")
    assert second == f"two.png: {label}"  # dark on light is the same digit
    assert second_shares == first_shares
    shares = dict(re.findall(r"(\d): ([\d.]+) %", first_shares))
    assert list(shares) == list("0123456789")
    assert sum(map(float, shares.values())) == pytest.approx(100, abs=0.06)
    assert max(shares, key=lambda name: float(shares[name])) == label


def test_a_picture_alone_is_read_by_fastconvs_own_network(whole, fastconv_command):
    image_module = pytest.importorskip("PIL.Image", reason="predict reads pictures")
    pixels = np.full((120, 90), 255, np.uint8)
    pixels[20:100, 40:48] = 0  # a stroke
    image_module.fromarray(pixels).save("one.png")
    status, out, _ = fastconv_command("predict", "one.png")
    assert status == 0
    assert out.startswith(f"{bundled.ABOUT}\none.png: 1\n")
    Path("scans", "page 1").mkdir(parents=True)
    image_module.fromarray(pixels.T).save("scans/page 1/two.webp")
    status, out, _ = fastconv_command("predict", "one.png", "scans", "--json")
    assert status == 0
    assert [each["file"] for each in json.loads(out)["predictions"]] == [
        "one.png",
        str(Path("scans", "page 1", "two.webp")),
    ]
    status, out, _ = fastconv_command("predict", "scans")
    assert status == 0 and out.startswith(bundled.ABOUT)
    Path("bare").mkdir()
    for named in (whole, "missing.npz", "bare"):
        status, _, err = fastconv_command("predict", named)
        assert status == 2 and f"{named}: expected an IMAGE" in err


def test_predict_reads_the_pictures_of_a_folder(whole, few_digits, fastconv_command):
    image_module = pytest.importorskip("PIL.Image", reason="predict reads pictures")
    Path("new", "deeper").mkdir(parents=True)
    Path("new", "notes.txt").write_text("no picture", encoding="utf-8")
    for name in ("new/b.png", "new/a.jpg", "new/deeper/c.png", "new/.hidden.png"):
        image_module.fromarray(np.rint(255 * few_digits[1][0][0, 0]).astype(np.uint8)).save(name)
    status, out, _ = fastconv_command("predict", "--json", whole, "new", "new/b.png")
    assert status == 0
    files = [prediction["file"] for prediction in json.loads(out)["predictions"]]
    assert files == [str(Path("new", name)) for name in ("a.jpg", "b.png", "deeper/c.png")] + [
        "new/b.png"
    ]
    Path("empty").mkdir()
    status, _, err = fastconv_command("predict", whole, "empty")
    assert status == 1 and "empty: no pictures in this folder" in err


def test_fastconvs_own_network_reads_as_many_as_it_says():
    folder = os.environ.get("FASTCONV_TEST_MNIST")
    if not folder:
        pytest.skip("FASTCONV_TEST_MNIST names no folder with the four files of MNIST")
    network = fastconv.DeepConvNet()
    network.load_params(bundled.WEIGHTS)
    _, (x_test, t_test) = load_mnist(flatten=False, data_dir=folder)
    correct = 10_000 * network.accuracy(x_test, t_test)
    assert correct == pytest.approx(bundled.CORRECT, abs=2)  # backends round otherwise


def test_without_matplotlib_the_pictures_are_missed_aloud(
    few_digits, fastconv_command, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    options = ["--epochs", "1", "--batch-size", "61", "--out", "run"]
    status, out, _ = fastconv_command("train", *options)
    assert status == 0
    assert "curves.png not drawn" in out
    assert out.count("pip install matplotlib") == 2
    assert {path.name for path in Path("run").iterdir()} == FILES
    status, out, _ = fastconv_command("evaluate", "run", "--json")
    assert status == 0
    assert json.loads(out.splitlines()[-1])["pictures"] == []


def test_info(fastconv_command):
    status, out, _ = fastconv_command("info", "--json")
    assert status == 0
    facts = json.loads(out)
    assert facts["fastconv"] == fastconv.__version__
    assert facts["backends"]["numpy"]["available"] is True
    status, out, _ = fastconv_command("info")
    assert status == 0
    assert "backend numpy: available" in out


def test_info_of_the_layers(fastconv_command):
    status, out, _ = fastconv_command("info", "--layers", "--batch", "8", "--json")
    assert status == 0
    facts = json.loads(out.splitlines()[-1])
    convolutions = [step for step in facts["steps"] if "Convolution" in step["layers"]]
    assert [step["fused"] for step in convolutions] == [["relu"], ["relu", "pool"]] * 3
    assert convolutions[5]["output_shape"] == [8, 64, 4, 4]
    assert facts["steps"][-1]["output_shape"] == [8, 10]
    assert facts["block_bytes"] < facts["bytes_without_reuse"]
    status, out, _ = fastconv_command("info", "--layers")
    assert status == 0
    assert out.splitlines()[0].split("  ")[0] == "layer"
    assert "100 x 16 x 28 x 28" in out
    network = fastconv.DeepConvNet(seed=0)
    assert out.rstrip("\n") == str(network.prepare((100, 1, 28, 28)).description)


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Choices in a folder of the test's own, found by few rounds."""
    monkeypatch.setattr(choices, "_folder", lambda: tmp_path / "algorithms")
    monkeypatch.setattr(choices, "_all", {})
    monkeypatch.setattr(measuring, "ENOUGH", 0)
    if not (status := fastconv.list_backends()["cython"]):
        pytest.skip(status.reason)
    return lambda: sorted((tmp_path / "algorithms").glob("*.json"))


def test_algorithms_by_measuring(whole, few_digits, fastconv_command, measured):
    """Four commands choose them so where they are told to; they are the same ever after."""
    more = ("--algorithms", "measured")
    assert fastconv_command("evaluate", whole, "--backend", "cython")[0] == 0
    assert not measured()
    status, out, _ = fastconv_command("evaluate", whole, "--backend", "cython", *more)
    assert status == 0 and "test accuracy" in out
    (file,) = measured()
    assert len(json.loads(file.read_text())["algorithms"]) == 6
    info = ("info", "--layers", "--backend", "cython", "--batch", "4", "--json", *more)
    status, out, _ = fastconv_command(*info)
    steps = json.loads(out)["steps"]
    assert status == 0 and sum(step["measured"] for step in steps) == 6
    assert len(json.loads(file.read_text())["algorithms"]) == 12
    assert fastconv_command(*info)[1] == out
    summary = ("summary", "--model", "resnet20", "--input", "3x32x32", "--batch", "1")
    if fastconv.get_backend() == "cython":
        assert ", measured" in fastconv_command(*summary, *more)[1]
    assert ", measured" not in fastconv_command(*summary)[1]


def test_predict_by_measuring(whole, few_digits, fastconv_command, measured):
    image_module = pytest.importorskip("PIL.Image", reason="predict reads pictures")
    _, (x_test, _) = few_digits
    image_module.fromarray(np.rint(255 * x_test[3, 0]).astype(np.uint8)).save("one.png")
    command = ("predict", whole, "one.png", "--backend", "cython")
    expected = fastconv_command(*command)
    assert not measured()
    assert fastconv_command(*command, "--algorithms", "measured") == expected
    assert len(measured()) == 1


def test_measuring_where_no_algorithm_is_chosen(fastconv_command):
    more = ("--algorithms", "measured")
    for command in (("info",), ("info", "--layers", "--training")):
        status, _, err = fastconv_command(*command, *more)
        assert status == 2 and "only with --layers, and without --training" in err
    status, _, err = fastconv_command("summary", *more)
    assert status == 2 and "--algorithms measured: only with --batch" in err


def test_info_of_the_layers_in_training(fastconv_command):
    arguments = ("info", "--layers", "--training")
    status, out, _ = fastconv_command(*arguments, "--batch", "8", "--json")
    assert status == 0
    rows = json.loads(out.splitlines()[-1])
    assert rows[0]["input"] == "8 x 1 x 28 x 28"
    assert rows[-1]["output"] == "8 x 10"
    convolutions = [row for row in rows if "Convolution" in row["layers"]]
    assert len(convolutions) == 6
    assert convolutions[5]["input"] == "8 x 64 x 8 x 8"
    status, out, _ = fastconv_command(*arguments)
    assert status == 0
    assert out.splitlines()[0].split("  ")[0] == "layers"
    assert "100 x 1 x 28 x 28" in out
    status, _, err = fastconv_command("info", "--training")
    assert status == 2
    assert "--training: only with --layers" in err


def test_evaluate_by_a_clock_that_stands_still(whole, few_digits, fastconv_command, monkeypatch):
    """As coarse ones do while a small set is answered."""
    monkeypatch.setattr("time.perf_counter", lambda: 5.0)
    status, out, _ = fastconv_command("evaluate", whole, "--json")
    assert status == 0
    assert json.loads(out)["images_per_second"] == 0


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "predict", "convert", "export", "info", "ensemble", "recipes"]
)
def test_help_has_an_example(fastconv_command, command):
    status, out, _ = fastconv_command(command, "--help")
    assert status == 0
    assert re.search(rf"^examples?:\n  fastconv {command}", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 100


def test_the_command_itself(fastconv_command):
    assert fastconv_command("--version")[:2] == (0, f"fastconv {fastconv.__version__}\n")
    status, out, _ = fastconv_command("--help")
    assert status == 0
    for command in cli.COMMANDS:
        assert command in out
