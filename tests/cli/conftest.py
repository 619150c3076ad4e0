"""What the tests of the command line share: few digits, runs, and how to look into them."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv import figures
from fastconv.cli import main as cli
from fastconv.datasets import DATASETS
from fastconv.io.arrays import load_arrays

from ..stand_ins import save_no_pixels

ROOT = Path(fastconv.__file__).resolve().parents[1]
LISTS = {"mistakes.csv", "mistakes.json"}
FILES = {
    *("config.json", "history.jsonl", "weights.npz", "checkpoint.npz", "result.json"),
    *("initial.npz", *LISTS),
}
PICTURES = {"curves.png", "mistakes.png"}

SAVE_FIGURE = figures.save

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _no_pixels(monkeypatch):
    """Pictures are laid out, and their files are there; runs that are shared have whole ones."""
    monkeypatch.setattr(figures, "save", save_no_pixels)


@pytest.fixture
def pixels(monkeypatch):
    """For a test that is about the pictures themselves."""
    monkeypatch.setattr(figures, "save", SAVE_FIGURE)


@pytest.fixture
def fastconv_command(capsys) -> Run:
    """Call the command in this process: status, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(list(arguments))
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


@pytest.fixture(scope="session")
def few():
    """A few of the digits, a number that no batch divides: 61 and 41 images."""
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    (x_train, t_train), (x_test, t_test) = DATASETS["digits"].load(flatten=False)
    split = (x_train[:61], t_train[:61]), (x_test[:41], t_test[:41])
    return replace(DATASETS["digits"], load=lambda flatten: split, epochs=2)


@pytest.fixture
def few_digits(monkeypatch, few):
    """The data set ``digits`` is small in this test; its split."""
    monkeypatch.setitem(DATASETS, "digits", few)
    return few.load(flatten=False)


@pytest.fixture(scope="session")
def kept_run(few, tmp_path_factory) -> Path:
    """A run of three epochs, of 6 steps each, that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    options = ["--epochs", "3", "--batch-size", "10", "--seed", "1", "--out", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "digits", few)
        assert cli.main(["train", *options]) == 0
    return folder


@pytest.fixture
def whole(kept_run, few_digits) -> str:
    """A copy of that run for this test alone, which sees few digits too."""
    shutil.copytree(kept_run, "whole")
    return "whole"


@pytest.fixture(scope="session", autouse=True)
def _fallback_announced():
    """Where ``auto`` is not its first choice it says so once: here, and not in some test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fastconv.get_backend()


def environment() -> dict[str, str]:
    """For a command in a process of its own: this package, and this process's backend."""
    own = {"PYTHONPATH": str(ROOT), "FASTCONV_BACKEND": fastconv.get_backend()}
    return {**os.environ, **own}


def weights(folder: str) -> dict[str, np.ndarray]:
    return load_arrays(Path(folder, "weights.npz"))[0]


def history(folder: str) -> list[dict]:
    return [json.loads(line) for line in Path(folder, "history.jsonl").read_text().splitlines()]


def config(folder: str) -> dict:
    return json.loads(Path(folder, "config.json").read_text())


def assert_same_run(folder: str, other: str) -> None:
    """The same weights to the last bit, and the same history but for the clock."""
    ours, theirs = weights(folder), weights(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert np.array_equal(value, theirs[name]), name
    clock = ("seconds", "images_per_second")
    for here, there in zip(history(folder), history(other), strict=True):
        for name in here:
            assert name in clock or here[name] == there[name], name
