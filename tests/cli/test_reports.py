"""What a run and an evaluation say of classes and of single images, and what stays as it was."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv import Trainer
from fastconv.datasets.record import Part
from fastconv.errors import DataWarning
from fastconv.experiment.evaluate import Evaluation
from fastconv.experiment.folder import ClassResult
from fastconv.functions import softmax
from fastconv.training.batches import Batches
from fastconv.training.remarks import remarks_on_classes, remarks_on_numbers, remarks_on_scale

from .conftest import LISTS, weights

SMALL = ["--model", "lenet", "--epochs", "1", "--seed", "1"]


@pytest.fixture
def photos(rng):
    """Three classes, one of them rare, in an .npz; and a folder of the same classes."""
    labels = np.repeat(["a", "b", "c"], [40, 30, 3])
    images = rng.random((73, 12, 12), np.float32)
    np.savez("photos.npz", x=images, t=labels)
    return images, labels


def by_hand(labels, answers, names):
    """Precision and recall by their definition, a class at a time."""
    found = []
    for index, name in enumerate(names):
        right = sum(t == a == index for t, a in zip(labels, answers, strict=True))
        images, answered = list(labels).count(index), list(answers).count(index)
        precision = right / answered if answered else None
        recall = right / images if images else None
        found.append(
            {
                "label": name,
                "precision": precision,
                "recall": recall,
                "images": images,
                "answers": answered,
            }
        )
    return found


def test_an_evaluation_lists_what_was_misread(whole, few_digits, fastconv_command):
    _, (x_test, t_test) = few_digits
    network = fastconv.DeepConvNet()
    network.load_params(Path(whole, "weights.npz"))
    shares = softmax(network.predict(x_test).astype(np.float64))
    answers = shares.argmax(axis=1)
    wrong = np.flatnonzero(answers != t_test)
    assert len(wrong) > 5
    status, out, _ = fastconv_command("evaluate", whole, "--out", "there", "--json")
    assert status == 0
    facts = json.loads(out)
    listed = json.loads(Path("there", "mistakes.json").read_text())
    assert facts["mistakes"] == listed
    assert [(each["name"], each["label"], each["answer"]) for each in listed] == [
        (f"test[{index}]", str(t_test[index]), str(answers[index])) for index in wrong
    ]
    confidence = [each["confidence"] for each in listed]
    np.testing.assert_allclose(confidence, shares[wrong, answers[wrong]], 1e-4)
    with Path("there", "mistakes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row | {"confidence": float(row["confidence"])} for row in rows] == listed
    assert facts["by_class"] == by_hand(t_test, answers, "0123456789")


def test_a_run_says_how_well_each_class_is_read(few_digits, fastconv_command):
    status, out, _ = fastconv_command("train", *SMALL, "--out", "run")
    assert status == 0
    result = json.loads(Path("run/result.json").read_text())
    evaluated = json.loads(fastconv_command("evaluate", "run", "--out", "p", "--json")[1])
    assert result["by_class"] == evaluated["by_class"]
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:2] == ["class", "images"])
    for line, each in zip(lines[start + 1 :], result["by_class"], strict=False):
        shares = [f"{100 * each[k]:.2f}" for k in ("precision", "recall") if each[k] is not None]
        assert line.replace("%", "").split() == [each["label"], str(each["images"]), *shares]
    for name in LISTS:
        assert Path("run", name).read_bytes() == Path("p", name).read_bytes()


def test_precision_and_recall_where_a_class_is_never_answered_or_never_seen():
    shares = np.eye(4)[[0, 0, 1, 0, 1]]
    test = Part(np.zeros((5, 1, 2, 2)), np.array([0, 2, 1, 1, 1]))
    result = Evaluation(test, "abcd", shares)
    assert result.by_class == [
        ClassResult("a", 1 / 3, 1.0, 1, 3),
        ClassResult("b", 1.0, 2 / 3, 3, 2),
        ClassResult("c", None, 0.0, 1, 0),
        ClassResult("d", None, None, 0, 0),
    ]


def test_of_many_classes_the_worst_are_shown(capsys):
    from fastconv.cli.output import table_by_class

    many = [ClassResult(str(k), 1.0, k / 30, 10, 10) for k in range(30)]
    lines = table_by_class(many).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [str(k) for k in range(20)]
    assert lines[-1] == "and 10 classes with a higher recall"


def test_images_of_ones_own_are_listed_by_their_files(fastconv_command, rng):
    image = pytest.importorskip("PIL.Image", reason="writes the pictures")
    for name in ("cat", "dog"):
        Path("pets", name).mkdir(parents=True)
        for index in range(8):
            pixels = rng.integers(0, 255, (12, 12, 3), np.uint8)
            image.fromarray(pixels).save(Path("pets", name, f"{index}, a.png"))
    assert fastconv_command("train", "--data", "pets", *SMALL, "--out", "run")[0] == 0
    network = {name: 0 * value for name, value in weights("run").items()}
    np.savez("run/weights.npz", **network)  # answers with the first class
    assert fastconv_command("evaluate", "run")[0] == 0
    with Path("run", "mistakes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["label"], row["answer"], row["confidence"]) for row in rows} == {
        ("dog", "cat", "0.5")
    }
    assert len(rows) == 2  # a fifth of the dogs
    assert all(Path("pets", row["name"]).is_file() for row in rows)


def test_other_data_leave_a_runs_own_files_alone(whole, few_digits, fastconv_command):
    (x_train, t_train), _ = few_digits
    np.savez("others.npz", x=x_train, t=t_train.astype(str))
    assert fastconv_command("evaluate", whole)[0] == 0
    before = {path: path.read_bytes() for path in Path(whole).iterdir() if path.name != ".lock"}
    assert fastconv_command("train", *SMALL, "--out", "second")[0] == 0
    status, out, _ = fastconv_command("evaluate", whole, "--data", "others.npz")
    assert status == 0 and "no pictures: those in" in out
    for place in (whole, "second", f"./{whole}/../{whole}"):
        call = ["evaluate", whole, "--data", "others.npz", "--out", place]
        status, _, err = fastconv_command(*call)
        assert status == 2 and "its pictures and lists are of that run's own data" in err, place
    assert fastconv_command("evaluate", whole, "--out", whole)[0] == 0  # its own test
    after = {path: path.read_bytes() for path in Path(whole).iterdir() if path.name != ".lock"}
    assert after == before


@pytest.mark.parametrize(
    "words",
    [
        ["--model", "vgg11"],
        ["--freeze", "nothing"],
        ["--init", "missing.npz"],
        ["--patience", "3"],
        ["--weight-decay", "0.1"],
        ["--swa", "5"],
        ["--validation", "0.0001"],
        ["--members", "lenet,vgg11"],
        ["--data", "nan.npz"],
        ["--augment", "rotate=200"],
        ["--backend", "numba", "--math", "bf16"],
    ],
)
def test_a_refused_run_leaves_no_folder(few_digits, fastconv_command, words):
    np.savez("nan.npz", x=np.full((20, 28, 28), np.nan), t=np.arange(20) % 2)
    for out in ([], ["--out", "a/b"]):
        status, _, err = fastconv_command("train", "--epochs", "1", *words, *out)
        assert status in (1, 2), err
        assert {path.name for path in Path().iterdir()} == {"nan.npz"}


# ---- what is said before -----------------------------------------------------------------


def test_numbers_that_are_lost():
    x = np.zeros((2500, 2, 2), np.float32)
    assert list(remarks_on_numbers("training", x)) == []
    assert list(remarks_on_numbers("training", np.zeros((3, 2), int))) == []
    assert list(remarks_on_numbers("training", x[:0])) == []
    x[1203, 0, 1], x[2400, 1, 1], x[2400, 0, 0] = np.nan, np.inf, np.nan
    (said,) = remarks_on_numbers("training", x)
    assert said.startswith("2 of 2,500 training samples hold NaN or infinity, the first of them ")
    assert "sample 1203 (counted from 0)" in said


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_pixels_that_nobody_has_divided(dtype):
    x = np.zeros((5, 1, 8, 8), dtype)
    x[3, 0, 2, 2] = 100
    assert list(remarks_on_scale(x)) == list(remarks_on_scale(x[:0])) == []
    x[3, 0, 2, 2] = 255
    (said,) = remarks_on_scale(x)
    assert said.startswith("pixels of training images reach 255: ")
    assert list(remarks_on_scale(x[:, 0, 2])) == []  # columns of a table
    if dtype != "uint8":
        assert "reach 255" in next(remarks_on_scale(-x))
    if dtype == "float32":
        x[0] = np.nan  # which remarks_on_numbers tells
        assert list(remarks_on_scale(x)) == []
    x, t = 255 * np.eye(20)[:, :, None, None] * np.ones((1, 1, 28, 28)), np.arange(20) % 10
    with pytest.warns(DataWarning, match="Trainer: pixels of training images reach 255"):
        Trainer(fastconv.DeepConvNet((20, 28, 28), seed=0), x, t, x, t, verbose=False)


@pytest.mark.parametrize("one_hot", [False, True])
def test_classes_that_are_alone_or_uneven(one_hot):
    def said(*counts):
        t = np.repeat(np.arange(len(counts)), counts)
        return list(remarks_on_classes(np.eye(len(counts) + 1)[t] if one_hot else t, "so"))

    assert said(9, 10) == said(1, 9) == said(500, 51) == []
    assert said(0, 7)[0].startswith("all 7 training samples are of one class, class 1: a network")
    (uneven,) = said(30, 3, 8)
    assert "class 0 has 30 training samples, class 1 has 3" in uneven
    assert uneven.endswith("unless they count as much as the large ones: so")


def test_a_trainer_says_it_before_training():
    x, t = np.zeros((22, 1, 28, 28)), np.repeat([0, 1], [20, 2])
    network = fastconv.DeepConvNet(seed=0)
    with pytest.warns(DataWarning, match=r"Trainer: classes of .*: balanced=True") as told:
        Trainer(network, x, t, x, t, verbose=False)
    assert [warning.filename for warning in told] == [__file__]
    Trainer(network, x, t, x, t, verbose=False, balanced=True)
    Trainer(network, x, t, x, t, verbose=False, class_weight="balanced")
    with pytest.warns(DataWarning, match="all 20 training samples are of one class, class 0"):
        Trainer(network, x[:20], t[:20], x, t, verbose=False)
    spoilt = x.copy()
    spoilt[3] = np.inf
    for place, name in ((2, "test"), (0, "training")):
        sets = [x[19:], t[19:], x[19:], t[19:]]
        sets[place] = spoilt[:3], t[19:22]
        arrays = [*sets]
        arrays[place] = np.concatenate([spoilt[3:4], x[:2]])
        with pytest.warns(DataWarning, match=f"1 of 3 {name} samples hold NaN or infinity"):
            Trainer(network, *arrays, verbose=False)


def test_the_command_says_it_with_the_classes_names(photos, fastconv_command):
    train = ["train", "--data", "photos.npz", *SMALL]
    status, out, err = fastconv_command(*train, "--out", "run")
    assert status == 0
    assert "'a' has 32 training samples, 'c' has 2" in out and "--balanced" in out
    assert "warning" not in err
    status, out, _ = fastconv_command(*train, "--class-weight", "balanced", "--out", "weighted")
    assert status == 0 and "very different sizes" not in out
    status, out, _ = fastconv_command(*train, "--balanced", "--out", "even")
    assert status == 0
    assert "very different sizes" not in out and "classes drawn equally often" in out
    np.savez("alone.npz", x=photos[0][:10], t=photos[1][:10])
    status, out, _ = fastconv_command("train", "--data", "alone.npz", *SMALL, "--out", "one")
    assert status == 0 and "are of one class, 'a'" in out
    assert "in 1 class (a)" in out
    assert "  loss 0.0000  " in out  # which is log(1 + 1e-7), negative


def test_a_folder_that_has_the_name_of_a_data_set(few_digits, fastconv_command):
    Path("digits").mkdir()
    said = "digits: the data set of that name, not the folder, which is ./digits"
    status, out, _ = fastconv_command("train", *SMALL, "--out", "run")
    assert status == 0 and said in out
    status, out, _ = fastconv_command("evaluate", "run")
    assert status == 0 and said in out
    status, _, err = fastconv_command("train", "--data", "./digits", *SMALL, "--out", "own")
    assert status == 1 and "digits: no images in folders of their classes" in err
    Path("digits").rmdir()
    assert said not in fastconv_command("evaluate", "run")[1]


def test_nan_in_arrays_is_refused_and_its_image_named(photos, fastconv_command):
    images, labels = photos
    images[17, 3, 4] = np.nan
    np.savez("nan.npz", x_train=images, t_train=labels, x_test=images[:3], t_test=labels[:3])
    status, _, err = fastconv_command("train", "--data", "nan.npz", *SMALL, "--out", "run")
    assert status == 1
    assert "train images hold NaN or infinity, the first of them image 17" in err
    assert not Path("run").exists()


# ---- classes drawn equally often ---------------------------------------------------------


@pytest.mark.parametrize("augment", [None, lambda x, rng: x])
@pytest.mark.parametrize("one_hot", [False, True])
def test_each_class_is_drawn_equally_often(augment, one_hot):
    labels = np.random.default_rng(0).permutation(np.repeat([4, 0, 7], [970, 20, 10]))
    t = np.eye(8)[labels] if one_hot else labels
    np.random.seed(0)
    batches = Batches(np.arange(1000), t, 3000, augment, 5, balanced=True)
    x, drawn = batches.take(0)
    assert np.array_equal(drawn, t[x])
    counts = np.bincount(labels[x], minlength=8)
    assert counts[[1, 2, 3, 5, 6]].sum() == 0
    # 1000 of each expected, standard deviation 26
    assert np.abs(counts[[0, 4, 7]] - 1000).max() < 100
    assert set(x[labels[x] == 7]) == set(np.flatnonzero(labels == 7))  # all ten of the rare
    assert len(set(x[labels[x] == 4])) > 500


def test_the_same_seed_draws_the_same_balanced_run(few_digits, fastconv_command):
    words = ["train", *SMALL[:3], "2", *SMALL[4:], "--balanced", "--batch-size", "20", "--out"]
    for name in ("one", "two"):
        assert fastconv_command(*words, name)[0] == 0
    words.remove("--balanced")
    assert fastconv_command(*words, "plain")[0] == 0
    same = [np.array_equal(weights("one")[key], weights("two")[key]) for key in weights("one")]
    other = [np.array_equal(weights("one")[key], weights("plain")[key]) for key in weights("one")]
    assert all(same) and not any(other)
