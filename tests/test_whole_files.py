"""Files that are read as a whole, files that only stand for others, and paths with a tilde."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastconv import memory as room
from fastconv.errors import ArgumentError, DataCorrupt, DataNotFound
from fastconv.io.paths import user_path
from fastconv.io.whole import read_whole, stand_in

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"


@pytest.mark.parametrize("content", [b"", b"weights", bytes(range(256)) * 1000])
def test_all_that_is_in_a_file(tmp_path, content):
    (tmp_path / "w.bin").write_bytes(content)
    assert read_whole(tmp_path / "w.bin") == content


def test_a_file_that_is_not_there(tmp_path):
    for name in ("absent", "."):
        path = tmp_path / name
        with pytest.raises(DataNotFound, match=f"^{re.escape(str(path))}: no such file$"):
            read_whole(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (LFS, "a pointer of Git LFS, .*: run git lfs pull"),
        (b"<!DOCTYPE html>\n<title>404</title>", "a web page, which a server gave .*file"),
        (b"\r\n  <!doctype HTML>", "a web page, which a server gave .*file"),
        (b"<HTML>\n<body>", "a web page, which a server gave .*file"),
        (b" " * 95 + b"<html>" + b"x" * 1000, "a web page, which a server gave .*file"),
    ],
)
def test_a_file_that_stands_for_another(tmp_path, content, what):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataCorrupt, match=f"^{re.escape(str(path))}: {what}$"):
        read_whole(path)
    assert re.fullmatch(what, stand_in(content))


@pytest.mark.parametrize("content", [b"", b"weights", b"html", b"x" + LFS, b"version 1", b"<ht"])
def test_a_file_that_stands_for_itself(tmp_path, content):
    assert stand_in(content) is None
    (tmp_path / "w").write_bytes(content)
    assert read_whole(tmp_path / "w") == content


def test_only_how_a_file_begins_is_looked_at(tmp_path):
    (tmp_path / "w").write_bytes(b" " * 96 + b"<html>")  # a hundred bytes
    assert read_whole(tmp_path / "w")[96:] == b"<html>"


def test_a_file_that_is_larger_than_the_memory(tmp_path, monkeypatch):
    path = tmp_path / "w"
    path.write_bytes(bytes(3 << 20))
    monkeypatch.setattr(room, "available_memory", lambda: 1 << 20)
    name = re.escape(str(path))
    told = rf"^{name}: its bytes take 3\.0 MiB .*1\.0 MiB.*: free some, or .* one file$"
    with pytest.raises(ArgumentError, match=told):
        read_whole(path)


def test_a_tilde_is_a_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert user_path("~/data/x") == tmp_path / "data" / "x"
    assert user_path(Path("~")) == tmp_path
    for name in ("data/~", "/a/~/b", "~nobody-has-this-name/x"):
        assert user_path(name) == Path(name)
