"""Compiled kernels on disk: who may read them, and what is done without them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastconv.backends._numba.launch import store
from fastconv.backends._numba.launch.store import Store
from fastconv.errors import FallbackWarning

from .conftest import ROOT

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners here")
root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be other users"
)


def store_in(folder: Path, stamp: str = "stamp") -> Store:
    return Store(lambda: folder, stamp)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextmanager
def umask(mask: int):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_what_was_written_is_read_by_another_process_of_the_same_stamp(tmp_path):
    store_in(tmp_path).write("relu", b"code")
    again = store_in(tmp_path)
    assert again.read("relu") == b"code"
    assert again.read("other") is None
    assert store_in(tmp_path, "newer").read("relu") is None
    assert not again.unread


def test_a_piece_in_anothers_place_is_not_read(tmp_path):
    mine = store_in(tmp_path)
    mine.write("relu", b"code of relu")
    (written,) = files(tmp_path)
    written.rename(written.with_name("pool"))
    assert mine.read("pool") is None
    assert "pool is damaged" in mine.unread


@pytest.mark.parametrize("cut", [0, 5, 32, -1])
def test_a_damaged_piece_is_not_read(tmp_path, cut):
    mine = store_in(tmp_path)
    mine.write("relu", b"code")
    (written,) = files(tmp_path)
    written.write_bytes(written.read_bytes()[:cut])
    assert mine.read("relu") is None
    assert "relu is damaged" in mine.unread


@posix
@pytest.mark.parametrize(
    ("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0, 0o644)]
)
def test_others_may_read_as_the_umask_says_and_never_write(tmp_path, mask, mode):
    with umask(mask):
        store_in(tmp_path).write("relu", b"code")
    (written,) = files(tmp_path)
    assert stat.S_IMODE(written.stat().st_mode) == mode


@posix
def test_what_anyone_can_write_is_not_run(tmp_path):
    mine = store_in(tmp_path)
    mine.write("relu", b"code")
    files(tmp_path)[0].chmod(0o646)
    assert mine.read("relu") is None
    assert "not run, as anyone can write it" in mine.unread


@posix
def test_a_pipe_in_a_files_place_keeps_nobody_waiting(tmp_path):
    mine = store_in(tmp_path)
    os.mkfifo(mine.folder / "relu")
    assert mine.read("relu") is None
    assert "no regular file" in mine.unread


# ---- what cannot be kept ----------------------------------------------------------------


@posix
def test_a_full_disk_is_told_once_and_leaves_no_file(tmp_path):
    import resource

    mine = store_in(tmp_path)
    mine.write("small", b"code")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.warns(FallbackWarning, match="cannot be kept.*FASTCONV_CACHE_DIR") as told:
            mine.write("relu", bytes(1000))
            mine.write("pool", bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(told) == 1
    assert [path.name for path in files(tmp_path)] == ["small"]


def test_what_a_killed_process_left_is_removed_and_what_another_is_writing_is_not(tmp_path):
    folder = store_in(tmp_path).folder
    old, new = folder / "relu.0011.tmp", folder / "relu.2233.tmp"
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 2 * store.ABANDONED,) * 2)
    store_in(tmp_path).write("relu", b"code")
    assert [path.name for path in files(tmp_path)] == ["relu", new.name]


def no_folder() -> Path:
    raise FileNotFoundError("no cache folder: nobody is at home")


def test_without_a_cache_folder_that_is_told_once_and_done_without():
    mine = Store(no_folder, "stamp")
    assert mine.read("relu") is None
    with pytest.warns(FallbackWarning, match="nobody is at home.*FASTCONV_CACHE_DIR") as told:
        mine.write("relu", b"code")
        mine.write("pool", b"code")
    assert len(told) == 1
    assert mine.read("relu") is None
    assert "not kept: no cache folder" in str(mine)


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_in_the_folders_place_is_told_once_and_done_without(tmp_path, below):
    (tmp_path / "file").touch()
    mine = store_in(tmp_path / "file" / below)
    assert mine.read("relu") is None
    with pytest.warns(FallbackWarning, match="cannot be kept"):
        mine.write("relu", b"code")


# ---- other users ------------------------------------------------------------------------


def test_where_anyone_may_make_a_folder(tmp_path):
    (tmp_path / "open" / "cache").mkdir(parents=True)
    (tmp_path / "open").chmod(0o1777)
    assert store.anyone_may_make(tmp_path / "open" / "cache")
    assert not store.anyone_may_make(Path("/usr/lib"))


@posix
@pytest.mark.parametrize("in_the_open", [False, True])
def test_the_word_of_the_folders_owner_counts_unless_anyone_could_be_it(
    tmp_path, monkeypatch, in_the_open
):
    """As in an image whose files belong to the user that built it, and which another one runs."""
    owner = 1001 if os.geteuid() == 0 else os.geteuid()
    store_in(tmp_path).write("relu", b"code")
    if os.geteuid() == 0:
        for path in [tmp_path, *tmp_path.rglob("*")]:
            os.chown(path, owner, owner)
    monkeypatch.setattr(store, "anyone_may_make", lambda folder: in_the_open)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    other = store_in(tmp_path)
    assert other.read("relu") == (None if in_the_open else b"code")
    assert (f"belongs to another user ({owner})" in other.unread) == in_the_open
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # root takes nobody's word
    assert store_in(tmp_path).read("relu") is None


AS_USER = """
import os, sys, warnings
from pathlib import Path
from fastconv.backends._numba.launch.store import Store
user, folder, code = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].encode()
os.setgroups([])
os.setgid(user)
os.setuid(user)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    mine = Store(lambda: folder, "stamp")
    found = mine.read("relu")
    if found is None:
        mine.write("relu", code)
    print(found, len(told), "" if mine.folder is None else "kept", mine.unread, sep="|")
