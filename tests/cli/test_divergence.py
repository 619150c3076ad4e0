"""Runs whose loss is no number: said once and plainly, kept as valid JSON, with a status."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastconv
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
    monkeypatch.setattr("fastconv.figures.save", lambda figure, path: "")


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
    assert (status, out) == (1, "")
    assert err.count("the run has diverged: the loss of step") == 1
    assert "the loss of step 2, in epoch 1, is nan" in err
    assert "the likely cause is a learning rate that is too large (it is 1e+30). The weights" in err
    assert "the run stops. It has saved no checkpoint before" in err
    assert err.splitlines()[-1] == (
        "fastconv train: error: the run has diverged in epoch 1: its weights are NaN or infinite, "
        "and no epoch before is kept; a lower --lr is the first thing to try"
    )
    assert {path.name for path in Path("run").iterdir()} == {
        *("config.json", "history.jsonl", "initial.npz"),
    }
    assert history("run") == []
    assert config("run")["lr"] == 1e30


def test_the_last_good_epoch_is_kept(few_digits, fastconv_command, monkeypatch):
    one = [*TRAIN[:3], "--epochs", "1", *TRAIN[5:], "--ema", "0.9", "--out", "one"]
    assert fastconv_command(*one)[0] == 0
    lost_at(monkeypatch, 8)  # steps 1 to 6 are the first epoch's
    words = [*TRAIN, "--ema", "0.9", "--out", "run", "--json"]
    status, out, err = fastconv_command(*words)
    assert status == 1
    checkpoint = str(Path("run/checkpoint.npz"))
    assert "the loss of step 8, in epoch 2, is nan" in err
    assert f"The last checkpoint before is {checkpoint}, of step 6" in err
    assert "kept: the weights of epoch 1, the last" in err
    assert err.splitlines()[-1] == (
        "fastconv train: error: the run has diverged in epoch 2 and stopped; "
        f"{checkpoint} keeps 1 epoch before"
    )
    facts, result = strict(out.splitlines()[-1]), strict(Path("run/result.json").read_text())
    assert (facts["diverged"], facts["epochs"]) == (2, 1)
    assert (result["diverged"], result["kept"], result["epochs"]) == (2, 1, 1)
    assert result["test_accuracy"] == strict(Path("one/result.json").read_text())["test_accuracy"]
    assert len(history("run")) == 1
    for name in ("weights", "checkpoint"):
        ours, theirs = (load_arrays(f"{run}/{name}.npz")[0] for run in ("run", "one"))
        for key, value in theirs.items():
            np.testing.assert_array_equal(ours[key], value)
    assert_valid_json("run")


def test_weights_that_are_lost_in_the_last_step_of_an_epoch(
    few_digits, fastconv_command, monkeypatch
):
    """Its loss was finite still."""
    plain = trainer.Trainer._update

    def lost(self, grads):
        plain(self, grads)
        if self.current_iter + 1 == 12:
            next(iter(self.network.params.values()))[...] = math.nan

    monkeypatch.setattr(trainer.Trainer, "_update", lost)
    status, _, err = fastconv_command(*TRAIN, "--out", "run")
    assert status == 1
    assert "the loss of step 13, in epoch 3, is nan" in err
    assert f"The last checkpoint before is {Path('run/checkpoint.npz')}, of step 6" in err
    assert "keeps 1 epoch before" in err.splitlines()[-1]
    assert len(history("run")) == 1
    assert all(np.isfinite(value).all() for value in weights("run").values())
    status, _, err = fastconv_command(*TRAIN[:4], "2", *TRAIN[5:], "--out", "last")
    assert (status, "keeps 1 epoch before" in err.splitlines()[-1]) == (1, True)


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
    assert (status, out) == (1, "")
    assert "the run has diverged in epoch 1" in err.splitlines()[-1]
    assert not Path("two/member-2").exists()


def test_members_that_diverge_after_an_epoch(few_digits, fastconv_command, monkeypatch):
    lost_at(monkeypatch, 8)
    status, out, _ = fastconv_command(*TRAIN, "--members", "2", "--out", "two", "--json")
    assert status == 1
    assert [member["diverged"] for member in strict(out.splitlines()[-1])["members"]] == [2, 2]
    status, _, err = fastconv_command("train", "--resume", "two")  # they are trained
    assert status == 1
    members = ", ".join(str(Path("two", f"member-{number}")) for number in (1, 2))
    assert err.splitlines()[-1].endswith(
        f"members have diverged, and ended before their time: {members}"
    )


def test_a_run_that_diverged_goes_on_from_the_epoch_before(
    few_digits, fastconv_command, monkeypatch
):
    assert fastconv_command(*TRAIN, "--out", "whole")[0] == 0
    with monkeypatch.context() as patch:
        lost_at(patch, 8)
        assert fastconv_command(*TRAIN, "--out", "part")[0] == 1
    assert fastconv_command("train", "--resume", "part")[0] == 0
    for name, value in weights("whole").items():
        np.testing.assert_array_equal(weights("part")[name], value)
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
    raising.train()  # nothing can come of it any longer
    assert raising.current_iter == told.current_iter == 2
    assert raising.diverged and told.diverged and not told.stopped
    assert raising.diverged_epoch == 1


def test_a_trainer_goes_back_to_its_last_good_checkpoint(monkeypatch, tmp_path):
    run = small_run(Watched(), epochs=2, seed=1, mini_batch_size=84)
    run.train_step()
    run.save_checkpoint(tmp_path / "good.npz")
    with monkeypatch.context() as patch:
        lost_at(patch, 3)
        with pytest.warns(DivergenceWarning, match=r"before is .*good\.npz, of step 1") as told:
            run.train()
        run.save_checkpoint(tmp_path / "bad.npz")
    assert "the loss of step 3, in epoch 2, is nan" in str(told[0].message)
    assert run.last_checkpoint == (str(tmp_path / "good.npz"), 1)
    run.load_checkpoint(run.last_checkpoint[0])
    assert not run.diverged and run.current_iter == 1
    run.train()
    assert run.finished and run.finite


def test_a_batch_that_is_not_finite_is_the_cause():
    data = np.ones((4, 1, 28, 28)), np.arange(4)
    network = fastconv.DeepConvNet(seed=0)

    def spoil(x, rng):
        return x * np.inf

    run = Trainer(network, *data, *data, 1, 4, verbose=False, seed=0, augment=spoil)
    with pytest.warns(DivergenceWarning, match="likely cause is input that is NaN or infinite"):
        run.train()


def test_a_sound_network_goes_on(monkeypatch):
    lost_at(monkeypatch, 2, weights_too=False)
    run = small_run(Watched(), epochs=2, seed=1, mini_batch_size=84)
    with pytest.warns(DivergenceWarning, match="The weights are finite, and the run goes on"):
        run.train()
    assert run.finished and not run.diverged and run.current_iter == 5


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
