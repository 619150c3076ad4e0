"""``fastconv train``: what a run prints, keeps and repeats."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv.datasets import DATASETS

from .conftest import FILES, PICTURES, assert_same_run, config, environment, history, weights


def test_train_evaluate_predict_end_to_end(tmp_path):
    """As a user does it: in processes of its own, on the real digits."""
    image_module = pytest.importorskip("PIL.Image", reason="predict reads pictures")

    def command(*arguments: str) -> subprocess.CompletedProcess:
        whole_command = [sys.executable, "-P", "-m", "fastconv", *arguments]
        return subprocess.run(
            whole_command, capture_output=True, text=True, env=environment(), check=False
        )

    options = "--model lenet --epochs 3 --seed 0 --out run --json"
    done = command("train", *options.split())
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    facts = json.loads(done.stdout)
    assert facts["total"] == 360
    assert facts["test_accuracy"] == facts["correct"] / facts["total"]
    assert facts["test_accuracy"] > 0.5  # three epochs; chance is 0.1
    assert facts["epochs"] == 3
    assert facts["seconds"] > 0
    steps = int(3 * 14.37)
    assert facts["images_per_second"] == pytest.approx(steps * 100 / facts["seconds"])
    assert facts["backend"] == fastconv.get_backend()
    assert facts["dtype"] == "float32"
    assert facts["threads"] >= 1
    assert facts["run"] == "run"
    assert done.stderr.count("epoch ") == 3
    assert {path.name for path in Path("run").iterdir()} - PICTURES == FILES

    tested = command("evaluate", "run", "--json")
    assert tested.returncode == 0, tested.stderr
    found = json.loads(tested.stdout.splitlines()[-1])
    assert (found["correct"], found["total"]) == (facts["correct"], facts["total"])
    assert np.trace(found["confusion"]) == found["correct"]
    assert np.sum(found["confusion"]) == found["total"]

    _, (x_test, _) = DATASETS["digits"].load(flatten=False, normalize=False)
    image_module.fromarray(255 - x_test[0, 0]).save("digit.png")
    Path("text.png").write_text("no picture")
    read = command("predict", "run", "text.png", "digit.png", "--json")
    assert read.returncode == 1
    assert len(read.stderr.splitlines()) == 1 + 2  # the error, and the label with its shares
    assert "text.png" in read.stderr.splitlines()[0]
    refused, predicted = json.loads(read.stdout)["predictions"]
    assert refused["file"] == "text.png"
    assert "not an image of a kind that is read" in refused["error"]
    shares = predicted["probabilities"]
    assert sum(shares.values()) == pytest.approx(1)
    assert predicted["label"] == max(shares, key=shares.get)


def test_train_prints_for_people(few_digits, fastconv_command):
    status, out, err = fastconv_command("train", "--seed", "5")
    assert status == 0
    assert "error" not in err
    lines = out.splitlines()
    assert "deepconvnet on digits: 2 epochs, batch 100, adam 0.001, seed 5" in lines[0]
    assert lines[1].startswith("epoch 1/2")
    assert lines[2].startswith("epoch 2/2")
    result = re.search(r"test accuracy ([\d.]+) % \((\d+)/41\) after 2 epochs", out)
    assert float(result[1]) == pytest.approx(100 * int(result[2]) / 41, abs=0.005)
    folder = lines[-1].removeprefix("run folder: ")
    assert re.fullmatch(r"runs/deepconvnet-digits-\d{8}-\d{6}", folder)
    assert {path.name for path in Path(folder).iterdir()} >= FILES


def test_a_run_is_repeatable_by_the_seed_that_was_drawn(few_digits, fastconv_command):
    assert fastconv_command("train", "--epochs", "1", "--out", "first")[0] == 0
    again = ["train", "--epochs", "1", "--out", "second", "--seed", str(config("first")["seed"])]
    assert fastconv_command(*again)[0] == 0
    assert_same_run("first", "second")
    assert fastconv_command("train", "--epochs", "1", "--out", "third")[0] == 0
    assert not np.array_equal(weights("first")["W1"], weights("third")["W1"])


def test_training_leaves_numpys_generator_alone(few_digits, fastconv_command):
    np.random.seed(3)
    expected = np.random.random(4)
    np.random.seed(3)
    assert fastconv_command("train", "--epochs", "1", "--out", "run")[0] == 0
    assert np.array_equal(np.random.random(4), expected)


def test_every_option_reaches_the_run(few_digits, fastconv_command):
    options = "--epochs 1 --batch-size 10 --optimizer SGD --lr 0.125 --backend numpy "
    options += "--schedule cosine --augment crop=1,rotate=5.0 --dtype float64 --threads 1 --seed 9 "
    options += "--weight-decay 0.25 --label-smoothing 0.125 --clip-norm 0.5 --swa 1 "
    options += "--sync-batchnorm --balanced "  # with which --class-weight is refused
    options += "--validation 0.25 --patience 3 --freeze conv1.weight,conv1.bias "
    options += "--model lenet --data digits --math fast --views mirror,shift=1 --out run"
    status, out, _ = fastconv_command("train", "--json", *options.split())
    assert status == 0
    expected = {
        "model": "lenet",
        "data": "digits",
        "data_dir": None,
        "balanced": True,
        "sync_batchnorm": True,
        "gradients": None,  # of several processes
        "epochs": 1,
        "batch_size": 10,
        "optimizer": "sgd",
        "lr": 0.125,
        "backend": "numpy",
        "dtype": "float64",
        "threads": 1,
        "ranks": 1,
        "seed": 9,
        "schedule": "cosine",
        "image_facts": None,
        "weight_decay": 0.25,
        "label_smoothing": 0.125,
        "clip_norm": 0.5,
        "class_weight": None,
        "ema": None,
        "swa": 1,
        "validation": 0.25,
        "patience": 3,
        "augment": "rotate=5,crop=1",
        "init": None,
        "freeze": "conv1.weight,conv1.bias",
        "math": "fast",
        "rise": None,
        "views": "shift=1,mirror",
        "members": None,
        "data_seed": None,
        "recipe": None,
        "isa": None,  # NumPy's BLAS decides
        "algorithm": "auto",
        "fastconv": fastconv.__version__,
    }
    assert config("run") == expected
    assert {name: json.loads(out)[name] for name in ("backend", "dtype", "threads")} == {
        "backend": "numpy",
        "dtype": "float64",
        "threads": 1,
    }
    assert weights("run")["conv1.weight"].dtype == np.float64
    (record,) = history("run")
    assert record["iteration"] == 4  # of 46 images, 10 at a time: the others validate
    assert record["learning_rate"] == pytest.approx(0.125 * (1 + math.cos(math.pi * 3 / 4)) / 2)


@pytest.mark.parametrize("optimizer, lr", [("adam", 0.001), ("adamw", 0.001), ("sgd", 0.01)])
def test_the_learning_rate_is_the_optimizers_own(few_digits, fastconv_command, optimizer, lr):
    options = ["--optimizer", optimizer, "--batch-size", "61", "--epochs", "1", "--out", "run"]
    assert fastconv_command("train", *options)[0] == 0
    assert history("run")[0]["learning_rate"] == lr
