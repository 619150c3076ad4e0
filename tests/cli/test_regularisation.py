"""``fastconv train`` with averages, validation and early stopping: what it says and keeps."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastconv import DeepConvNet
from fastconv.datasets import DATASETS
from fastconv.io.arrays import load_arrays
from fastconv.training.validation import Validation, held_out

from .conftest import history, weights

TRAIN = ["train", "--batch-size", "10", "--seed", "1", "--out", "run"]


def test_it_says_what_is_on(few_digits, fastconv_command):
    options = "--optimizer adamw --weight-decay 0.05 --label-smoothing 0.1 --clip-norm 5 "
    options += "--ema 0.9 --validation 0.25 --patience 9"
    status, out, _ = fastconv_command(*TRAIN, *options.split())
    assert status == 0
    assert out.splitlines()[1] == (
        "weight decay 0.05, label smoothing 0.1, gradients clipped at norm 5, "
        "weights averaged with decay 0.9, a share of 0.25 of the training images for validation, "
        "patience 9"
    )
    for line in (line for line in out.splitlines() if line.startswith("epoch ")):
        assert re.search(r"accuracy: train +[\d.]+ %, validation +[\d.]+ %, test +[\d.]+ %", line)
    assert all(record["gradient_norm"] > 0 for record in history("run"))


def test_class_weights_change_the_run(few_digits, fastconv_command, monkeypatch):
    (x, t), test = few_digits
    kept = np.sort(np.concatenate([np.flatnonzero(t == 1)[:1], np.flatnonzero(t != 1)]))
    small = replace(DATASETS["digits"], load=lambda flatten: ((x[kept], t[kept]), test))
    monkeypatch.setitem(DATASETS, "digits", small)
    said, learned = [], []
    for options in ([], ["--class-weight", "balanced"]):
        shutil.rmtree("run", ignore_errors=True)
        status, out, _ = fastconv_command(*TRAIN, "--epochs", "1", *options)
        assert status == 0
        said.append("balanced class weights" in out.splitlines())
        learned.append(weights("run")["W1"].tobytes())
    assert said == [False, True]
    assert len(set(learned)) == 2


def test_a_plain_run_says_nothing_of_it(few_digits, fastconv_command):
    status, out, _ = fastconv_command(*TRAIN, "--epochs", "1")
    assert status == 0
    assert out.splitlines()[1].startswith("epoch 1/1")
    assert "validation" not in out


def test_the_weights_that_are_kept_are_the_averages(few_digits, fastconv_command):
    status, out, _ = fastconv_command(*TRAIN, "--epochs", "3", "--swa", "2", "--json")
    assert status == 0
    arrays, _ = load_arrays(Path("run", "checkpoint.npz"))
    kept = weights("run")
    for name, value in kept.items():
        average = arrays[f"averaging/params/{name}"]
        np.testing.assert_array_equal(value, average.astype(np.float32))
    assert any(not np.array_equal(kept[name], arrays[f"params/{name}"]) for name in kept)
    network = DeepConvNet()
    network.load_params(Path("run", "weights.npz"))
    _, (x_test, t_test) = few_digits
    assert network.accuracy(x_test, t_test) == json.loads(out)["test_accuracy"]
    assert history("run")[-1]["test_accuracy"] == json.loads(out)["test_accuracy"]


def test_validation_ends_the_run_and_says_whose_weights_are_kept(
    few_digits, fastconv_command, monkeypatch
):
    told = iter([0.25, 0.75, 0.5, 0.75, 0.25])
    monkeypatch.setattr(Validation, "measure", lambda *given: (next(told), 1.0))
    options = ["--epochs", "5", "--validation", "0.2", "--patience", "2"]
    status, out, _ = fastconv_command(*TRAIN, *options)
    assert status == 0
    assert [record["validation_accuracy"] for record in history("run")] == [0.25, 0.75, 0.5, 0.75]
    assert "kept: the weights of epoch 2, best on validation\n" in out
    assert "after 4 epochs" in out


def test_the_split_is_the_seeds_and_takes_no_test_images(few_digits, fastconv_command):
    options = ["--epochs", "1", "--validation", "0.2"]
    assert fastconv_command(*TRAIN, *options)[0] == 0
    (x_train, t_train), _ = few_digits
    apart = held_out(t_train, 0.2, seed=1)
    network = DeepConvNet()
    network.load_params(Path("run", "weights.npz"))
    (record,) = history("run")
    expected = network.accuracy(x_train[apart], t_train[apart])
    assert record["validation_accuracy"] == pytest.approx(expected)
    assert record["iteration"] == (~apart).sum() // 10
