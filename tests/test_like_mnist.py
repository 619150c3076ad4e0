"""Fashion-MNIST, KMNIST and CIFAR-10, from small files of their forms."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastconv.cli import main as cli
from fastconv.datasets import (
    DATASETS,
    cifar,
    download,
    like_mnist,
    load_cifar10,
    load_fashion_mnist,
    load_kmnist,
)
from fastconv.datasets.idx import IdxFile
from fastconv.errors import DataCorrupt, DataNotFound, DataWarning

from .test_datasets import CONTENT, SHAPES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS

LOADERS = {"fashion-mnist": load_fashion_mnist, "kmnist": load_kmnist}
PACKED = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in CONTENT.items()}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTCONV_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(params=LOADERS)
def load(request, monkeypatch):
    """A loader that expects the small files, with their gzipped files' checksums."""
    files = tuple(
        IdxFile(name.removesuffix(".gz"), shape, hashlib.md5(content).hexdigest(), packed=True)
        for (name, content), shape in zip(PACKED.items(), SHAPES, strict=True)
    )
    for prefix in ("FASHION", "KMNIST"):
        monkeypatch.setattr(like_mnist, f"{prefix}_FILES", files)
    return LOADERS[request.param]


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_files_are_read_and_checked(load, tmp_path):
    folder = write(tmp_path / "d", PACKED)
    (x, t), (_, t_test) = load(normalize=False, flatten=False, data_dir=folder)
    assert np.array_equal(x[:, 0], TRAIN_IMAGES)
    assert np.array_equal(t, TRAIN_LABELS) and np.array_equal(t_test, TEST_LABELS)
    (x, t), _ = load(one_hot_label=True, data_dir=folder)
    assert x.shape == (6, 784) and x.dtype == np.float32 and t.shape == (6, 10)
    label = gzip.compress(CONTENT["t10k-labels-idx1-ubyte"], 1, mtime=1)  # the same, packed anew
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(label)
    with pytest.raises(DataCorrupt, match=r"well-formed, but not the t10k-labels"):
        load(data_dir=folder)


def test_unpacked_files_are_read_with_a_warning(load, tmp_path):
    folder = write(tmp_path / "d", CONTENT)
    with pytest.warns(DataWarning, match=r"-ubyte\.gz has a published checksum$") as told:
        (x, _), _ = load(normalize=False, flatten=False, data_dir=folder)
    assert len(told) == 4 and np.array_equal(x[:, 0], TRAIN_IMAGES)
    (folder / "train-images-idx3-ubyte").write_bytes(b"short")
    with pytest.raises(DataCorrupt, match="not an IDX file"):
        load(data_dir=folder)
    with pytest.raises(DataNotFound, match="lacks train-images"):
        load(data_dir=write(tmp_path / "none", {}))


def served(monkeypatch, files):
    """Mirrors that have these files; returns the addresses that were asked for."""
    pooch = pytest.importorskip("pooch", reason="downloads are pooch's work")
    asked = []

    def retrieve(self, url, out, _):
        asked.append(url)
        name = url.rpartition("/")[2]
        if name not in files:
            raise OSError("404")
        out.write(files[name])

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", retrieve)
    return asked


def test_a_download_is_checked_and_kept(load, monkeypatch, tmp_path):
    asked = served(monkeypatch, PACKED)
    load()
    assert len(asked) == 4
    (_, t), _ = load(download=False)
    assert np.array_equal(t, TRAIN_LABELS) and len(asked) == 4
    name = next(name for name, each in LOADERS.items() if each is load)
    assert {path.name for path in (tmp_path / "cache" / name).iterdir()} == set(PACKED)


def test_a_mirror_that_sends_other_bytes_is_refused(load, monkeypatch):
    unpacked = {f"{name}.gz": content for name, content in CONTENT.items()}
    asked = served(monkeypatch, unpacked)
    with pytest.raises(DataNotFound, match="only that has a published checksum") as caught:
        load()
    assert len(asked) == 2  # two mirrors
    assert any("--data-dir FOLDER" in note for note in caught.value.__notes__)


# ---- CIFAR-10 ----------------------------------------------------------------------------

RNG = np.random.default_rng(1)
LABELS = RNG.integers(0, 10, (6, 4), np.uint8)
PIXELS = RNG.integers(0, 256, (6, 4, 3, 32, 32), np.uint8)
RECORDS = np.concatenate([LABELS[..., None], PIXELS.reshape(6, 4, -1)], axis=2)
BATCHES = {name: records.tobytes() for name, records in zip(cifar.BATCHES, RECORDS, strict=True)}


