"""A reader's folders: scripts in chapters, their `common` in NumPy, `dataset` with few digits."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastconv

ROOT = Path(fastconv.__file__).resolve().parents[1]
BOOK = Path(__file__).parent / "book"
TRAIN, TEST = 300, 100

OWN = ("common", "dataset", "layers", "mine", "src", "tools")
"""Top-level names of the modules that tests import."""

Run = Callable[..., subprocess.CompletedProcess[str]]


def write_digits(folder: Path) -> None:
    """The four IDX files: ten random shapes, each with noise of its own."""
    rng = np.random.default_rng(0)
    shapes = np.kron(rng.random((10, 7, 7)) > 0.6, np.ones((4, 4))) * 160
    for name, count in (("train", TRAIN), ("t10k", TEST)):
        labels = rng.integers(0, 10, count).astype(np.uint8)
        images = shapes[labels] + rng.integers(0, 96, (count, 28, 28))
        images_file = struct.pack(">4I", 2051, count, 28, 28) + images.astype(np.uint8).tobytes()
        labels_file = struct.pack(">2I", 2049, count) + labels.tobytes()
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images_file))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels_file))


@pytest.fixture(scope="session")
def shelf(tmp_path_factory) -> Path:
    """The folders as they are, for tests that change nothing in them."""
    folder = tmp_path_factory.mktemp("shelf") / "book"
    shutil.copytree(BOOK, folder, ignore=shutil.ignore_patterns("__pycache__", "*.toml"))
    write_digits(folder / "dataset")
    return folder


@pytest.fixture
def book(shelf, tmp_path) -> Path:
    """A copy of the folders for one test."""
    return Path(shutil.copytree(shelf, tmp_path / "book"))


@pytest.fixture(scope="session", autouse=True)
def _fallback_announced():
    """Where ``auto`` is not its first choice it says so once: here, and not in some test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fastconv.get_backend()


@pytest.fixture
def clean(monkeypatch):
    """No trace of the reader's modules before or after; a path of our own."""
    assert not fastconv.is_installed()
    assert not _imported()
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    fastconv.uninstall()
    for name in _imported():
        del sys.modules[name]


def _imported() -> list[str]:
    return [name for name in sys.modules if name.split(".")[0] in OWN]


@pytest.fixture
def reader(clean, book):
    """The reader's folders are on the path."""
    sys.path.append(str(book))
    return book


def python(
    *words: str | Path, cwd: Path, stdin: str | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, which finds fastconv wherever it stands."""
    own = {"PYTHONPATH": str(ROOT), "FASTCONV_BACKEND": fastconv.get_backend()}
    # The arrays are small: threads would only wait for each other.
    own |= {"FASTCONV_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **own, **env},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


def plainly(*words: str | Path, cwd: Path) -> str:
    """What a script prints without fastconv."""
    done = python(*words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "fastconv" not in done.stderr
    return done.stdout


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.splitlines()[-1]


NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d*)?(?:e[+-]?\d+)?")


def assert_same_print(actual: str, expected: str, tolerance: float) -> None:
    """The same words, and numbers that differ by no more than the relative tolerance."""
    assert NUMBER.sub("#", actual) == NUMBER.sub("#", expected)
    ours = np.array([float(number) for number in NUMBER.findall(actual)])
    theirs = np.array([float(number) for number in NUMBER.findall(expected)])
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
