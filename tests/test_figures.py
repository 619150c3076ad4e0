"""The pictures: what they say, and that they are PNG files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv.errors import MissingDependency
from fastconv.experiment import drawing, figures
from fastconv.models import lenet

pytest.importorskip("matplotlib", reason="draws the pictures")

NAMES = tuple("0123456789")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would have been saved."""
    kept = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: kept.append(figure))
    return kept


def record(epoch: int, iteration: int, train: float | None, test: float | None) -> dict:
    return {
        "epoch": epoch,
        "iteration": iteration,
        "train_loss": 1.0 / epoch,
        "train_accuracy": train,
        "test_accuracy": test,
    }


def test_curves_show_every_step_and_every_epoch(drawn):
    losses = np.linspace(2.3, 0.1, 30)
    history = [record(1, 10, 0.5, 0.4), record(2, 20, 0.75, 0.7), record(3, 30, 0.9, 0.85)]
    figures.draw_curves("unused.png", losses, history, "DeepConvNet on digits")
    (figure,) = drawn
    assert figure.get_suptitle() == "DeepConvNet on digits"
    loss, accuracy = figure.axes
    steps, means = loss.lines
    assert np.array_equal(steps.get_ydata(), losses)
    assert steps.get_xdata()[-1] == 3  # 30 steps at 10 an epoch
    assert list(means.get_ydata()) == [1.0, 0.5, 1 / 3]
    assert list(means.get_xdata()) == [0.5, 1.5, 2.5]
    train, test = accuracy.lines
    assert list(train.get_xdata()) == [1, 2, 3]
    assert list(train.get_ydata()) == [50, 75, 90]
    assert list(test.get_ydata()) == [40, 70, 85]
    assert "85.00 %" in test.get_label()


def test_curves_show_validation_where_there_is_one(drawn):
    history = [record(1, 10, 0.5, 0.4) | {"validation_accuracy": 0.45}]
    history += [record(2, 20, 0.75, 0.7) | {"validation_accuracy": 0.65}]
    figures.draw_curves("unused.png", np.linspace(2.3, 0.1, 20), history, "validated")
    train, validation, test = drawn[0].axes[1].lines
    assert list(validation.get_ydata()) == [45, 65]
    assert validation.get_label() == "validation images (last: 65.00 %)"
    assert len({line.get_color() for line in (train, validation, test)}) == 3


def test_curves_of_a_run_without_a_finished_epoch_or_some_accuracies(drawn):
    figures.draw_curves("unused.png", [2.3, 2.2], [], "stopped early")
    figures.draw_curves("unused.png", [2.3, 2.2], [record(1, 2, None, 0.5)], "no train accuracy")
    first, second = drawn
    assert len(first.axes[1].lines) == 0
    assert len(second.axes[1].lines) == 1


def tiles(figure) -> list[tuple[str, str]]:
    """(top left, bottom right) of each tile, as drawn."""
    texts = figure.axes[0].texts
    pairs = []
    for frame in figure.axes[0].patches:
        left, top = frame.get_xy()
        right, bottom = left + frame.get_width(), top + frame.get_height()
        middle = ((left + right) / 2, (top + bottom) / 2)
        inside = [
            (x < middle[0], y < middle[1], text.get_text())
            for text in texts
            for x, y in [text.get_position()]
            if left < x < right and top < y < bottom
        ]
        corners = {(is_left, is_top): text for is_left, is_top, text in inside}
        assert len(inside) == 2
        pairs.append((corners[True, True], corners[False, False]))
    return pairs


@pytest.mark.parametrize("wrong", [1, 7, 8, 60])
def test_mistakes_carry_the_true_label_top_left_and_the_answer_bottom_right(drawn, rng, wrong):
    images = rng.random((100, 1, 28, 28), np.float32)
    labels = rng.integers(0, 10, 100)
    answers = labels.copy()
    misread = np.sort(rng.choice(100, wrong, replace=False))
    answers[misread] = (labels[misread] + rng.integers(1, 10, wrong)) % 10
    figures.draw_mistakes("unused.png", images, labels, answers, NAMES)
    (figure,) = drawn
    assert figure.get_suptitle() == f"{wrong} of 100 test images misread"
    assert tiles(figure) == [(NAMES[labels[i]], NAMES[answers[i]]) for i in misread]
    canvas = figure.axes[0].images[0].get_array()
    for frame, index in zip(figure.axes[0].patches, misread, strict=True):
        left, top = (round(place + 0.5) for place in frame.get_xy())
        assert np.array_equal(canvas[top : top + 28, left : left + 28], images[index, 0])


