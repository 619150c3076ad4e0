"""The file that one process at a time holds: what it says, who is refused, and that it goes."""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
import warnings
from pathlib import Path

import pytest

from fastconv.errors import FallbackWarning, StateError, WriteFailed
from fastconv.io.lock import held_alone

from .limits import largest_file

fcntl = pytest.importorskip("fcntl", reason="locks of POSIX")

WHAT = "trains here"
OURS = f"process {os.getpid()} on {socket.gethostname()}"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".lock"


def test_it_says_who_holds_it_and_is_gone_afterwards(path):
    with held_alone(path, WHAT):
        assert path.read_text() == OURS
    assert not path.exists()
    with pytest.raises(KeyError), held_alone(path, WHAT):
        raise KeyError
    assert not path.exists()


def test_what_a_killed_process_left_is_written_over(path):
    path.write_text("process 123456789 on a machine with a name that is much longer than ours " * 3)
    with held_alone(path, WHAT):
        assert path.read_text() == OURS


def test_a_second_one_is_told_who_holds_it(path):
    before = descriptors()
    with held_alone(path, WHAT):
        for _ in range(3):
            told = rf"^{re.escape(str(path.parent))}: {re.escape(OURS)} {WHAT}$"
            with pytest.raises(StateError, match=told), held_alone(path, WHAT):
                pytest.fail("held twice")
        assert path.read_text() == OURS
    assert not path.exists()
    assert descriptors() == before


@pytest.mark.parametrize(
    ("content", "holder"),
    [
        (b"", "another process"),
        (b"process 1 on \xff", "process 1 on \N{REPLACEMENT CHARACTER}"),
        (b"x" * 1000, "x" * 500),
    ],
)
def test_a_holder_that_says_nothing_of_use(path, content, holder):
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with (
            pytest.raises(StateError, match=f": {re.escape(holder)} {WHAT}$"),
            held_alone(path, WHAT),
        ):
            pytest.fail("held twice")
    assert path.read_bytes() == content


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN, errno.EDEADLK])
def test_the_answers_of_systems_where_another_holds_it(path, monkeypatch, number):
    def refuse(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StateError, match="another process"), held_alone(path, WHAT):
        pytest.fail("held twice")


def test_a_file_system_without_locks_is_told_once_to_the_caller(path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with held_alone(path, WHAT):
            assert path.read_text() == OURS
    assert not path.exists()
    (told,) = caught
    assert told.category is FallbackWarning
    assert told.filename == __file__
    assert re.fullmatch(rf"{re.escape(str(path))}: .*\(No locks .*\): .*{WHAT}", str(told.message))


def test_a_folder_that_is_not_there(tmp_path):
    path = tmp_path / "none" / ".lock"
    with pytest.raises(WriteFailed, match=re.escape(str(path))), held_alone(path, WHAT):
        pytest.fail("held in no folder")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc of Linux")
def test_no_descriptor_stays_open(path):
    before = descriptors()
    for _ in range(3):
        with held_alone(path, WHAT):
            pass
    assert descriptors() == before


def test_a_file_that_somebody_has_deleted_meanwhile(path):
    with held_alone(path, WHAT):
        path.unlink()
    assert not path.exists()


def test_a_disk_without_room_is_told_by_the_name_of_the_file(path):
    told = f"^{re.escape(str(path))}: not written: File too large"
    with largest_file(3), pytest.raises(WriteFailed, match=told), held_alone(path, WHAT):
        pytest.fail("held by a file that says nothing")
    assert not path.exists()
