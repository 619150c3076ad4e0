"""The table of a run's settings: one entry makes an option, a key, a field and a line."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastconv.cli.main import build_parser
from fastconv.cli.options import given_fields, image_options
from fastconv.cli.train import apply_recipe
from fastconv.datasets.record import ImageFacts
from fastconv.errors import ArgumentError, DataCorrupt
from fastconv.experiment.data import ImageOptions
from fastconv.experiment.folder import RunFolder
from fastconv.experiment.recipes import KEYS
from fastconv.experiment.setting import Setting
from fastconv.experiment.settings import SETTINGS, RunConfig, account, expect_known, new_config

from .conftest import CHECKOUT, ROOT

FACTS = ImageFacts((1, 8, 8), ("cat", "dog"), None, None, "0" * 64)

SAMPLES = {
    "model": ("lenet", "lenet"),
    "data": ("mnist", "mnist"),
    "data_dir": ("/files", "/files"),
    "image_size": ("8x9", (8, 9)),
    "grey": (True, True),
    "normalize": (False, False),
    "test_share": (0.25, 0.25),
    "epochs": (3, 3),
    "batch_size": (7, 7),
    "optimizer": ("SGD", "sgd"),
    "lr": (0.5, 0.5),
    "schedule": ("cosine", "cosine"),
    "rise": (0.5, 0.5),
    "augment": ("crop=1,rotate=5.0", "rotate=5,crop=1"),
    "weight_decay": (1, 1.0),
    "label_smoothing": (0.125, 0.125),
    "class_weight": ("balanced", "balanced"),
    "balanced": (True, True),
    "sync_batchnorm": (True, True),
    "gradients": ("bfloat16", "bfloat16"),
    "clip_norm": (5, 5.0),
    "ema": (0.9, 0.9),
    "swa": (2, 2),
    "validation": (0.1, 0.1),
    "patience": (3, 3),
    "init": ("/weights.npz", "/weights.npz"),
    "freeze": ("W1,b*", "W1,b*"),
    "members": (["lenet", "vgg11"], ("lenet", "vgg11")),
    "views": ("mirror,shift=1", "shift=1,mirror"),
    "dtype": ("float64", "float64"),
    "seed": (9, 9),
    "backend": ("numpy", "numpy"),
    "threads": (2, 2),
    "math": ("fast", "fast"),
}
"""What a recipe says of each setting, and what becomes of it."""

FOUND = {
    "image_facts": FACTS,
    "data_seed": 4,
    "recipe": "mine.toml",
    "isa": "avx2",
    "algorithm": "direct",
    "ranks": 2,
}
"""Values of settings that are not given."""

OF_RUN = [field.name for field in dataclasses.fields(RunConfig)]
NUMBERS = [name for name in OF_RUN if isinstance(SAMPLES.get(name, "__")[1], int | float)]


def words(name: str, value: object) -> list[str]:
    """The options that say what a recipe says."""
    option = SETTINGS[name].option
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-")]
    return [f"{option}={','.join(value) if isinstance(value, list) else value}"]


def written(**settings: object) -> str:
    """The path of a recipe."""
    lines = ['about = "a test"', *(f"{name} = {json.dumps(it)}" for name, it in settings.items())]
    Path("mine.toml").write_text("\n".join(lines))
    return "mine.toml"


def by_options(name: str, value: object) -> object:
    return getattr(build_parser().parse_args(["train", *words(name, value)]), name)


def by_recipe(name: str, value: object) -> object:
    options = build_parser().parse_args(["train", "--recipe", written(**{name: value})])
    apply_recipe(options)
    return getattr(options, name)


def by_file(name: str, value: object) -> object:
    facts = json.loads(json.dumps(new_config({"backend": "numpy"}).plain())) | {name: value}
    folder = RunFolder("run")
    folder.path.mkdir(exist_ok=True)
    folder.config_file.write_text(json.dumps(facts))
    return getattr(folder.read_config(), name)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_these_are_all():
    of_images = [field.name for field in dataclasses.fields(ImageOptions)]
    assert set(SETTINGS) == {*OF_RUN, *of_images} == {*SAMPLES, "strict_data", *FOUND}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_has_help_and_an_option_or_a_reason(name, capsys):
    setting = SETTINGS[name]
    options = build_parser().parse_args(["train"])
    assert setting.help
    if setting.found:
        assert name == "recipe" or not hasattr(options, name)
        assert name not in KEYS
        return
    assert getattr(options, name) is None
    with pytest.raises(SystemExit):
        build_parser().parse_args(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert setting.option in shown
    assert setting.help in shown.replace("- ", "-")


@pytest.mark.parametrize("name", SAMPLES)
def test_an_option_and_a_recipe_say_the_same(name):
    value, expected = SAMPLES[name]
    assert by_options(name, value) == by_recipe(name, value) == expected
    assert name in KEYS
    assert f"`{name}`" in (CHECKOUT / "docs" / "recipes.md").read_text()


def test_what_is_said_of_images_reaches_them():
    names = [field.name for field in dataclasses.fields(ImageOptions) if field.name in SAMPLES]
    line = [word for name in names for word in words(name, SAMPLES[name][0])]
    options = build_parser().parse_args(["train", "--strict-data", *line])
    expected = {name: SAMPLES[name][1] for name in names} | {"strict_data": True}
    assert dataclasses.asdict(image_options(options)) == expected
    assert "strict_data" not in KEYS  # how to read the images, and nothing of what they are


@pytest.mark.parametrize("name", OF_RUN)
def test_a_setting_is_kept_and_told(name):
    value = FOUND[name] if name in FOUND else SAMPLES[name][1]
    config = dataclasses.replace(new_config({"backend": "numpy", "seed": 0}), **{name: value})
    folder = RunFolder("run")
    folder.path.mkdir()
    folder.write_config(config)
    assert getattr(folder.read_config(), name) == value
    assert folder.read_config() == config
    assert config.plain()[name] == (dataclasses.asdict(value) if value is FACTS else value)
    without = dataclasses.replace(config, **{name: getattr(new_config({"seed": 0}), name)})
    assert account(without) == ""
    assert (account(config) != "") is (SETTINGS[name].account is not None)


@pytest.mark.parametrize("number", [-1, 0, 0.5, 1, 2, 1e300, 2**31, 2**33, 10**6])
@pytest.mark.parametrize("name", NUMBERS)
def test_one_type_is_checked_everywhere(name, number, capsys):
    """What an option refuses, a recipe and a config.json refuse, and the other way round."""
    messages = []
    try:
        by_options(name, number)
    except SystemExit:
        text = capsys.readouterr().err.partition(f"{SETTINGS[name].option}: ")[2]
        messages.append(text.partition(" (see")[0])
    for read in (by_recipe, by_file):
        try:
            assert read(name, number) == number
        except DataCorrupt as error:
            messages.append(str(error))
    assert len(messages) in (0, 3), messages
    if messages and "expected" not in messages[1]:  # a number, out of bounds
        told, in_recipe, _ = messages
        limits, _, got = told.partition(", got ")
        assert f"{name}: {limits}, got " in in_recipe
        assert float(got) == number


@pytest.mark.parametrize("name", [name for name in SAMPLES if name in OF_RUN])
@pytest.mark.parametrize("value", [{"a": 1}, [1.5], True])
def test_another_type_is_refused_with_its_name(name, value):
    if SETTINGS[name].kind is bool and value is True:
        value = "yes"
    with pytest.raises(DataCorrupt, match=rf"config\.json: .*{name}"):
        by_file(name, value)
    if not isinstance(value, dict):  # which JSON writes, and TOML does not
        with pytest.raises(DataCorrupt, match=f"mine.toml: {name} is .*, expected (a|true)"):
            by_recipe(name, value)


ENTRY = """\
    shake: Positive | None = setting("shake the network", "X", account="shaken by {:g}")