"""


def as_user(user: int, folder: Path, code: str) -> list[str]:
    """What a process of that user reads, how many warnings, ``kept`` or nothing, why nothing."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", AS_USER, str(user), str(folder), code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip("\n").split("|")


@pytest.fixture
def shared():
    """A folder that all users reach; pytest's own are for one user."""
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        place = Path(outer, "shared")
        place.mkdir()
        place.chmod(0o1777)
        yield place


@root
def test_users_share_a_folder_and_run_no_code_of_each_other(shared):
    assert as_user(2001, shared, "a")[:2] == ["None", "0"]
    found, told, _, why = as_user(2002, shared, "b")
    assert (found, told) == ("None", "0")
    assert "belongs to another user (2001)" in why
    assert as_user(2001, shared, "c")[0] == "b'a'"
    assert as_user(2002, shared, "c")[0] == "b'b'"


@root
@pytest.mark.parametrize("user", [2001, 0])
def test_a_read_only_folder_that_root_filled_is_read_by_all(shared, user):
    store_in(shared).write("relu", b"image")
    for path in [shared, *shared.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert as_user(user, shared, "")[:2] == ["b'image'", "0"]


@root
def test_files_that_were_given_to_root_are_read_under_whatever_name(shared):
    """As those of an image that one stage builds, and another copies."""
    as_user(1001, shared, "image")
    for path in shared.rglob("*"):
        os.chown(path, 0, 0)
    assert as_user(2001, shared, "")[0] == "b'image'"


@root
def test_an_unreadable_piece_is_one_that_is_not_there(shared):
    with umask(0o077):
        store_in(shared).write("relu", b"root's own")
    shared.joinpath("numba-0").chmod(0o755)
    shared.joinpath("numba-0", "stamp").chmod(0o755)
    found, told, _, why = as_user(2001, shared, "mine")
    assert (found, told) == ("None", "0")
    assert "Permission denied" in why
    assert as_user(2001, shared, "")[0] == "b'mine'"


@root
def test_a_folder_that_this_user_cannot_write_is_told_once(shared):
    shared.chmod(0o755)
    assert as_user(2001, shared, "a")[:3] == ["None", "1", ""]


@root
def test_a_folder_of_ones_own_that_is_read_only_is_not_said_to_keep_anything(shared):
    assert as_user(2001, shared, "a")[:3] == ["None", "0", "kept"]
    (place,) = shared.glob("numba-2001/*")
    (place / "relu").unlink()
    place.chmod(0o555)
    assert as_user(2001, shared, "b")[:3] == ["None", "1", ""]


# ---- what the code depends on -----------------------------------------------------------


def test_settings_that_change_the_code_have_code_of_their_own(tmp_path, monkeypatch):
    numba = pytest.importorskip("numba")
    from fastconv.backends._numba import activation
    from fastconv.backends._numba.launch import build

    def compiled() -> int:
        builder = build.Builder(lambda: tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            builder.serial(activation.relu_forward, 4)
        return len(files(tmp_path))

    assert compiled() == 1
    assert compiled() == 1
    monkeypatch.setattr(numba.config, "OPT", type(numba.config.OPT)(0))
    assert compiled() == 2
    monkeypatch.undo()
    assert compiled() == 2
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)
    assert compiled() == 2


@pytest.mark.parametrize(
    ("variable", "changes"),
    [
        ("OPT=0", True),
        ("BOUNDSCHECK=1", True),
        ("DEBUGINFO=1", True),
        ("DISABLE_INTEL_SVML=1", True),
        ("LOOP_VECTORIZE=0", True),
        ("SLP_VECTORIZE=1", True),
        ("FULL_TRACEBACKS=1", False),
        ("CACHE_DIR=elsewhere", False),
    ],
)
def test_each_variable_that_changes_the_code_is_held(monkeypatch, variable, changes):
    numba = pytest.importorskip("numba")
    from fastconv.backends._numba.launch.build import settings_digest

    before = settings_digest()
    name, value = variable.split("=")
    with monkeypatch.context() as during:
        during.setenv(f"NUMBA_{name}", value)
        numba.config.reload_config()
        changed = settings_digest() != before
    numba.config.reload_config()
    assert changed == changes
    assert settings_digest() == before
