"""``fastconv show``: which pictures it draws, of what, and where."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastconv import figures
from fastconv.experiment.folder import RunFolder
from fastconv.models import make_model

from .conftest import LISTS, weights

pytest.importorskip("matplotlib", reason="draws the pictures")

SHOWN = {"mistakes.png", "confusion.png", "filters.png", "features.png"}
SMALL = ["--model", "lenet", "--epochs", "1", "--seed", "1"]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, by the names of their files."""
    found = {}

    def keep(figure, path):
        Path(path).write_bytes(b"")
        found[Path(path).name] = figure
        return ""

    monkeypatch.setattr(figures, "save", keep)
    return found


def tiles(axes) -> list[np.ndarray]:
    """The images in the frames of a panel, at one pixel of the picture for each of theirs."""
    canvas = axes.images[0].get_array()
    corners = [tuple(round(place + 0.5) for place in each.get_xy()) for each in axes.patches]
    size = [(each.get_height(), each.get_width()) for each in axes.patches]
    return [
        canvas[top : top + height, left : left + width]
        for (left, top), (height, width) in zip(corners, size, strict=True)
    ]


def test_a_run_is_shown(whole, few_digits, fastconv_command, drawn):
    before = {path.name for path in Path(whole).iterdir()}
    status, out, _ = fastconv_command("show", whole, "--json")
    assert status == 0
    assert set(drawn) == SHOWN
    assert {Path(path).name for path in json.loads(out)["pictures"]} == SHOWN
    assert {path.name for path in Path(whole).iterdir()} == before | SHOWN
    initial = make_model("deepconvnet", (1, 28, 28), 10, seed=1).params["W1"]
    trained = weights(whole)["W1"]
    assert not np.array_equal(initial, trained)
    for axes, expected in zip(drawn["filters.png"].axes, (initial, trained), strict=False):
        for tile, weight in zip(tiles(axes), expected, strict=True):
            assert np.array_equal(tile[:: len(tile) // 3, :: len(tile) // 3], weight[0])
    _, (x_test, _) = few_digits
    assert drawn["features.png"].get_suptitle() == "feature maps of test[0]: deepconvnet"
    (seen,) = tiles(drawn["features.png"].axes[0])
    assert np.array_equal(seen, x_test[0, 0])
    named = [text.get_text() for text in drawn["mistakes.png"].axes[0].texts]
    listed = json.loads(Path(whole, "mistakes.json").read_text())
    assert {each["name"] for each in listed} <= set(named)


def test_an_image_of_ones_own_and_another_folder(whole, few_digits, fastconv_command, drawn):
    image = pytest.importorskip("PIL.Image", reason="writes the picture")
    pixels = np.full((40, 40), 255, np.uint8)
    pixels[8:32, 18:22] = 0
    image.fromarray(pixels).save("a one.png")
    before = {path: path.read_bytes() for path in Path(whole).iterdir()}
    assert fastconv_command("show", whole, "--image", "a one.png", "--out", "there")[0] == 0
    assert drawn["features.png"].get_suptitle() == "feature maps of a one.png: deepconvnet"
    assert {path.name for path in Path("there").iterdir()} == SHOWN | LISTS
    assert {path: path.read_bytes() for path in Path(whole).iterdir()} == before


def test_a_run_of_an_earlier_version_has_no_filters_of_before(
    whole, few_digits, fastconv_command, drawn
):
    RunFolder(whole).initial.unlink()
    status, out, _ = fastconv_command("show", whole)
    assert status == 0
    assert "filters before training are not known" in out
    assert len(drawn["filters.png"].axes) == 1


def test_filters_that_a_run_started_with_from_a_file(few_digits, fastconv_command, drawn):
    assert fastconv_command("train", *SMALL, "--out", "first")[0] == 0
    name = next(name for name in weights("first") if weights("first")[name].ndim == 4)
    started = weights("first")[name]
    train = ["train", *SMALL[:-1], "2", "--init", "first/weights.npz", "--out", "second"]
    assert fastconv_command(*train)[0] == 0
    np.testing.assert_array_equal(RunFolder("second").read_initial(), started)
    assert fastconv_command("train", "--resume", "second", "--epochs", "2")[0] == 0
    np.testing.assert_array_equal(RunFolder("second").read_initial(), started)


def test_members_and_weights(whole, few_digits, fastconv_command, drawn):
    assert fastconv_command("train", *SMALL, "--members", "2", "--out", "two")[0] == 0
    status, out, _ = fastconv_command("show", "two")
    assert status == 0 and "those of the first member" in out
    assert len(drawn["filters.png"].axes) == 3
    call = ["show", f"{whole}/weights.npz", "--data", "digits"]
    status, _, err = fastconv_command(*call)
    assert status == 2 and "name one by --out" in err
    assert fastconv_command(*call, "--out", "pictures")[0] == 0
    assert {path.name for path in Path("pictures").iterdir()} == SHOWN | LISTS
    status, _, err = fastconv_command("show", "two", "--out", whole)
    assert status == 2 and "its pictures are its own" in err
    status, _, err = fastconv_command("show", "two", "--data", "mnist")
    assert status == 2 and "a run shows its own data" in err