def archive(batches: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in {"readme.html": b"...", **batches}.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def expect(monkeypatch):
    """Let the loader expect four records a batch, in an archive of these bytes."""

    def set_to(content: bytes) -> bytes:
        md5 = hashlib.md5(content).hexdigest()
        monkeypatch.setattr(cifar, "ARCHIVE", replace(cifar.ARCHIVE, records=4, md5=md5))
        return content

    return set_to


def test_cifar_from_its_archive(expect, tmp_path):
    folder = write(tmp_path / "c", {"cifar-10-binary.tar.gz": expect(archive(BATCHES))})
    (x, t), (x_test, t_test) = load_cifar10(normalize=False, flatten=False, data_dir=folder)
    assert np.array_equal(x, PIXELS[:5].reshape(20, 3, 32, 32))
    assert np.array_equal(t, LABELS[:5].reshape(20))
    assert np.array_equal(x_test, PIXELS[5]) and np.array_equal(t_test, LABELS[5])
    (x, _), _ = load_cifar10(data_dir=folder)
    np.testing.assert_allclose(x, PIXELS[:5].reshape(20, -1) / 255, 1e-6)


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
def test_cifar_from_unpacked_batches(expect, tmp_path, inside):
    expect(b"")
    write(tmp_path / inside, BATCHES)
    with pytest.warns(DataWarning, match="only cifar-10-binary.tar.gz has a published checksum"):
        (_, t), _ = load_cifar10(data_dir=tmp_path)
    assert np.array_equal(t, LABELS[:5].reshape(20))


def test_cifar_that_is_damaged(expect, tmp_path):
    def refused(content: bytes | dict[str, bytes], why: str, right: bool = True) -> None:
        files = content if isinstance(content, dict) else {"cifar-10-binary.tar.gz": content}
        expect(content if right and isinstance(content, bytes) else b"")
        for path in tmp_path.glob("*.*"):
            path.unlink()
        with pytest.raises((DataCorrupt, DataNotFound), match=why):
            load_cifar10(data_dir=write(tmp_path, files))

    refused(archive(BATCHES), "MD5 .*, expected", right=False)
    refused(b"no archive", "truncated or damaged archive")
    refused(archive(BATCHES)[:-900], "truncated or damaged archive")
    refused(archive({"test_batch.bin": BATCHES["test_batch.bin"]}), "damaged archive")
    refused(archive(BATCHES | {"data_batch_2.bin": b"12"}), "a batch has 2 bytes, expected 12292")
    long = BATCHES["data_batch_2.bin"] + b"1"
    refused(archive(BATCHES | {"data_batch_2.bin": long}), "a batch has more bytes")
    wrong = b"\x0a" + BATCHES["test_batch.bin"][1:]
    refused(BATCHES | {"test_batch.bin": wrong}, "a batch has the class 10, expected 0 to 9")
    refused({"test_batch.bin": BATCHES["test_batch.bin"]}, r"lacks data_batch_1\.bin")
    refused({"readme.txt": b""}, "lacks cifar-10-batches-bin")


def test_the_python_version_of_cifar_runs_no_code(expect, tmp_path):
    """It is a pickle; only the binary version is read."""
    expect(b"")
    ran = tmp_path / "ran"
    bad = pickle.dumps(_Touch(str(ran)))
    write(tmp_path / "cifar-10-batches-py", {"data_batch_1": bad, "test_batch": bad})
    for folder in (tmp_path, tmp_path / "cifar-10-batches-py"):
        with pytest.raises(DataNotFound, match="lacks cifar-10-batches-bin"):
            load_cifar10(data_dir=folder)
    assert not ran.exists()


class _Touch:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_cifar_is_downloaded_from_the_second_mirror(expect, monkeypatch):
    content = expect(archive(BATCHES))
    asked = served(monkeypatch, {"cifar-10-binary.tar.gz": content})
    monkeypatch.setattr(cifar, "MIRRORS", ("https://one/gone-", "https://two/"))
    load_cifar10()
    load_cifar10(download=False)
    assert len(asked) == 2


def test_a_run_on_cifar_and_a_picture(expect, tmp_path, monkeypatch, capsys):
    image = pytest.importorskip("PIL.Image", reason="writes the picture")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastconv.figures.save", lambda figure, path: "")
    write(tmp_path / "c", {"cifar-10-binary.tar.gz": expect(archive(BATCHES))})
    words = ["--data", "cifar10", "--data-dir", "c", "--model", "lenet", "--epochs", "1"]
    assert cli.main(["train", *words, "--batch-size", "5", "--seed", "0", "--out", "run"]) == 0
    assert "airplane" in capsys.readouterr().out
    image.fromarray(PIXELS[0, 0].transpose(1, 2, 0)).resize((50, 40)).save("photo.png")
    assert cli.main(["predict", "run", "photo.png"]) == 0
    assert cli.main(["show", "run"]) == 0


def test_the_table_knows_them():
    for name, load in {**LOADERS, "cifar10": load_cifar10}.items():
        dataset = DATASETS[name]
        assert dataset.load is load and dataset.takes_folder
        assert len(set(dataset.label_names)) == 10
    assert DATASETS["cifar10"].image_shape == (3, 32, 32)
    mirrors = (like_mnist.FASHION_MIRRORS, like_mnist.KMNIST_MIRRORS, cifar.MIRRORS)
    for addresses in mirrors:
        assert len(set(addresses)) >= 2 and all(address.endswith("/") for address in addresses)
    assert download.TIMEOUT > 0
    published = [file.md5 for file in like_mnist.FASHION_FILES + like_mnist.KMNIST_FILES]
    assert len({*published, cifar.ARCHIVE.md5}) == 9
    assert [file.shape for file in like_mnist.KMNIST_FILES] == [
        *((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))
    ]
