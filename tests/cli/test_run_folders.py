"""Folders of runs: reserved first, held while one trains, and what killed runs leave in them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastconv.cli import main as cli
from fastconv.datasets import DATASETS
from fastconv.errors import ArgumentError, FallbackWarning, StateError
from fastconv.experiment.data import Data
from fastconv.experiment.folder import RunFolder
from fastconv.experiment.held import held_anew
from fastconv.io import lock

from .conftest import FILES, PICTURES, assert_same_run, environment, history

TRAIN = ["train", "--model", "lenet", "--epochs", "2", "--batch-size", "10", "--seed", "1"]

FEW = """
import dataclasses, os, signal, sys, time
import numpy as np
from fastconv.cli import main as cli
from fastconv import figures
from fastconv.datasets import DATASETS
with np.load(os.environ["FEW_DIGITS"]) as arrays:
    split = (arrays["x"], arrays["t"]), (arrays["x_test"], arrays["t_test"])
DATASETS["digits"] = dataclasses.replace(DATASETS["digits"], load=lambda flatten: split)
figures.save = lambda figure, path: None
"""
"""The command on the digits that `few_digits` gives, whose packages take long to import."""

Process = Callable[[str], subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("fastconv.figures.save", lambda figure, path: None)


@pytest.fixture(scope="module")
def kept_straight(few, tmp_path_factory) -> Path:
    """What `TRAIN` gives where nothing interrupts it."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "digits", few)
        patch.setattr("fastconv.figures.save", lambda figure, path: None)
        assert cli.main([*TRAIN, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def process(few, tmp_path_factory) -> Process:
    """Starts the command in a process of its own, where the code calls it."""
    (x, t), (x_test, t_test) = few.load(flatten=False)
    file = tmp_path_factory.mktemp("few") / "few.npz"
    np.savez(file, x=x, t=t, x_test=x_test, t_test=t_test)

    def start(code: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-c", FEW + code]
        pipe, variables = subprocess.PIPE, environment() | {"FEW_DIGITS": str(file)}
        return subprocess.Popen(command, env=variables, text=True, stdout=pipe, stderr=pipe)

    return start


def names(folder: str | Path) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


@pytest.fixture
def no_data(monkeypatch):
    """Loading data fails the test."""
    monkeypatch.setattr(Data, "load", lambda *a, **b: pytest.fail("loaded"))


# ---- reserved -------------------------------------------------------------------------


def test_three_runs_in_one_second(process):
    code = "time.strftime = lambda *form: '20261127-120000'\n"
    code += f"sys.exit(cli.main({[*TRAIN, '--backend', 'numpy', '--threads', '1']!r}))"
    running = [process(code) for _ in range(3)]
    for one in running:
        out, err = one.communicate(timeout=300)
        assert one.returncode == 0, err
        assert "run folder: runs/lenet-digits-20261127-120000" in out
    folders = {f"lenet-digits-20261127-120000{end}" for end in ("", "-2", "-3")}
    assert names("runs") == folders
    for name in folders:
        assert names(f"runs/{name}") == FILES


def test_the_next_free_name():
    Path("taken-2").mkdir()
    Path("taken-2", "mine.txt").touch()
    Path("taken-3").touch()
    with (
        held_anew(Path("taken"), RunFolder) as first,
        held_anew(Path("taken"), RunFolder) as second,
    ):
        assert (first.path, second.path) == (Path("taken"), Path("taken-4"))
    assert names(".") == {"taken-2", "taken-3"}  # no run has begun in the others


def test_a_name_that_appears_at_the_same_moment(monkeypatch):
    """Where nothing locks, the folder that was there first is another run's."""
    monkeypatch.setattr(lock, "_lock", lambda *facts: None)
    plain = Path.is_dir

    def appears(path):
        seen = plain(path)
        if path.name == "new" and not seen:
            path.mkdir()
        return seen

    monkeypatch.setattr(Path, "is_dir", appears)
    with pytest.raises(ArgumentError, match="new exists"), RunFolder("new").held(new=True):
        pytest.fail("two runs in one folder")


@pytest.mark.parametrize("out", ["run", "deep/er/run"])
@pytest.mark.parametrize(
    "words, status",
    [
        (["--patience", "3"], 2),
        (["--weight-decay", "1"], 2),
        (["--data-dir", "."], 2),
        (["--validation", "0.001"], 2),
        (["--freeze", "nothing"], 2),
        (["--init", "nowhere.npz"], 1),
        (["--data", "empty"], 1),
        (["--members", "2", "--init", "nowhere.npz"], 1),
    ],
    ids=lambda value: str(value),
)
def test_a_refused_run_leaves_no_folder(few_digits, fastconv_command, words, status, out):
    Path("empty").mkdir()
    assert fastconv_command("train", *words, "--out", out)[0] == status
    assert names(".") == {"empty"}
    assert fastconv_command("train", *words)[0] == status
    assert names(".") == {"empty"}


def test_a_refused_run_leaves_the_folders_that_were_there(few_digits, fastconv_command):
    Path("mine/run").mkdir(parents=True)
    assert fastconv_command("train", "--patience", "3", "--out", "mine/run")[0] == 2
    assert fastconv_command("train", "--patience", "3", "--out", "mine/other/run")[0] == 2
    assert names("mine") == {"run"}
    assert names("mine/run") == set()


# ---- held -----------------------------------------------------------------------------


def test_a_second_run_in_a_folder_is_refused_at_once(whole, fastconv_command, no_data):
    host, number = socket.gethostname(), os.getpid()
    with RunFolder("new").held(new=True), RunFolder(whole).held(new=False):
        for words in (["--out", "new"], ["--resume", whole], ["--resume", whole, "--epochs", "9"]):
            status, _, err = fastconv_command("train", *words)
            assert status == 1
            assert f"{words[1]}: process {number} on {host} trains in this folder" in err
            assert len(err.splitlines()) == 1
    assert names(".") == {"whole"}
    assert names(whole) - PICTURES == FILES


def test_a_folder_that_is_trained_in_can_be_looked_at(whole, fastconv_command):
    with RunFolder(whole).held(new=False):
        assert fastconv_command("evaluate", whole)[0] == 0
        assert fastconv_command("export", whole, "model.onnx")[0] in (0, 1)  # without onnx
        assert (Path(whole) / ".lock").exists()
    assert not (Path(whole) / ".lock").exists()


def test_members_are_held_too(few_digits, fastconv_command):
    words = [*TRAIN, "--members", "2", "--out", "two"]
    assert fastconv_command(*words)[0] == 0
    with RunFolder("two/member-2").held(new=False):
        status, _, err = fastconv_command("train", "--resume", "two", "--epochs", "3")
        assert status == 1
        assert "two/member-2: process" in err
    assert fastconv_command("train", "--resume", "two", "--epochs", "3")[0] == 0
    assert len(history("two/member-2")) == 3


def test_two_resumes_at_once(whole, process):
    """One goes on, and the history is its own."""
    code = f"sys.exit(cli.main(['train', '--resume', {whole!r}, '--epochs', '40']))"
    running = [process(code) for _ in range(2)]
    ends = {}
    for one in running:
        _, err = one.communicate(timeout=300)
        ends[one.returncode] = err
    if set(ends) == {0}:
        pytest.skip("one was done before the other began")
    assert set(ends) == {0, 1}
    assert "trains in this folder" in ends[1]
    assert [record["epoch"] for record in history(whole)] == list(range(1, 41))


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_the_lock_of_a_killed_process_holds_nothing(whole, process, fastconv_command):
    code = "from fastconv.experiment.folder import RunFolder\n"
    code += f"with RunFolder({whole!r}).held(new=False):\n    print('held', flush=True)\n"
    one = process(code + "    time.sleep(600)")
    assert one.stdout.readline() == "held\n"
    assert fastconv_command("train", "--resume", whole)[0] == 1
    one.kill()
    one.communicate()
    assert (Path(whole) / ".lock").exists()
    assert fastconv_command("train", "--resume", whole)[0] == 0
    assert names(whole) - PICTURES == FILES


def test_who_opens_the_file_as_it_goes_away_waits_for_none(monkeypatch, tmp_path):
    """Between opening and locking, the holder may end: then the file no longer has a name."""
    place, opened = tmp_path / ".lock", []
    plain = lock._lock

    def late(file, path, what):
        if not opened:
            opened.append(file)
            path.unlink()
        plain(file, path, what)

    monkeypatch.setattr(lock, "_lock", late)
    with lock.held_alone(place, "is here"):
        assert place.read_text().startswith(f"process {os.getpid()} on ")
        with pytest.raises(StateError, match="is here"), lock.held_alone(place, "is here"):
            pytest.fail("held twice")
    assert not place.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_a_file_system_without_locks_is_told(monkeypatch, tmp_path):
    def refuse(file, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.warns(FallbackWarning, match=r"\.lock: this file system has no locks \(No locks"),
        RunFolder(tmp_path / "run").held(new=True),
    ):
        pass
    assert not (tmp_path / "run").exists()


# ---- not begun ------------------------------------------------------------------------

LEFT = [(), (".config.json.x",), (".lock", ".config.json.x1", ".weights.npz.abcd")]


def leave(folder: str, left: tuple[str, ...]) -> None:
    """A folder as a killed run may leave it."""
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir(parents=True)
    for name in left:
        Path(folder, name).write_text("process 1 on a machine")


@pytest.mark.parametrize("left", LEFT, ids=str)
def test_a_run_that_has_not_begun(whole, fastconv_command, left):
    leave("run", left)
    status, _, err = fastconv_command("train", "--resume", "run")
    assert status == 2
    assert "run has no config.json: no run has begun in this folder" in err
    assert "start one with: fastconv train --out run" in err
    options = ["--epochs", "3", "--batch-size", "10", "--seed", "1", "--out", "run"]
    assert fastconv_command("train", *options)[0] == 0
    assert_same_run("run", whole)
    assert names("run") - PICTURES == FILES


@pytest.mark.parametrize("left", LEFT, ids=str)
def test_a_member_that_has_not_begun(kept_straight, few_digits, fastconv_command, left):
    words = ["--members", "2", "--seed", "0", "--out", "e"]  # the second has the seed 1
    assert fastconv_command(*TRAIN[:-2], *words)[0] == 0
    leave("e/member-2", left)
    assert fastconv_command("train", "--resume", "e")[0] == 0
    assert_same_run("e/member-2", str(kept_straight))
    assert names("e/member-2") == FILES


@pytest.mark.parametrize("name", ["notes.txt", ".config.json", ".profile", "checkpoint.npz"])
def test_what_is_not_left_by_a_run_is_kept(few_digits, fastconv_command, name):
    leave("run", (name, ".lock"))
    for words in (["--out"], ["--resume"]):
        assert fastconv_command("train", *words, "run")[0] == 2
    assert name in names("run")


def test_a_resumed_run_cleans_up(whole, fastconv_command):
    left = {".config.json.x", ".weights.npz.abcd", ".checkpoint.npz.0123abcd", ".mistakes.png.1"}
    for name in {*left, ".mine", ".weights"}:
        Path(whole, name).touch()
    assert fastconv_command("train", "--resume", whole)[0] == 0
    assert names(whole) - PICTURES == FILES | {".mine", ".weights"}


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("write", range(1, 9))
def test_a_run_that_is_killed_while_it_writes(
    kept_straight, few_digits, process, fastconv_command, write
):
    """Files are config, history, then checkpoint and weights of each epoch, then the result."""
    code = "plain, count = os.fsync, []\n"
    code += "def fsync(file):\n"
    code += f"    count.append(file)\n    if len(count) == {write}:\n"
    code += "        os.kill(os.getpid(), signal.SIGKILL)\n    plain(file)\n"
    code += f"os.fsync = fsync\nsys.exit(cli.main({[*TRAIN, '--out', 'killed']!r}))"
    one = process(code)
    _, err = one.communicate(timeout=300)
    assert one.returncode == -signal.SIGKILL, err
    assert any(name.startswith(".") and name != ".lock" for name in names("killed"))
    begun = Path("killed", "config.json").exists()
    assert begun == (write > 1)
    words = ["train", "--resume", "killed"] if begun else [*TRAIN, "--out", "killed"]
    assert fastconv_command(*words)[0] == 0
    assert_same_run("killed", str(kept_straight))
    assert names("killed") == FILES


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_run_that_is_killed_before_it_writes(few_digits, process, fastconv_command):
    code = "from fastconv.experiment.data import Data\n"
    code += "Data.load = lambda *a, **b: os.kill(os.getpid(), signal.SIGKILL)\n"
    one = process(code + f"cli.main({[*TRAIN, '--out', 'killed']!r})")
    one.communicate(timeout=300)
    assert one.returncode == -signal.SIGKILL
    assert names("killed") == {".lock"}
    assert fastconv_command(*TRAIN, "--out", "killed")[0] == 0
    assert names("killed") == FILES


# ---- looked at ------------------------------------------------------------------------


def test_pictures_of_other_data_or_views_are_not_the_runs_own(whole, fastconv_command, monkeypatch):
    drawn = []
    monkeypatch.setattr("fastconv.figures.save", lambda figure, path: drawn.append(Path(path)))
    own = [Path(whole, "mistakes.png"), Path(whole, "confusion.png")]
    monkeypatch.setitem(DATASETS, "others", DATASETS["digits"])
    for words, expected in (
        ([], own),
        (["--views", "none"], own),
        (["--data", "digits"], own),
        (["--data", "others"], []),
        (["--views", "shift=1"], []),
        (["--data", "others", "--out", "p"], [Path("p/mistakes.png"), Path("p/confusion.png")]),
    ):
        drawn.clear()
        status, out, _ = fastconv_command("evaluate", whole, *words, "--json")
        assert status == 0
        assert drawn == expected, words
        assert json.loads(out.splitlines()[-1])["pictures"] == [str(path) for path in expected]
    _, out, _ = fastconv_command("evaluate", whole, "--data", "others")
    assert "no pictures: those in whole are of the run's own data and views" in out
    status, _, err = fastconv_command("evaluate", whole, "--data", "others", "--out", whole)
    assert status == 2 and "are of that run's own data and views" in err
    _, out, _ = fastconv_command("evaluate", "--help")
    assert "others need --out" in out


# ---- in a thread ----------------------------------------------------------------------


def test_the_command_in_a_thread(whole, few_digits, capsys):
    """Only the main thread may say what signals do; the run does without."""
    options = ["--epochs", "3", "--batch-size", "10", "--seed", "1", "--out", "run"]
    ends = []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: ends.append(cli.main(["train", *options])))
    thread.start()
    thread.join()
    shown = capsys.readouterr()
    assert ends == [0], shown.err
    assert "not in the main thread: Ctrl-C and SIGTERM do what this program does" in shown.out
    assert signal.getsignal(signal.SIGINT) is before
    assert_same_run("run", whole)


def test_a_handler_that_python_has_not_set(few_digits, fastconv_command, monkeypatch):
    """Of one that a program around Python has set, Python knows nothing but that: None."""
    plain, seen = signal.signal, []

    def unknown(number, handler):
        seen.append(handler)
        plain(number, handler)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(signal, "signal", unknown)
    try:
        assert fastconv_command(*TRAIN, "--out", "run")[0] == 0
    finally:
        for each, handler in before.items():
            plain(each, handler)
    assert seen[-2:] == [signal.SIG_DFL] * 2
