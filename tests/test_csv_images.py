"""CSV files of paths and labels."""

from __future__ import annotations

import pytest

from fastconv.datasets import load_images
from fastconv.datasets.csv_file import list_csv
from fastconv.errors import DataCorrupt

from .picture_files import noise, pixels, plain, write, write_classes


def table(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "a0.png,x\na1.png,x\nb0.png,y\nsub/b1.png,y\n",
        "path,label\na0.png,x\na1.png,x\nb0.png,y\nsub/b1.png,y\n",
        "\ufeffLabel,Width,File\r\nx,9,a0.png\r\nx,9,a1.png\r\n\r\ny,9,b0.png\r\ny,9,sub/b1.png\r\n",
        'class,filename\n"x", "a0.png"\nx,a1.png \ny,"b0.png"\ny,"sub/b1.png"\ny,b0.png\n',
    ],
)
def test_csv_files_of_path_and_label(tmp_path, text):
    for name in ("a0.png", "a1.png", "b0.png", "sub/b1.png"):
        write(tmp_path / name, noise(len(name), 6, 5, 3))
    if ' "' in text:
        text = text.replace(' "', '"')
    listing = list_csv(table(tmp_path / "list.csv", text))
    assert [(e.name, e.label, e.part) for e in listing.entries] == [
        ("a0.png", "x", "train"),
        ("a1.png", "x", "train"),
        ("b0.png", "y", "train"),
        ("sub/b1.png", "y", "train"),
    ]
    assert listing.notes == (
        ["1 lines repeat others and count once"] if text.count("b0") == 2 else []
    )
    images = load_images(tmp_path / "list.csv")
    assert images.class_names == ("x", "y")
    assert (len(images.train), len(images.test)) == (2, 2)


def test_a_csv_file_says_which_part(tmp_path):
    rows = ["path,label,split"]
    for index, part in enumerate(["train", "Train", "valid", "test", "train", "test"]):
        write(tmp_path / f"{index}.png", noise(index, 6, 5, 3))
        rows.append(f"{index}.png,{'猫犬'[index % 2]},{part}")
    rows.append(f"{tmp_path / 'gone.png'},犬,train")
    images = load_images(table(tmp_path / "list.csv", "\n".join(rows)))
    assert (len(images.train), len(images.validation), len(images.test)) == (3, 1, 2)
    assert images.class_names == ("犬", "猫")
    assert pixels(images.test) == [plain(tmp_path / f"{i}.png") for i in (3, 5)]
    assert [file.reason for file in images.unreadable] == ["no such file"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "no lines"),
        ("path,label\n", "no lines below the names"),
        ("a.png,x\nb.png\n", "line 2: 1 columns, expected 2"),
        ("a.png;x\n", "line 1: 1 columns, expected 2"),
        ("path,label\na.png,x,9\n", "line 2: 3 columns, expected 2"),
        ("a.png,x\n,y\n", "line 2: an empty path or label"),
        ("path,label\na.png, \n", "line 2: an empty path or label"),
        ("path,label,split\na.png,x,holdout\n", "line 2: split is 'holdout', expected train, val"),
        ("path,label,split\na.png,x,\n", "line 2: split is '', expected"),
        ("a.png,x\na.png,y\n", "line 2: a.png is in line 1 already, with another label"),
        ("path,file,label\n", "2 columns may be the path: path, file"),
        ('a.png,"x\n', "not a CSV file in UTF-8"),
        ('a.png,"x"y\n', "not a CSV file in UTF-8"),
    ],
)
def test_csv_files_that_are_refused(tmp_path, text, message):
    with pytest.raises(DataCorrupt, match=message):
        load_images(table(tmp_path / "list.csv", text))


def test_a_csv_file_in_another_encoding(tmp_path):
    with pytest.raises(DataCorrupt, match="not a CSV file in UTF-8"):
        load_images(table(tmp_path / "list.csv", "a.png,Äpfel\n", "latin-1"))


def test_paths_that_no_file_can_have(tmp_path):
    write_classes(tmp_path, {"x": 3})
    text = "".join(f"x/00{i}.png,x\n" for i in range(3)) + f"{'long' * 2000}.png,x\n"
    (left_out,) = load_images(table(tmp_path / "list.csv", text)).unreadable
    assert "too long" in left_out.reason
