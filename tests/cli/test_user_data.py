"""``--data PATH``: images of a user's own from training to prediction."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv.cli import main as cli
from fastconv.datasets import Normalization, load_images
from fastconv.io.arrays import load_arrays

from ..picture_files import noise, write
from .conftest import FILES, PICTURES, assert_same_run, config, history, weights
from .test_resume import interrupt_at

CLASSES = {"blue": 2, "green": 1, "红": 0}
OPTIONS = ["--image-size", "14x16", "--epochs", "20", "--batch-size", "12", "--seed", "3"]


def colours(root: Path, count: int, seed: int = 0) -> Path:
    """Noise with a tint for each class, of many sizes; the first file of each is no picture."""
    for name, channel in CLASSES.items():
        for index in range(count):
            number = 100 * seed + 10 * channel + index
            pixels = noise(number, 14 + index % 3, 20 - index % 4, 3) // 2
            pixels[..., channel] += 100
            ending = ("png", "jpg")[index % 2]
            write(root / name / f"{index:02}.{ending}", pixels)
    write(root / "green" / "bad.png", pixels).write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A folder with the pictures, and the run on them that nothing interrupted."""
    folder = tmp_path_factory.mktemp("own")
    colours(folder / "pictures", 12)
    train = ["train", "--data", str(folder / "pictures"), *OPTIONS, "--out", str(folder / "run")]
    assert cli.main(train) == 0
    return folder


@pytest.fixture
def own(kept, tmp_path) -> Path:
    """A copy of them for this test alone."""
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    facts = json.loads(Path("run", "config.json").read_text())
    facts["data"] = str(tmp_path / "pictures")
    Path("run", "config.json").write_text(json.dumps(facts))
    return tmp_path


def test_train_says_what_it_found_and_keeps_it(own, fastconv_command):
    status, out, _ = fastconv_command("train", "--data", "pictures", *OPTIONS, "--out", "again")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("deepconvnet on pictures: 20 epochs, batch 12, adam 0.001, seed 3")
    assert lines[1] == (
        "pictures: 30 training, 6 test images of 3 x 14 x 16 in 3 classes (blue, green, 红)"
    )
    assert lines[2] == "  20% of each class are set apart for testing"
    assert lines[3].startswith("  1 file cannot be read: green/bad.png: not an image")
    assert {path.name for path in Path("again").iterdir()} - PICTURES == {*FILES, "unreadable.txt"}
    (left_out,) = Path("again", "unreadable.txt").read_text().splitlines()
    assert left_out == "green/bad.png: not an image of a kind that is read here"
    assert_same_run("again", "run")
    facts = config("again")["image_facts"]
    images = load_images("pictures", size=(14, 16), seed=3)
    assert facts == {
        "shape": [3, 14, 16],
        "class_names": ["blue", "green", "红"],
        "normalization": json.loads(json.dumps(vars(Normalization.of(images.train.images)))),
        "test_share": 0.2,
        "fingerprint": images.fingerprint,
    }
    assert config("again")["data"] == str(own / "pictures")
    assert weights("again")["W8"].shape[1] == 3
    assert history("again")[-1]["test_accuracy"] > 0.9  # the tint is plain to see


def network_of(run: str) -> tuple[fastconv.DeepConvNet, Normalization]:
    """The run's network, built by hand from its files."""
    facts = config(run)["image_facts"]
    network = fastconv.DeepConvNet(tuple(facts["shape"]), output_size=3)
    network.load_params(Path(run, "weights.npz"))
    norm = facts["normalization"]
    return network, Normalization(tuple(norm["mean"]), tuple(norm["std"]))


def test_evaluate_takes_what_was_set_apart_and_normalizes_it(own, fastconv_command):
    status, out, _ = fastconv_command("evaluate", "run", "--json")
    assert status == 0
    found = json.loads(out.splitlines()[-1])
    network, norm = network_of("run")
    test = load_images("pictures", size=(14, 16), seed=3).test
    scores = network.predict(norm.apply(test.images))
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (test.labels, scores.argmax(axis=1)), 1)
    assert found["confusion"] == expected.tolist()
    assert found["total"] == 6
    assert found["classes"] == ["blue", "green", "红"]
    assert found["unreadable"] == ["green/bad.png: not an image of a kind that is read here"]


def test_predict_sees_a_picture_as_training_did(own, fastconv_command):
    pictures = ["pictures/blue/03.jpg", "pictures/green/bad.png", "pictures/红/02.png"]
    status, out, err = fastconv_command("predict", "run", *pictures, "--json")
    assert status == 1
    assert "pictures/green/bad.png: not an image" in err
    blue, bad, red = json.loads(out)["predictions"]
    assert (blue["label"], red["label"]) == ("blue", "红")
    assert "error" in bad
    # The same picture, met as one of the data set's.
    images = load_images("pictures", size=(14, 16), seed=3)
    network, norm = network_of("run")
    shares = []
    for part in (images.train, images.test):
        scores = network.predict(norm.apply(part.images)).astype(float)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares += (powers / powers.sum(axis=1, keepdims=True)).tolist()
    for prediction in (blue, red):
        seen = list(prediction["probabilities"].values())
        assert min(np.abs(np.array(shares) - seen).max(axis=1)) < 1e-6
    status, out, _ = fastconv_command("predict", "run", pictures[0])
    assert status == 0
    assert out.splitlines()[0] == "pictures/blue/03.jpg: blue"


