"""CSV files of paths and labels."""

from __future__ import annotations

import csv
import os
import random

import pytest

from fastconv.datasets import load_images
from fastconv.datasets.csv_file import list_csv
from fastconv.datasets.folder import list_folder
from fastconv.datasets.record import index_labels
from fastconv.errors import DataCorrupt, FastconvError

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
    listing = list_csv(table(tmp_path / "list.csv", text))
    assert [(e.name, e.label, e.part) for e in listing.entries] == [
        ("a0.png", "x", "train"),
        ("a1.png", "x", "train"),
        ("b0.png", "y", "train"),
        ("sub/b1.png", "y", "train"),
    ]
    notes = ["1 lines repeat others and count once"] if text.count("b0") == 2 else []
    notes += ["columns that are not read: Width"] if "Width" in text else []
    assert listing.notes == notes
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
        ("a.png:x\n", "line 1: found the columns a.png:x; expected a first line that names"),
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


# ---- columns and separators ---------------------------------------------------------------------

HEADERS = [
    *("path,label", "file,class", "filename,label", "image,class"),
    *("image_path,category", "filename,label", "file,class", "img,target", "id,label"),
    *("Image Path,Class Name", "file_name,class_name", "image_id,label", "img_path,labels"),
    *("filepaths,labels", "ImageName,Label", "photo,categories", "Image Index,y", "Path,ClassId"),
    "image-file,Category Name",
]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", HEADERS)
def test_names_of_columns_and_separators_in_circulation(tmp_path, header, separator):
    text = "\n".join([header, "a.png,x", "b.png,y"]).replace(",", separator)
    listing = list_csv(table(tmp_path / "list.csv", text))
    assert [(e.name, e.label) for e in listing.entries] == [("a.png", "x"), ("b.png", "y")]
    assert listing.notes == []


@pytest.mark.parametrize(
    "text, expected, note",
    [
        # With other columns beside them, some of which could serve by themselves.
        ("id;path;label\n1;a.png;x\n", [("a.png", "x", "train")], "id"),
        ("class_id,filename,class_name\n0,a.png,x\n", [("a.png", "x", "train")], "class_id"),
        ("file,label,category\na.png,x,z\n", [("a.png", "x", "train")], "category"),
        (
            "class id,filepaths,labels,data set\n0,a.png,x,train\n0,b.png,x,valid\n",
            [("a.png", "x", "train"), ("b.png", "x", "val")],
            "class id",
        ),
        (
            "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\na.png;1;1;1;1;1;1;7\n",
            [("a.png", "7", "train")],
            "Width, Height, Roi.X1, Roi.Y1, Roi.X2 and 1 more",
        ),
        ("path,label,subset\na.png,x,Testing\n", [("a.png", "x", "test")], None),
        # With other separators inside cells.
        ("path;label\na,b.png;x,y\n", [("a,b.png", "x,y", "train")], None),
        ("path,label\na;b.png,x;y\n", [("a;b.png", "x;y", "train")], None),
        ("path\tlabel\na b;.png\tx y,\n", [("a b;.png", "x y,", "train")], None),
        # Without column names.
        ("a.png;x\nb.png;y\n", [("a.png", "x", "train"), ("b.png", "y", "train")], None),
        ("a.png\tx\n", [("a.png", "x", "train")], None),
        ("a;b.png,x\n", [("a;b.png", "x", "train")], None),
        # As spreadsheets write them.
        ("sep=;\r\npath;label\r\na.png;x\r\n", [("a.png", "x", "train")], None),
        ("\ufeffsep=\t\npath\tlabel\na.png\tx\n", [("a.png", "x", "train")], None),
        ("path,label,,\na.png,x,,\n,,,\n \n", [("a.png", "x", "train")], None),
        ("\n\n path , label \n\n a.png , x \n", [("a.png", "x", "train")], None),
        ('"path", "label"\n"a.png", "x ""y"""\n', [("a.png", 'x "y"', "train")], None),
        (
            "path,label\ra.png,x\rb.png,y\r",
            [(f"{a}.png", b, "train") for a, b in ("ax", "by")],
            None,
        ),
        ("# path,label\na.png,0.5\n", [("a.png", "0.5", "train")], None),
    ],
)
def test_tables_as_they_are_found(tmp_path, text, expected, note):
    listing = list_csv(table(tmp_path / "list.csv", text))
    assert [(e.name, e.label, e.part) for e in listing.entries] == expected
    assert listing.notes == ([] if note is None else [f"columns that are not read: {note}"])


