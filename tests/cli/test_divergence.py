"""Runs whose loss is no number: said once and plainly, kept as valid JSON, with a status."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from fastconv import Trainer, trainer
from fastconv.errors import DivergenceWarning
from fastconv.io.arrays import load_arrays
from fastconv.io.records import json_text
from fastconv.training.validation import Validation

from ..test_trainer import Watched
from ..test_trainer import trainer as small_run
from .conftest import config, history, weights

TRAIN = ["train", "--model", "lenet", "--epochs", "3", "--batch-size", "10", "--seed", "1"]


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("fastconv.experiment.figures.save_figure", lambda figure, path: None)


@pytest.fixture(autouse=True)
def _overflow_is_expected():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("always", DivergenceWarning)
        yield


def lost_at(monkeypatch, *steps: int, weights_too: bool = True, loss: float = math.nan) -> None:
    """From these steps of a run on, counted from 1, the loss is lost."""
    plain = trainer.Trainer._loss_of_gradient

    def lost(self):
        if self.current_iter + 1 not in steps:
            return plain(self)
        if weights_too:
            for value in self.network.params.values():
                value[...] = math.nan
        return loss

    monkeypatch.setattr(trainer.Trainer, "_loss_of_gradient", lost)


def strict(text: str):
    """JSON as its standard has it: NaN and Infinity are none."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def assert_valid_json(folder: str) -> None:
    for name in ("config.json", "result.json"):
        strict(Path(folder, name).read_text())
    for line in Path(folder, "history.jsonl").read_text().splitlines():
        strict(line)
    with np.load(Path(folder, "checkpoint.npz")) as archive:
        strict(archive["metadata.json"].tobytes().decode())


def test_a_rate_that_is_absurd(few_digits, fastconv_command):
    words = ["--lr", "1e30", "--validation", "0.2", "--patience", "5", "--clip-norm", "1"]
    status, out, err = fastconv_command(*TRAIN, *words, "--out", "run", "--json")
    assert status == 1
    assert err.count("the run has diverged: the loss of step") == 1
    assert "a learning rate that is too large (it is 1e+30)" in err
    assert "diverged: a loss of epoch 1 is no finite number" in err
    assert "best on validation" not in err
    assert err.splitlines()[-1] == (
        "fastconv train: error: the run has diverged: its weights are NaN or infinite"
    )
    assert strict(out.splitlines()[-1])["diverged"] == 1
    assert strict(Path("run/result.json").read_text())["diverged"] == 1
    assert [record["train_loss"] for record in history("run")] == [None] * 3
    assert config("run")["lr"] == 1e30
    assert_valid_json("run")


def test_the_best_epoch_before_is_kept(few_digits, fastconv_command, monkeypatch):
    words = ["--validation", "0.2", "--patience", "5"]
    assert fastconv_command(*TRAIN[:3], "--epochs", "1", *TRAIN[5:], *words, "--out", "one")[0] == 0
    lost_at(monkeypatch, 6)  # steps 1 to 4 are the first epoch's
    status, out, err = fastconv_command(*TRAIN, *words, "--out", "run")
    assert status == 0
    assert "the loss of step 6, in epoch 2, is nan" in err
    assert "diverged: a loss of epoch 2 is no finite number" in out
    assert "kept: the weights of epoch 1, best on validation" in out
    assert strict(Path("run/result.json").read_text())["diverged"] == 2
    for name, value in weights("one").items():
        np.testing.assert_array_equal(weights("run")[name], value)
    assert_valid_json("run")


def test_a_loss_that_is_lost_for_a_step(few_digits, fastconv_command, monkeypatch):
    """The weights are sound: the run is one, but it is said."""
    lost_at(monkeypatch, 2, weights_too=False, loss=math.inf)
    status, out, err = fastconv_command(*TRAIN, "--out", "run")
    assert status == 0
    assert "the loss of step 2, in epoch 1, is inf" in err
    assert "diverged: a loss of epoch 1" in out
    assert "kept:" not in out


def test_a_run_that_does_not_diverge_says_nothing_of_it(few_digits, fastconv_command):
    status, out, err = fastconv_command(*TRAIN, "--out", "run", "--json")
    assert (status, strict(out.splitlines()[-1])["diverged"]) == (0, None)
    assert "diverged" not in err
    assert strict(Path("run/result.json").read_text())["diverged"] is None