def test_of_many_classes_the_likeliest_are_shown(own, fastconv_command):
    x, t = noise(0, 24, 14, 14), np.arange(24) % 12
    np.savez("many.npz", x=x, t=t, class_names=np.array([f"class {i}" for i in range(12)]))
    train = ["train", "--data", "many.npz", "--epochs", "1", "--out", "many"]
    status, out, _ = fastconv_command(*train)
    assert status == 0
    assert "many.npz: 12 training, 12 test images of 1 x 14 x 14 in 12 classes\n" in out
    status, out, _ = fastconv_command("predict", "many", "pictures/blue/03.jpg")
    assert status == 0
    shares = [float(word) for word in out.splitlines()[1].split() if "." in word]
    assert len(shares) == 5
    assert shares == sorted(shares, reverse=True)


def test_a_stopped_run_goes_on_where_its_pictures_are_now(own, fastconv_command, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        train = ["train", "--data", "pictures", *OPTIONS, "--out", "part"]
        assert fastconv_command(*train)[0] == 130
    Path("pictures").rename("moved")
    status, _, err = fastconv_command("train", "--resume", "part")
    assert status == 1
    assert "pictures: no such file or folder" in err
    resumed = ["train", "--resume", "part", "--data", "moved"]
    assert fastconv_command(*resumed, "--image-size", "14x16", "--normalize")[0] == 0
    assert_same_run("part", "run")
    assert config("part")["data"] == str(own / "moved")


@pytest.mark.parametrize(
    "options, status, message",
    [
        (["--image-size", "16"], 2, "--image-size 16x16: .* started with 14x16"),
        (["--grey"], 2, "--grey True: .*started with False"),
        (["--no-normalize"], 2, "--normalize False: .*started with True"),
        (["--test-share", "0.3"], 2, "--test-share 0.3: .*started with 0.2"),
        (["--data", "digits"], 2, "--data digits: .*started with"),
        (["--strict-data"], 1, "1 file cannot be read: green/bad.png"),
    ],
)
def test_resume_refuses_other_images(own, fastconv_command, options, status, message):
    found, _, err = fastconv_command("train", "--resume", "run", "--epochs", "21", *options)
    assert found == status
    assert len(err.splitlines()) == 1
    assert re.search(message, err), err


def test_pictures_that_changed_since(own, fastconv_command):
    write(own / "pictures" / "blue" / "new.png", noise(9, 14, 16, 3))
    status, _, err = fastconv_command("train", "--resume", "run", "--epochs", "21")
    assert status == 1
    assert "not the images that the run to resume was started with" in err
    status, _, err = fastconv_command("evaluate", "run")
    assert status == 1
    assert "not the images that the run was trained on" in err
    assert len(history("run")) == 20


def test_evaluate_on_other_pictures(own, fastconv_command):
    colours(own / "others", 4, seed=7)
    shutil.rmtree("others/blue")
    status, out, _ = fastconv_command("evaluate", "run", "--data", "others", "--out", "shown")
    assert status == 0
    assert "others: 8 test images of 3 x 14 x 16 in 3 classes" in out
    assert "all images are tested" in out
    assert "/8), " in out
    Path("others", "红").rename("others/rot")
    for data, message in (("others", "no class rot"), ("digits", "images of 1 x 28 x 28")):
        status, _, err = fastconv_command("evaluate", "run", "--data", data)
        assert status == 2
        assert message in err


def test_a_network_of_digits_is_tested_on_a_folder_of_them(
    whole, few_digits, fastconv_command, tmp_path
):
    _, (x_test, t_test) = few_digits
    for index, (image, label) in enumerate(zip(x_test, t_test, strict=True)):
        pixels = np.rint(255 * image[0]).astype(np.uint8)
        write(tmp_path / "scans" / str(label) / f"{index}.png", pixels)
    own = json.loads(fastconv_command("evaluate", whole, "--json")[1].splitlines()[-1])
    status, out, _ = fastconv_command("evaluate", whole, "--data", "scans", "--json")
    assert status == 0
    found = json.loads(out.splitlines()[-1])
    assert found["confusion"] == own["confusion"]


def test_without_normalization_and_without_colour(own, fastconv_command):
    train = ["train", "--data", "pictures", "--image-size", "12", "--grey", "--no-normalize"]
    train += ["--test-share", "0.5", "--epochs", "1", "--out", "plain"]
    assert fastconv_command(*train)[0] == 0
    facts = config("plain")["image_facts"]
    assert facts["shape"] == [1, 12, 12]
    assert facts["normalization"] is None
    assert facts["test_share"] == 0.5
    assert fastconv_command("evaluate", "plain")[0] == 0
    assert fastconv_command("predict", "plain", "pictures/blue/03.jpg")[0] == 0


def test_parts_of_their_own(own, fastconv_command):
    colours(own / "split" / "train", 4)
    colours(own / "split" / "val", 2, seed=1)
    colours(own / "split" / "test", 3, seed=2)
    train = ["train", "--data", "split", "--image-size", "12", "--epochs", "1", "--out", "parts"]
    status, out, _ = fastconv_command(*train)
    assert status == 0
    assert "split: 12 training, 6 validation, 9 test images" in out
    assert "3 files cannot be read" in out
    status, _, err = fastconv_command(*train[:-1], "other", "--test-share", "0.3")
    assert status == 2
    assert "has a test part of its own" in err
    assert not Path("other").exists()


def test_damaged_facts_of_a_run(own, fastconv_command):
    facts = config("run")
    for change in (
        {"shape": [3, 14]},
        {"shape": "abc"},
        {"class_names": []},
        {"class_names": [1, 2]},
        {"normalization": {"mean": [0.5]}},
        {"test_share": 2},
        {"fingerprint": 5},
    ):
        broken = facts | {"image_facts": facts["image_facts"] | change}
        Path("run", "config.json").write_text(json.dumps(broken))
        status, _, err = fastconv_command("evaluate", "run")
        assert status == 1
        assert "config.json: " in err
        assert "fault of fastconv" not in err


def test_warmup_and_info_know_the_shape(own, fastconv_command):
    data = ["--data", "pictures", "--image-size", "12x10", "--grey"]
    status, out, _ = fastconv_command("info", "--layers", "--batch", "4", *data, "--json")
    assert status == 0
    steps = json.loads(out)["steps"]
    assert (steps[0]["output_shape"], steps[-1]["output_shape"]) == ([4, 16, 12, 10], [4, 3])
    status, _, _ = fastconv_command("warmup", "--backend", "numpy", "--batch-size", "2", *data)
    assert status == 0


def test_export_knows_the_shape(own, fastconv_command):
    pytest.importorskip("onnx", reason="writes the model")
    status, out, _ = fastconv_command("export", "run", "run.onnx")
    assert status == 0
    assert "input (N, 3, 14, 16)" in out


def test_an_exported_run_reads_pictures_as_the_run_does(own, fastconv_command):
    pytest.importorskip("onnx", reason="writes the model")
    pytest.importorskip("onnxruntime", reason="runs the model")
    fastconv_command("export", "run", "run.onnx")
    shutil.move("run", "elsewhere")  # the model knows classes, size and normalization itself
    pictures = [str(path) for path in sorted(Path("pictures", "红").iterdir())[:2]]
    status, out, _ = fastconv_command("predict", "run.onnx", *pictures, "absent.png", "--json")
    assert status == 1
    said = json.loads(out.splitlines()[-1])
    assert said["backend"].startswith("onnxruntime ") and said["threads"] >= 1
    _, out, _ = fastconv_command("predict", "elsewhere", *pictures, "--json")
    for got, expected in zip(
        said["predictions"], json.loads(out.splitlines()[-1])["predictions"], strict=False
    ):
        assert got["label"] == expected["label"]
        assert got["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    for option in (["--backend", "numpy"], ["--views", "mirror"], ["--algorithms", "measured"]):
        status, _, err = fastconv_command("predict", "run.onnx", *pictures, *option)
        assert status == 2
        assert f"{option[0]}: for networks that fastconv runs; run.onnx is run by ONNX" in err


def test_the_pictures_of_a_run_show_its_images(own, fastconv_command, monkeypatch):
    pytest.importorskip("matplotlib", reason="draws the pictures")
    drawn = []
    monkeypatch.setattr("fastconv.figures.save", lambda figure, path: drawn.append(figure))
    arrays, metadata = load_arrays(Path("run", "weights.npz"))
    assert metadata == {}
    np.savez("run/weights.npz", **{name: 0 * array for name, array in arrays.items()})
    assert fastconv_command("evaluate", "run")[0] == 0
    mistakes, confusion = drawn
    canvas = mistakes.axes[0].images[0].get_array()
    test = load_images("pictures", size=(14, 16), seed=3).test
    first = test.images[np.flatnonzero(test.labels != 0)[0]]  # all are taken for the first class
    np.testing.assert_allclose(canvas[:14, :16], first.transpose(1, 2, 0), atol=1e-6)
    texts = {text.get_text() for text in mistakes.axes[0].texts}
    files = {Path(name).name for name, wrong in zip(test.names, test.labels, strict=True) if wrong}
    assert texts == {"blue", "green", "红", *files}
    ticks = [label.get_text() for label in confusion.axes[0].get_xticklabels()]
    assert ticks == ["blue", "green", "红"]