def test_tsv_is_an_ending_too(tmp_path):
    write_classes(tmp_path, {"x": 3, "y": 3})
    rows = "".join(f"{c}/00{i}.png\t{c}\n" for c in "xy" for i in range(3))
    assert len(load_images(table(tmp_path / "list.tsv", "path\tlabel\n" + rows)).train) == 4


@pytest.mark.parametrize(
    "text, message",
    [
        ("picture_of,kind\na.png,x\n", "line 1: found the columns picture_of, kind; expected a"),
        ("name,kind,size\na.png,x,1\n", "found the columns name, kind, size; expected a first"),
        ("a;b;c\n", "found the columns a, b, c; expected"),
        ("path|label\na.png|x\n", r"found the columns path\|label; expected"),
        ("a.png,x,train\n", "found the columns a.png, x, train; expected"),
        ("0001,cat\n", "found the columns 0001, cat; expected a first line"),
        ("path,label,label\na.png,x,y\n", "2 columns may be the label: label, label; expected"),
        ("file_name,image_name,label\n", "2 columns may be the path: file_name, image_name"),
        ("path,label,Data Set\na.png,x,ISIC\n", "line 2: Data Set is 'ISIC', .*rename it"),
        (f"path,label\na.png,{'x' * 200_000}\n", "not a CSV file in UTF-8: field larger than"),
        ("\n \n,,\n", "no lines"),
        ("x" * 300 + ",y\n", "found the columns x{80}, y;"),
    ],
)
def test_tables_that_are_not_understood(tmp_path, text, message):
    with pytest.raises(DataCorrupt, match=message):
        list_csv(table(tmp_path / "list.csv", text))


def test_a_csv_file_that_cannot_be_opened(tmp_path, monkeypatch):
    path = table(tmp_path / "list.csv", "a.png,x\n")
    refused = PermissionError(13, "Permission denied")
    monkeypatch.setattr(type(path), "read_bytes", lambda self: (_ for _ in ()).throw(refused))
    with pytest.raises(DataCorrupt, match=r"list\.csv: cannot be read: no permission"):
        load_images(path)


def test_labels_that_are_very_long_numbers(tmp_path):
    """Python's `int` refuses them."""
    write_classes(tmp_path, {"p": 8})
    long = ["9" * 5000, "1" + "0" * 5000, "7", "012"]
    rows = "".join(f"p/00{i}.png,{long[i % 4]}\n" for i in range(8))
    images = load_images(table(tmp_path / "list.csv", rows))
    assert images.class_names == ("7", "012", long[0], long[1])


def test_numbers_are_sorted_by_their_values():
    draw = random.Random(1)
    numbers = [draw.randrange(10 ** draw.randrange(1, 12)) for _ in range(300)]
    names = {f"{'0' * draw.randrange(3)}{number}" for number in numbers}
    (classes, _) = index_labels({"train": sorted(names)}, None, "x")
    assert list(map(int, classes)) == sorted(int(name) for name in names)
    assert index_labels({"train": ["٣", "10", "٢٠", "4"]}, None, "x")[0] == ("٣", "4", "10", "٢٠")


# ---- one file under several names ---------------------------------------------------------------


def link_of(kind: str, root) -> str:
    """Another name of p/x.png."""
    match kind:
        case "symbolic":
            (root / "other.png").symlink_to(root / "p" / "x.png")
        case "hard":
            os.link(root / "p" / "x.png", root / "other.png")
        case "folder":
            (root / "q").symlink_to(root / "p")
            return "q/x.png"
        case "absolute":
            return str(root / "p" / "x.png")
        case _:
            return kind
    return "other.png"