"""

LONGER = f"""
import importlib.util, sys
from pathlib import Path
spec = importlib.util.find_spec("fastconv.experiment.settings")
source = Path(spec.origin).read_text()
assert source.count("    ema: ") == 1
source = source.replace("    ema: ", {ENTRY!r} + "    ema: ")
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
exec(compile(source, spec.origin, "exec"), module.__dict__)
import dataclasses
from fastconv.cli import main
from fastconv.datasets import DATASETS
whole = DATASETS["digits"].load
def few(flatten):
    (x, t), (x_test, t_test) = whole(flatten=flatten)
    return (x[:61], t[:61]), (x_test[:41], t_test[:41])
DATASETS["digits"] = dataclasses.replace(DATASETS["digits"], load=few)
sys.exit(main.main(sys.argv[1:]))
"""


def test_a_new_setting_is_one_entry():
    """In the source of the table alone; all else follows."""
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-c", LONGER, *arguments],
            env=os.environ | {"PYTHONPATH": str(ROOT), "FASTCONV_BACKEND": "numpy"},
            capture_output=True,
            text=True,
            check=False,
        )

    train = ("train", "--model=lenet", "--epochs=1", "--batch-size=30", "--seed=1")
    done = command(*train, "--shake=2", "--out=run", "--json")
    assert done.returncode == 0, done.stderr
    assert "shaken by 2" in done.stderr
    assert json.loads(done.stdout)["shake"] == 2
    assert json.loads(Path("run", "config.json").read_text())["shake"] == 2
    assert "--shake X" in command("train", "--help").stdout
    done = command(*train, "--shake=0", "--out=other")
    assert "argument --shake: must be greater than 0, got 0" in done.stderr
    done = command("train", "--resume=run", "--shake=3")
    assert "--shake 3.0: the run to resume was started with 2.0" in done.stderr
    done = command("recipes", written(shake=4), "--json")
    assert json.loads(done.stdout)["settings"] == {"shake": 4.0}
    done = command("recipes", written(shake="much"))
    assert "mine.toml: shake is 'much', expected a number" in done.stderr
    facts = json.loads(Path("run", "config.json").read_text())
    Path("run", "config.json").write_text(json.dumps(facts | {"shake": -1}))
    done = command("train", "--resume=run")
    assert "run/config.json: Expected `float` > 0.0 - at `$.shake`" in done.stderr


def test_names_that_there_are_not():
    setting = Setting("which", choices=("one", "two"), name="kind", kind=str)
    assert setting.of_recipe("two", Path()) == "two"
    with pytest.raises(ArgumentError, match="unknown kind 'three'; known: one, two"):
        setting.of_recipe("three", Path())


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("augment", "spin=3", "augment: unknown 'spin'"),
        ("views", "spin=3", "views: expected shift=PIXELS"),
        ("schedule", "sine", "unknown schedule 'sine'; known: constant"),
        ("members", ("lenet", "alexnet"), "unknown model 'alexnet'"),
    ],
)
def test_what_a_kept_text_does_not_mean(name, value, message):
    config = dataclasses.replace(new_config({"backend": "numpy"}), **{name: value})
    with pytest.raises(ArgumentError, match=message):
        expect_known(config)


def test_given_fields_are_the_ones_that_are_kept():
    """Places are absolute, names of backends those of one that runs."""
    Path("photos").mkdir()
    options = build_parser().parse_args(
        ["train", "--data=photos", "--init=w.npz", "--backend=auto", "--data-dir=files"]
    )
    given = given_fields(options)
    assert given["data"] == str(Path("photos").absolute())
    assert given["init"] == str(Path("w.npz").absolute())
    assert given["data_dir"] == str(Path("files").absolute())
    assert given["backend"] != "auto"