def test_mistakes_in_colour_are_shown_as_they_were(drawn, rng):
    images = rng.random((9, 3, 6, 8), np.float32)
    labels = np.arange(9) % 3
    names = ("cat", "a name that is too long for a tile", "$5 to $9")
    figures.draw_mistakes(
        "unused.png",
        images * 2 - 1,
        labels,
        (labels + 1) % 3,
        names,
        ink=False,
        restore=lambda seen: (seen + 1) / 2,
    )
    (figure,) = drawn
    canvas = figure.axes[0].images[0].get_array()
    for frame, image in zip(figure.axes[0].patches, images, strict=True):
        left, top = (round(place + 0.5) for place in frame.get_xy())
        shown = canvas[top : top + 6, left : left + 8]
        np.testing.assert_allclose(shown, image.transpose(1, 2, 0), atol=1e-6)
    assert canvas[0, 9].tolist() == [1, 1, 1]  # between two images
    assert tiles(figure)[1] == ("a name that i…", "$5 to $9")


def test_photographs_without_colour_are_no_negatives(drawn):
    images, labels = np.zeros((2, 1, 6, 6)), np.zeros(2, int)
    figures.draw_mistakes("unused.png", images, labels, labels + 1, NAMES, ink=False)
    shown = drawn[0].axes[0].images[0]
    assert shown.to_rgba(shown.get_array())[0, 0, :3].tolist() == [0, 0, 0]


def test_names_of_any_script_and_many_classes(tmp_path):
    """Drawn for good: Matplotlib warns of letters that its font lacks, and of odd formulas."""
    names = [f"猫 ${index}_" for index in range(45)]
    figures.draw_confusion(tmp_path / "c.png", np.eye(45, dtype=int), names)
    labels = np.arange(45)
    images = np.zeros((45, 3, 5, 5))
    figures.draw_mistakes(tmp_path / "m.png", images, labels, labels[::-1], names, ink=False)
    figures.draw_curves(tmp_path / "t.png", [2.0], [record(1, 1, 0.5, 0.5)], "DeepConvNet on $a_")
    assert len(list(tmp_path.iterdir())) == 3


def test_more_mistakes_than_fit(drawn):
    images = np.zeros((80, 1, 28, 28), np.float32)
    labels = np.zeros(80, int)
    figures.draw_mistakes("unused.png", images, labels, labels + 1, NAMES)
    assert drawn[0].get_suptitle() == "80 of 80 test images misread, the first 60 shown"
    assert len(tiles(drawn[0])) == 60


def test_no_mistakes(drawn):
    labels = np.arange(10)
    figures.draw_mistakes("unused.png", np.zeros((10, 1, 28, 28)), labels, labels, NAMES)
    assert drawn[0].get_suptitle() == "No mistakes: all 10 test images are read correctly"


def test_confusion_has_true_labels_down_and_answers_across(drawn):
    confusion = np.diag(np.arange(90, 100))
    confusion[3, 5] = 7
    confusion[8, 0] = 1
    figures.draw_confusion("unused.png", confusion, NAMES)
    (axes,) = drawn[0].axes
    assert axes.get_title() == f"945 of 953 test images read correctly ({100 * 945 / 953:.2f} %)"
    assert axes.get_xlabel() == "the network's answer"
    assert axes.get_ylabel() == "true label"
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts[5, 3] == "7"  # x is the answer, y the true label
    assert counts[0, 8] == "1"
    assert counts[4, 4] == "94"
    assert len(counts) == 12  # nothing where nothing was confused


