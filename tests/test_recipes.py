"""Recipe files: what is read, what is refused, and with which words."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest

from fastconv.cli.main import build_parser
from fastconv.cli.train import apply_recipe
from fastconv.datasets import DATASETS
from fastconv.errors import ArgumentError, DataCorrupt, DataNotFound
from fastconv.experiment.data import ImageOptions
from fastconv.experiment.recipes import KEYS, find_recipe, named_recipes
from fastconv.experiment.settings import RunConfig

from .conftest import ROOT

EVERYTHING = {
    "members": 3,
    "data": '"mnist"',
    "data_dir": '"files"',
    "epochs": 7,
    "batch_size": 50,
    "optimizer": '"adamw"',
    "lr": 0.004,
    "schedule": '"one-cycle"',
    "rise": 0.25,
    "augment": '"rotate=10,shift=2"',
    "weight_decay": 1,
    "label_smoothing": 0.05,
    "clip_norm": 2.5,
    "ema": 0.999,
    "validation": 0.1,
    "patience": 3,
    "views": '"shift=1"',
    "dtype": '"float32"',
    "math": '"fast"',
    "threads": 2,
    "seed": 4,
    "model": '"resnet20"',
}


def written(path, **settings):
    lines = ['about = "a test"', *(f"{key} = {value}" for key, value in settings.items())]
    path.write_text("\n".join(lines))
    return str(path)


def applied(recipe, *arguments):
    """The options of a command line with this recipe."""
    options = build_parser().parse_args(["train", "--recipe", recipe, *arguments])
    apply_recipe(options)
    return options


def test_the_keys_are_what_makes_a_run():
    found = {
        "image_facts",
        "recipe",
        "isa",
        "algorithm",
        "ranks",
    }  # not said by anybody
    fields = {field.name for field in dataclasses.fields(RunConfig)} - found
    images = {"image_size", "grey", "normalize", "test_share"}
    assert len(images) == len(dataclasses.fields(ImageOptions)) - 1  # strictness is no setting
    assert set(KEYS) == fields | images | {"about"}


@pytest.mark.parametrize("name", named_recipes())
def test_the_recipes_of_the_package_are_whole_runs(name):
    recipe = find_recipe(name)
    assert recipe.name == name
    assert recipe.about
    assert recipe.text.startswith("# ")  # what it is for, and how its numbers were chosen
    assert {"data", "epochs", "optimizer", "lr", "batch_size", "math", "seed"} <= set(
        recipe.settings
    )
    options = applied(name)
    assert options.recipe == name
    assert options.data in DATASETS


def test_the_books_recipe():
    options = applied("mnist-book")
    got = {
        name: getattr(options, name)
        for name in ("model", "data", "epochs", "batch_size", "optimizer", "lr", "seed")
    }
    assert got == {
        "model": "deepconvnet",
        "data": "mnist",
        "epochs": 20,
        "batch_size": 100,
        "optimizer": "adam",
        "lr": 0.001,
        "seed": 0,
    }


def test_every_key_reaches_its_option(tmp_path):
    recipe = written(tmp_path / "mine.toml", **EVERYTHING)
    options = applied(recipe)
    values = tomllib.loads((tmp_path / "mine.toml").read_text())
    for key in EVERYTHING:
        expected = str(tmp_path / "files") if key == "data_dir" else values[key]
        assert getattr(options, key) == expected, key
    assert options.recipe == recipe
    others = {"model", "ema", "seed"}
    members = written(
        tmp_path / "two.toml",
        **{key: value for key, value in EVERYTHING.items() if key not in others},
    )
    assert applied(members, "--swa", "2").swa == 2


def test_images_of_ones_own_lie_beside_the_recipe(tmp_path):
    recipe = written(
        tmp_path / "photos.toml",
        data='"photos"',
        image_size='"48x64"',
        grey="true",
        normalize="false",
        test_share=0.3,
        init='"weights.npz"',
    )
    options = applied(recipe)
    assert options.data == str(tmp_path / "photos")
    assert options.init == str(tmp_path / "weights.npz")
    assert (options.image_size, options.grey, options.normalize) == ((48, 64), True, False)
    assert applied(written(tmp_path / "x.toml", image_size=32, grey="false")).image_size == (32, 32)
    other = applied(recipe, "--data", "digits")
    assert (other.data, other.image_size, other.grey, other.normalize) == (
        "digits",
        None,
        None,
        None,
    )


def test_options_beside_a_recipe_come_first(tmp_path):
    recipe = written(tmp_path / "r.toml", **EVERYTHING)
    options = applied(recipe, "--seed", "9", "--epochs", "1", "--schedule", "cosine", "--swa", "1")
    assert (options.seed, options.epochs, options.schedule) == (9, 1, "cosine")
    assert (options.rise, options.ema, options.swa) == (None, None, 1)
    assert options.lr == 0.004
    assert applied(recipe, "--data", "digits").data_dir is None
    mixed = written(tmp_path / "mixed.toml", members='["lenet", "resnet20"]')
    assert applied(mixed).members == ("lenet", "resnet20")
    assert applied(mixed, "--model", "vgg11").members == 2
    assert applied(recipe, "--members", "lenet,lenet").model is None


@pytest.mark.parametrize(
    "line, message",
    [
        ("epoch = 3", "unknown key 'epoch'; known: about, model"),
        ("[options]\nepochs = 3", "unknown key 'options'"),
        ("epochs = 'many'", "epochs is 'many', expected a whole number"),
        ("epochs = 2.5", "epochs is 2.5, expected a whole number"),
        ("epochs = true", "epochs is True, expected a whole number"),
        ("epochs = 0", "epochs: must be at least 1, got 0"),
        ("lr = '0.1'", "lr is '0.1', expected a number"),
        ("lr = -1", "lr: must be greater than 0, got -1"),
        ("lr = nan", "lr: must be greater than 0, got nan"),
        ("grey = 1", "grey is 1, expected true or false"),
        ("model = 'alexnet'", "unknown model 'alexnet'; known: deepconvnet"),
        ("schedule = 'sine'", "unknown schedule 'sine'; known: constant"),
        ("augment = 'twirl=3'", "augment: unknown 'twirl'"),
        ("views = 'twirl=3'", "views: expected shift=PIXELS"),
        ("members = 1", "members: must be at least 2, got 1"),
        ("members = ['lenet']", "members: must be at least 2, got 1"),
        ("members = ['lenet', 'alexnet']", "members: must be .* names of models, got 'alexnet'"),
        ("members = ['lenet', 3]", "members is .*, expected a whole number or a list of names"),
        ("members = []", "members is .*, expected a whole number or a list of names"),
        ("members = ['lenet', 'lenet']\nmodel = 'lenet'", "model and members both"),
        ("ema = 0.9\nswa = 1", "ema and swa both"),
        ("seed = 4294967296", "seed: must be between 0 and 4294967295"),
        ("epochs =", "not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path, line, message):
    path = tmp_path / "wrong.toml"
    path.write_text(f'about = "a test"\n{line}\n')
    with pytest.raises(DataCorrupt, match=f"wrong.toml: {message}"):
        applied(str(path))


def test_what_is_not_there(tmp_path):
    with pytest.raises(ArgumentError, match=r"unknown recipe 'mnist-boko'; known: .*mnist-book"):
        find_recipe("mnist-boko")
    with pytest.raises(DataNotFound, match=r"nowhere.toml: no such file"):
        find_recipe("nowhere.toml")
    (tmp_path / "mute.toml").write_text("epochs = 3")
    with pytest.raises(DataCorrupt, match=r"mute.toml: about is missing"):
        find_recipe(str(tmp_path / "mute.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataCorrupt, match=r"bytes.toml: not TOML"):
        find_recipe(str(tmp_path / "bytes.toml"))


def test_an_installed_package_has_them():
    """They are data of the package by its own declaration; so is a source archive's."""
    checkout = Path(__file__).parents[1]  # the package may be installed elsewhere
    declared = tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = declared["package-data"]["fastconv"]
    places = checkout.glob("fastconv/experiment/recipes/*.toml")
    assert set(named_recipes()) == {path.stem for path in places}
    for path in named_recipes().values():
        inside = path.relative_to(ROOT / "fastconv")
        assert any(inside.match(pattern) for pattern in patterns), inside
    assert "include fastconv/experiment/recipes/*.toml" in (checkout / "MANIFEST.in").read_text()