SPELLINGS = ["./p/x.png", "p//x.png", "p/../p/x.png", "p/./x.png", "absolute"]
LINKS = ["symbolic", "hard", "folder"]


@pytest.mark.parametrize("kind", SPELLINGS + LINKS)
def test_one_picture_under_two_names(tmp_path, kind):
    write(tmp_path / "p" / "x.png", noise(1, 6, 5, 3))
    other = link_of(kind, tmp_path)
    for more in ("x,test", "y,train"):
        text = f"path,label,split\np/x.png,x,train\n{other},{more}\n"
        with pytest.raises(DataCorrupt) as caught:
            list_csv(table(tmp_path / "list.csv", text))
        message = f"line 3: {other} is in line 2 already, as p/x.png, with another label or split"
        assert message in str(caught.value)
    text = f"path,label,split\np/x.png,x,train\n{other},x,train\n"
    listing = list_csv(table(tmp_path / "list.csv", text))
    assert [entry.name for entry in listing.entries] == ["p/x.png"]
    assert listing.notes == ["1 lines repeat others and count once"]


@pytest.mark.parametrize("kind", [*SPELLINGS[:4], "absolute"])
def test_one_name_of_no_file(tmp_path, kind):
    text = f"p/x.png,x\n{link_of(kind, tmp_path)},y\n"
    with pytest.raises(DataCorrupt, match=r"line 2: .* is in line 1 already"):
        list_csv(table(tmp_path / "list.csv", text))


def test_names_that_differ_in_case_are_one_where_the_file_system_says_so(tmp_path):
    write(tmp_path / "x.png", noise(1, 6, 5, 3))
    path = table(tmp_path / "list.csv", "x.png,x\nX.PNG,y\n")
    if (tmp_path / "X.PNG").exists():
        with pytest.raises(DataCorrupt, match="already"):
            list_csv(path)
    else:
        assert len(list_csv(path).entries) == 2


def test_links_between_folders(tmp_path):
    root = tmp_path / "set"
    write_classes(root / "train", {"a": 3, "b": 3})
    (root / "test").symlink_to(root / "train")
    with pytest.raises(
        DataCorrupt, match=r"test/a/000\.png and train/a/000\.png are one file, in two parts"
    ):
        load_images(root)
    (root / "test").unlink()
    (root / "train" / "c").symlink_to(root / "train" / "b")
    with pytest.raises(
        DataCorrupt, match=r"train/b/000\.png and train/c/000\.png are one file, of t"
    ):
        load_images(root)
    (root / "train" / "c").unlink()
    os.link(root / "train" / "a" / "000.png", root / "train" / "a" / "again.png")
    listing = list_folder(root)
    assert [entry.name for entry in listing.entries if entry.label == "a"] == [
        f"train/a/00{i}.png" for i in range(3)
    ]
    assert listing.notes == ["1 images are others under another name, and count once"]


def test_equal_files_are_noted(tmp_path):
    write_classes(tmp_path / "set" / "train", {"a": 3, "b": 3})
    copy = (tmp_path / "set" / "train" / "a" / "001.png").read_bytes()
    (tmp_path / "set" / "train" / "a" / "copy.png").write_bytes(copy)
    trained_on = "so that the network may be tested on what it was trained on"
    (note, _) = load_images(tmp_path / "set").notes
    assert note == f"equal files (1), {trained_on}: train/a/001.png and train/a/copy.png"
    write(tmp_path / "set" / "test" / "a" / "new.png", noise(77, 6, 5, 3))
    assert load_images(tmp_path / "set").notes == ()  # in one part, which is not split
    (tmp_path / "set" / "test" / "a" / "002.png").write_bytes(copy)
    (note,) = load_images(tmp_path / "set").notes
    assert note == (
        f"equal files (2), {trained_on}: test/a/002.png and train/a/001.png, test/a/002.png and "
        "train/a/copy.png"
    )
    (tmp_path / "set" / "test" / "a" / "002.png").unlink()
    (tmp_path / "set" / "train" / "b" / "copy.png").write_bytes(copy)
    (note,) = load_images(tmp_path / "set").notes
    assert note == "equal files of different classes (1): train/a/001.png and train/b/copy.png"


