"""Logs of a run: what is in the CSV file, and what TensorBoard's writer is given."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from fastconv import Trainer
from fastconv.errors import DataNotFound
from fastconv.training.callbacks import CSVLog, TensorBoardLog

from .test_trainer import classifier

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(40, 2)), RNG.integers(0, 2, 40)


def trainer(*callbacks, epochs=3, **options) -> Trainer:
    options = {"verbose": False, "seed": 0, "evaluate": "end", **options}
    return Trainer(classifier(), X, T, X, T, epochs, 10, callbacks=callbacks, **options)


def read(path) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_line_for_each_epoch(tmp_path):
    path = tmp_path / "log.csv"
    seen = []
    run = trainer(CSVLog(path), lambda *_: seen.append(len(read(path))))
    run.train()
    assert seen == [1, 2, 3]
    for row, record in zip(read(path), run.history, strict=True):
        expected = {k: "" if v is None else repr(v) for k, v in record.items()}
        assert row == expected
    assert [child.name for child in tmp_path.iterdir()] == ["log.csv"]


def test_what_other_callbacks_add_and_a_loss_that_is_none(tmp_path):
    def note(run, record):
        if record["epoch"] == 2:
            record["said"] = 'a "b", c'
            record["train_loss"] = np.nan

    trainer(note, CSVLog(tmp_path / "log.csv")).train()
    rows = read(tmp_path / "log.csv")
    assert [row["said"] for row in rows] == ["", 'a "b", c', ""]
    assert rows[1]["train_loss"] == "nan"


def test_a_run_that_goes_on_keeps_its_lines(tmp_path):
    whole, begun = trainer(CSVLog(tmp_path / "whole.csv")), trainer(epochs=2)
    whole.train()
    begun.train()
    begun.save_checkpoint(tmp_path / "checkpoint.npz")
    rest = trainer(CSVLog(tmp_path / "rest.csv"))
    rest.load_checkpoint(tmp_path / "checkpoint.npz")
    rest.train()
    columns = ("epoch", "iteration", "train_loss", "test_accuracy")
    one, other = (
        [[row[name] for name in columns] for row in read(tmp_path / f"{name}.csv")]
        for name in ("whole", "rest")
    )
    assert one == other


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataNotFound, match="nowhere"):
        trainer(CSVLog(tmp_path / "nowhere" / "log.csv")).train()


class Writer:
    """A stand-in for a SummaryWriter."""

    def __init__(self) -> None:
        self.given: dict[tuple[str, int], float] = {}
        self.flushed = 0

    def add_scalar(self, tag, scalar_value, global_step):
        self.given[tag, global_step] = scalar_value

    def flush(self):
        self.flushed += 1


def test_tensorboard_gets_the_numbers_of_each_epoch():
    writer = Writer()
    run = trainer(TensorBoardLog(writer), validation=0.25)
    run.train()
    tags = {"loss/train", "loss/validation", "learning_rate", "seconds", "images_per_second"}
    tags |= {f"accuracy/{part}" for part in ("train", "validation", "test")}
    assert set(writer.given) == {(tag, epoch) for tag in tags for epoch in (1, 2, 3)}
    assert writer.given["loss/validation", 2] == run.history[1]["validation_loss"]
    assert writer.given["accuracy/test", 3] == run.history[2]["test_accuracy"]
    assert writer.flushed == 3


def test_its_own_writer_takes_them(tmp_path):
    board = pytest.importorskip("tensorboardX")
    with board.SummaryWriter(str(tmp_path)) as writer:
        trainer(TensorBoardLog(writer)).train()
    (events,) = tmp_path.iterdir()
    assert b"accuracy/train" in events.read_bytes()
