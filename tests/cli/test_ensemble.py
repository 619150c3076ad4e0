"""Ensembles, views and recipes on the command line: what is trained, kept, told and refused."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from fastconv import figures, trainer
from fastconv.cli import main as cli
from fastconv.datasets import DATASETS, Normalization, load_images
from fastconv.datasets.image_file import frame_digit, read_image
from fastconv.experiment.members import Members, fitted_weights, interval
from fastconv.functions import softmax
from fastconv.models import make_model
from fastconv.models.ensemble import Ensemble
from fastconv.network.views import View
from fastconv.training.validation import held_out

from .conftest import FILES, LISTS, PICTURES, assert_same_run, config, history, weights
from .test_user_data import colours

TRAIN = ["train", "--model", "lenet", "--epochs", "2", "--batch-size", "10", "--lr", "0.01"]
THREE = [*TRAIN, "--seed", "4", "--members", "3"]
MEMBERS = ("member-1", "member-2", "member-3")


SAVE_FIGURE = figures.save


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """They take longer than the runs, and are for other tests."""
    monkeypatch.setattr("fastconv.figures.save", lambda figure, path: None)


@pytest.fixture(scope="module")
def kept_three(few, tmp_path_factory) -> Path:
    """Three members' run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "three"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "digits", few)
        patch.setattr("fastconv.figures.save", lambda figure, path: None)
        assert cli.main([*THREE, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def three(kept_three, few_digits) -> str:
    """A copy of it for this test alone."""
    shutil.copytree(kept_three, "three")
    return "three"


def last_line(out: str) -> dict:
    return json.loads(out.splitlines()[-1])


def expected_shares(folders, images) -> np.ndarray:
    """The mean of the networks' probabilities on each of these arrays of images, from weights."""
    found = []
    for folder in folders:
        network = make_model("lenet", (1, 28, 28), 10, seed=0)
        network.load_params(Path(folder, "weights.npz"))
        found += [softmax(network.predict(x).astype(np.float64)) for x in images]
    return np.mean(found, axis=0)


def test_each_member_is_a_run_of_its_own(three, few_digits, fastconv_command):
    assert {path.name for path in Path(three).iterdir()} - PICTURES - {"confusion.png"} == {
        *("config.json", "result.json", "ensemble.npz", "members.csv", *LISTS),
        *MEMBERS,
    }
    assert config(three)["members"] == ["lenet"] * 3
    for seed, name in enumerate(MEMBERS, start=4):
        assert {path.name for path in Path(three, name).iterdir()} - PICTURES == FILES
        assert (config(f"{three}/{name}")["seed"], config(f"{three}/{name}")["members"]) == (
            seed,
            None,
        )
        alone = [*TRAIN, "--seed", str(seed), "--out", name]
        assert fastconv_command(*alone)[0] == 0
        assert_same_run(f"{three}/{name}", name)


def test_what_is_told_of_members_and_ensemble(few_digits, fastconv_command):
    status, out, _ = fastconv_command(*THREE, "--views", "shift=1", "--out", "new", "--json")
    assert status == 0
    facts = last_line(out)
    _, (x, t) = few_digits
    moved = [View(*step).of(x) for step in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))]
    folders = [f"new/{name}" for name in MEMBERS]
    together = expected_shares(folders, moved).argmax(axis=1)
    assert facts["correct"] == np.sum(together == t)
    assert facts["test_accuracy"] == facts["correct"] / facts["total"] == np.mean(together == t)
    for number, (member, folder) in enumerate(zip(facts["members"], folders, strict=True)):
        alone = expected_shares([folder], moved).argmax(axis=1)
        assert member["correct"] == np.sum(alone == t)
        assert (member["seed"], member["model"], member["run"]) == (4 + number, "lenet", folder)
        assert member["epochs"] == 2
    assert facts["seconds"] == pytest.approx(sum(m["seconds"] for m in facts["members"]))
    assert (facts["views"], facts["ensemble"]) == ("shift=1", "new/ensemble.npz")
    for path in ("new", "new/ensemble.npz"):  # what training said, again
        found = last_line(fastconv_command("evaluate", path, "--json")[1])
        assert (found["correct"], found["views"]) == (facts["correct"], "shift=1")
        assert found["members"] == ["lenet"] * 3
        assert found["confusion"] == confusion(t, together)
    plain = last_line(fastconv_command("evaluate", "new", "--views", "none", "--json")[1])
    assert plain["confusion"] == confusion(t, expected_shares(folders, [x]).argmax(axis=1))


