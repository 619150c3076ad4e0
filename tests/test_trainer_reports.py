"""What a Trainer evaluates, records and prints."""

from __future__ import annotations

import sys

import pytest

from fastconv.errors import MissingDependency
from fastconv.progress import ProgressBar

from .test_trainer import T, Watched, X, trainer


@pytest.mark.parametrize(
    ("samples", "epochs", "evaluations"),
    [(200, 3, [1, 3, 5]), (250, 2, [1, 3]), (50, 3, [1, 2, 3]), (100, 1, [1])],
)
def test_evaluates_after_the_first_step_of_each_epoch(samples, epochs, evaluations):
    network = Watched()
    run = trainer(network, x=X[:samples], t=T[:samples], epochs=epochs)
    run.train()
    steps, seen = 0, []
    for call in network.calls:
        steps += call[0] == "gradient"
        if call == ("accuracy", samples, samples):
            seen.append(steps)
    assert seen == evaluations
    assert run.train_acc_list == [samples / 1000] * len(evaluations)
    assert run.test_acc_list == [0.03] * len(evaluations)
    assert run.current_epoch == epochs


def test_evaluates_on_the_first_samples_of_each_set():
    network = Watched()
    run = trainer(network, epochs=2, evaluate_sample_num_per_epoch=20)
    run.train()
    assert network.of("accuracy") == [("accuracy", 20, 20)] * 4
    assert run.train_acc_list == run.test_acc_list == [0.02, 0.02]


def test_evaluation_at_the_end_takes_the_whole_test_set():
    network = Watched()
    run = trainer(network, epochs=2, evaluate_sample_num_per_epoch=20, evaluate="end")
    run.train()
    kinds = [(call[0], call[1]) for call in network.calls if call[0] == "accuracy"]
    assert kinds == [("accuracy", 20), ("accuracy", 30)] * 2
    order = [call[0] for call in network.calls]
    first = ["gradient"] * 2 + ["accuracy"] * 2
    assert order == first + ["gradient"] * 3 + ["accuracy"] * 2


def test_evaluation_at_the_end_may_leave_out_the_training_set():
    run = trainer(epochs=2, evaluate_sample_num_per_epoch=0, evaluate="end")
    run.train()
    assert run.train_acc_list == []
    assert run.test_acc_list == [0.03, 0.03]
    assert [record["train_accuracy"] for record in run.history] == [None, None]
    assert [record["test_accuracy"] for record in run.history] == [0.03, 0.03]


# ---- what it prints -------------------------------------------------------------------


def test_the_lines_of_a_verbose_run(capsys):
    run = trainer(x=X[:200], t=T[:200], epochs=2, verbose=True, evaluate_sample_num_per_epoch=20)
    run.train()
    assert capsys.readouterr().out.splitlines() == [
        "train loss:2.25",
        "=== epoch:1, train acc:0.02, test acc:0.02 ===",
        "train loss:2.0",
        "train loss:1.75",
        "=== epoch:2, train acc:0.02, test acc:0.02 ===",
        "train loss:1.5",
        "=============== Final Test Accuracy ===============",
        "test acc:0.03",
    ]


def test_a_quiet_run_prints_nothing(capsys):
    trainer(epochs=2).train()
    assert capsys.readouterr() == ("", "")


def test_progress_shows_images_per_second_and_loss_on_standard_error(capsys):
    trainer(epochs=2, progress=True).train()
    out, err = capsys.readouterr()
    assert out == ""
    assert "5/5" in err and "images/s" in err and "loss 1.250" in err


def test_tqdm_chooses_the_bar_of_a_notebook(monkeypatch):
    """`tqdm.auto` has a widget where there is one, and else what a terminal shows."""
    auto, made = pytest.importorskip("tqdm.auto"), []

    class Widget:
        def __init__(self, total, initial, **settings):
            made.append((total, initial))

        def update(self, steps):
            made.append(steps)

        def close(self):
            made.append("closed")

    monkeypatch.setattr(auto, "tqdm", Widget)
    with ProgressBar(5, 2, show=True) as bar:
        bar.tick()
    assert made == [(5, 2), 1, "closed"]


def test_progress_without_tqdm_names_the_extra(monkeypatch):
    for name in ("tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=r"tqdm: pip install tqdm"):
        trainer(epochs=1, progress=True).train()