# ---- damage at random ---------------------------------------------------------------------------

SOUND = [
    "path,label,split\np/000.png,x,train\np/001.png,x,test\np/002.png,y,train\np/003.png,y,val\n",
    'image_path;category\n"p/000.png";"x"\np/001.png;x\np/002.png;"y;z"\np/003.png;"y;z"\n',
    "\ufeffp/000.png\t1\r\np/001.png\t1\r\np/002.png\t20\r\np/003.png\t20\r\n",
]
PIECES = [b"\0", b"\xff", b'"', b'""', b",", b";", b"\t", b"\r", b"\n", b"\xef\xbb\xbf", b"sep=;\n"]
PIECES += [
    b"../",
    b"/",
    b"~",
    b"p",
    b"9" * 5000,
    b"x" * 140_000,
    b"\xed\xa0\x80",
    b"\x1b[2J",
    b"e\xcc\x81",
]
PIECES += [
    b"NaN",
    b"-1",
    "٣²猫".encode(),
    b"path,label\n",
    b"label",
    b"train",
    b"," * 3000,
    b"a/" * 3000,
]


def mutate(content: bytes, draw: random.Random) -> bytes:
    for _ in range(draw.choice((1, 1, 2, 4, 12))):
        at, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
        match draw.randrange(6):
            case 0:
                content = content[:at] + draw.choice(PIECES) + content[at:]
            case 1:
                content = content[:at] + draw.choice(PIECES) + content[end:]
            case 2:
                content = content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]
            case 3:
                content = content[: draw.choice((at, end))]
            case 4:
                content = content[:end] + content[at:]
            case _:
                lines = content.split(b"\n")
                draw.shuffle(lines)
                content = b"\n".join(lines)
    return content


@pytest.mark.parametrize("seed", range(4))
def test_any_bytes_are_read_or_refused(tmp_path, seed):
    """2,000 mutations: each gives a set of images, or one of our errors that names the file."""
    write_classes(tmp_path, {"p": 4}, size=(3, 2))
    draw, read = random.Random(seed), 0
    path = tmp_path / "list.csv"
    for _ in range(500):
        content = mutate(draw.choice(SOUND).encode(), draw)
        path.write_bytes(content)
        try:
            images = load_images(path)
        except FastconvError as error:
            assert "list.csv" in str(error)
            assert len(str(error)) < 20_000
        else:
            read += 1
            assert 2 <= len(images.train) + len(images.test) <= 4
            assert len(images.class_names) <= content.count(b"\n") + content.count(b"\r") + 1
    assert 20 < read < 480
    assert csv.field_size_limit() == 131_072


@pytest.mark.parametrize(
    ("on_disk", "written"),
    [
        ("sub/deep/a.png", r"sub\deep\a.png"),
        ("A\u0308pfel/a.png", "\u00c4pfel/a.png"),  # as a Mac packs it, and as it is typed
        ("\u00c4pfel/a.png", "A\u0308pfel/a.png"),
        ("sub/A\u0308pfel.png", "sub\\\u00c4pfel.png"),
    ],
)
def test_paths_as_another_system_writes_them(tmp_path, on_disk, written):
    write(tmp_path / on_disk, noise(0, 6, 5, 3))
    write(tmp_path / "b.png", noise(1, 6, 5, 3))
    (entry, _) = list_csv(
        table(tmp_path / "list.csv", f"path,label\n{written},x\nb.png,y\n")
    ).entries
    assert entry.path.read_bytes() == (tmp_path / on_disk).read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="a backslash separates folders there")
def test_a_name_with_a_backslash_comes_first(tmp_path):
    write(tmp_path / "sub\\a.png", noise(0, 6, 5, 3))
    write(tmp_path / "sub/a.png", noise(1, 6, 5, 3))
    (entry,) = list_csv(table(tmp_path / "list.csv", "path,label\nsub\\a.png,x\n")).entries
    assert entry.path.name == "sub\\a.png"