def test_what_each_member_adds_is_told(three, few_digits, fastconv_command):
    _, (x, t) = few_digits
    each = [expected_shares([f"{three}/{name}"], [x]) for name in MEMBERS]
    wrong = np.stack([share.argmax(axis=1) != t for share in each])
    without = [
        (sum(other for n, other in enumerate(each) if n != member).argmax(axis=1) != t).sum()
        for member in range(3)
    ]
    at_once = Path(three, "members.csv").read_text()  # as training has left it
    status, out, _ = fastconv_command("evaluate", three, "--json")
    assert status == 0
    told = last_line(out)
    assert told["interval"] == list(interval(told["correct"], 41))
    assert [member["errors"] for member in told["by_member"]] == wrong.sum(axis=1).tolist()
    assert [member["errors_without"] for member in told["by_member"]] == without
    rows = list(csv.DictReader(Path(three, "members.csv").read_text().splitlines()))
    assert Path(three, "members.csv").read_text() == at_once
    assert [row["name"] for row in rows] == [f"test[{n}]" for n in np.flatnonzero(wrong.any(0))]
    assert [row["member-2"] != row["label"] for row in rows] == wrong[1, wrong.any(0)].tolist()
    out = fastconv_command("evaluate", three)[1]
    assert f"misreads {wrong.any(0).sum()} images, all of them {wrong.all(0).sum()}: " in out


def test_members_answer_on_what_their_runs_have_set_apart(few_digits, fastconv_command):
    (x, t), _ = few_digits
    begin = [*TRAIN[:-2], "--lr", "0.001", "--validation", "0.3"]
    two = [*begin, "--seed", "5", "--members", "2", "--out", "two"]
    assert fastconv_command(*two)[0] == 0
    apart = held_out(t, 0.3, 5)  # of both members
    folders = ["two/member-1", "two/member-2"]
    assert config("two/member-2")["data_seed"] == 5
    own = [history(folder)[-1]["validation_accuracy"] for folder in folders]
    shares = [expected_shares([folder], [x[apart]]) for folder in folders]
    right = [np.sum(share.argmax(axis=1) == t[apart]) / apart.sum() for share in shares]
    assert own == pytest.approx(right)
    on = ["evaluate", "--on", "validation", "--json"]
    told = last_line(fastconv_command(*on, "two", "--out", "pictures")[1])
    assert told["correct"] == np.sum(sum(shares).argmax(axis=1) == t[apart])
    assert told["total"] == apart.sum() and "test_accuracy" not in told
    assert {each["name"] for each in told["misread_by_members"]} <= {
        f"train[{row}]" for row in np.flatnonzero(apart)
    }
    wrong = fastconv_command(*on, "two", "--data", "mnist")
    assert wrong[0] == 2 and "--data: the images of --on validation are the run's own" in wrong[2]
    # Weights that fit these images.
    fit = ["ensemble", "two", "--fit-weights", "--out", "f.npz", "--json"]
    status, out, err = fastconv_command(*fit)
    assert status == 0
    expected = fitted_weights(Members.of(shares, t[apart]))
    assert last_line(out)["weights"] == pytest.approx(expected, abs=1e-4)
    assert Ensemble.load("f.npz").weights == pytest.approx(expected, abs=1e-4)
    assert f"of {apart.sum()} images set apart, " in err
    # Another seed has set others apart, unless it is told not to.
    for folder, more in (("other", []), ("same", ["--data-seed", "5"])):
        alone = [*begin, "--epochs", "1", "--seed", "9", *more, "--out", folder]
        assert fastconv_command(*alone)[0] == 0
        assert fastconv_command("ensemble", "two", folder, "--out", f"{folder}.npz")[0] == 0
    status, _, err = fastconv_command(*on, "other.npz")
    assert status == 2 and "have set other images apart: --validation 0.3 by the seed 5, and" in err
    assert last_line(fastconv_command(*on, "same.npz")[1])["total"] == apart.sum()


