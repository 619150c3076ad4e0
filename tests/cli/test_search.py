"""``fastconv search``: trials drawn at random, whoever trains them, and what is left of them."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from fastconv.errors import ArgumentError, DataCorrupt
from fastconv.experiment import search as searching
from fastconv.experiment.recipes import find_recipe
from fastconv.experiment.search import Draw, Search, SearchFolder, Trial, best_first
from fastconv.experiment.settings import new_config
from fastconv.network import Network
from fastconv.trainer import Trainer

from ..test_distributed import SCRIPT, on_ranks

WORDS = "search --model lenet --epochs 1 --seed 3 --threads 1 --optimizer sgd --trials 3"
DRAWS = ["--draw", "lr=1e-3:1e-1", "--draw", "weight_decay=1e-6:1e-2"]


@pytest.fixture
def data():
    """A file of images that other processes read, too."""
    rng = np.random.default_rng(5)
    t = rng.integers(0, 3, 90)
    pixels = (rng.random((90, 16, 16)) * 40 + 60 * t[:, None, None]).astype(np.uint8)
    np.savez("few.npz", x=pixels, t=t)
    return ["--data", "few.npz", "--batch-size", "20"]


def results(folder: str) -> dict[int, dict]:
    """What is kept of each trial, but for the clock."""
    lines = Path(folder, "trials.jsonl").read_text().splitlines()
    trials = [json.loads(line) for line in lines]
    assert all(trial.pop("seconds") >= 0 for trial in trials)
    return {trial["number"]: trial for trial in trials}


def test_a_search_leaves_table_recipe_and_pictures(few_digits, fastconv_command):
    tested = few_digits[1][0]
    looked_at = []
    accuracy = Network.accuracy

    def looks(self, x, t, *more):
        looked_at.append(any(np.array_equal(x[:1], image[None]) for image in tested))
        return accuracy(self, x, t, *more)

    with mock.patch.object(Network, "accuracy", looks):
        status, out, err = fastconv_command(*WORDS.split(), *DRAWS, "--out", "here", "--json")
    assert status == 0 and looked_at and not any(looked_at)
    trials = results("here")
    assert list(trials) == [1, 2, 3]
    for trial in trials.values():
        assert 1e-3 <= trial["settings"]["lr"] <= 1e-1
        assert 1e-6 <= trial["settings"]["weight_decay"] <= 1e-2
        assert trial["curve"] == [trial["accuracy"]] and trial["error"] is None
    best = max(trials.values(), key=lambda trial: (trial["accuracy"], -trial["loss"]))
    with Path("here", "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(rows[0]["trial"]), float(rows[0]["lr"])] == [best["number"], best["settings"]["lr"]]
    settings = find_recipe("here/best.toml").settings
    assert settings == best["settings"] | {"model": "lenet", "epochs": 1, "optimizer": "sgd"}
    assert {path.name for path in Path("here").glob("*.png")} == {"search.png", "curves.png"}
    facts = json.loads(out)
    assert facts["results"][0]["number"] == best["number"]
    assert facts["run"]["validation"] == 0.2 and facts["run"]["ranks"] == 1
    assert "train with the best: fastconv train --recipe here/best.toml" in err


def test_ranks_and_processes_have_the_same_trials(data, fastconv_command, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = [*WORDS.split(), *DRAWS, *data]
    assert fastconv_command(*words, "--out", "alone")[0] == 0
    assert fastconv_command(*words, "--out", "jobs", "--jobs", "2")[0] == 0
    done = on_ranks(2, str(SCRIPT), "command", *words, "--out", "ranks")
    assert (done.returncode, done.stdout.count("validation accuracy")) == (0, 3), done.stderr
    assert "lenet on few" in done.stdout and ", 2 ranks; drawn: lr" in done.stdout
    assert results("alone") == results("jobs") == results("ranks")
    assert len({trial["loss"] for trial in results("alone").values()}) == 3


def test_a_search_goes_on_after_an_interruption(few_digits, fastconv_command, monkeypatch):
    assert fastconv_command(*WORDS.split(), *DRAWS, "--out", "straight")[0] == 0
    steps, train = [], Trainer.train

    def stops(self):
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt
        train(self)

    monkeypatch.setattr(Trainer, "train", stops)
    status, out, err = fastconv_command(*WORDS.split(), *DRAWS, "--out", "begun")
    assert status == 130 and "interrupted" in err
    assert "stopped; 1 trial of 3 kept; continue with: fastconv search --resume begun" in out
    with Path("begun", "trials.jsonl").open("a") as file:
        file.write('{"number": 2, "set')  # of a killed process
    assert fastconv_command("search", "--resume", "begun")[0] == 0
    assert len(steps) == 4 and results("begun") == results("straight")
    assert fastconv_command("search", "--resume", "begun", "--trials", "4")[0] == 0
    assert len(steps) == 5 and set(results("begun")) == {1, 2, 3, 4}


def test_a_trial_that_fails_is_a_row(few_digits, fastconv_command, monkeypatch):
    train = Trainer.train

    def fails(self):
        if 1e-3 < self.optimizer.lr < 1:
            raise ValueError("no luck")
        train(self)

    monkeypatch.setattr(Trainer, "train", fails)
    words = [*WORDS.split(), "--draw", "lr=1e-3,0.01,1e30"]
    status, out, _ = fastconv_command(*words, "--out", "here")
    assert status == 0
    errors = {trial["settings"]["lr"]: trial["error"] for trial in results("here").values()}
    assert errors.pop(1e30).startswith("diverged in epoch 1")
    assert errors == {1e-3: None, 0.01: "ValueError: no luck"}
    assert "ValueError: no luck" in out and "diverged in epoch 1" in out
    words = [*WORDS.split(), "--trials", "1", "--draw", "lr=1e30"]
    status, _, err = fastconv_command(*words, "--out", "none")
    assert status == 1 and "no trial has ended well" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--draw lr", "must be NAME=LOW:HIGH"),
        ("--draw rate=1:2", "draws no 'rate'"),
        ("--draw lr=2:1", "LOW must be above 0 and below HIGH"),
        ("--draw lr=0:1", "LOW must be above 0"),
        ("--draw ema=0.5:2", "ema: must be greater than 0 and below 1"),
        ("--draw optimizer=adam,sdg", "unknown optimizer 'sdg'"),
        ("--draw optimizer=adam,sgd", "draw lr too"),
        ("--draw lr=1:2 --draw lr=1:3", "twice"),
        ("--draw lr=1:2 --lr 1", "--lr says it too"),
        ("--draw ema=0.5,0.6 --swa 1", "swa says the same"),
        ("--optimizer adam --draw weight_decay=1:2", "adam has none"),
        ("--draw lr=1,2 --trials 3", "there are 2 combinations"),
        ("--resume nowhere", "has no search.json"),
    ],
)
def test_wrong_use(words, said, fastconv_command):
    status, _, err = fastconv_command("search", *words.split(), "--out", "here")
    assert status == 2 or "--resume" in words
    if "--resume" in words:
        status, _, err = fastconv_command("search", *words.split())
    assert status == 2 and said in err
    assert not Path("here").exists()


def test_a_resumed_search_goes_on_by_its_own_settings(few_digits, fastconv_command):
    assert fastconv_command(*WORDS.split(), *DRAWS, "--out", "here")[0] == 0
    for words, said in [
        ("--lr 1", "--lr: a resumed search goes on by its own"),
        ("--trials 2", "it can only be raised"),
    ]:
        status, _, err = fastconv_command("search", "--resume", "here", *words.split())
        assert status == 2 and said in err
    with pytest.raises(DataCorrupt, match="trial 1 has other draws"):
        SearchFolder("here").read_trials([{"lr": 1.0}])


def test_numbers_are_drawn_log_uniformly_and_by_the_seed_alone():
    search = Search(
        run=new_config({"seed": 4}), draw={"lr": "1e-4:1", "batch_size": "8:800"}, trials=400
    )
    drawn = search.drawn()
    assert (
        drawn == search.drawn()
        and drawn[:20]
        == searching.Search(run=new_config({"seed": 4}), draw=search.draw, trials=20).drawn()
    )
    for name, low, high in [("lr", 1e-4, 1), ("batch_size", 8, 800)]:
        values = np.array([each[name] for each in drawn])
        assert values.min() >= low and values.max() <= high
        places = np.log(values / low) / np.log(high / low)  # uniform
        counts = np.histogram(places, 4, (0, 1))[0]
        assert abs(counts - 100).max() < 35  # four standard deviations
    assert all(isinstance(each["batch_size"], int) for each in drawn)


def test_the_best_comes_first():
    trials = [
        Trial(1, {}, error="failed"),
        Trial(2, {}, 0.5, 2.0),
        Trial(3, {}, 0.75, 3.0),
        Trial(4, {}, 0.75, 2.0),
        Trial(5, {}, 0.75, 2.0),
    ]
    assert [trial.number for trial in best_first(trials)] == [4, 5, 3, 2, 1]


def test_a_draw_that_is_no_number_of_the_setting():
    with pytest.raises(ArgumentError, match="batch_size"):
        Draw.parse("batch_size=a,b")
