"""Text for people on streams that are missing, closed, narrow, or of a user's own class."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys

import numpy as np
import pytest

from fastconv import console
from fastconv.errors import WriteFailed
from fastconv.models import lenet
from fastconv.trainer import Trainer

from .conftest import ROOT


class OnlyWrites:
    """A logger in a stream's place."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


class Fails(io.StringIO):
    """A stream whose other end has gone."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def isatty(self) -> bool:
        return True


GONE = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
HUNG_UP = OSError(errno.EIO, os.strerror(errno.EIO))


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def narrow(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="")


# ---- what is shown ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é, 猫, 🐈", "plain, é, 猫, 🐈"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("over\rwritten\b", r"over\rwritten\x08"),
        ("\x9b31m, C1's own", r"\x9b31m, C1's own"),
        ("gnp.\u202etxt", r"gnp.\u202etxt"),  # turns the rest of the line around
        ("lost \udcff byte", r"lost \udcff byte"),
        ("new\u2028line", r"new\u2028line"),
    ],
)
def test_only_text_reaches_a_terminal(text, shown):
    stream = io.StringIO()
    console.tell(text, stream)
    assert stream.getvalue() == shown + "\n"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", rb"caf\xe9 \u732b \U0001f408"),
        ("cp1252", b"caf\xe9 \\u732b \\U0001f408"),
        ("shift_jis", b"caf\\xe9 \x94L \\U0001f408"),
        ("utf-8", "café 猫 🐈".encode()),
    ],
)
def test_what_the_encoding_lacks_is_escaped(encoding, shown):
    stream = narrow(encoding)
    console.tell("café 猫 🐈", stream)
    assert stream.buffer.getvalue() == shown + b"\n"


def test_streams_of_others_make_get_the_text():
    stream = OnlyWrites()
    console.tell("café", stream)
    stream.encoding = None
    console.tell("猫", stream)
    stream.encoding = "no such encoding"
    console.tell("猫", stream)
    assert stream.text == "café\n猫\n\\u732b\n"


@pytest.mark.parametrize("stream", [None, closed()])
def test_a_stream_that_is_not_there_is_no_error(stream, monkeypatch, capsys):
    console.tell("x", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    console.mention("x")
    assert not console.is_terminal(stream)
    assert capsys.readouterr().out == ""  # print(file=None) would be on standard output


def test_a_stream_that_takes_no_more_is_named(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Fails(FULL))
    with pytest.raises(WriteFailed, match=r"^standard output: not written: No sp") as caught:
        console.tell("x", sys.stdout)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(BrokenPipeError):
        console.tell("x", Fails(GONE))


@pytest.mark.parametrize("error", [GONE, FULL, HUNG_UP])
def test_complaints_are_never_an_error(error, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Fails(error))
    console.mention("x")


def test_a_terminal_is_told_apart():
    assert console.is_terminal(Fails(GONE))
    assert not any(map(console.is_terminal, (io.StringIO(), OnlyWrites(), closed(), None)))


# ---- descriptors --------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="closes descriptors as a POSIX shell does")
def test_no_file_gets_the_descriptor_of_a_closed_stream(tmp_path):
    code = (
        "import os, subprocess\n"
        "from fastconv import console\n"
        "console.reserve_descriptors()\n"
        "with open('weights', 'wb', buffering=0) as file:\n"
        "    file.write(b'ours')\n"
        "    os.write(2, b'what a library in C prints')\n"
        "    os.write(1, b'likewise')\n"
        "    subprocess.run(['sh', '-c', 'echo a child >&2'], check=True)\n"
        "    assert os.read(0, 1) == b''\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=60)
    assert (tmp_path / "weights").read_bytes() == b"ours"


def test_open_descriptors_stay(tmp_path):
    before = [os.fstat(descriptor) for descriptor in range(3)]
    console.reserve_descriptors()
    after = [os.fstat(descriptor) for descriptor in range(3)]
    assert all(map(os.path.samestat, before, after))


# ---- bars ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream",
    [None, OnlyWrites(), Fails(GONE), Fails(HUNG_UP), closed(), narrow("ascii"), narrow("cp1252")],
    ids=lambda stream: type(stream).__name__,
)
def test_a_training_goes_on_whatever_becomes_of_its_bar(stream, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", stream)
    x, t = np.zeros((20, 1, 28, 28), "float32"), np.arange(20) % 10
    trainer = Trainer(
        *(lenet(seed=0, backend="numpy"), x, t, x, t),
        epochs=1,
        mini_batch_size=10,
        progress=True,
        verbose=False,
    )
    trainer.train()
    assert trainer.current_iter == 2
    if isinstance(stream, io.TextIOWrapper):
        assert b"2/2" in stream.buffer.getvalue()


@pytest.mark.parametrize("stream", [None, OnlyWrites()])
def test_the_books_lines_need_no_stream(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    x, t = np.zeros((10, 1, 28, 28), "float32"), np.arange(10)
    Trainer(lenet(seed=0, backend="numpy"), x, t, x, t, epochs=1, mini_batch_size=10).train()
    if stream is not None:
        assert stream.text.startswith("train loss:")
        assert "test acc:" in stream.text