def test_a_run_without_validation_has_set_nothing_apart(three, fastconv_command):
    for words in (["evaluate", three, "--on", "validation"], ["ensemble", three, "--fit-weights"]):
        status, _, err = fastconv_command(*words, "--out", "new.npz")
        assert status == 2
        assert "the run has set no images apart: train it with --validation SHARE" in err
    alone = ["ensemble", f"{three}/member-1", "--fit-weights", "--out", "new.npz"]
    assert "one network alone has no weight" in fastconv_command(*alone)[2]


def confusion(labels, answers) -> list[list[int]]:
    return [[int(np.sum((labels == i) & (answers == j))) for j in range(10)] for i in range(10)]


def test_people_get_a_table(few_digits, fastconv_command):
    words = [
        *TRAIN[:1],
        *TRAIN[3:],
        "--members",
        "lenet,deepconvnet",
        "--seed",
        "7",
        "--out",
        "two",
    ]
    status, out, _ = fastconv_command(*words)
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith(
        "1 x lenet, 1 x deepconvnet on digits: 2 epochs, batch 10, adam 0.01,"
    )
    assert "seeds 7 to 8" in lines[0]
    assert "member 2 of 2: deepconvnet, seed 8" in lines
    at = next(i for i, line in enumerate(lines) if line.startswith("member  model"))
    assert [line.split()[:4] for line in lines[at + 1 : at + 3]] == [
        ["1", "lenet", "7", "2"],
        ["2", "deepconvnet", "8", "2"],
    ]
    assert lines[at + 3].startswith("ensemble of 2: test accuracy ")
    assert config("two/member-2")["model"] == "deepconvnet"


def test_the_pictures_of_an_ensemble(three, fastconv_command, monkeypatch):
    pytest.importorskip("matplotlib", reason="draws the pictures")
    monkeypatch.setattr("fastconv.figures.save", SAVE_FIGURE)
    assert fastconv_command("train", "--resume", three)[0] == 0
    assert {path.name for path in Path(three).glob("*.png")} == {"mistakes.png", "confusion.png"}


@pytest.mark.parametrize("member, step", [(1, 3), (2, 0), (2, 11), (3, 8)])
def test_an_interrupted_ensemble_goes_on_with_the_first_unfinished_member(
    three, fastconv_command, monkeypatch, member, step
):
    plain, seen = trainer.Trainer.train_step, []

    def interrupted(self):
        if self not in seen:
            seen.append(self)
        if (len(seen), self.current_iter) == (member, step):
            signal.raise_signal(signal.SIGINT)
        plain(self)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "train_step", interrupted)
        status, out, err = fastconv_command(*THREE, "--out", "part")
    assert status == 130
    assert "Traceback" not in err
    assert out.splitlines()[-1].endswith("continue with: fastconv train --resume part")
    done = member if step == 11 else member - 1  # the last step was let to its end
    for number, name in enumerate(MEMBERS, start=1):
        assert Path("part", name, "result.json").exists() == (number <= done), name
        assert Path("part", name).exists() == (number <= member), name
    assert not Path("part", "ensemble.npz").exists()
    status, _, err = fastconv_command("evaluate", "part")
    assert status == 1
    assert "not all members are trained yet; fastconv train --resume part goes on" in err
    status, out, _ = fastconv_command("train", "--resume", "part")
    assert status == 0
    assert out.count("trained before") == done
    for name in MEMBERS:
        assert_same_run(f"part/{name}", f"{three}/{name}")
    ours, theirs = (Ensemble.load(f"{name}/ensemble.npz") for name in ("part", three))
    x = np.random.default_rng(0).random((3, 1, 28, 28), np.float32)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))


