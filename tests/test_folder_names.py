"""Folders whose names mean something: parts that may be classes, and what systems make."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from fastconv.datasets import folder, load_images
from fastconv.datasets.folder import list_folder
from fastconv.errors import DataCorrupt

from .picture_files import noise, write


def make(root, *places):
    """Put a different picture into each of these folders; 'x.txt' and 'x/' are not pictures."""
    for number, place in enumerate(places):
        if place.endswith("/"):
            (root / place).mkdir(parents=True)
        elif place.endswith(".txt"):
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_text("?")
        else:
            write(root / place / f"{number}.png", noise(number, 6, 5, 3))
    return root


def listed(root) -> set[tuple[str, str]]:
    return {(entry.part, entry.label) for entry in list_folder(root).entries}


# The table of docs/data.md, row by row.


@pytest.mark.parametrize(
    "places, expected",
    [
        # No folder has the name of a part.
        (["cat", "dog"], {("train", "cat"), ("train", "dog")}),
        (["cat/young", "dog/old"], {("train", "cat"), ("train", "dog")}),
        (["invalid", "trainer"], {("train", "invalid"), ("train", "trainer")}),
        # Those that do hold no images (yet).
        (["cat", "dog", "train/"], {("train", "cat"), ("train", "dog")}),
        (["cat", "dog", "test/a.txt", "val/deep/"], {("train", "cat"), ("train", "dog")}),
        # All do, and hold folders of classes.
        (["train/cat", "test/cat"], {("train", "cat"), ("test", "cat")}),
        (["train/cat", "test/dog"], {("train", "cat"), ("test", "dog")}),
        (["train/cat", "valid/cat"], {("train", "cat"), ("val", "cat")}),
        (["TRAIN/cat", "Validation/cat"], {("train", "cat"), ("val", "cat")}),
        (["training/cat", "testing/cat"], {("train", "cat"), ("test", "cat")}),
        (["Training/cat", "validation/dog"], {("train", "cat"), ("val", "dog")}),
        (["train/cat", "train/dog"], {("train", "cat"), ("train", "dog")}),
        # Inside a part, every folder is a class.
        (["train/valid", "train/invalid"], {("train", "valid"), ("train", "invalid")}),
        (["train/bus", "train/train/steam"], {("train", "bus"), ("train", "train")}),
        # One holds only loose images, which have no class.
        (["train/cat", "train/dog", "test"], {("train", "cat"), ("train", "dog")}),
        # Folders beside them hold no images.
        (["train/cat", "test/cat", "lists/a.txt"], {("train", "cat"), ("test", "cat")}),
        # Images beside parts that have a class in common.
        (["train/cat", "test/cat", "drafts"], {("train", "cat"), ("test", "cat")}),
        (["train/cat", "val/cat", "more/cow"], {("train", "cat"), ("val", "cat")}),
    ],
)
def test_what_is_a_part_and_what_a_class(tmp_path, places, expected):
    assert listed(make(tmp_path, *places)) == expected


@pytest.mark.parametrize(
    "places, shown, first",
    [
        (["valid", "invalid"], "valid may be a class or the part of that name", "valid"),
        (["bus", "car", "train"], "train may be a class", "train"),
        (["Test", "reference"], "Test may be a class", "Test"),
        (["bus", "car", "train/steam", "train/tram"], "train may be a class", "train"),
        (["bus/red", "train/steam"], "train may be a class", "train"),
        (["bus", "test", "train"], "test, train may be classes", "test"),
        (["bus", "test/slow", "train/steam"], "test, train may be classes", "test"),
        (["bus", "test", "train/steam"], "test, train may be classes", "test"),
        (["bus", "val", "valid"], "val, valid may be classes", "val"),
    ],
)
def test_what_may_be_a_part_or_a_class_is_refused(tmp_path, places, shown, first):
    root = make(tmp_path, *places)
    with pytest.raises(DataCorrupt) as caught:
        load_images(root)
    message = str(caught.value)
    assert shown in message
    for way_out in (f"move them into one folder: {root}/train/{first}, ", "away", ".csv"):
        assert way_out in message
    # Do what the message suggests.
    names = {place.split("/")[0] for place in places}
    (root / "new" / "train").mkdir(parents=True)
    for name in names:
        (root / name).rename(root / "new" / "train" / name)
    assert listed(root / "new") == {("train", name) for name in names}


@pytest.mark.parametrize("places", [["train", "test"], ["valid"], ["Train", "VAL", "test"]])
def test_parts_without_folders_of_classes(tmp_path, places):
    with pytest.raises(DataCorrupt) as caught:
        list_folder(make(tmp_path, *places))
    message = str(caught.value)
    assert "no images in folders of their classes" in message
    assert f"expected {tmp_path}/{sorted(places)[0]}/CLASS/IMAGE; if " in message
    assert f"move them into one folder: {tmp_path}/train/" in message


def test_two_folders_for_one_part(tmp_path):
    with pytest.raises(DataCorrupt, match="both val/ and valid/ hold the val part"):
        list_folder(make(tmp_path, "train/a", "val/a", "valid/a"))


# ---- what systems make --------------------------------------------------------------------------

SYSTEMS = [
    *("@eaDir", "$RECYCLE.BIN", "RECYCLER", "System Volume Information", "lost+found", "__MACOSX"),
    *("#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "found.000", "~snapshot"),
]
HIDDEN = [".ipynb_checkpoints", ".git", ".Trash-1000", ".AppleDouble", ".Trashes", ".@__thumb"]


@pytest.mark.parametrize("name", SYSTEMS + HIDDEN)
def test_folders_that_systems_make_are_left_out(tmp_path, name):
    # Beside the classes, inside one, and with pictures of the same names, as a Synology does.
    make(tmp_path, "a", "b", name, f"a/{name}/1.jpg", f"b/deep/{name}", "b/deep")
    for place in ("Thumbs.db", "desktop.ini", ".DS_Store", "._0.png"):
        (tmp_path / "a" / place).write_bytes(b"?")
    listing = list_folder(tmp_path)
    assert Counter(entry.label for entry in listing.entries) == {"a": 1, "b": 2}
    expected = [] if name in HIDDEN else [f"not read, as systems make them: {name} (3 images)"]
    assert listing.notes == expected
    assert listing.unreadable == []


def test_in_parts_and_without_images(tmp_path):
    make(tmp_path, "train/a", "train/@eaDir", "test/a", "test/a/lost+found/", "$RECYCLE.BIN/b.txt")
    listing = list_folder(tmp_path)
    assert listed(tmp_path) == {("train", "a"), ("test", "a")}
    assert listing.notes == ["not read, as systems make them: @eaDir (1 images)"]


def bar(monkeypatch, *barred):
    """Make folders unlistable, by a patch: tests may run as root, who may list all."""
    whole = os.scandir

    def scandir(place="."):
        if os.fspath(place) in [os.fspath(path) for path in barred]:
            raise PermissionError(13, "Permission denied", os.fspath(place))
        return whole(place)

    monkeypatch.setattr(os, "scandir", scandir)


def test_folders_that_cannot_be_listed_are_named(tmp_path, monkeypatch):
    make(tmp_path, "a", "a", "a/deep", "b", "b", "b", "c", "lost+found")
    bar(monkeypatch, tmp_path / "a" / "deep", tmp_path / "c", tmp_path / "lost+found")
    images = load_images(tmp_path)
    assert images.class_names == ("a", "b")
    assert sorted(map(str, images.unreadable)) == [
        "a/deep/: no permission to read it",
        "c/: no permission to read it",
    ]
    assert images.notes[0] == "not read, as systems make them: lost+found (cannot be listed)"
    with pytest.raises(DataCorrupt, match=r"2 files cannot be read: .*c/: no permission"):
        load_images(tmp_path, strict=True)


def test_a_data_set_that_cannot_be_listed(tmp_path, monkeypatch):
    make(tmp_path / "set", "a", "b", "train")
    bar(monkeypatch, tmp_path / "set")
    with pytest.raises(DataCorrupt, match="set: the folder cannot be listed: no permission"):
        load_images(tmp_path / "set")
    # A folder with the name of a part may hold images, so that the choice is refused.
    monkeypatch.undo()
    bar(monkeypatch, tmp_path / "set" / "train")
    with pytest.raises(DataCorrupt, match="train may be a class or the part"):
        load_images(tmp_path / "set")


def test_no_folder_is_a_system_and_a_part():
    assert not folder.SYSTEM_FOLDERS & folder.PART_NAMES.keys()
    assert all(name == name.casefold() for name in folder.SYSTEM_FOLDERS | folder.SYSTEM_FILES)


def test_a_folder_deeper_than_pythons_stack(tmp_path, monkeypatch):
    make(tmp_path, "a", "b")
    monkeypatch.chdir(tmp_path / "a")
    depth = 1200
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    try:
        labels = Counter(entry.label for entry in list_folder(tmp_path).entries)
    finally:
        for _ in range(depth):  # too deep for pytest's own cleaning up
            os.chdir("..")
            Path("d").rmdir()
    assert labels == {"a": 1, "b": 1}
