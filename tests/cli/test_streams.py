"""The command where its streams are closed, full, or show few characters, or a disk is full."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastconv.cli import main as cli
from fastconv.experiment import train as training_run
from fastconv.io import load_params

from ..limits import largest_file
from .conftest import environment

posix = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell's redirections")
linux = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which $F is the command; the status is the command's."""
    line = f'F="{sys.executable} -m fastconv"; {line}; exit ${{PIPESTATUS[0]}}'
    return subprocess.run(
        ["bash", "-c", line], env=environment(), capture_output=True, text=True, timeout=300
    )


# ---- closed, gone, full -------------------------------------------------------------


@posix
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("arguments", "status"), [("recipes", 0), ("evaluate absent", 2), ("train --model none", 2)]
)
def test_closed_streams_change_nothing_else(arguments, status, closed):
    done = shell(f"$F {arguments} {closed}")
    assert done.returncode == status
    speaks = (">&-" not in closed.replace("2>&-", "")) if status == 0 else "2>&-" not in closed
    shown, other = (done.stdout, done.stderr) if status == 0 else (done.stderr, done.stdout)
    assert bool(shown) == speaks and other == ""


@posix
def test_a_training_without_streams_is_whole(tmp_path):
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    words = "train --model lenet --epochs 1 --threads 1 --out run <&- >&- 2>&-"
    assert shell(f"$F {words}").returncode == 0
    facts = json.loads(Path("run/result.json").read_text())
    assert facts["epochs"] == 1
    assert len(load_params("run/weights.npz")) > 3
    assert Path("run/history.jsonl").read_text().count("\n") == 1


@posix
@pytest.mark.parametrize("arguments", ["recipes", "info", "info --json", "train --help"])
def test_a_reader_that_goes_away_ends_it_quietly(arguments):
    done = shell(f"$F {arguments} | true")
    assert done.stdout == done.stderr == ""
    assert done.returncode == 1


@linux
@pytest.mark.parametrize("arguments", ["recipes", "info --json", "train --help", "--version"])
def test_a_full_disk_behind_standard_output_is_said(arguments):
    done = shell(f"$F {arguments} > /dev/full")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "error: standard output: not written: No space left on device" in done.stderr


@linux
@pytest.mark.parametrize(
    ("arguments", "status"),
    [("recipes", 0), ("trian", 2), ("evaluate absent", 2), ("train --lr x", 2)],
)
def test_complaints_that_cannot_be_written_keep_their_status(arguments, status):
    done = shell(f"$F {arguments} 2> /dev/full")
    assert done.returncode == status and done.stderr == ""


@posix
def test_a_script_without_standard_error_runs(tmp_path):
    Path("script.py").write_text(
        "import sys\nfrom common.layers import Relu\n"
        "with open('new', 'w') as file:\n"
        "    print(sys.stderr, file.fileno() > 2)\n"  # nor does its file become standard error
    )
    done = shell("$F script.py 2>&-")
    assert (done.returncode, done.stdout) == (0, "None True\n")


def test_a_stop_that_cannot_be_announced_still_stops(monkeypatch):
    def fail(descriptor, text):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    class Training:
        stopped = False

        def stop(self):
            self.stopped = True

    training = Training()
    monkeypatch.setattr(os, "write", fail)
    with training_run._stop_on_signal(training, print, True) as caught:
        signal.raise_signal(signal.SIGINT)
    assert training.stopped and caught == [signal.SIGINT]


@pytest.mark.parametrize("option", [["-X", "warn_default_encoding"], ["-X", "dev"]])
def test_warnings_of_the_interpreters_own_find_nothing(option):
    """No text file is read in whatever encoding the locale has, and no file is left open."""
    command = [sys.executable, *option, "-W", "error", "-m", "fastconv", "info"]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


class Stream:
    """All that a log in a stream's place may have."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


@pytest.mark.parametrize("make", [lambda: None, Stream], ids=["None", "stand-in"])
def test_a_training_in_a_process_without_streams(few_digits, monkeypatch, make):
    out, err = make(), make()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        status = cli.main(["train", "--epochs", "1", "--model", "lenet", "--out", "run"])
        wrong = cli.main(["evaluate", "absent"])
    assert (status, wrong) == (0, 2)
    if out is not None:
        assert "run folder: run\n" in out.text
        assert err.text.startswith("fastconv evaluate: error: absent does not exist")


def test_without_standard_error_errors_are_not_among_the_results(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["evaluate", "absent", "--json"]) == 2
    assert cli.main(["evaluate", "absent", "--debug"]) == 2
    assert cli.main(["evaluate"]) == 2
    assert capsys.readouterr().out == ""


# ---- few characters -----------------------------------------------------------------

NAMES = ["猫", "Hündchen", "🐈", "red\x1b[31m"]


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Four classes of ten pictures each, under names that few terminals can show."""
    image_module = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    root = tmp_path / "データ"
    for name in NAMES:
        (root / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (14, 14, 3), dtype=np.uint8)
            image_module.fromarray(pixels).save(root / name / f"{number}é.png")
    (root / "猫" / "kaputt\udcff\x1b[2J.png").write_bytes(b"nothing")
    return root


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_names_that_a_terminal_cannot_show(pictures, monkeypatch, encoding):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    options = ["--model", "lenet", "--image-size", "14", "--epochs", "1", "--out", "run"]
    one = str(pictures / "猫" / "0é\n.png")
    (pictures / "猫" / "0é.png").rename(one)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        statuses = [
            cli.main(["train", "--data", str(pictures), *options]),
            cli.main(["evaluate", "run"]),
            cli.main(["predict", "run", one, "absent\udcff\n猫.png"]),
            cli.main(["evaluate", "absent-猫"]),
            cli.main(["train", "--model", "猫"]),
        ]
    shown, said = (stream.buffer.getvalue().decode(encoding) for stream in (out, err))
    assert statuses == [0, 0, 1, 2, 2]
    for name in ("猫", "Hündchen", "データ"):
        assert name.encode(encoding, "backslashreplace").decode(encoding) in shown
    assert "\x1b" not in shown + said and "\r" not in shown + said
    assert r"red\x1b[31m" in shown and r"kaputt\udcff\x1b[2J.png" in shown
    assert r"0é\n.png: ".encode(encoding, "backslashreplace").decode(encoding) in shown
    assert len(said.splitlines()) == 3  # the newline in a name begins no line of its own
    # Files hold the names themselves, whatever the terminal.
    facts = json.loads(Path("run/config.json").read_text(encoding="utf-8"))["image_facts"]
    assert sorted(facts["class_names"]) == sorted(["猫", "Hündchen", "🐈", r"red\x1b[31m"])
    assert r"猫/kaputt\udcff" in Path("run/unreadable.txt").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are always text")
