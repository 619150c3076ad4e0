"""Runs that are stopped and continued: the same weights, bit for bit."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv import selection, trainer
from fastconv.io.arrays import load_arrays, save_arrays

from .conftest import assert_same_run, config, environment, history, weights


def test_resume_for_more_epochs_is_the_longer_run(whole, fastconv_command):
    options = ["--epochs", "1", "--batch-size", "10", "--seed", "1", "--out", "part"]
    assert fastconv_command("train", *options)[0] == 0
    assert len(history("part")) == 1
    status, out, err = fastconv_command("train", "--resume", "part", "--epochs", "3", "--json")
    assert status == 0
    assert epochs_of(err) == [2, 3]
    assert json.loads(out)["epochs"] == 3
    assert_same_run("part", whole)
    assert config("part")["epochs"] == 3


def epochs_of(out: str) -> list[int]:
    """The epochs that a run printed: a resumed run does not start over."""
    return [int(number) for number in re.findall(r"^epoch +(\d+)/", out, re.MULTILINE)]


def interrupt_at(monkeypatch, step: int, number: int = signal.SIGINT, times: int = 1) -> None:
    """Send this process a signal in the middle of a step."""
    plain = trainer.Trainer.train_step

    def interrupted(self):
        if self.current_iter == step and not sent:
            sent.append(number)
            for _ in range(times):
                signal.raise_signal(number)
        plain(self)

    sent: list[int] = []
    monkeypatch.setattr(trainer.Trainer, "train_step", interrupted)


@pytest.mark.parametrize(
    "step, epochs, number, status",
    [
        (0, 0, signal.SIGINT, 130),  # the very first step
        (8, 1, signal.SIGINT, 130),  # in the middle of the second epoch
        (11, 2, signal.SIGINT, 130),  # the last step of the second epoch
        (8, 1, signal.SIGTERM, 143),
    ],
)
def test_an_interrupted_run_is_saved_and_resumes_bit_for_bit(
    whole, fastconv_command, monkeypatch, step, epochs, number, status
):
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, number)
        options = ["--epochs", "3", "--batch-size", "10", "--seed", "1", "--out", "part"]
        handler = signal.getsignal(number)
        found, out, err = fastconv_command("train", *options)
        assert signal.getsignal(number) is handler
    assert found == status
    assert "Traceback" not in err
    assert out.splitlines()[-1].endswith("continue with: fastconv train --resume part")
    assert len(history("part")) == epochs
    _, metadata = load_arrays(Path("part", "checkpoint.npz"))
    assert metadata["progress"]["current_iter"] == step + 1
    # What there is so far can be looked at.
    assert fastconv_command("evaluate", "part")[0] == 0
    status, out, _ = fastconv_command("train", "--resume", "part")
    assert status == 0
    assert epochs_of(out) == list(range(epochs + 1, 4))
    assert_same_run("part", whole)


def test_an_interrupt_in_the_last_step_ends_the_run_as_usual(whole, fastconv_command, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 17)
        options = ["--epochs", "3", "--batch-size", "10", "--seed", "1", "--out", "part"]
        assert fastconv_command("train", *options)[0] == 0
    assert_same_run("part", whole)


def test_an_interrupt_before_the_first_step_needs_no_saving(
    few_digits, fastconv_command, monkeypatch
):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fastconv.experiment.train.Trainer", interrupted)
        status, _, err = fastconv_command("train", "--out", "run")
    assert status == 130
    assert err == "fastconv train: error: interrupted\n"
    assert not Path("run").exists()


def test_a_real_interrupt_and_a_second_one(tmp_path):
    """Ctrl-C reaches a process of its own; two of them leave it no time to save."""
    command = [sys.executable, "-P", "-m", "fastconv", "train", "--epochs", "1000", "--out", "run"]
    process = subprocess.Popen(
        command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "once more to stop at once" in err
    assert "continue with: fastconv train --resume run" in out
    assert config("run")["epochs"] == 1000

    at_once = "import signal; from fastconv import trainer; from fastconv.cli import main as cli\n"
    at_once += "def step(self):\n    for _ in range(2): signal.raise_signal(signal.SIGINT)\n"
    at_once += "trainer.Trainer.train_step = step\ncli.main(['train', '--out', 'twice'])\n"
    killed = subprocess.run(
        [sys.executable, "-P", "-c", at_once], env=environment(), capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGINT
    assert not Path("twice", "checkpoint.npz").exists()


def test_a_history_that_ran_ahead_of_the_checkpoint_is_cut_back(whole, fastconv_command):
    """The process may die after the line of an epoch and before its checkpoint."""
    with Path(whole, "history.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 4}) + "\n")
    assert fastconv_command("train", "--resume", whole)[0] == 0
    assert [record["epoch"] for record in history(whole)] == [1, 2, 3]


def test_resuming_a_finished_run_tells_its_result_again(whole, fastconv_command):
    before = weights(whole)
    Path(whole, "weights.npz").unlink()
    status, out, _ = fastconv_command("train", "--resume", whole, "--json")
    assert status == 0
    assert json.loads(out)["total"] == 41
    for name, value in weights(whole).items():
        assert np.array_equal(value, before[name])


@pytest.mark.parametrize(
    "options, message",
    [
        (["--epochs", "2"], "started for 3; it can only be raised"),
        (["--seed", "2"], "--seed 2: .*started with 1"),
        (["--lr", "0.5"], "--lr 0.5: .*started with 0.001"),
        (["--batch-size", "20"], "--batch-size 20: .*started with 10"),
        (["--dtype", "float64"], "--dtype float64: .*started with float32"),
        (["--schedule", "cosine"], "--schedule cosine: .*started with constant"),
        (["--optimizer", "sgd"], "--optimizer sgd: .*started with adam"),
        (["--data", "mnist"], "--data mnist: .*started with digits"),
        (["--weight-decay", "0.1"], "--weight-decay 0.1: .*started without; leave it out"),
        (["--label-smoothing", "0.1"], "--label-smoothing 0.1: .*started with 0.0"),
        (["--clip-norm", "1"], "--clip-norm 1.0: .*started without"),
        (["--ema", "0.9"], "--ema 0.9: .*started without"),
        (["--swa", "2"], "--swa 2: .*started without"),
        (["--validation", "0.1"], "--validation 0.1: .*started without"),
        (["--patience", "2"], "--patience 2: .*started without"),
        (["--out", "elsewhere"], "--out"),
    ],
)
def test_resume_refuses_what_would_be_another_run(whole, fastconv_command, options, message):
    before = Path(whole, "config.json").read_bytes()
    status, _, err = fastconv_command("train", "--resume", whole, *options)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert re.search(message, err)
    assert Path(whole, "config.json").read_bytes() == before


def test_resume_with_the_same_options_is_welcome(whole, fastconv_command):
    options = ["--seed", "1", "--epochs", "3", "--optimizer", "Adam", "--out", whole]
    assert fastconv_command("train", "--resume", whole, *options)[0] == 0


def test_resume_on_other_threads_or_backend_warns(whole, fastconv_command):
    threads = str(config(whole)["threads"] + 1)
    options = ["--epochs", "4", "--threads", threads, "--backend", "numpy"]
    status, _, err = fastconv_command("train", "--resume", whole, *options)
    assert status == 0
    assert re.search(rf"warning: .*--threads {threads} .*last bit", err)
    assert ("--backend numpy" in err) == (fastconv.get_backend() != "numpy")


def test_resume_on_another_instruction_set_or_algorithm_warns(
    whole, fastconv_command, monkeypatch, environment
):
    """No option names them: the CPU and the environment decide."""
    backend = config(whole)["backend"]
    assert config(whole)["isa"] == selection.instruction_set(backend)
    assert config(whole)["algorithm"] == "auto"
    resume = ["train", "--resume", whole]
    assert "continuing" not in fastconv_command(*resume)[2]
    environment("FASTCONV_CONV_ALGORITHM", "direct")
    monkeypatch.setattr(selection, "instruction_set", lambda name: "sse9")
    status, _, err = fastconv_command(*resume)
    assert status == 0
    assert re.search(r"continuing with instruction set sse9 instead of \w+: .*last bit", err)
    assert re.search(
        "continuing with convolution algorithm direct instead of auto: .*last bit", err
    )
    assert (config(whole)["isa"], config(whole)["algorithm"]) == ("sse9", "direct")
    assert "continuing" not in fastconv_command(*resume)[2]


def test_a_run_of_before_instruction_sets_were_kept_goes_on(whole, fastconv_command):
    older = config(whole)
    del older["isa"], older["algorithm"]
    Path(whole, "config.json").write_text(json.dumps(older))
    status, _, err = fastconv_command("train", "--resume", whole)
    assert status == 0
    assert "continuing" not in err


def test_a_stopped_run_goes_on_in_its_schedule(few_digits, fastconv_command, monkeypatch):
    options = ["train", "--epochs", "2", "--batch-size", "10", "--seed", "1"]
    options += ["--schedule", "one-cycle", "--out"]
    assert fastconv_command(*options, "straight")[0] == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        assert fastconv_command(*options, "stopped")[0] == 128 + signal.SIGINT
    status, out, _ = fastconv_command("train", "--resume", "stopped")
    assert status == 0
    assert "adam 0.001 one-cycle, seed 1" in out
    assert_same_run("stopped", "straight")
    status, _, err = fastconv_command("train", "--resume", "stopped", "--epochs", "3")
    assert status == 0
    assert re.search("warning: the one-cycle schedule of 2 epochs is stretched over 3", err)


def test_a_run_of_before_there_were_schedules_and_regularisation_goes_on(whole, fastconv_command):
    facts = json.loads(Path(whole, "config.json").read_text())
    later = ("weight_decay", "label_smoothing", "clip_norm", "ema", "swa", "validation", "patience")
    for name in ("schedule", *later):
        del facts[name]
    Path(whole, "config.json").write_text(json.dumps(facts))
    lines = [json.loads(line) for line in Path(whole, "history.jsonl").read_text().splitlines()]
    arrays, metadata = load_arrays(Path(whole, "checkpoint.npz"))
    del arrays["progress/_epoch_norms"]
    for record in (*lines, *metadata["progress"]["history"]):
        for name in ("validation_accuracy", "validation_loss", "gradient_norm"):
            del record[name]
    Path(whole, "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    save_arrays(Path(whole, "checkpoint.npz"), arrays, metadata)
    assert fastconv_command("train", "--resume", whole, "--epochs", "4")[0] == 0
    assert config(whole)["schedule"] == "constant"
    assert config(whole)["ema"] is None
    assert len(history(whole)) == 4


NEWER = ("class_weight", "gradients")
"""Settings that the kept files lack."""

REGULARISED = {
    "EMA": "--optimizer adamw --weight-decay 0.05 --label-smoothing 0.1 --clip-norm 5 --ema 0.9",
    "SWA": "--optimizer momentum --weight-decay 0.001 --swa 2 --validation 0.2 --patience 1",
}


@pytest.mark.parametrize("name", REGULARISED)
def test_a_stopped_regularised_run_goes_on_bit_for_bit(
    few_digits, fastconv_command, monkeypatch, name
):
    options = ["train", "--epochs", "3", "--batch-size", "10", "--seed", "1"]
    options += [*REGULARISED[name].split(), "--out"]
    assert fastconv_command(*options, "straight")[0] == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        assert fastconv_command(*options, "stopped")[0] == 128 + signal.SIGINT
    assert fastconv_command("train", "--resume", "stopped")[0] == 0
    assert_same_run("stopped", "straight")


def test_a_run_that_an_earlier_version_began_goes_on_bit_for_bit(few_digits, fastconv_command):
    """Its config.json has the fields in another order, and may have fewer of them."""
    words = "--model lenet --batch-size 10 --seed 1 --backend numpy --threads 1 --optimizer adamw "
    words += "--weight-decay 0.05 --label-smoothing 0.1 --clip-norm 5 --ema 0.9 --validation 0.2 "
    words += "--patience 3 --augment rotate=5,shift=1 --views shift=1 --math default"
    for epochs, folder in (("3", "straight"), ("2", "begun")):
        options = ["train", *words.split(), "--epochs", epochs, "--out", folder]
        assert fastconv_command(*options)[0] == 0
    text = Path(__file__).with_name("kept").joinpath("regularised-config.json").read_text()
    Path("begun", "config.json").write_text(text)
    status, out, err = fastconv_command("train", "--resume", "begun", "--epochs", "3")
    assert (status, err) == (0, "")
    assert epochs_of(out) == [3]
    assert "norm 5, weights averaged with decay 0.9, a share of 0.2 of the" in out
    assert_same_run("begun", "straight")
    later = dict.fromkeys(NEWER) | {"balanced": False, "ranks": 1}
    later["sync_batchnorm"] = False
    assert config("begun") == json.loads(text) | later | {"epochs": 3}