def test_a_finished_ensemble_goes_on_for_more_epochs(three, fastconv_command):
    status, out, _ = fastconv_command("train", "--resume", three, "--json")
    assert status == 0
    told = last_line(out)
    assert (told["correct"], told["epochs"]) == (
        json.loads(Path(three, "result.json").read_text())["correct"],
        2,
    )
    status, out, _ = fastconv_command("train", "--resume", three, "--epochs", "3")
    assert status == 0
    assert "trained before" not in out
    assert [len(history(f"{three}/{name}")) for name in MEMBERS] == [3, 3, 3]
    for options, message in (
        (["--members", "2"], r"--members ('lenet', 'lenet'): the run to resume was started"),
        (["--seed", "5"], "--seed 5: the run to resume was started with 4"),
        (["--recipe", "mnist-book"], "--recipe: a resumed run goes on by its own config.json"),
    ):
        status, _, err = fastconv_command("train", "--resume", three, *options)
        assert status == 2
        assert message in err


def test_a_member_that_was_replaced_is_found(three, fastconv_command):
    shutil.rmtree(Path(three, "member-2"))
    shutil.copytree(Path(three, "member-1"), Path(three, "member-2"))
    status, _, err = fastconv_command("train", "--resume", three)
    assert status == 2
    assert "--seed 5: the run to resume was started with 4" in err
    assert "member-2/config.json" in err


def test_settings_that_are_wrong_leave_no_folder(few_digits, fastconv_command):
    for wrong, message in (
        (["--freeze", "nothing.*"], "nothing"),
        (["--patience", "2"], "--patience needs --validation"),
        (["--rise", "0.5"], "only the one-cycle schedule has it, got constant"),
        (["--seed", "4294967295"], "expected at most 4294967293"),
        (["--members", "lenet,resnet20", "--model", "vgg11"], "leave --model out"),
        (["--members", "1"], "--members: must be at least 2, got 1"),
        (["--members", "lenet,alexnet"], "got 'alexnet'; known: deepconvnet"),
        (["--views", "upside-down"], "--views: expected shift=PIXELS"),
    ):
        status, _, err = fastconv_command(*THREE, *wrong, "--out", "new")
        assert status in (1, 2), wrong
        assert message in err
        assert not Path("new").exists(), wrong


def test_runs_are_joined(three, whole, few_digits, fastconv_command):
    _, (x, t) = few_digits
    words = ["ensemble", f"{three}/member-2", f"{three}/member-3", "--out", "both.npz"]
    status, out, _ = fastconv_command(*words, "--views", "mirror")
    assert (status, out) == (0, "both.npz: 2 members, 2 views\n")
    found = last_line(fastconv_command("evaluate", "both.npz", "--json")[1])
    shares = expected_shares(words[1:3], [x, x[..., ::-1]])
    assert found["confusion"] == confusion(t, shares.argmax(axis=1))
    assert found["pictures"] == []
    status, out, _ = fastconv_command("ensemble", three, whole, "--out", "four.npz", "--json")
    assert status == 0
    models = [member["model"] for member in last_line(out)["members"]]
    assert models == ["lenet", "lenet", "lenet", "deepconvnet"]
    assert len(Ensemble.load("four.npz").members) == 4
    status, out, _ = fastconv_command("evaluate", "four.npz", "--out", "pictures")
    assert "; 4 members\n" in out


def test_predict_asks_all_of_them(three, few_digits, fastconv_command):
    image_module = pytest.importorskip("PIL.Image", reason="predict reads pictures")
    _, (x, _) = few_digits
    image_module.fromarray(255 - np.rint(255 * x[0, 0]).astype(np.uint8)).save("one.png")
    status, out, _ = fastconv_command("predict", three, "one.png", "--views", "mirror", "--json")
    assert status == 0
    (found,) = last_line(out)["predictions"]
    image = frame_digit(read_image("one.png"), "one.png")[None]
    folders = [f"{three}/{name}" for name in MEMBERS]
    expected = expected_shares(folders, [image, image[..., ::-1]])[0]
    np.testing.assert_allclose(list(found["probabilities"].values()), expected, rtol=1e-5)


