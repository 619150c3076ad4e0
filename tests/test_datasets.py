"""Data sets: files good and bad, mirrors that fail, and real MNIST."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import sys
import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fastconv.datasets import DATASETS, download, idx, init_mnist, load_mnist, mnist
from fastconv.datasets.image_file import frame_digit, read_image
from fastconv.errors import DataCorrupt, DataNotFound, FallbackWarning, MissingDependency

from .mutations import COUNT, expect_harmless, mutated

# ---- a small stand-in for MNIST: the same four files, fewer images ------------------

RNG = np.random.default_rng(0)
TRAIN_IMAGES = RNG.integers(0, 256, (6, 28, 28), np.uint8)
TRAIN_LABELS = np.array([5, 0, 4, 1, 9, 2], np.uint8)
TEST_IMAGES = RNG.integers(0, 256, (3, 28, 28), np.uint8)
TEST_LABELS = np.array([7, 2, 1], np.uint8)


def idx_bytes(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.tobytes()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


CONTENT = {
    "train-images-idx3-ubyte": idx_bytes(TRAIN_IMAGES),
    "train-labels-idx1-ubyte": idx_bytes(TRAIN_LABELS),
    "t10k-images-idx3-ubyte": idx_bytes(TEST_IMAGES),
    "t10k-labels-idx1-ubyte": idx_bytes(TEST_LABELS),
}
SHAPES = [TRAIN_IMAGES.shape, TRAIN_LABELS.shape, TEST_IMAGES.shape, TEST_LABELS.shape]


@pytest.fixture
def small_mnist(monkeypatch, tmp_path):
    """The loader, set to expect the stand-in; its cache is an empty folder."""
    files = tuple(
        idx.IdxFile(name, shape, md5(content))
        for (name, content), shape in zip(CONTENT.items(), SHAPES, strict=True)
    )
    monkeypatch.setattr(mnist, "FILES", files)
    monkeypatch.setattr(mnist, "MIRRORS", ())
    monkeypatch.setenv("FASTCONV_CACHE_DIR", str(tmp_path / "cache"))
    return files


@pytest.fixture
def folder(small_mnist, tmp_path):
    """The four files, two gzipped and two not."""
    path = tmp_path / "data"
    path.mkdir()
    for number, (name, content) in enumerate(CONTENT.items()):
        if number % 2:
            (path / name).write_bytes(content)
        else:
            (path / f"{name}.gz").write_bytes(gzip.compress(content))
    return path


@pytest.mark.parametrize("one_hot_label", [False, True])
@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_load_mnist_gives_what_the_book_says(folder, normalize, flatten, one_hot_label):
    (x_train, t_train), (x_test, t_test) = load_mnist(
        normalize, flatten, one_hot_label, data_dir=folder
    )
    for x, t, images, labels in (
        (x_train, t_train, TRAIN_IMAGES, TRAIN_LABELS),
        (x_test, t_test, TEST_IMAGES, TEST_LABELS),
    ):
        assert x.shape == ((len(images), 784) if flatten else (len(images), 1, 28, 28))
        assert x.dtype == (np.float32 if normalize else np.uint8)
        expected = images.reshape(len(images), -1)
        if normalize:
            expected = expected.astype(np.float32) / np.float32(255)
        assert np.array_equal(x.reshape(len(images), -1), expected)
        assert t.dtype == np.uint8
        if one_hot_label:
            assert t.shape == (len(images), 10)
            assert np.array_equal(t.argmax(axis=1), labels)
            assert np.array_equal(t.sum(axis=1), np.ones(len(labels)))
        else:
            assert np.array_equal(t, labels)
        x += 1  # the caller may write into the arrays
        t += 1


def test_load_mnist_names_every_missing_file(folder):
    (folder / "train-labels-idx1-ubyte").unlink()
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataNotFound) as caught:
        load_mnist(data_dir=folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "train-labels-idx1-ubyte" in message
    assert "t10k-images-idx3-ubyte" in message
    assert "train-images" not in message
    assert ".gz" in message


def test_load_mnist_without_the_folder(small_mnist, tmp_path):
    with pytest.raises(DataNotFound, match="nowhere does not exist"):
        load_mnist(data_dir=tmp_path / "nowhere")


LABELS = CONTENT["train-labels-idx1-ubyte"]
DAMAGE = {
    "empty": (b"", r"not an IDX file.*\(empty\), expected 0x00000801"),
    "foreign": (b"<html>404</html>", "starts with 0x3c68746d, expected 0x00000801"),
    "images for labels": (CONTENT["train-images-idx3-ubyte"], "0x00000803, expected 0x00000801"),
    "header cut": (LABELS[:6], "truncated header: 6 bytes, expected 8"),
    "cut": (LABELS[:-2], "truncated: 12 bytes, expected 14"),
    "too long": (LABELS + b"\0", "too long: more than the 14 bytes"),
    "other count": (idx_bytes(TRAIN_LABELS[:5]), r"holds \(5,\) values, expected \(6,\)"),
    "other content": (idx_bytes(TRAIN_LABELS[::-1]), f"MD5 .*, expected {md5(LABELS)}"),
    "gzip cut": (gzip.compress(LABELS)[:-9], "truncated or damaged gzip"),
    "gzip damaged": (gzip.compress(LABELS)[:12] + b"\xff" * 12, "truncated or damaged gzip"),
    "gzip of a cut file": (gzip.compress(LABELS[:-2]), "truncated: 12 bytes, expected 14"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_and_foreign_files_are_refused(folder, damage):
    content, message = DAMAGE[damage]
    (folder / "train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(DataCorrupt, match=message) as caught:
        load_mnist(data_dir=folder)
    assert str(folder / "train-labels-idx1-ubyte") in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_no_further_than_expected(folder, packed):
    """The file unpacks to 30 MiB, but only 14 bytes and some read-ahead may be unpacked."""
    content = LABELS + bytes(30 << 20)
    (folder / "train-labels-idx1-ubyte").write_bytes(gzip.compress(content) if packed else content)
    tracemalloc.start()
    try:
        with pytest.raises(DataCorrupt, match="too long: more than the 14 bytes"):
            load_mnist(data_dir=folder)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


SPELLINGS = [
    "train-images.idx3-ubyte",  # by 7-Zip and many file managers, and in copies of the set
    "train-images.idx3-ubyte.gz",
    "train_images_idx3_ubyte",
    "Train-Images-IDX3-ubyte.GZ",
    "train-images-idx3-ubyte/train-images.idx3-ubyte",  # unpacked into a folder of its own
    "train-images-idx3-ubyte/train-images-idx3-ubyte",
    "train-images.idx3-ubyte/train-images-idx3-ubyte.gz",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_of_the_names(folder, spelling):
    (folder / "train-images-idx3-ubyte.gz").unlink()
    content = CONTENT["train-images-idx3-ubyte"]
    path = folder / spelling
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix.lower() == ".gz" else content)
    (x_train, _), _ = load_mnist(data_dir=folder)
    assert np.array_equal(x_train.reshape(-1), TRAIN_IMAGES.reshape(-1) / np.float32(255))


def test_the_name_itself_comes_before_other_spellings(folder):
    (folder / "train-labels.idx1-ubyte").write_bytes(b"of another kind")
    load_mnist(data_dir=folder)


def test_names_that_are_not_the_files(folder):
    """Names of the test set, of another set, of half a download."""
    (folder / "train-images-idx3-ubyte.gz").unlink()
    content = CONTENT["train-images-idx3-ubyte"]
    for name in ("test-images", "emnist-train-images.idx3-ubyte", "train-images-idx3-ubyte.part"):
        (folder / name).write_bytes(content)
    with pytest.raises(DataNotFound, match="lacks train-images-idx3-ubyte "):
        load_mnist(data_dir=folder)


@pytest.mark.parametrize("packed", [False, True])
def test_mutated_files_do_no_harm(packed):
    file = idx.IdxFile("train-labels-idx1-ubyte", TRAIN_LABELS.shape, md5(LABELS))
    images = CONTENT["t10k-images-idx3-ubyte"][:400]
    wholes = [gzip.compress(each) if packed else each for each in (LABELS, images)]

    def read(data: bytes) -> None:
        assert np.array_equal(idx.parse_idx(data, file, "a file"), TRAIN_LABELS)

    words = [b"\x1f\x8b\x08", b"\0\0\x08\x01", b"\0\0\x08\x03", b"\0\0\x0d\x01"]
    assert expect_harmless(read, mutated(wholes, seed=11, words=words)) < COUNT


# ---- mirrors --------------------------------------------------------------------------


class Mirror:
    """A web server on this machine; `answers` maps a path to status, body and length."""

    def __init__(self):
        self.answers: dict[str, tuple[int, bytes, int]] = {}
        self.asked: list[str] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.asked.append(self.path)
                status, body, length = mirror.answers.get(self.path, (404, b"gone", 4))
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/mnist/"

    def serve(self, name: str, body: bytes, status: int = 200, length: int | None = None):
        length = len(body) if length is None else length
        self.answers[f"/mnist/{name}.gz"] = (status, body, length)

    def serve_all(self):
        for name, content in CONTENT.items():
            self.serve(name, gzip.compress(content))

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def mirrors(small_mnist, monkeypatch):
    pytest.importorskip("pooch", reason="downloads are pooch's work")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    two = [Mirror(), Mirror()]
    monkeypatch.setattr(mnist, "MIRRORS", tuple(mirror.address for mirror in two))
    yield two
    for mirror in two:
        mirror.close()


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_download_once_then_from_the_cache(mirrors, tmp_path):
    first, second = mirrors
    first.serve_all()
    (x_train, t_train), (x_test, t_test) = load_mnist(normalize=False, flatten=False)
    assert np.array_equal(x_train[:, 0], TRAIN_IMAGES)
    assert np.array_equal(t_train, TRAIN_LABELS)
    assert np.array_equal(x_test[:, 0], TEST_IMAGES)
    assert np.array_equal(t_test, TEST_LABELS)
    assert cached(tmp_path) == sorted(f"{name}.gz" for name in CONTENT)
    assert (len(first.asked), len(second.asked)) == (4, 0)
    load_mnist()
    load_mnist(download=False)
    assert len(first.asked) == 4


def gone(mirror):
    mirror.answers.clear()


def broken_off(mirror):
    for name, content in CONTENT.items():
        body = gzip.compress(content)
        mirror.serve(name, body[:-5], length=len(body))


def cut_short(mirror):
    for name, content in CONTENT.items():
        mirror.serve(name, gzip.compress(content)[:-5])


def other_content(mirror):
    for name, content in CONTENT.items():
        mirror.serve(name, gzip.compress(content[:-1] + b"\x63"))


def web_page(mirror):
    for name in CONTENT:
        mirror.serve(name, b"<html>please log in</html>")


@pytest.mark.parametrize("fault", [gone, broken_off, cut_short, other_content, web_page])
def test_a_mirror_that_fails_is_followed_by_the_next(mirrors, tmp_path, fault):
    first, second = mirrors
    fault(first)
    second.serve_all()
    (_, t_train), _ = load_mnist()
    assert np.array_equal(t_train, TRAIN_LABELS)
    assert cached(tmp_path) == sorted(f"{name}.gz" for name in CONTENT)
    # Having failed once, the first is not waited for again.
    assert (len(first.asked), len(second.asked)) == (1, 4)


def test_a_mirror_may_serve_the_file_unzipped(mirrors):
    for name, content in CONTENT.items():
        mirrors[0].serve(name, content)
    init_mnist()
    (_, t_train), _ = load_mnist(download=False)
    assert np.array_equal(t_train, TRAIN_LABELS)


def test_all_mirrors_failing_names_each_reason_and_the_remedy(mirrors, tmp_path):
    first, second = mirrors
    web_page(second)
    with pytest.raises(DataNotFound) as caught:
        load_mnist()
    message = str(caught.value)
    assert "train-images-idx3-ubyte" in message
    assert first.address in message
    assert "404" in message
    assert second.address in message
    assert "not an IDX file" in message
    assert "\n" not in message
    assert any("--data-dir" in note for note in caught.value.__notes__)
    assert cached(tmp_path) == []


def test_a_server_that_is_not_there(small_mnist, monkeypatch):
    pytest.importorskip("pooch", reason="downloads are pooch's work")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/",))
    with pytest.raises(DataNotFound, match=r"http://127\.0\.0\.1:9/train.*refused"):
        init_mnist()


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "train-labels-idx1-ubyte.gz"])
def test_a_damaged_file_in_the_cache_is_fetched_anew(mirrors, tmp_path, name):
    mirrors[0].serve_all()
    init_mnist()
    (tmp_path / "cache" / "mnist" / name).write_bytes(b"damaged")
    with pytest.raises(DataCorrupt, match="not an IDX file"):
        load_mnist(download=False)
    (_, t_train), _ = load_mnist()
    assert np.array_equal(t_train, TRAIN_LABELS)
    assert mirrors[0].asked[4:] == ["/mnist/train-labels-idx1-ubyte.gz"]
    load_mnist(download=False)


def test_no_download_where_none_is_wanted(small_mnist):
    with pytest.raises(DataNotFound, match="train-images-idx3-ubyte"):
        load_mnist(download=False)


def test_download_without_pooch(small_mnist, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingDependency, match=r"pip install pooch"):
        load_mnist()


def test_progress_goes_to_stderr(mirrors, capsys):
    pytest.importorskip("tqdm", reason="draws the bar")
    mirrors[0].serve_all()
    init_mnist(progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "100%" in shown.err


def test_more_than_one_mirror_is_known():
    assert len(set(mnist.MIRRORS)) >= 2
    assert all(address.startswith("https://") for address in mnist.MIRRORS)
    assert all(address.endswith("/") for address in mnist.MIRRORS)
    assert download.TIMEOUT > 0


# ---- the real thing ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_folder():
    path = os.environ.get("FASTCONV_TEST_MNIST")
    if not path or not Path(path).is_dir():
        pytest.skip("FASTCONV_TEST_MNIST names no folder with the four files of MNIST")
    return Path(path)


def test_real_mnist(real_folder):
    (x_train, t_train), (x_test, t_test) = load_mnist(data_dir=real_folder, normalize=False)
    assert x_train.shape == (mnist.train_num, mnist.img_size)
    assert x_test.shape == (mnist.test_num, mnist.img_size)
    assert mnist.img_dim == (1, 28, 28)
    # Class counts as LeCun's page and every table since give them.
    train_counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(t_train).tolist() == train_counts
    test_counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(t_test).tolist() == test_counts
    assert t_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert x_train.mean() == pytest.approx(0.1307 * 255, rel=1e-3)


def test_valid_idx_data_of_another_set_are_refused_as_mnist(real_folder, tmp_path):
    """Fashion-MNIST has the same names and shapes: only the checksum tells."""
    for path in real_folder.glob("*-ubyte*"):
        (tmp_path / path.name).symlink_to(path)
    (path,) = tmp_path.glob("t10k-labels*")
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    path.unlink()
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(content[:8] + content[8:][::-1])
    with pytest.raises(DataCorrupt, match="27ae3e4e09519cfbb04c329615203637"):
        load_mnist(data_dir=tmp_path)


def test_images_of_mnist_come_back_as_they_are(real_folder, tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow reads the pictures")
    _, (x_test, _) = load_mnist(data_dir=real_folder, normalize=False, flatten=False)
    worst = []
    for image in x_test[:200, 0]:
        path = tmp_path / "digit.png"
        image_module.fromarray(image).save(path)
        framed = frame_digit(read_image(path))[0]
        worst.append(np.abs(framed - image / np.float32(image.max())).max())
    # Ink up to 0.1 is cut off at the edges, as it could be noise; sometimes that moves the centre
    # of mass across a pixel's border.
    assert np.mean(np.array(worst) <= 0.1) >= 0.99


# ---- the table ---------------------------------------------------------------------------


def test_the_table_of_the_command_line(folder):
    pytest.importorskip("sklearn", reason="scikit-learn holds the digits")
    for name in ("digits", "mnist"):  # test_like_mnist.py has the others
        dataset = DATASETS[name]
        options = {"data_dir": folder} if dataset.takes_folder else {}
        (x_train, t_train), _ = dataset.load(flatten=False, **options)
        assert x_train.shape[1:] == (1, 28, 28) == dataset.image_shape, name
        assert x_train.dtype == np.float32
        assert t_train.max() < len(dataset.label_names)
        assert dataset.epochs >= 1


# ---- without a cache --------------------------------------------------------------------


def nobody_at_home() -> None:
    raise RuntimeError("Could not determine home directory.")


@pytest.fixture(params=["no home", "unknown user", "a file in its place"])
def no_cache(request, small_mnist, monkeypatch, tmp_path):
    """No usable cache folder, and a mirror that has the small MNIST."""
    (tmp_path / "file").touch()
    places = {"unknown user": "~nobodyhere/cache", "a file in its place": str(tmp_path / "file")}
    monkeypatch.setenv("FASTCONV_CACHE_DIR", places.get(request.param, ""))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", nobody_at_home)
    fetched = []

    def fetch(expected, mirrors, progress):
        fetched.append(expected.name)
        content = CONTENT[expected.name]
        return content, idx.parse_idx(content, expected, "mirror"), mirrors[0]

    monkeypatch.setattr(mnist, "MIRRORS", ("mirror",))
    monkeypatch.setattr(mnist, "fetch", fetch)
    return fetched


def test_without_a_cache_mnist_is_fetched_and_that_is_told_once(no_cache):
    with pytest.warns(FallbackWarning, match="cannot be kept.*FASTCONV_CACHE_DIR") as told:
        (x_train, _), _ = load_mnist(normalize=False, flatten=False)
    assert len(told) == 1
    assert np.array_equal(x_train, TRAIN_IMAGES.reshape(x_train.shape))
    assert no_cache == list(CONTENT)


def test_without_a_cache_and_without_a_download_there_is_no_mnist(no_cache):
    with pytest.raises(DataNotFound):
        load_mnist(download=False)
