"""Images and labels in NumPy's files."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from fastconv import memory as room
from fastconv.datasets import load_images
from fastconv.errors import ArgumentError, DataCorrupt
from fastconv.io import load_params

from .picture_files import noise


def save(path, **arrays):
    """An ``.npz``, or a folder of ``.npy`` files where the path has no ending."""
    if path.suffix:
        np.savez(path, **arrays)
        return path
    path.mkdir()
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    return path


LABELS = np.arange(12) % 3


@pytest.mark.parametrize("name", ["set.npz", "folder"])
@pytest.mark.parametrize(
    "form", ["x_{}/t_{}", "X_{}/y_{}", "{}_images/{}_labels", "images_{}/labels_{}"]
)
def test_parts_under_the_names_that_are_in_use(tmp_path, name, form):
    images, labels = form.split("/")
    x = {part: noise(seed, 12, 5, 4, 3) for seed, part in enumerate(("train", "val", "test"))}
    arrays = {images.format(part): x[part] for part in x}
    arrays |= {labels.format(part): np.roll(LABELS, i) for i, part in enumerate(x)}
    found = load_images(save(tmp_path / name, **arrays))
    assert found.class_names == ("0", "1", "2")
    assert found.test_share is None
    for part, got in (("val", found.validation), ("test", found.test)):
        assert got.images.dtype == np.float32
        expected = x[part].transpose(0, 3, 1, 2) / np.float32(255)
        assert np.array_equal(got.images, expected)
        assert np.array_equal(got.labels, arrays[labels.format(part)])
    # Training images in an order of their own, each with its label.
    order = [
        int(np.flatnonzero((x["train"] == np.rint(image * 255)).all(axis=(1, 2, 3)))[0])
        for image in found.train.images.transpose(0, 2, 3, 1)
    ]
    assert sorted(order) == list(range(12))
    assert np.array_equal(found.train.labels, arrays[labels.format("train")][order])


def test_one_part_is_split(tmp_path):
    path = save(tmp_path / "set.npz", x=noise(1, 30, 6, 6), t=np.arange(30) % 3)
    found = load_images(path, test_share=0.5, seed=1)
    assert np.bincount(found.test.labels).tolist() == [5, 5, 5]
    assert found.train.images.shape == (15, 1, 6, 6)


@pytest.mark.parametrize(
    "pixels, white",
    [
        (noise(1, 12, 1, 4, 5), 255),
        (noise(1, 12, 4, 5, 1), 255),
        (noise(1, 12, 3, 4, 3), 255),  # either way: channels first, as in all of fastconv
        (noise(1, 12, 4, 5).astype(">u2") * 257, 65535),
        (noise(1, 12, 4, 5) > 127, 1),
        (noise(1, 12, 4, 5) / 255, 1),
        ((noise(1, 12, 4, 5) / 255).astype(np.float16), 1),
        (np.asfortranarray(noise(1, 12, 4, 5)), 255),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
@pytest.mark.parametrize("name", ["set.npz", "folder"])
def test_layouts_and_types(tmp_path, pixels, white, name):
    arrays = {"x_train": pixels, "t_train": LABELS, "x_test": pixels, "t_test": LABELS}
    found = load_images(save(tmp_path / name, **arrays)).test.images
    expected = pixels.astype(np.float64) / white
    if expected.ndim == 3:
        expected = expected[:, None]
    elif expected.shape[3] == 1:
        expected = expected.transpose(0, 3, 1, 2)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_names_of_classes(tmp_path):
    x = noise(1, 12, 4, 4)
    for name, labels, expected in (
        ("numbers", LABELS + 5, ("5", "6", "7")),
        ("columns", (LABELS * 10)[:, None].astype(np.int8), ("0", "10", "20")),
        ("strings", np.array(["cat", "猫", "dog"])[LABELS], ("cat", "dog", "猫")),
    ):
        found = load_images(save(tmp_path / f"{name}.npz", x=x, t=labels))
        assert found.class_names == expected
        names = np.concatenate([found.train.labels, found.test.labels])
        assert np.bincount(names).tolist() == [4, 4, 4]
    listed = np.array(["zebra", "ant", "cow"])
    found = load_images(save(tmp_path / "listed.npz", x=x, t=LABELS, class_names=listed))
    assert found.class_names == ("zebra", "ant", "cow")


def test_other_arrays_are_said_to_be_left_out(tmp_path):
    path = save(tmp_path / "a.npz", x=noise(1, 12, 4, 4), t=LABELS, ids=np.arange(12))
    assert load_images(path).notes[0] == "not read: ids"


def test_arrays_keep_their_size_and_colour(tmp_path):
    path = save(tmp_path / "a.npz", x=noise(1, 12, 4, 5), t=LABELS)
    assert load_images(path, size=(4, 5), grey=True).train.images.shape[1:] == (1, 4, 5)
    for options in ({"size": (5, 5)}, {"grey": False}):
        with pytest.raises(ArgumentError, match=r"1 x 4 x 5 cannot be brought to another size"):
            load_images(path, **options)


def test_the_fingerprint_is_that_of_the_contents(tmp_path):
    x, t = noise(1, 12, 4, 4), LABELS
    known = load_images(save(tmp_path / "a.npz", x=x, t=t)).fingerprint
    assert load_images(save(tmp_path / "b", images=x, labels=t)).fingerprint == known
    other = x.copy()
    other[11, 3, 3] ^= 1
    for name, arrays in {
        "pixel": {"x": other, "t": t},
        "label": {"x": x, "t": np.roll(t, 1)},
        "names": {"x": x, "t": t + 1},
        "shape": {"x": x.reshape(12, 2, 8), "t": t},
    }.items():
        assert load_images(save(tmp_path / f"{name}.npz", **arrays)).fingerprint != known, name


X = noise(1, 12, 4, 4)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"x": X}, "holds x; expected x_train and t_train"),
        ({"x_train": X, "t_train": LABELS, "x_test": X}, "expected x_train"),
        ({"arr_0": X, "arr_1": LABELS}, "holds arr_0, arr_1; expected x_train"),
        ({"x": X, "images": X, "t": LABELS}, "more than one array of train images: "),
        ({"x": X, "t": LABELS[:-1]}, "12 train images, but 11 labels"),
        ({"x": X.astype(int), "t": LABELS}, "images are int64, expected uint8"),
        ({"x": X * 1.0, "t": LABELS}, r"hold 2 to 255; fractions must be in 0\.\.1"),
        (
            {"x": np.full((12, 4, 4), np.nan), "t": LABELS},
            "NaN or infinity, the first of them image 1",
        ),
        ({"x": X - 300.0, "t": LABELS}, "fractions must be"),
        ({"x": X[:, 0], "t": LABELS}, r"shape \(12, 4\), expected \(N, H, W\)"),
        ({"x": noise(1, 12, 4, 5, 2), "t": LABELS}, r"\(12, 4, 5, 2\), expected"),
        ({"x": X[:0], "t": LABELS[:0]}, r"shape \(0, 1, 4, 4\), expected"),
        ({"x": X, "t": LABELS / 2}, "labels are float64"),
        ({"x": X, "t": np.eye(3, dtype=int)[LABELS]}, r"int64 of shape \(12, 3\), expected whole"),
        ({"x": X, "t": LABELS - 1}, "labels go from -1 to 1, expected 0 to any"),
        ({"x": X, "t": LABELS, "class_names": np.array(["a", "b"])}, "0 to 2, expected 0 to 1"),
        ({"x": X, "t": LABELS, "class_names": np.array(["a", "b", "a"])}, "different strings"),
        ({"x": X, "t": LABELS, "class_names": np.arange(3)}, "different strings"),
        (
            {"x_train": X, "t_train": LABELS, "x_test": X[:, :3], "t_test": LABELS},
            r"different shapes: \[\(1, 3, 4\), \(1, 4, 4\)\]",
        ),
    ],
)
@pytest.mark.parametrize("name", ["set.npz", "folder"])
def test_arrays_that_are_refused(tmp_path, arrays, message, name):
    with pytest.raises(DataCorrupt, match=message):
        load_images(save(tmp_path / name, **arrays))


class Bomb:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize("name", ["set.npz", "folder"])
def test_no_file_runs_code(tmp_path, name, capsys):
    arrays = {"x": X, "t": np.array([Bomb()] * 12, object)}
    with pytest.raises(DataCorrupt, match=r"pickle|objects"):
        load_images(save(tmp_path / name, **arrays))
    assert capsys.readouterr().out == ""


def test_files_that_are_no_arrays(tmp_path):
    for name, content in {"text.npz": b"no archive", "empty.npz": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataCorrupt, match=f"{name}: not an .npz"):
            load_images(tmp_path / name)
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(ArgumentError, match="one array does not hold images and labels"):
        load_images(tmp_path / "x.npy")
    folder = save(tmp_path / "folder", x=X, t=LABELS)
    whole = (folder / "x.npy").read_bytes()
    for content in (b"", whole[:40], whole[:-1], b"\x93NUMPY\x01\x00\x10\x00" + b"{" * 16):
        (folder / "x.npy").write_bytes(content)
        with pytest.raises(DataCorrupt, match=r"x\.npy: not a plain array"):
            load_images(folder)
    # The same inside an archive, which may also be one of a network's weights.
    with zipfile.ZipFile(tmp_path / "torn.npz", "w") as archive:
        archive.writestr("x.npy", content)
    for reader in (load_images, load_params):
        with pytest.raises(DataCorrupt, match=r"torn\.npz: not an \.npz file of plain arrays"):
            reader(tmp_path / "torn.npz")


def test_an_archive_that_would_fill_the_memory(tmp_path, monkeypatch):
    path = tmp_path / "zeros.npz"
    np.savez_compressed(path, x=np.zeros((1000, 50, 50), np.uint8), t=np.arange(1000) % 2)
    with zipfile.ZipFile(path) as archive:
        assert sum(member.compress_size for member in archive.infolist()) < 20000
    monkeypatch.setattr(room, "available_memory", lambda: 2**20)
    with pytest.raises(ArgumentError, match=r"the arrays take 2\.4 MiB of memory; 1\.0 MiB are"):
        load_images(path)