@pytest.mark.parametrize("place", ["three", "three/ensemble.npz"])
def test_an_ensemble_is_exported_as_one_model(place, three, few_digits, fastconv_command):
    pytest.importorskip("onnx", reason="writes the model")
    runtime = pytest.importorskip("onnxruntime", reason="runs the model")
    status, out, _ = fastconv_command("export", place, "m.onnx", "--softmax")
    assert status == 0 and "lenet, lenet, lenet, float32, input (N, 1, 28, 28)" in out
    x = np.random.default_rng(0).random((3, 1, 28, 28), np.float32)
    (got,) = runtime.InferenceSession("m.onnx").run(["probabilities"], {"input": x})
    expected = expected_shares([f"three/{name}" for name in MEMBERS], [x])
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_views_of_a_single_run(few_digits, fastconv_command):
    assert fastconv_command(*TRAIN, "--views", "rotate=5", "--seed", "1", "--out", "run")[0] == 0
    _, (x, t) = few_digits
    seen = [View(turned=turned).of(x) for turned in (0, 5, -5)]
    answers = expected_shares(["run"], seen).argmax(axis=1)
    assert json.loads(Path("run", "result.json").read_text())["correct"] == np.sum(answers == t)
    found = last_line(fastconv_command("evaluate", "run", "--json")[1])
    assert (found["confusion"], found["views"]) == (confusion(t, answers), "rotate=5")
    assert fastconv_command(*TRAIN, "--seed", "1", "--out", "plain")[0] == 0
    for name, value in weights("run").items():  # views are for tests alone
        np.testing.assert_array_equal(value, weights("plain")[name])


def test_members_share_one_split_of_images_of_ones_own(tmp_path, fastconv_command):
    """Else a member would be tested on what another, and so the ensemble, was trained on."""
    colours(tmp_path / "pictures", 6)
    words = ["train", "--model", "lenet", "--data", "pictures", "--image-size", "16"]
    words += ["--epochs", "2", "--batch-size", "4", "--seed", "3", "--out"]
    assert fastconv_command(*words, "own", "--members", "2")[0] == 0
    images = load_images("pictures", size=(16, 16), seed=3)
    facts = config("own/member-2")
    assert (facts["seed"], facts["data_seed"]) == (4, 3)
    norm = Normalization.of(images.train.images)
    for folder in ("own", "own/member-1", "own/member-2"):
        assert config(folder)["image_facts"]["normalization"]["mean"] == list(norm.mean)
    x, t = norm.apply(images.test.images), images.test.labels
    found = []
    for folder in ("own/member-1", "own/member-2"):
        network = make_model("lenet", (3, 16, 16), 3, seed=0)
        network.load_params(Path(folder, "weights.npz"))
        scores = network.predict(x)
        found.append(softmax(scores.astype(np.float64)))
        told = last_line(fastconv_command("evaluate", folder, "--json")[1])
        assert told["correct"] == np.sum(scores.argmax(axis=1) == t)
    expected = np.sum(np.mean(found, axis=0).argmax(axis=1) == t)
    for path in ("own", "own/ensemble.npz"):
        told = last_line(fastconv_command("evaluate", path, "--json")[1])
        assert (told["correct"], told["total"]) == (expected, len(t))
    assert fastconv_command("train", "--resume", "own", "--epochs", "3")[0] == 0
    words[-2] = "4"
    assert fastconv_command(*words, "other")[0] == 0
    status, _, err = fastconv_command("ensemble", "own", "other", "--out", "three.npz")
    assert status == 2
    assert "other: its images were split by the seed 4, those of own/member-1 by 3" in err
    assert not Path("three.npz").exists()


