"""`dataset.mnist`: MNIST's own files in the reader's folder, the reader's loader, or our cache."""

from __future__ import annotations

import gzip
import struct
from hashlib import md5

import numpy as np
import pytest

from fastconv.datasets import mnist
from fastconv.datasets.idx import IdxFile
from fastconv.dropin.mnist import loader
from fastconv.errors import DataNotFound


@pytest.fixture
def small_mnist(monkeypatch, tmp_path):
    """A folder of four files that pass for MNIST's: their checksums are put in its place."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "dataset"
    folder.mkdir()
    files = []
    for file, count in zip(mnist.FILES, (20, 20, 10, 10), strict=True):
        shape = (count, *file.shape[1:])
        values = rng.integers(0, 10, shape).astype(np.uint8)
        header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
        content = header + values.tobytes()
        (folder / f"{file.name}.gz").write_bytes(gzip.compress(content))
        files.append(IdxFile(file.name, shape, md5(content).hexdigest()))
    monkeypatch.setattr(mnist, "FILES", tuple(files))
    monkeypatch.setenv("FASTCONV_CACHE_DIR", str(tmp_path / "cache"))
    return folder


def never(**options):
    raise AssertionError("the reader's loader was not to be called")


def test_genuine_files_in_the_readers_folder(small_mnist):
    notes = []
    load = loader([str(small_mnist)], never, notes.append)
    (x_train, _), (x_test, t_test) = load(flatten=False, one_hot_label=True)
    assert x_train.shape == (20, 1, 28, 28) and x_test.shape == (10, 1, 28, 28)
    assert t_test.shape == (10, 10)
    assert notes == [f"MNIST from {small_mnist}"]


def test_other_data_under_that_name_is_read_by_the_readers_own(small_mnist):
    """Fashion-MNIST has the same file names; nothing but the reader's own code may read it."""
    (small_mnist / "t10k-labels-idx1-ubyte.gz").write_bytes(b"of another kind")
    asked = []
    notes = []

    def own(**options):
        asked.append(options)
        return "theirs"

    load = loader([str(small_mnist)], own, notes.append)
    assert load(False, one_hot_label=True) == "theirs"
    assert asked == [{"normalize": False, "flatten": True, "one_hot_label": True}]
    assert notes == ["data from your load_mnist: your dataset folder lacks MNIST's four files"]


def test_the_pickle_that_the_books_loader_has_made(small_mnist, tmp_path):
    """It reads that and nothing else, whatever lies beside it."""
    text = "def load_mnist(normalize, flatten, one_hot_label):\n    return 'theirs'\n"
    for content in (None, b"pickled"):
        if content is not None:
            (tmp_path / "mnist.pkl").write_bytes(content)
        own = {"save_file": str(tmp_path / "mnist.pkl")}
        exec(text, own)
        notes = []
        data = loader([str(small_mnist)], own["load_mnist"], notes.append)()
        assert (data == "theirs") == (content is not None)
    assert notes == [f"data from your load_mnist: it reads {tmp_path / 'mnist.pkl'}"]


def test_the_cache_where_the_reader_has_nothing(small_mnist, tmp_path):
    notes = []

    def own(**options):
        raise FileNotFoundError("train-images")

    cache = tmp_path / "cache"
    cache.mkdir()
    small_mnist.rename(cache / "mnist")
    (x_train, _), _ = loader([str(tmp_path)], own, notes.append)(normalize=False)
    assert x_train.shape == (20, 784) and x_train.dtype == np.uint8
    assert notes == [
        "MNIST from fastconv's cache: your load_mnist failed with FileNotFoundError: train-images"
    ]


def test_other_errors_of_the_readers_loader_are_the_readers(tmp_path):
    def own(**options):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loader([str(tmp_path)], own, print)()


def test_no_data_anywhere(small_mnist, tmp_path, monkeypatch):
    """The error says where to put the files; none of ours was asked to download them here."""

    def fetch(*arguments):
        raise DataNotFound("download: no mirror gave it")

    monkeypatch.setattr(mnist, "fetch", fetch)
    folder = str(tmp_path / "empty")
    with pytest.raises(DataNotFound) as raised:
        loader([folder], None, print)()
    files = ", ".join(f"{file.name}.gz" for file in mnist.FILES)
    assert raised.value.__notes__ == [f"remedy: put {files} into {folder}"]