def test_members_that_diverge(few_digits, fastconv_command):
    words = [*TRAIN, "--lr", "1e30", "--members", "2", "--out", "two", "--json"]
    status, out, err = fastconv_command(*words)
    assert status == 1
    assert err.count("diverged: a loss of epoch 1 is no finite number") == 2
    assert [member["diverged"] for member in strict(out.splitlines()[-1])["members"]] == [1, 1]
    status, _, err = fastconv_command("train", "--resume", "two")  # they are trained
    assert status == 1
    assert "the run has diverged: its weights are NaN or infinite" in err


def test_a_diverged_run_goes_on_bit_for_bit(few_digits, fastconv_command):
    words = [*TRAIN, "--lr", "1e30", "--clip-norm", "1", "--out"]
    assert fastconv_command(*words, "whole")[0] == 1
    words[4] = "2"
    assert fastconv_command(*words, "part")[0] == 1
    status, _, _ = fastconv_command("train", "--resume", "part", "--epochs", "3")
    assert status == 1
    for name, value in weights("whole").items():
        np.testing.assert_array_equal(weights("part")[name], value)
    (ours, here), (theirs, there) = (
        load_arrays(f"{run}/checkpoint.npz") for run in ("whole", "part")
    )
    for name, value in ours.items():
        np.testing.assert_array_equal(theirs[name], value)
    assert here["generator"] == there["generator"]
    assert [record["epoch"] for record in history("part")] == [1, 2, 3]


def test_losses_come_back_as_they_were(tmp_path):
    """NaN is not infinity; both are no JSON."""
    losses = [0.1, math.inf, -math.inf, math.nan]

    def run() -> Trainer:
        return small_run(Watched(), epochs=2, seed=1, mini_batch_size=84, evaluate="end")

    first, second = run(), run()
    for _ in losses:
        first.train_step()
    first.train_loss_list[:] = losses
    first.history[0]["train_loss"] = math.inf
    first.history[0]["mine"] = np.float32(0.5)  # of a callback
    first.save_checkpoint(tmp_path / "checkpoint.npz")
    second.load_checkpoint(tmp_path / "checkpoint.npz")
    np.testing.assert_array_equal(second.train_loss_list, losses)
    assert math.isnan(second.history[0]["train_loss"])
    assert second.history[0]["mine"] == 0.5
    assert second.diverged_epoch == first.diverged_epoch == 1


def test_it_is_said_once_and_the_step_is_whole_where_warnings_raise(monkeypatch):
    lost_at(monkeypatch, 2, 3, 5)

    def run() -> Trainer:
        return small_run(Watched(), epochs=2, seed=1, mini_batch_size=84)

    told = run()
    with pytest.warns(DivergenceWarning) as caught:
        told.train()
    assert len(caught) == 1
    assert "the loss of step 2, in epoch 1, is nan" in str(caught[0].message)
    assert caught[0].filename == __file__
    raising = run()
    with warnings.catch_warnings():
        warnings.simplefilter("error", DivergenceWarning)
        with pytest.raises(DivergenceWarning):
            raising.train()
    assert (raising.current_iter, len(raising.train_loss_list)) == (2, 2)
    raising.train()
    assert raising.current_iter == told.current_iter == 5
    assert raising.diverged_epoch == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_never_the_best(value):
    network = Watched()
    validation = Validation(np.zeros((1, 2)), np.zeros(1, int), 2)
    network.params["W"][0] = value
    validation.note(network, 0.9, 1.0)
    assert (validation.best_epoch, validation.best) == (0, None)
    assert not validation.exhausted
    validation.note(network, 0.9, 1.0)
    assert validation.exhausted
    network.params["W"][0] = 1
    validation.note(network, 0.1, 1.0)
    assert validation.best_epoch == 3


def test_json_has_no_number_that_is_not_finite():
    facts = {"a": math.nan, "b": [math.inf, {"c": (-math.inf, 1.5)}], "d": np.float32("nan")}
    assert strict(json_text(facts)) == {"a": None, "b": [None, {"c": [None, 1.5]}], "d": None}
    assert strict(json_text({"n": np.int64(3), "x": np.float64(0.1)})) == {"n": 3, "x": 0.1}