def test_what_cannot_be_done_with_an_ensemble(three, few_digits, fastconv_command):
    Ensemble([make_model("lenet", (1, 28, 28), 10, seed=0)]).save("plain.npz")
    shutil.copytree(three, "other")
    facts = config("other/member-1") | {
        "data": "/photos",
        "image_facts": {
            "shape": [1, 28, 28],
            "class_names": ["a", "b"],
            "normalization": None,
            "test_share": 0.2,
            "fingerprint": "1",
        },
    }
    Path("other/member-1/config.json").write_text(json.dumps(facts))
    for words, status, message in (
        ("export plain.npz m.onnx", 2, "saved in Python, it does not say"),
        (f"evaluate {three} --model lenet", 2, "--model is for weights files"),
        (f"evaluate {three}/ensemble.npz --model lenet", 2, "--model is for weights files"),
        ("evaluate plain.npz", 2, "saved in Python, it does not say"),
        (f"ensemble {three}", 2, "--out"),
        (f"ensemble {three} --out e.txt", 2, "must end in .npz"),
        (f"ensemble {three} nowhere --out e.npz", 2, "nowhere does not exist"),
        (f"ensemble {three} other/member-1 --out e.npz", 2, "differ in class names from those"),
    ):
        found, _, err = fastconv_command(*words.split())
        assert message in err
        assert found == status, words
    assert not Path("e.npz").exists()


def test_math_is_kept_with_the_run(few_digits, fastconv_command):
    assert fastconv_command(*TRAIN, "--math", "fast", "--seed", "1", "--out", "run")[0] == 0
    assert config("run")["math"] == "fast"
    status, out, err = fastconv_command("train", "--resume", "run", "--epochs", "3")
    assert (status, err) == (0, "")
    assert ", math fast" in out.splitlines()[0]
    status, _, err = fastconv_command("train", "--resume", "run", "--math", "default")
    assert status == 0
    assert "warning: continuing with --math default instead of fast" in err
    facts = config("run")
    for name in ("math", "rise", "views", "members", "data_seed", "recipe"):
        del facts[name]  # as runs were kept before there was any
    Path("run", "config.json").write_text(json.dumps(facts))
    status, _, err = fastconv_command("train", "--resume", "run", "--epochs", "4")
    assert (status, err) == (0, "")


def test_a_run_by_recipe(few_digits, fastconv_command):
    Path("mine.toml").write_text(
        'about = "few steps"\nmodel = "lenet"\nepochs = 3\nbatch_size = 10\nlr = 0.01\n'
        'schedule = "one-cycle"\nrise = 0.5\nmath = "fast"\nseed = 3\nmembers = 2\n'
        'augment = "shift=1"\n'
    )
    assert fastconv_command("train", "--recipe", "mine.toml", "--epochs", "2", "--out", "a")[0] == 0
    words = "train --model lenet --epochs 2 --batch-size 10 --lr 0.01 --schedule one-cycle"
    words += " --rise 0.5 --math fast --seed 3 --members 2 --augment shift=1 --out b"
    assert fastconv_command(*words.split())[0] == 0
    for name in MEMBERS[:2]:
        assert_same_run(f"a/{name}", f"b/{name}")
    assert config("a") == config("b") | {"recipe": str(Path("mine.toml").absolute())}
    rates = [record["learning_rate"] for record in history("a/member-1")]
    steps = 12  # 61 images, 10 at a time, twice; half of the steps go up
    assert rates[0] == pytest.approx(0.01)
    assert history("a/member-1")[0]["iteration"] == steps // 2


def test_recipes_are_listed_and_shown(fastconv_command):
    status, out, _ = fastconv_command("recipes")
    assert status == 0
    assert out.splitlines()[0].split() == ["recipe", "model", "members", "data", "epochs", "about"]
    rows = [line.split()[:5] for line in out.splitlines()]
    assert ["mnist-book", "deepconvnet", "1", "mnist", "20"] in rows
    status, shown, _ = fastconv_command("recipes", "mnist-book")
    assert status == 0
    Path("copy.toml").write_text(shown)  # what is shown is a recipe
    status, out, _ = fastconv_command("recipes", "copy.toml", "--json")
    assert last_line(out)["settings"]["epochs"] == 20
    listed = last_line(fastconv_command("recipes", "--json")[1])["recipes"]
    assert "mnist-book" in [row["recipe"] for row in listed]
    status, _, err = fastconv_command("train", "--recipe", "mnist-boko")
    assert status == 2
    assert "unknown recipe 'mnist-boko'; known: " in err