def test_a_folder_whose_name_is_no_text_can_be_trained_on_and_resumed(pictures, fastconv_command):
    data = os.fsdecode(os.fsencode(pictures) + b"\xff")
    pictures.rename(data)
    options = ["--model", "lenet", "--image-size", "14", "--epochs", "1", "--out", "run"]
    status, shown, said = fastconv_command("train", "--data", data, *options)
    assert (status, said) == (0, "") and r"lenet on データ\udcff: 1 epoch" in shown
    status, shown, _ = fastconv_command("train", "--resume", "run", "--epochs", "2")
    assert status == 0 and r"データ\udcff: 32 training" in shown


def test_pictures_say_which_characters_are_boxes(pictures, pixels, fastconv_command, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    options = ["--model", "lenet", "--image-size", "14", "--epochs", "1", "--out", "run"]
    monkeypatch.setattr("fastconv.figures.style.MORE_FONTS", ())
    _, shown, _ = fastconv_command("train", "--data", str(pictures), *options)
    lines = [line for line in shown.splitlines() if "boxes stand for" in line]
    assert lines[0] == "curves.png: boxes stand for タデー, which no font known here has"
    assert lines[1].startswith("mistakes.png: boxes stand for ") and "ü" not in lines[1]
    fonts = "Last Resort High-Efficiency"  # has something for every character
    if fonts not in matplotlib.font_manager.get_font_names():
        return
    monkeypatch.setattr("fastconv.figures.style.MORE_FONTS", (fonts,))
    _, shown, _ = fastconv_command("evaluate", "run")
    assert "drawn: " in shown and "boxes" not in shown


# ---- a full disk --------------------------------------------------------------------


def train(run, *options):
    return run("train", *options, "--model", "lenet", "--seed", "1")


def test_a_training_on_a_full_disk_says_what_is_kept(few_digits, fastconv_command):
    with largest_file(20_000):  # less than a checkpoint, more than a configuration
        status, shown, said = train(fastconv_command, "--epochs", "1", "--out", "run")
    assert status == 1 and "epoch 1/1" not in shown
    assert said == (
        "fastconv train: error: run/checkpoint.npz: not written: File too large; make room there, "
        "or name another place (no epoch of the run is kept; fastconv train --resume run begins "
        "it anew)\n"
    )
    begun = ["config.json", "history.jsonl", "initial.npz"]
    assert sorted(path.name for path in Path("run").iterdir()) == begun
    status, shown, _ = fastconv_command("train", "--resume", "run")
    assert status == 0 and "epoch 1/1" in shown
    before = Path("run/checkpoint.npz").read_bytes()
    with largest_file(20_000):
        status, _, said = fastconv_command("train", "--resume", "run", "--epochs", "2")
    assert status == 1 and said.endswith(
        "(run/checkpoint.npz keeps 1 epoch; fastconv train --resume run goes on from there)\n"
    )
    assert Path("run/checkpoint.npz").read_bytes() == before
    status, shown, _ = fastconv_command("train", "--resume", "run")
    assert status == 0 and "epoch 2/2" in shown
    status, _, _ = train(fastconv_command, "--epochs", "2", "--out", "whole")
    for name, array in load_params("whole/weights.npz").items():
        np.testing.assert_array_equal(load_params("run/weights.npz")[name], array)


@pytest.mark.parametrize(("room", "file"), [(10, ".lock"), (200, "config.json")])
def test_a_run_that_cannot_begin_leaves_nothing(few_digits, fastconv_command, room, file):
    with largest_file(room):
        status, _, said = train(fastconv_command, "--epochs", "1", "--out", "run")
    assert status == 1
    assert f"run/{file}: not written: File too large" in said
    assert file == ".lock" or said.endswith("(nothing of the run is kept)\n")
    assert not Path("run").exists()
    status, _, _ = train(fastconv_command, "--epochs", "1", "--out", "run")
    assert status == 0


@linux
@pytest.mark.parametrize(
    "arguments",
    [
        "augment {} --augment shift=1",
        "summary --model lenet --input 1x28x28 --draw {}",
    ],
)
def test_a_picture_on_a_full_device_is_an_error_that_names_it(
    few_digits, fastconv_command, full_device, arguments
):
    pytest.importorskip("matplotlib")
    status, _, said = fastconv_command(*arguments.format(full_device).split())
    assert status == 1
    assert f"error: {full_device}: not written: No space left on device" in said
    assert full_device.is_char_device()
    assert os.strerror(errno.ENOSPC) in said
