"""The pictures: what they say, and that they are PNG files."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv import figures
from fastconv.errors import ArgumentError, MissingDependency, ShapeError
from fastconv.layers import Affine
from fastconv.models import DeepConvNet, lenet, make_model
from fastconv.network import Network

pytest.importorskip("matplotlib", reason="draws the pictures")

NAMES = tuple("0123456789")


def record(epoch: int, iteration: int, train: float | None, test: float | None) -> dict:
    return {
        "epoch": epoch,
        "iteration": iteration,
        "train_loss": 1.0 / epoch,
        "train_accuracy": train,
        "test_accuracy": test,
    }


def test_curves_show_every_step_and_every_epoch():
    losses = np.linspace(2.3, 0.1, 30)
    history = [record(1, 10, 0.5, 0.4), record(2, 20, 0.75, 0.7), record(3, 30, 0.9, 0.85)]
    figure = figures.curves(losses, history, "DeepConvNet on digits")
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


def test_curves_show_validation_where_there_is_one():
    history = [record(1, 10, 0.5, 0.4) | {"validation_accuracy": 0.45}]
    history += [record(2, 20, 0.75, 0.7) | {"validation_accuracy": 0.65}]
    figure = figures.curves(np.linspace(2.3, 0.1, 20), history, "validated")
    train, validation, test = figure.axes[1].lines
    assert list(validation.get_ydata()) == [45, 65]
    assert validation.get_label() == "validation images (last: 65.00 %)"
    assert len({line.get_color() for line in (train, validation, test)}) == 3


def test_curves_show_the_validation_loss_and_the_epoch_that_is_kept():
    history = [record(epoch, 10 * epoch, 0.5, 0.4) for epoch in (1, 2, 3)]
    for one, loss in zip(history, (1.5, math.nan, 0.9), strict=True):
        one |= {"validation_accuracy": 0.4, "validation_loss": loss}
    figure = figures.curves(np.linspace(2.3, 0.1, 30), history, "validated", kept=2)
    loss, accuracy = figure.axes
    assert loss.get_title(loc="left") == "Loss"
    drawn = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert drawn["validation images"] == [[1, 1.5], [3, 0.9]]
    for axes in (loss, accuracy):
        kept = [line for line in axes.lines if line.get_label() == "kept: epoch 2"]
        assert [line.get_xdata() for line in kept] == [[2, 2]]
    plain = figures.curves([2.3], [record(1, 1, 0.5, 0.4)], "plain")
    assert plain.axes[0].get_title(loc="left") == "Training loss"
    assert not [line for axes in plain.axes for line in axes.lines if "kept" in line.get_label()]


def test_curves_of_a_run_without_a_finished_epoch_or_some_accuracies():
    first = figures.curves([2.3, 2.2], [], "stopped early")
    second = figures.curves([2.3, 2.2], [record(1, 2, None, 0.5)], "no train accuracy")
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
def test_mistakes_carry_the_true_label_top_left_and_the_answer_bottom_right(rng, wrong):
    images = rng.random((100, 1, 28, 28), np.float32)
    labels = rng.integers(0, 10, 100)
    answers = labels.copy()
    misread = np.sort(rng.choice(100, wrong, replace=False))
    answers[misread] = (labels[misread] + rng.integers(1, 10, wrong)) % 10
    figure = figures.mistakes(images, labels, answers, NAMES)
    assert figure.get_suptitle() == f"{wrong} of 100 test images misread"
    assert tiles(figure) == [(NAMES[labels[i]], NAMES[answers[i]]) for i in misread]
    canvas = figure.axes[0].images[0].get_array()
    for frame, index in zip(figure.axes[0].patches, misread, strict=True):
        left, top = (round(place + 0.5) for place in frame.get_xy())
        assert np.array_equal(canvas[top : top + 28, left : left + 28], images[index, 0])


def test_mistakes_in_colour_are_shown_as_they_were(rng):
    images = rng.random((9, 3, 6, 8), np.float32)
    labels = np.arange(9) % 3
    names = ("cat", "a name that is too long for a tile", "$5 to $9")
    figure = figures.mistakes(
        images * 2 - 1,
        labels,
        (labels + 1) % 3,
        names,
        ink=False,
        restore=lambda seen: (seen + 1) / 2,
    )
    canvas = figure.axes[0].images[0].get_array()
    for frame, image in zip(figure.axes[0].patches, images, strict=True):
        left, top = (round(place + 0.5) for place in frame.get_xy())
        shown = canvas[top : top + 6, left : left + 8]
        np.testing.assert_allclose(shown, image.transpose(1, 2, 0), atol=1e-6)
    assert canvas[0, 9].tolist() == [1, 1, 1]  # between two images
    assert tiles(figure)[1] == ("a name that i…", "$5 to $9")


def test_mistakes_are_named():
    labels, images = np.zeros(8, int), np.zeros((8, 1, 10, 10))
    answers = np.array([0, 1, 1, 0, 1, 0, 0, 1])
    names = [f"cat/{index}_$.png" for index in range(7)] + ["a name of more than 20 letters.png"]
    figure = figures.mistakes(images, labels, answers, NAMES, names=names)
    assert len(tiles(figure)) == 4
    below = [text.get_text() for text in figure.axes[0].texts if text.get_fontsize() == 5]
    assert below == ["1_$.png", "2_$.png", "4_$.png", "a name of more than…"]


def shown_in(frame, image, side: int) -> np.ndarray:
    """The tile in a frame, of `side` pixels, each of which may be drawn several times."""
    left, top = (round(place + 0.5) for place in frame.get_xy())
    inside = image.get_array()[top : top + frame.get_height(), left : left + frame.get_width()]
    times, rest = divmod(len(inside), side)
    assert rest == 0
    tile = inside[::times, ::times]
    assert np.array_equal(tile.repeat(times, 0).repeat(times, 1), inside)
    return tile


def test_filters_of_grey_images_before_and_after_training(rng):
    before, after = rng.normal(0, 0.1, (20, 1, 3, 3)), rng.normal(0, 1, (20, 1, 3, 3))
    figure = figures.filters(after, before, "conv1 of $a")
    assert figure.get_suptitle() == "conv1 of $a"
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    times = np.abs(after).max() / np.abs(after - before).max()
    assert titles == [
        *("before training", "after training"),
        f"change, drawn {times:.3g} times as strong",
    ]
    scales = [np.abs(each).max() for each in (after, after, after - before)]
    drawn = zip(figure.axes, (before, after, after - before), scales, strict=True)
    for axes, weights, scale in drawn:
        (image,) = axes.images
        assert image.get_clim() == (-scale, scale)
        assert len(axes.patches) == 20
        for index, frame in enumerate(axes.patches):
            assert np.array_equal(shown_in(frame, image, 3), weights[index, 0])
    places = {frame.get_y() for frame in figure.axes[0].patches}
    assert len(places) == 2  # 16 and 4
    assert len(figures.filters(after).axes) == 1
    same = figures.filters(after, after)
    assert same.axes[2].get_title(loc="left") == "change"


def test_filters_of_colour_images_and_more_than_fit():
    weights = np.zeros((70, 3, 2, 2))
    weights[0, 0] = 0.5  # red
    weights[0, 1] = -0.5
    figure = figures.filters(weights, title="conv1")
    assert figure.get_suptitle() == "conv1, the first 64 of 70"
    first, second = figure.axes[0].patches[:2]
    (image,) = figure.axes[0].images
    assert shown_in(first, image, 2).tolist() == [[[1, 0, 0.5]] * 2] * 2
    assert shown_in(second, image, 2).tolist() == [[[0.5, 0.5, 0.5]] * 2] * 2
    assert len(figure.axes[0].patches) == 64
    with pytest.raises(ShapeError, match="before as after"):
        figures.filters(weights, weights[:3])
    with pytest.raises(ShapeError, match=r"expected \(FN, C, FH, FW\)"):
        figures.filters(weights[0])


def maps_by_hand(network, image):
    """The outputs of each ReLU after a convolution, layer by layer."""
    x, found = image[None], []
    for layer in network.layers:
        has_modes = type(layer).__name__ == "Dropout"
        x = layer.forward(x, False) if has_modes else layer.forward(x)
        if type(layer).__name__ == "Relu" and x.ndim == 4:
            found.append(x[0])
    return found


def test_feature_maps_are_those_of_the_layers(rng):
    network = DeepConvNet(seed=0)
    image = rng.random((1, 28, 28), np.float32)
    figure = figures.feature_maps(network, image, "a digit")
    expected = [image, *maps_by_hand(network, image)]
    assert len(figure.axes) == len(expected) == 7
    for axes, maps in zip(figure.axes, expected, strict=True):
        assert axes.images[0].get_clim() == (0, pytest.approx(maps.max(), rel=1e-6))
        assert len(axes.patches) == min(16, len(maps))
        height, width = maps.shape[1:]
        shown = shown_in(axes.patches[-1], axes.images[0], height)
        np.testing.assert_allclose(shown, maps[:16][-1], 1e-6)
        size = f"{height} x {width}"
        many = f"{len(maps)} maps of {size}" if len(maps) > 1 else f"1 map of {size}"
        assert axes.texts[0].get_text().endswith(many)
    assert figure.axes[1].texts[0].get_text().startswith("convolution 0\n")


@pytest.mark.parametrize("name", ["resnet20", "googlenet", "lenet"])
def test_feature_maps_of_networks_with_branches_and_shortcuts(name):
    shape = (3, 32, 32)
    network = make_model(name, shape, 10, seed=0)
    figure = figures.feature_maps(network, np.random.default_rng(0).random(shape))
    assert 3 <= len(figure.axes) <= 9
    assert {len(axes.images) for axes in figure.axes} == {1}


def test_feature_maps_need_a_convolution_and_an_image_that_fits():
    with pytest.raises(ArgumentError, match="no convolution"):
        figures.feature_maps(Network([Affine(np.zeros((4, 2)), np.zeros(2))]), np.zeros((1, 2, 2)))
    with pytest.raises(ShapeError):
        figures.feature_maps(DeepConvNet(seed=0), np.zeros((3, 28, 28)))


def test_photographs_without_colour_are_no_negatives():
    images, labels = np.zeros((2, 1, 6, 6)), np.zeros(2, int)
    figure = figures.mistakes(images, labels, labels + 1, NAMES, ink=False)
    shown = figure.axes[0].images[0]
    assert shown.to_rgba(shown.get_array())[0, 0, :3].tolist() == [0, 0, 0]


def test_names_of_any_script_and_many_classes(tmp_path):
    """Drawn for good: Matplotlib warns of letters that its font lacks, and of odd formulas."""
    names = [f"猫 ${index}_" for index in range(45)]
    figures.save(figures.confusion(np.eye(45, dtype=int), names), tmp_path / "c.png")
    labels = np.arange(45)
    images = np.zeros((45, 3, 5, 5))
    figures.save(
        figures.mistakes(images, labels, labels[::-1], names, ink=False), tmp_path / "m.png"
    )
    figures.save(
        figures.curves([2.0], [record(1, 1, 0.5, 0.5)], "DeepConvNet on $a_"), tmp_path / "t.png"
    )
    assert len(list(tmp_path.iterdir())) == 3


def test_more_mistakes_than_fit():
    images = np.zeros((80, 1, 28, 28), np.float32)
    labels = np.zeros(80, int)
    figure = figures.mistakes(images, labels, labels + 1, NAMES)
    assert figure.get_suptitle() == "80 of 80 test images misread, the first 60 shown"
    assert len(tiles(figure)) == 60


def test_no_mistakes():
    labels = np.arange(10)
    figure = figures.mistakes(np.zeros((10, 1, 28, 28)), labels, labels, NAMES)
    assert figure.get_suptitle() == "No mistakes: all 10 test images are read correctly"


def test_confusion_has_true_labels_down_and_answers_across():
    confusion = np.diag(np.arange(90, 100))
    confusion[3, 5] = 7
    confusion[8, 0] = 1
    figure = figures.confusion(confusion, NAMES)
    (axes,) = figure.axes
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
    figures.save(
        figures.curves([2.0, 1.0], [record(1, 2, 0.5, 0.5)], "title"), tmp_path / "curves.png"
    )
    images = rng.random((30, 1, 28, 28))
    figures.save(
        figures.mistakes(images, labels, (labels + 1) % 10, NAMES), tmp_path / "mistakes.png"
    )
    figures.save(figures.confusion(np.eye(10, dtype=int), NAMES), tmp_path / "confusion.png")
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


def test_a_notebook_shows_a_figure(rng):
    image_module = pytest.importorskip("PIL.Image")
    figure = figures.filters(rng.normal(0, 1, (4, 1, 3, 3)))
    with image_module.open(io.BytesIO(figure._repr_png_())) as shown:
        assert shown.format == "PNG"
        assert shown.size == tuple((100 * figure.get_size_inches()).astype(int))


def test_nothing_goes_through_pyplot(tmp_path):
    script = (
        "import sys, numpy; from fastconv import figures; "
        "figure = figures.confusion(numpy.eye(3, dtype=int), 'abc'); "
        f"figures.save(figure, {str(tmp_path / 'c.png')!r}); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    root = str(Path(fastconv.__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-P", "-c", script]
    assert subprocess.run(command, env=environment, check=False).returncode == 0


def test_without_matplotlib(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r"pip install matplotlib"):
        figures.save(figures.confusion(np.eye(10, dtype=int), NAMES), tmp_path / "confusion.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_stand_below_their_image(channels):
    rows = np.random.default_rng(0).random((3, 4, channels, 6, 8)) * 1.2 - 0.1
    figure = figures.samples(rows, "rotate=5")
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
        figures.save(figures.confusion(np.eye(10, dtype=int), NAMES), tmp_path / "confusion.png")


def picture(name: str, path: Path) -> bytes:
    """One of the pictures of a run, as a file."""
    rng = np.random.default_rng(0)
    images, names = rng.random((6, 1, 8, 8), np.float32), ["100%_sure", "$a", "b"]
    match name:
        case "curves":
            figures.save(
                figures.curves([2.3, 2.2], [record(1, 2, 0.5, 0.5)], "run_1 on 100%"), path
            )
        case "mistakes":
            answers = np.array([1, 2, 0, 0, 1, 2])
            figures.save(figures.mistakes(images, np.zeros(6, int), answers, names), path)
        case "confusion":
            figures.save(figures.confusion(np.eye(3, dtype=int), names), path)
        case "samples":
            figures.save(figures.samples(images.reshape(2, 3, 1, 8, 8), "rotate=5"), path)
        case "filters":
            figures.save(figures.filters(images, images), path)
        case "maps":
            figures.save(figures.feature_maps(lenet(seed=0), np.zeros((1, 28, 28)), "$_%"), path)
        case "network":
            figures.save(figures.graph(lenet(seed=0), (1, 28, 28), "lenet_1"), path)
    return path.read_bytes()


@pytest.mark.parametrize(
    "name", ["curves", "mistakes", "confusion", "samples", "filters", "maps", "network"]
)
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
