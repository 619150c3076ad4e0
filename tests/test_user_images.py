"""Folders of images: what is listed, split, left out, and refused."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections import Counter

import numpy as np
import pytest

import fastconv
from fastconv import memory as room
from fastconv.datasets import load_images
from fastconv.datasets.folder import list_folder
from fastconv.datasets.record import ImageFacts
from fastconv.datasets.user_images import describe_unreadable, load_test_images
from fastconv.errors import ArgumentError, DataCorrupt, DataNotFound, MissingDependency
from fastconv.randomness import stratified

from .picture_files import noise, pixels, plain, write, write_classes


def where(root) -> dict[bytes, str]:
    """The folder of each picture, by its pixels."""
    return {plain(path): path.parent.name for path in root.rglob("*.png")}


# ---- folders --------------------------------------------------------------------------------


def test_a_folder_for_each_class(tmp_path):
    write_classes(tmp_path, {"dog": 10, "cat": 5, "Bird": 4})
    images = load_images(tmp_path)
    assert images.class_names == ("Bird", "cat", "dog")
    assert images.unreadable == ()
    assert images.validation is None
    assert images.test_share == 0.2
    assert images.train.images.shape == (15, 3, 6, 5)
    assert images.train.images.dtype == np.float32
    assert images.train.labels.dtype == np.int64
    home = where(tmp_path)
    seen = Counter()
    for part in (images.train, images.test):
        assert len(part) == len(part.images)
        for content, label in zip(pixels(part), part.labels, strict=True):
            assert home[content] == images.class_names[label]
            seen[content] += 1
    assert seen == Counter(home.keys())  # each image in one part, once
    # A fifth of each class, rounded.
    assert np.bincount(images.test.labels).tolist() == [1, 1, 2]
    # Not class by class: the Trainer takes the first images as a sample of all.
    assert np.any(np.diff(images.train.labels) < 0)


def test_the_split_follows_from_the_seed_alone(tmp_path):
    write_classes(tmp_path / "a", {"x": 9, "y": 9})
    # Written in another order, so that most file systems list it in another order.
    for path in sorted((tmp_path / "a").rglob("*.png"), reverse=True):
        copy = tmp_path / "b" / path.relative_to(tmp_path / "a")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    first, again = load_images(tmp_path / "a", seed=3), load_images(tmp_path / "b", seed=3)
    assert pixels(first.test) == pixels(again.test)
    assert pixels(first.train) == pixels(again.train)
    assert first.fingerprint == again.fingerprint
    other = load_images(tmp_path / "a", seed=4)
    assert set(pixels(first.test)) != set(pixels(other.test))
    fastconv.set_num_threads(1)
    assert pixels(load_images(tmp_path / "a", seed=3).train) == pixels(first.train)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_a_share_of_each_class(share, rng):
    labels = rng.permutation(np.repeat(np.arange(5), [1, 2, 3, 40, 111]))
    chosen = stratified(labels, share, np.random.default_rng(0), every_class=True)
    for label, count in enumerate([1, 2, 3, 40, 111]):
        expected = min(max(round(share * count), 1), count - 1)
        assert chosen[labels == label].sum() == expected


def test_parts_that_have_folders(tmp_path):
    write_classes(tmp_path / "Train", {"a": 4, "b": 3})
    write_classes(tmp_path / "validation", {"a": 2, "b": 1})
    write_classes(tmp_path / "test", {"b": 2})
    write_classes(tmp_path / "drafts", {"c": 2})
    images = load_images(tmp_path)
    assert (len(images.train), len(images.validation), len(images.test)) == (7, 3, 2)
    assert images.class_names == ("a", "b")
    assert images.test_share is None
    assert images.test.labels.tolist() == [1, 1]
    files = [tmp_path / "test" / "b" / f"00{i}.png" for i in range(2)]
    assert pixels(images.test) == [plain(file) for file in files]
    beside, *copies = images.notes
    assert beside == "not read, as they are beside Train, test, validation: drafts"
    assert [note.split(" (")[0] for note in copies] == [
        "equal files of different classes",  # the noise is the same in all parts
        "equal files",
    ]
    with pytest.raises(ArgumentError, match="has a test part of its own"):
        load_images(tmp_path, test_share=0.3)


def test_training_and_validation_alone(tmp_path):
    """Validation images are not tested on: test images come from the training images."""
    write_classes(tmp_path / "train", {"a": 10, "b": 10})
    write_classes(tmp_path / "val", {"a": 2})
    images = load_images(tmp_path, test_share=0.3)
    assert (len(images.train), len(images.validation), len(images.test)) == (14, 2, 6)
    assert images.test_share == 0.3
    train = {plain(path) for path in (tmp_path / "train").rglob("*.png")}
    assert {*pixels(images.train), *pixels(images.test)} == train


def test_names_of_all_kinds(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Äpfel")
    write_classes(tmp_path / "train", {decomposed: 2, "猫": 2, "a b": 2, "10": 2, "9": 2})
    write_classes(tmp_path / "test", {unicodedata.normalize("NFC", "Äpfel"): 1})
    for name in ("photo.PNG", "né.Png", ".hidden.png", "._photo.png", "with space.jpeg"):
        write(tmp_path / "train" / "猫" / name, noise(1, 6, 5, 3), format="png")
    write_classes(tmp_path / "train", {".hidden": 3})
    write(tmp_path / "train" / "猫" / "deeper" / "still" / "more.png", noise(2, 6, 5, 3))
    images = load_images(tmp_path)
    assert images.class_names == ("10", "9", "a b", "Äpfel", "猫")
    assert np.bincount(images.train.labels).tolist() == [2, 2, 2, 2, 6]
    assert images.test.labels.tolist() == [3]
    assert images.unreadable == ()


def test_names_that_are_not_text(tmp_path):
    try:
        write(tmp_path / "a" / os.fsdecode(b"\xff\n\x1b[2J.png"), noise(1, 6, 5, 3))
    except OSError:
        pytest.skip("this file system takes no such names")
    write_classes(tmp_path, {os.fsdecode(b"caf\xe9"): 2, "a": 1})
    (tmp_path / "a" / os.fsdecode(b"bad\xfe\n.png")).write_bytes(b"")
    images = load_images(tmp_path)
    text = " ".join([*images.class_names, describe_unreadable(images.unreadable)])
    assert text.isprintable()
    text.encode()
    assert "caf\\udce9" in images.class_names
    assert "bad\\udcfe\\n.png: empty file" in text


def test_wide_spaces_and_characters_of_a_font_of_its_own_are_shown(tmp_path):
    """Japanese keyboards write U+3000 for a space, which terminals and JSON can show."""
    write_classes(tmp_path, {"柴犬\u3000黒": 2, "a\u00a0b": 2, "\ue000": 2, "it's\x7f": 2})
    names = load_images(tmp_path).class_names
    assert set(names) == {"柴犬\u3000黒", "a\u00a0b", "\ue000", "it's\\x7f"}


def test_numbers_are_sorted_as_numbers(tmp_path):
    write_classes(tmp_path, {str(number): 2 for number in (10, 9, 2, 0)})
    assert load_images(tmp_path).class_names == ("0", "2", "9", "10")


def test_files_that_are_left_out_are_noted(tmp_path):
    write_classes(tmp_path, {"a": 3, "b": 3})
    write(tmp_path / "loose.png", noise(1, 6, 5, 3))
    (tmp_path / "notes").mkdir()
    for name in ("one.heic", "two.heic", "list.txt", "README"):
        (tmp_path / "a" / name).write_bytes(b"?")
    (tmp_path / "a" / "broken.png").write_bytes(b"?")
    (tmp_path / "b" / "gone.jpg").symlink_to("nowhere")
    images = load_images(tmp_path, seed=1)
    assert images.notes == (
        "not read, as they are in no class's folder: 1 images",
        "not taken for classes, as no images are in them: notes",
        "not read, by the endings of their names: .heic (2), README (1), .txt (1)",
        "20% of each class are set apart for testing",
    )
    assert [str(file) for file in images.unreadable] == [
        "a/broken.png: not an image of a kind that is read here",
        "b/gone.jpg: no such file",
    ]
    assert len(images.train) + len(images.test) == 6
    with pytest.raises(DataCorrupt, match=r"2 files .*: a/broken\.png: not .*; b/gone"):
        load_images(tmp_path, strict=True)


def test_damage_that_shows_only_when_pixels_are_read(tmp_path):
    # The orientation of a square picture does not change its size.
    write_classes(tmp_path, {"a": 8, "b": 8}, size=(6, 6, 3))
    whole = load_images(tmp_path, seed=2)
    contents = {plain(path): path for path in tmp_path.rglob("*.png")}
    for part, index in ((whole.train, 0), (whole.train, 7), (whole.test, 1)):
        path = contents[pixels(part)[index]]
        path.write_bytes(path.read_bytes()[:-40])
    images = load_images(tmp_path, seed=2)
    assert len(images.unreadable) == 3
    assert all("runcated" in file.reason for file in images.unreadable)
    # The others stay where they were, with their labels.
    left = [content for index, content in enumerate(pixels(whole.train)) if index not in (0, 7)]
    assert pixels(images.train) == left
    assert images.train.labels.tolist() == np.delete(whole.train.labels, [0, 7]).tolist()
    assert pixels(images.test) == [c for i, c in enumerate(pixels(whole.test)) if i != 1]
    assert images.fingerprint != whole.fingerprint
    with pytest.raises(DataCorrupt, match="cannot be read"):
        load_images(tmp_path, seed=2, strict=True)


def test_links_are_followed_but_never_in_a_circle(tmp_path):
    root = tmp_path / "root"
    write_classes(root, {"a": 2, "b": 2})
    write_classes(tmp_path, {"elsewhere": 3})
    (root / "a" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "one.png").symlink_to(tmp_path / "elsewhere" / "000.png")
    (root / "a" / "itself").symlink_to(root / "a")
    (root / "b" / "up").symlink_to(root)
    (tmp_path / "elsewhere" / "back").symlink_to(root / "a")
    (root / "b" / "loop").symlink_to(root / "b" / "loop")
    (root / "c").symlink_to(root)
    listing = list_folder(root)
    counts = Counter(entry.label for entry in listing.entries)
    assert counts == {"a": 2 + 3, "b": 2}
    assert listing.notes[-1] == "1 images are others under another name, and count once"


@pytest.mark.parametrize(
    "files, message",
    [
        ([], "no images in folders of their classes: expected .*/CLASS/IMAGE"),
        (["a.png", "b.png"], "expected .*; 2 are in no folder"),
        (["train/a.png"], "no images in folders"),
        (["a/1.txt"], "no images in folders"),
        (["test/a/1.png", "test/a/2.png"], "no training images: only test"),
        (["train/a/1.png", "val/a/2.png", "valid/a/3.png"], "both val/ and valid/ hold the val"),
        (["a/1.png", "b/1.png"], "no images to test on"),
        (["train/a/1.png", "test/b/1.png"], "no training image can be read of class b"),
    ],
)
def test_folders_that_are_not_data_sets(tmp_path, files, message):
    for name in files:
        write(tmp_path / name, noise(len(name), 6, 5, 3), format="png")
    with pytest.raises(DataCorrupt, match=message):
        load_images(tmp_path)


def test_a_class_without_readable_images(tmp_path):
    write_classes(tmp_path, {"a": 3})
    for name in ("b/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataCorrupt, match="no training image can be read of class b"):
        load_images(tmp_path)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(DataCorrupt, match=r"none of 2 files can be read; b/1\.png: empty file"):
        load_images(tmp_path)


# ---- size, colour, memory -----------------------------------------------------------------------


def test_one_size_or_the_one_that_is_asked_for(tmp_path):
    write_classes(tmp_path, {"a": 4}, size=(6, 5, 3))
    write_classes(tmp_path, {"b": 2}, size=(5, 6, 3))
    with pytest.raises(ArgumentError) as caught:
        load_images(tmp_path)
    message = "images of 2 sizes: 6x5 (4, as a/000.png), 5x6 (2, as b/000.png); name one"
    assert message in str(caught.value)
    assert "--image-size HxW" in str(caught.value)
    images = load_images(tmp_path, size=(3, 4))
    assert images.train.images.shape[1:] == (3, 3, 4)
    with pytest.raises(ArgumentError, match="images of 0 x 4: expected lengths of at"):
        load_images(tmp_path, size=(0, 4))


def test_grey_if_every_training_file_is(tmp_path):
    write_classes(tmp_path / "train", {"a": 3, "b": 2}, size=(6, 5))
    write_classes(tmp_path / "test", {"a": 2}, size=(6, 5, 3))
    assert load_images(tmp_path).train.images.shape[1] == 1
    assert load_images(tmp_path, grey=False).train.images.shape[1] == 3
    write(tmp_path / "train" / "a" / "colour.png", noise(1, 6, 5, 3))
    assert load_images(tmp_path).train.images.shape[1] == 3
    assert load_images(tmp_path, grey=True).test.images.shape[1] == 1


def test_what_does_not_fit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    write_classes(tmp_path, {"a": 5, "b": 5})
    need = 10 * 3 * 100 * 200 * 4
    monkeypatch.setattr(room, "available_memory", lambda: 4 * need // 3 - 4)
    with pytest.raises(ArgumentError) as caught:
        load_images(tmp_path, size=(100, 200))
    text = f"10 images of 3 x 100 x 200 take {need / 2**20:.1f} MiB of memory; 3.1 MiB are free"
    assert text in str(caught.value)
    assert "75%" in str(caught.value)
    assert "--image-size" in str(caught.value)
    monkeypatch.setattr(room, "available_memory", lambda: 4 * need // 3 + 4)
    load_images(tmp_path, size=(100, 200))


def test_available_memory(tmp_path, monkeypatch):
    assert room.available_memory() > 2**20
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   2048 kB\n")
    monkeypatch.setattr(room, "MEMINFO", tmp_path / "meminfo")
    for limit, expected in ((None, 2**21), (1000000, 1000000), (2**40, 2**21)):
        monkeypatch.setattr(room, "memory_limit", lambda limit=limit: limit)
        assert room.available_memory() == expected
    monkeypatch.setattr(room, "MEMINFO", tmp_path / "absent")
    monkeypatch.setattr(room, "memory_limit", lambda: None)
    assert room.available_memory() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


# ---- fingerprints, and images to test on --------------------------------------------------------


def test_the_fingerprint_is_that_of_names_labels_and_contents(tmp_path):
    write_classes(tmp_path / "a", {"x": 4, "y": 4})
    known = load_images(tmp_path / "a").fingerprint
    assert len(known) == 64
    assert load_images(tmp_path / "a", size=(3, 3), grey=True, seed=9).fingerprint == known
    (tmp_path / "a").rename(tmp_path / "b")
    root = tmp_path / "b"
    assert load_images(root).fingerprint == known
    first, last = root / "x" / "000.png", root / "y" / "003.png"
    content = first.read_bytes()
    changes = {
        "content": (lambda: write(first, noise(99, 6, 5, 3)), lambda: first.write_bytes(content)),
        "name": (
            lambda: first.rename(root / "x" / "zzz.png"),
            lambda: (root / "x" / "zzz.png").rename(first),
        ),
        "label": (
            lambda: first.rename(root / "y" / "zzz.png"),
            lambda: (root / "y" / "zzz.png").rename(first),
        ),
        "number": (lambda: shutil.copy(last, root / "x" / "1.png"), lambda: None),
    }
    for name, (change, back) in changes.items():
        change()
        assert load_images(root).fingerprint != known, name
        back()


@pytest.fixture
def trained(tmp_path):
    """A data set that a run was trained on, and what the run keeps of it."""
    write_classes(tmp_path / "own", {"a": 10, "b": 10, "c": 5})
    images = load_images(tmp_path / "own", seed=5)
    names, shape = images.class_names, images.train.images.shape[1:]
    return images, ImageFacts(shape, names, None, images.test_share, images.fingerprint)


def test_own_data_are_tested_on_the_images_set_apart(tmp_path, trained):
    images, facts = trained
    (tmp_path / "own").rename(tmp_path / "moved")
    test = load_test_images(tmp_path / "moved", facts, seed=5, own_place=False)
    assert pixels(test.test) == pixels(images.test)
    assert test.test.labels.tolist() == images.test.labels.tolist()
    assert len(test.train) == 0


def test_own_data_that_changed_are_refused(tmp_path, trained):
    _, facts = trained
    write(tmp_path / "own" / "a" / "new.png", noise(7, 6, 5, 3))
    with pytest.raises(DataCorrupt, match="not the images that the run was trained on"):
        load_test_images(tmp_path / "own", facts, seed=5, own_place=True)


def test_other_data_are_tested_on_their_test_part_or_all_images(tmp_path, trained):
    _, facts = trained
    write_classes(tmp_path / "other", {"c": 4, "b": 3}, size=(9, 9))
    test = load_test_images(tmp_path / "other", facts, seed=5, own_place=False)
    assert test.test.images.shape == (7, 3, 6, 5)
    assert test.test.labels.tolist() == [1, 1, 1, 2, 2, 2, 2]  # the network's own classes
    assert test.class_names == ("a", "b", "c")
    assert "all images are tested" in test.notes[-1]
    (tmp_path / "split").mkdir()
    (tmp_path / "other").rename(tmp_path / "split" / "train")
    write_classes(tmp_path / "split" / "test", {"a": 2})
    test = load_test_images(tmp_path / "split", facts, seed=5, own_place=False)
    assert test.test.labels.tolist() == [0, 0]
    write_classes(tmp_path / "split" / "test", {"d": 2})
    with pytest.raises(ArgumentError, match="knows no class d; it knows a, b, c"):
        load_test_images(tmp_path / "split", facts, seed=5, own_place=False)
    write_classes(tmp_path / "third" / "val", {"a": 2})
    with pytest.raises(DataCorrupt, match="no images to test on: only val"):
        load_test_images(tmp_path / "third", facts, seed=5, own_place=False)


# ---- what is no data at all ----------------------------------------------------------------------


def test_paths_and_numbers_that_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DataNotFound, match="nowhere: no such file or folder"):
        load_images(tmp_path / "nowhere")
    with pytest.raises(DataNotFound, match="~nobody-has-this-name/x: no such file or folder"):
        load_images("~nobody-has-this-name/x")
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(ArgumentError, match=r"a\.zip: expected a folder of images, a \.csv"):
        load_images(tmp_path / "a.zip")
    write_classes(tmp_path / "set", {"a": 2})
    for share in (0, 1, -0.5, float("nan")):
        with pytest.raises(ArgumentError, match="test_share must be between 0 and 1"):
            load_images(tmp_path / "set", test_share=share)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependency, match="pip install pillow"):
        load_images(tmp_path / "set")


def test_a_bar_is_shown_where_it_takes_long(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tqdm", reason="draws the bar")
    write_classes(tmp_path, {"a": 4})
    load_images(tmp_path, progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("fastconv.datasets.files.PATIENCE", 0)
    load_images(tmp_path, progress=True)
    shown = capsys.readouterr()
    assert "4/4" in shown.err
    assert shown.out == ""