def test_files_are_png_and_written_whole(tmp_path, rng):
    image_module = pytest.importorskip("PIL.Image", reason="reads the pictures back")
    labels = rng.integers(0, 10, 30)
    figures.draw_curves(tmp_path / "curves.png", [2.0, 1.0], [record(1, 2, 0.5, 0.5)], "title")
    images = rng.random((30, 1, 28, 28))
    figures.draw_mistakes(tmp_path / "mistakes.png", images, labels, (labels + 1) % 10, NAMES)
    figures.draw_confusion(tmp_path / "confusion.png", np.eye(10, dtype=int), NAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "confusion.png",
        "curves.png",
        "mistakes.png",
    ]
    for path in tmp_path.iterdir():
        with image_module.open(path) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 300
            darkest, brightest = picture.convert("L").getextrema()
        assert darkest < 100 < 250 < brightest


def test_nothing_goes_through_pyplot(tmp_path):
    script = (
        "import sys, numpy; from fastconv.experiment import figures; "
        f"figures.draw_confusion({str(tmp_path / 'c.png')!r}, numpy.eye(3, dtype=int), 'abc'); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    root = str(Path(fastconv.__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-P", "-c", script]
    assert subprocess.run(command, env=environment, check=False).returncode == 0


def test_without_matplotlib(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r"pip install matplotlib"):
        figures.draw_confusion(tmp_path / "confusion.png", np.eye(10, dtype=int), NAMES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_stand_below_their_image(drawn, channels):
    rows = np.random.default_rng(0).random((3, 4, channels, 6, 8)) * 1.2 - 0.1
    figures.draw_samples("unused.png", rows, "rotate=5")
    (figure,) = drawn
    assert figure.get_suptitle() == "rotate=5"
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["image", "changed"]
    canvas = axes.images[0].get_array()
    frames = [patch.get_xy() for patch in axes.patches]
    assert len(frames) == 12
    for (left, top), image in zip(frames, rows.reshape(12, channels, 6, 8), strict=True):
        y, x = int(top + 0.5), int(left + 0.5)
        tile = canvas[y : y + 6, x : x + 8].reshape(6, 8, channels)
        np.testing.assert_array_equal(tile, np.clip(image, 0, 1).transpose(1, 2, 0))


def test_a_matplotlib_that_finds_no_folder_for_its_cache_is_one_that_is_missing(
    tmp_path, monkeypatch
):
    class NoFolder:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("matplotlib"):
                raise OSError("Matplotlib requires access to a writable cache directory")

    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NoFolder(), *sys.meta_path])
    with pytest.raises(MissingDependency, match=r"does not start: .*writable cache"):
        figures.draw_confusion(tmp_path / "confusion.png", np.eye(10, dtype=int), NAMES)


def picture(name: str, path: Path) -> bytes:
    """One of the pictures of a run, as a file."""
    rng = np.random.default_rng(0)
    images, names = rng.random((6, 1, 8, 8), np.float32), ["100%_sure", "$a", "b"]
    match name:
        case "curves":
            figures.draw_curves(path, [2.3, 2.2], [record(1, 2, 0.5, 0.5)], "run_1 on 100%")
        case "mistakes":
            answers = np.array([1, 2, 0, 0, 1, 2])
            figures.draw_mistakes(path, images, np.zeros(6, int), answers, names)
        case "confusion":
            figures.draw_confusion(path, np.eye(3, dtype=int), names)
        case "samples":
            figures.draw_samples(path, images.reshape(2, 3, 1, 8, 8), "rotate=5")
        case "network":
            drawing.draw_network(path, lenet(seed=0), (1, 28, 28), "lenet_1")
    return path.read_bytes()


@pytest.mark.parametrize("name", ["curves", "mistakes", "confusion", "samples", "network"])
def test_pictures_are_the_same_whatever_the_users_matplotlibrc_says(tmp_path, name):
    """LaTeX may not be installed, and takes ``100%_sure`` for a comment."""
    from matplotlib import rc_context, rcParams

    expected = picture(name, tmp_path / "plain.png")
    asked = {"image.origin": "lower", "font.size": 30, "savefig.bbox": "tight", "text.color": "red"}
    with rc_context({"text.usetex": True, **asked}):
        assert picture(name, tmp_path / "again.png") == expected
        assert rcParams["text.usetex"] and rcParams["image.origin"] == "lower"


def test_fonts_of_the_users_choice_are_taken(tmp_path):
    """They may be the only ones that have the letters of a class's name."""
    from matplotlib import rc_context

    expected = picture("confusion", tmp_path / "plain.png")
    with rc_context({"font.family": "serif"}):
        assert picture("confusion", tmp_path / "again.png") != expected
