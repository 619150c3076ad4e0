"""``--augment``, in training and in a picture."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from fastconv import figures

from .conftest import assert_same_run, config, weights
from .test_resume import interrupt_at

TRAIN = ["train", "--epochs", "2", "--batch-size", "10", "--seed", "1", "--out"]


def test_a_stopped_run_goes_on_with_its_augmentation(few_digits, fastconv_command, monkeypatch):
    augment = ["--augment", "rotate=10,elastic=20"]
    assert fastconv_command(*TRAIN, "straight", *augment)[0] == 0
    assert fastconv_command(*TRAIN, "plain")[0] == 0
    assert config("plain")["augment"] is None
    assert not np.array_equal(weights("plain")["W1"], weights("straight")["W1"])
    with monkeypatch.context() as patch:
        interrupt_at(patch, 8)
        assert fastconv_command(*TRAIN, "stopped", *augment)[0] == 128 + signal.SIGINT
    # The same in other words is no other run.
    resume = ["train", "--resume", "stopped", "--augment"]
    assert fastconv_command(*resume, "elastic=20.0,rotate=1e1")[0] == 0
    assert config("stopped")["augment"] == "rotate=10,elastic=20"
    assert_same_run("stopped", "straight")
    status, _, err = fastconv_command(*resume, "rotate=11")
    assert status == 2
    assert re.search("--augment rotate=11: .*started with rotate=10,elastic=20", err)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spin=3", "unknown 'spin'; known: flip_horizontal, .*rotate"),
        ("rotate", "expected name=number, separated by commas, got 'rotate'"),
        ("rotate=200", "rotate must be a number between 0 and 180, got 200"),
    ],
)
@pytest.mark.parametrize("command", [["train"], ["augment", "out.png"]])
def test_a_wrong_text_is_told(fastconv_command, command, text, message):
    status, out, err = fastconv_command(*command, "--augment", text)
    assert (status, out) == (2, "")
    assert re.search(f"fastconv {command[0]}: error: argument --augment: .*{message}", err)
    assert len(err.splitlines()) == 1
    assert not list(Path().iterdir())


def test_a_picture_of_samples(few_digits, pixels, fastconv_command, monkeypatch):
    pytest.importorskip("matplotlib", reason="draws the picture")
    (x_train, t_train), _ = few_digits
    drawn = []

    plain = figures.samples

    def draw(rows, title):
        drawn.append((rows, title))
        return plain(rows, title)

    monkeypatch.setattr(figures, "samples", draw)
    call = ["augment", "--augment", "shift=2,rotate=5", "--seed", "3", "--json", "--threads", "1"]
    for name in ("one.png", "two.png"):
        status, out, err = fastconv_command(*call, name)
        assert (status, err) == (0, f"drawn: {name}\n")
    facts = json.loads(out)
    assert (facts["picture"], facts["augment"]) == ("two.png", "rotate=5,shift=2")
    assert (facts["data"], facts["seed"]) == ("digits", 3)
    assert Path("one.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    rows, title = drawn[0]
    assert title == "rotate=5,shift=2"
    assert rows.shape[1:] == (10, 1, 28, 28)
    for label, image in enumerate(rows[0]):
        np.testing.assert_array_equal(image, x_train[t_train == label][0])
    assert len({tile.tobytes() for tile in rows.reshape(-1, 784)}) == len(rows) * 10


def test_the_picture_needs_an_augmentation(fastconv_command):
    status, _, err = fastconv_command("augment", "out.png")
    assert status == 2
    assert "the following arguments are required: --augment" in err
