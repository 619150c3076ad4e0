"""Bad input to the command: one line that says what is wrong, and the right exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .conftest import environment


@pytest.fixture
def troubles(tmp_path):
    """Files and folders that are not what they are taken for."""
    Path("not_a_run").mkdir()
    Path("not_a_run", "notes.txt").write_text("mine")
    Path("broken").mkdir()
    Path("broken", "config.json").write_text('{"model": ')
    Path("partial").mkdir()
    Path("partial", "config.json").write_text('{"model": "deepconvnet"}')
    Path("listed").mkdir()
    Path("listed", "config.json").write_text("[1, 2]")
    config = {
        "model": "deepconvnet",
        "data": "digits",
        "data_dir": None,
        "epochs": 2,
        "batch_size": 100,
        "optimizer": "adam",
        "lr": 0.001,
        "backend": "numpy",
        "dtype": "float32",
        "threads": 1,
        "seed": 0,
    }
    for name, changes in {
        "unfinished": {},
        "mistyped": {"epochs": "two"},
        "of_the_future": {"model": "transformer"},
        "foreign_weights": {},
        "foreign_checkpoint": {},
    }.items():
        Path(name).mkdir()
        Path(name, "config.json").write_text(json.dumps(config | changes))
    np.savez(Path("foreign_weights", "weights.npz"), W1=np.zeros((2, 2)))
    Path("foreign_checkpoint", "checkpoint.npz").write_bytes(b"PK\x03\x04 no more")
    Path("weights.npz").write_bytes(b"no archive")
    Path("weights.txt").write_text("0.5")
    Path("no_mnist").mkdir()


BAD_INPUT = [
    # wrong use: 2
    ("", 2, "COMMAND"),
    ("fly", 2, "invalid choice: 'fly'"),
    ("train --colour", 2, "--colour"),
    ("train --epoch 3", 2, "--epoch"),  # no abbreviations
    ("train extra", 2, "extra"),
    ("train --model alexnet", 2, "invalid choice: 'alexnet'.*deepconvnet"),
    ("train --data cats", 2, "--data cats: no such file or folder.*digits"),
    ("train --grey", 2, "--grey: for images of your own; data set digits"),
    ("train --image-size 8 --no-normalize", 2, "--image-size, --normalize: for images of your"),
    ("train --strict-data", 2, "--strict-data: for images of your own"),
    ("train --image-size 0", 2, "--image-size: must be a height, or HxW, of at least 1, got 0"),
    ("train --image-size 3by4", 2, "--image-size: must be a height, or HxW.*got 3by4"),
    ("train --test-share 1", 2, "--test-share: must be greater than 0 and below 1, got 1"),
    ("train --data not_a_run --data-dir .", 2, "--data-dir: --data names the place"),
    ("train --data weights.txt", 2, "weights.txt: expected a folder of images, a .csv"),
    ("evaluate weights.npz --data not_a_run", 2, "weights alone do not say"),
    ("warmup --data digits --image-size 32", 2, "--image-size: for images of your own"),
    ("train --optimizer lion", 2, "invalid choice: 'lion'.*adam"),
    ("train --backend cuda", 2, "unknown backend 'cuda'.*numpy"),
    ("train --dtype float16", 2, "invalid choice: 'float16'"),
    ("train --epochs 0", 2, "--epochs: must be at least 1, got 0"),
    ("train --epochs many", 2, "--epochs: invalid whole number value: 'many'"),
    ("train --batch-size 0", 2, "--batch-size: must be at least 1"),
    ("train --threads 0", 2, "--threads: must be between 1 and 65536, got 0"),
    ("train --lr 0", 2, "--lr: must be greater than 0, got 0"),
    ("train --lr nan", 2, "--lr: must be greater than 0, got nan"),
    ("train --lr quick", 2, "--lr: invalid number value"),
    ("train --seed -1", 2, "--seed: must be between 0 and 4294967295, got -1"),
    ("train --seed 4294967296", 2, "--seed: must be between"),
    ("train --weight-decay -1", 2, "--weight-decay: must be at least 0, got -1"),
    ("train --weight-decay 0.1", 2, "--weight-decay: adam has none; sgd, momentum, adamw have"),
    ("train --label-smoothing 1", 2, "--label-smoothing: must be at least 0 and below 1, got 1"),
    ("train --clip-norm 0", 2, "--clip-norm: must be greater than 0, got 0"),
    ("train --ema 1", 2, "--ema: must be greater than 0 and below 1, got 1"),
    ("train --ema often", 2, "--ema: invalid number value: 'often'"),
    ("train --swa 0", 2, "--swa: must be at least 1, got 0"),
    ("train --swa 3", 2, "--swa 3: the run ends with epoch 2"),
    ("train --ema 0.9 --swa 1", 2, "--swa: not allowed with argument --ema"),
    ("train --validation 1", 2, "--validation: must be greater than 0 and below 1, got 1"),
    ("train --validation 0.001", 2, "validation=0.001 of 61 samples in 10 classes sets none apart"),
    ("train --patience 0", 2, "--patience: must be at least 1, got 0"),
    ("train --patience 3", 2, "--patience needs --validation"),
    ("train --data-dir .", 2, "digits .*takes no --data-dir"),
    ("train --data mnist --data-dir nowhere", 2, "nowhere does not exist"),
    ("train --out not_a_run", 2, "not_a_run exists and is not an empty folder"),
    ("train --out weights.txt", 2, "weights.txt exists"),
    ("train --resume nowhere", 2, "nowhere does not exist"),
    ("train --resume not_a_run", 2, "not_a_run has no config.json"),
    ("evaluate", 2, "RUN_OR_WEIGHTS"),
    ("evaluate nowhere", 2, "nowhere does not exist"),
    ("evaluate weights.npz", 2, "--data"),
    ("evaluate weights.txt --data digits", 2, r"must end in .npz, .safetensors or .pkl"),
    ("evaluate unfinished --model deepconvnet", 2, "--model"),
    ("predict unfinished", 2, "IMAGE"),
    # failed: 1
    ("train --data not_a_run", 1, "not_a_run: no images in folders of their classes"),
    ("train --data weights.npz", 1, "weights.npz: not an .npz file of plain arrays"),
    ("train --data mnist --data-dir no_mnist", 1, "train-images-idx3-ubyte"),
    ("train --resume broken", 1, "config.json: not JSON"),
    ("train --resume partial", 1, "config.json: .*missing required field `data`"),
    ("train --resume listed", 1, "config.json: Expected `object`, got `array`"),
    ("train --resume mistyped", 1, "config.json: Expected `int`, got `str`.*epochs"),
    ("train --resume foreign_checkpoint", 1, "checkpoint.npz: not an .npz"),
    ("train --out weights.txt/run", 1, "weights.txt"),
    ("evaluate unfinished", 1, "weights.npz.*not finished an epoch"),
    ("evaluate foreign_weights", 1, "weights of another architecture"),
    ("evaluate weights.npz --data digits", 1, "weights.npz: not an .npz"),
    ("predict foreign_weights x.png", 1, "another architecture"),
]


@pytest.mark.parametrize("command, expected, message", BAD_INPUT)
def test_bad_input_gets_one_line_and_a_status(
    troubles, few_digits, fastconv_command, command, expected, message
):
    status, out, err = fastconv_command(*command.split())
    assert re.search(message, err), err
    assert status == expected
    assert len(err.splitlines()) == 1
    assert err.startswith("fastconv")
    assert "error: " in err
    assert "Traceback" not in out + err
    for name in ("runs", "nowhere"):
        assert not Path(name).exists()


def test_a_model_that_this_version_does_not_know(troubles, few_digits, fastconv_command):
    status, _, err = fastconv_command("train", "--resume", "of_the_future")
    assert status == 2
    assert "unknown model 'transformer'; known: deepconvnet" in err
    assert "(in of_the_future/config.json)" in err
    np.savez(Path("of_the_future", "weights.npz"), W1=np.zeros((2, 2)))
    status, _, err = fastconv_command("predict", "of_the_future", "x.png")
    assert status == 2
    assert "(in of_the_future/config.json)" in err


def test_debug_shows_where(troubles, fastconv_command):
    status, _, err = fastconv_command("train", "--resume", "broken", "--debug")
    assert status == 1
    assert "Traceback" in err
    assert "DataCorrupt" in err


def test_a_fault_of_our_own_is_called_that(few_digits, fastconv_command, monkeypatch):
    monkeypatch.setattr("fastconv.cli.info.run", lambda options: {}["missing"])
    status, _, err = fastconv_command("info")
    assert status == 1
    assert err.startswith("fastconv info: error: KeyError: 'missing' (a fault of fastconv's")


@pytest.mark.skipif(sys.platform == "win32", reason="folders in use cannot be removed there")
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_current_folder_that_has_been_removed_is_told(
    whole, few_digits, fastconv_command, command
):
    run, gone = Path(whole).absolute(), Path("gone").absolute()
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    words = {"train": ("--model", "lenet"), "evaluate": (str(run), "--out", "pictures")}[command]
    status, _, err = fastconv_command(command, *words)
    assert status != 0
    assert "error: " in err
    assert err.endswith("(the current folder has been removed; change to another)\n")


def test_a_failed_download_says_what_to_do(few_digits, fastconv_command, monkeypatch, tmp_path):
    pytest.importorskip("pooch", reason="downloads are pooch's work")
    monkeypatch.setenv("FASTCONV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("fastconv.datasets.mnist.MIRRORS", ("http://127.0.0.1:9/",))
    status, _, err = fastconv_command("train", "--data", "mnist")
    assert status == 1
    assert len(err.splitlines()) == 1
    assert "http://127.0.0.1:9/" in err
    assert "--data-dir FOLDER" in err
    assert not Path("runs").exists()


def test_a_reader_that_goes_away_is_no_fault():
    command = f"{sys.executable} -P -m fastconv info --json | true"
    done = subprocess.run(
        command, shell=True, env=environment(), capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
