"""The JSON of run folders, checkpoints and ensembles, and recipes: old ones, and damaged ones."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastconv import Trainer, config
from fastconv.cli import main as cli
from fastconv.cli.main import build_parser
from fastconv.cli.options import given_fields
from fastconv.cli.train import apply_recipe
from fastconv.datasets.record import ImageFacts
from fastconv.errors import DataCorrupt, FastconvError, StateError
from fastconv.experiment.data import Data, ImageOptions
from fastconv.experiment.folder import RunFolder
from fastconv.experiment.networks import load_network
from fastconv.experiment.recipes import find_recipe
from fastconv.experiment.settings import RunConfig, new_config
from fastconv.experiment.train import expect_sound, prepare
from fastconv.io.arrays import load_arrays, save_arrays
from fastconv.models import make_model
from fastconv.models.ensemble import Ensemble

from ..mutations import COUNT, expect_harmless, mutated
from ..test_trainer import Watched, trainer

KEPT = Path(__file__).with_name("kept")
"""Files of runs that an earlier version made."""

DEEP = "[" * 100_000


def kept(name: str) -> str:
    return (KEPT / name).read_text()


def folder_of(**files: str) -> RunFolder:
    """A run folder with these files, under their names without the ending."""
    folder = RunFolder("run")
    folder.path.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder.path / f"{name}.json").write_text(text)
    return folder


# ---- of earlier versions --------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["config", "ensemble-config", "images-config", "regularised-config"]
)
def test_a_configuration_of_an_earlier_version(name):
    text = kept(f"{name}.json")
    config = folder_of(config=text).read_config()
    expected = json.loads(text)
    found = json.loads(json.dumps(asdict(config)))
    later = dict.fromkeys(("isa", "algorithm", "class_weight", "gradients")) | {
        "balanced": False,
        "ranks": 1,
    }
    later["sync_batchnorm"] = False
    assert found == later | {key: value for key, value in expected.items() if key != "fastconv"}
    RunFolder("run").write_config(config)
    assert RunFolder("run").read_config() == config


def test_a_configuration_of_the_first_version():
    """Fields that came later have defaults."""
    first = ("model", "data", "data_dir", "epochs", "batch_size", "optimizer", "lr", "backend")
    first += ("dtype", "threads", "seed")
    facts = json.loads(kept("config.json"))
    config = folder_of(config=json.dumps({name: facts[name] for name in first})).read_config()
    assert (config.schedule, config.label_smoothing) == ("constant", 0)
    later = [config.members, config.math, config.views, config.image_facts, config.recipe]
    assert later == [None] * 5


def test_what_the_images_were_comes_back():
    facts = folder_of(config=kept("images-config.json")).read_config().image_facts
    assert isinstance(facts, ImageFacts)
    assert (facts.shape, facts.class_names) == ((3, 16, 16), ("blue", "green", "red"))
    assert facts.normalization.mean[0] == 0.3508854248240823
    assert facts.test_share == 0.2


@pytest.mark.parametrize("name, epochs", [("result", 2), ("ensemble-result", None)])
def test_a_result_of_an_earlier_version(name, epochs):
    text = kept(f"{name}.json")
    result = folder_of(result=text).read_result()
    assert (result.epochs, result.diverged) == (epochs, None)
    assert json.loads(text).items() <= asdict(result).items()


def test_an_ensembles_file_of_an_earlier_version():
    metadata = json.loads(kept("ensemble.json"))
    arrays = {}
    for number in range(2):
        state = make_model("lenet", (1, 28, 28), 10, seed=number).state()
        arrays |= {f"{number}/{key}": value for key, value in state.items()}
    save_arrays("two.npz", arrays, metadata)
    ensemble = Ensemble.load("two.npz")
    assert (len(ensemble.members), len(ensemble.views)) == (2, 5)
    assert ensemble.views[1].down == -1
    assert ensemble.about == metadata["about"]
    np.testing.assert_array_equal(ensemble.members[1].state()["fc1.weight"], arrays["1/fc1.weight"])


def as_earlier(path: str | Path) -> None:
    """Bring a checkpoint to the form that earlier versions wrote: all lists in the JSON."""
    arrays, metadata = load_arrays(path)
    for key in [key for key in arrays if key.startswith("progress/")]:
        name = key.removeprefix("progress/")
        metadata["progress"][name] = arrays.pop(key).tolist()
    write_checkpoint(path, json.dumps(metadata), arrays)  # with bare NaN, as it was


def write_checkpoint(path: str | Path, text: str | bytes, arrays: dict[str, np.ndarray]) -> None:
    """A checkpoint with this text for metadata, whatever it is."""
    data = text if isinstance(text, bytes) else text.encode()
    np.savez(path, **arrays, **{"metadata.json": np.frombuffer(data, np.uint8)})


def test_an_earlier_checkpoint_goes_on_bit_for_bit():
    whole, first, second = watched(), watched(), watched()
    whole.train()
    for _ in range(4):
        first.train_step()
    first.save_checkpoint("now.npz")
    shutil.copy("now.npz", "earlier.npz")
    as_earlier("earlier.npz")
    text = load_arrays("earlier.npz")[1]["progress"]
    assert set(text) == set(json.loads(kept("checkpoint.json"))["progress"])
    second.load_checkpoint("earlier.npz")
    assert snapshot(second) == snapshot(first)
    second.train()
    np.testing.assert_array_equal(second.network.params["W"], whole.network.params["W"])


def test_an_earlier_checkpoint_of_a_run_that_had_diverged():
    """It has bare NaN, which is no JSON."""
    text = kept("diverged-checkpoint.json")
    assert "NaN" in text
    run = watched(steps=9)
    run.save_checkpoint("now.npz")
    arrays = {key: a for key, a in load_arrays("now.npz")[0].items() if "progress/" not in key}
    write_checkpoint("earlier.npz", text.replace('"batch_seed": null, ', ""), arrays)
    run.load_checkpoint("earlier.npz")
    assert run.current_iter == 9
    assert run.train_loss_list[0] == 2.4305773219603024
    assert all(math.isnan(loss) for loss in run.train_loss_list[1:])
    assert [math.isnan(epoch["train_loss"]) for epoch in run.history] == [True, True]
    assert [math.isnan(epoch["validation_loss"]) for epoch in run.history] == [True, True]
    assert run.diverged_epoch == 1


# ---- damaged --------------------------------------------------------------------------


def watched(steps: int = 6) -> Trainer:
    """A run of small steps; nothing in it takes time."""
    return trainer(Watched(), epochs=steps / 3, seed=1, optimizer="Adam", mini_batch_size=84)


def snapshot(run: Trainer) -> str:
    """All that loading a checkpoint may change."""
    state = [run.network.params["W"].tolist(), run._generator.bit_generator.state]
    state += [run.optimizer.state(), run.history, run.current_iter, run.current_epoch]
    state += [run.train_loss_list, run.train_acc_list, run.test_acc_list]
    return repr([*state, run._epoch_seconds, run._epoch_norms, run._evaluation])


FACTS = json.loads(kept("images-config.json"))["image_facts"]

BAD_CONFIGS: dict[str, Any] = {
    "not an object": [],
    "infinite shape": {"image_facts": FACTS | {"shape": [math.inf, 1, 1]}},
    "huge shape": {"image_facts": FACTS | {"shape": [1, 28, 10_000_000]}},
    "empty shape": {"image_facts": FACTS | {"shape": []}},
    "no classes": {"image_facts": FACTS | {"class_names": []}},
    "classes of numbers": {"image_facts": FACTS | {"class_names": [1, 2]}},
    "no fingerprint": {"image_facts": FACTS | {"fingerprint": None}},
    "half a normalization": {"image_facts": FACTS | {"normalization": {"mean": [0, 0, 0]}}},
    "no deviation": {
        "image_facts": FACTS | {"normalization": {"mean": [0, 0, 0], "std": [1, 1, 0]}}
    },
    "normalization of other images": {
        "image_facts": FACTS | {"normalization": {"mean": [0], "std": [1]}}
    },
    "epochs as text": {"epochs": "two"},
    "epochs as bool": {"epochs": True},
    "no epochs": {"epochs": 0},
    "endless": {"epochs": 10**400},
    "a rate that is NaN": {"lr": math.nan},
    "a negative seed": {"seed": -1},
    "threads": {"threads": 10**20},
    "members of nothing": {"members": []},
    "members of numbers": {"members": [1]},
    "a batch of halves": {"batch_size": 0.5},
    "data as number": {"data": 3},
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_configuration_that_is_none(name):
    facts = BAD_CONFIGS[name]
    text = json.dumps(json.loads(kept("config.json")) | facts if facts else facts)
    with pytest.raises(DataCorrupt, match=r"run/config\.json: "):
        folder_of(config=text).read_config()


@pytest.mark.parametrize("text", [DEEP, "", "nul", "\x00", '{"model": '])
def test_a_file_that_is_no_json(text, fastconv_command):
    folder_of(config=text)
    for command in ("train --resume", "evaluate", "export", "predict"):
        more = {"export": ["m.onnx"], "predict": ["x.png"]}.get(command, [])
        status, out, err = fastconv_command(*command.split(), "run", *more)
        assert (status, out) == (1, "")
        assert "run/config.json: not JSON" in err
        assert "a fault of fastconv" not in err


@pytest.mark.parametrize(
    "text",
    [
        *("{}", "[]", "null", "3", '"x"', DEEP),
        '{"test_accuracy": null, "correct": null, "total": null, "seconds": null}',
        '{"test_accuracy": 2, "correct": 1, "total": 1, "seconds": 1}',
        '{"test_accuracy": "x", "correct": "x", "total": "x", "seconds": "x"}',
        '{"test_accuracy": 1, "correct": 1, "total": 1, "seconds": NaN}',
    ],
    ids=lambda text: text[:30],
)
def test_a_result_that_is_none(text):
    with pytest.raises(DataCorrupt, match=r"run/result\.json: "):
        folder_of(result=text).read_result()


def test_a_members_result_that_is_none_is_named(few_digits, fastconv_command, monkeypatch):
    monkeypatch.setattr("fastconv.figures.save", lambda figure, path: None)
    words = [
        "train",
        "--model",
        "lenet",
        "--epochs",
        "1",
        "--batch-size",
        "30",
        "--members",
        "2",
        "--out",
        "two",
    ]
    assert fastconv_command(*words)[0] == 0
    for text in ("{}", "[null]", '"done"'):
        Path("two/member-1/result.json").write_text(text)
        status, _, err = fastconv_command("train", "--resume", "two")
        assert status == 1
        assert "two/member-1/result.json: " in err
        assert "a fault of fastconv" not in err


def changed(metadata: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """The metadata with another value at a place such as ``progress.current_iter``."""
    metadata = json.loads(json.dumps(metadata))
    *outer, last = place.split(".")
    inner = metadata
    for name in outer:
        inner = inner[int(name) if isinstance(inner, list) else name]
    inner[last] = value
    return metadata


@pytest.mark.parametrize(
    "place, value",
    [
        *[("generator", value) for value in (None, {}, [], "PCG64")],
        ("generator.bit_generator", "MT19937"),
        ("generator.state", {"state": 2**128, "inc": 1}),
        ("generator.state", {"state": -1, "inc": 1}),
        ("generator.state", {"state": 1, "inc": 2}),
        ("generator.state", {"key": [1] * 624, "pos": 1}),
        ("generator.has_uint32", 2),
        ("generator.uinteger", 2**32),
        *[("progress", value) for value in (None, [], {})],
        *[("progress.current_iter", value) for value in ("x", -1, 3, 7, 2**70, 4.0, None)],
        *[("progress.current_epoch", value) for value in ("x", -1, 2**70)],
        *[("progress.train_loss_list", value) for value in (0, ["x"], {}, [[1.0] * 4], [1.0])],
        *[("progress.history", value) for value in (0, [0], [{}], [None])],
        ("progress.history.0.epoch", 2),
        ("progress.history.0.iteration", 0),
        ("progress.history.0.iteration", 5),
        ("progress.history.0.seconds", "x"),
        ("progress._evaluation", [1]),
        ("progress._epoch_norms", 3),
        *[("optimizer", value) for value in (None, "SGD", ["Adam"])],
        *[("batch_seed", value) for value in ("x", -1, 3)],
    ],
    ids=repr,
)
def test_metadata_of_a_checkpoint_that_are_none_change_nothing(place, value):
    done, run = watched(), watched()
    for _ in range(4):
        done.train_step()
    done.save_checkpoint("good.npz")
    as_earlier("good.npz")
    arrays, metadata = load_arrays("good.npz")
    write_checkpoint("bad.npz", json.dumps(changed(metadata, place, value)), arrays)
    before = snapshot(run)
    with pytest.raises(FastconvError, match=r"bad\.npz"):
        run.load_checkpoint("bad.npz")
    assert snapshot(run) == before
    run.load_checkpoint("good.npz")
    assert snapshot(run) == snapshot(done)


@pytest.mark.parametrize(
    "name, array",
    [
        ("train_loss_list", np.zeros(3)),
        ("train_loss_list", np.zeros((2, 2))),
        ("train_loss_list", np.array(["x"] * 4)),
        ("test_acc_list", np.zeros(2, np.int64)),
        ("_epoch_norms", np.array(1.0)),
    ],
)
def test_lists_of_a_checkpoint_that_are_none_change_nothing(name, array):
    done, run = watched(), watched()
    for _ in range(4):
        done.train_step()
    done.save_checkpoint("good.npz")
    arrays, metadata = load_arrays("good.npz")
    save_arrays("bad.npz", arrays | {f"progress/{name}": array}, metadata)
    before = snapshot(run)
    with pytest.raises(DataCorrupt, match=r"bad\.npz: "):
        run.load_checkpoint("bad.npz")
    assert snapshot(run) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": 2**63},
        {"classes": 2**31 - 1},
        {"classes": 0},
        {"classes": "ten"},
        {"input_dim": [1, 28, 1_000_000]},
        {"input_dim": [1, 28, 10**12]},
        {"input_dim": [math.inf, 28, 28]},
        {"input_dim": [28, 28]},
        {"name": "transformer"},
        {"name": "resnet152"},
        {"name": ["lenet"]},
        {"dtype": "float16"},
        {"dtype": "object"},
    ],
    ids=repr,
)
def test_a_member_of_a_damaged_ensemble_takes_no_memory(changes):
    member = make_model("lenet", (1, 28, 28), 10, seed=0)
    Ensemble([member]).save("one.npz")
    arrays, metadata = load_arrays("one.npz")
    metadata["members"][0] |= changes
    write_checkpoint("bad.npz", json.dumps(metadata), arrays)

    def read(data: bytes) -> None:
        with pytest.raises(FastconvError, match=r"bad\.npz"):
            Ensemble.load("bad.npz")

    expect_harmless(read, [b""])


@pytest.mark.parametrize("value", [2**70, -(2**70), 1.5, True, "x", None])
@pytest.mark.parametrize("name", ["down", "turned", "scaled"])
def test_a_view_of_a_damaged_ensemble(name, value):
    if (name, value) in {("turned", 2**70), ("turned", -(2**70)), ("scaled", 2**70)}:
        pytest.skip("a number of degrees, or a factor")
    if isinstance(value, float) and name != "down":
        pytest.skip("a number of degrees, or a factor")
    Ensemble([make_model("lenet", (1, 28, 28), 10, seed=0)]).save("one.npz")
    arrays, metadata = load_arrays("one.npz")
    metadata["views"][0][name] = value
    save_arrays("bad.npz", arrays, metadata)
    with pytest.raises(DataCorrupt, match=r"bad\.npz"):
        Ensemble.load("bad.npz")


@pytest.mark.parametrize(
    "line, message",
    [
        ("epochs = " + "[" * 5_000 + "]" * 5_000, "not TOML"),
        ("a" + ".a" * 5_000 + " = 1", "mine.toml"),
        ("epochs = " + "9" * 5_000, "not TOML"),
        ("epochs = 0x" + "f" * 5_000, "epochs is a number of more than 64 bits"),
        ("model = 0x" + "f" * 5_000, "model is a number of more than 64 bits"),
        ("model = [0x" + "f" * 5_000 + "]", "model is a list, expected a string"),
        ("epochs = 99999999999999999999", "epochs is a number of more than 64 bits"),
        ("epochs = 9999999999", "epochs: must be between 1 and 2147483647"),
        ("threads = 100000000", "threads: must be between 1 and 65536"),
        ("members = 1000000", "members: must be at most 1000, got 1000000"),
        ("lr = nan", "lr: must be greater than 0, got nan"),
        ('image_size = "99999999x99999999"', "image_size: must be of another size: images of"),
    ],
    ids=lambda text: text[:24],
)
def test_recipes_that_are_none(fastconv_command, line, message):
    Path("mine.toml").write_text(f'about = "mine"\n{line}\n')
    for words in (["recipes", "mine.toml"], ["train", "--recipe", "mine.toml"]):
        status, _, err = fastconv_command(*words)
        assert status == 1, err
        assert "mine.toml" in err
        assert message in err
        assert "a fault of fastconv" not in err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--threads", "9" * 20], "--threads: must be between 1 and 65536"),
        (["--threads", "9" * 5_000], "--threads: invalid whole number value"),
        (["--epochs", "9" * 400], "--epochs: must be between 1 and 2147483647"),
        (["--batch-size", "9" * 20], "--batch-size: must be between 1 and 2147483647"),
        (["--patience", "9" * 20], "--patience: must be between"),
        (["--members", "9" * 30], "--members: must be at most 1000"),
        (["--image-size", "9" * 30], "--image-size: must be of another size"),
        (["--lr", "1e400"], "--lr: must be greater than 0, got 1e400"),
        (["--data", "~nobodyhere/x"], "~nobodyhere/x: no such file or folder"),
        (["--data", "mnist", "--data-dir", "~nobodyhere"], "~nobodyhere does not exist"),
        (["--recipe", "home.toml"], "~nobodyhere/x: no such file or folder"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_options_beyond_sense(fastconv_command, words, message):
    Path("home.toml").write_text('about = "mine"\ndata = "~nobodyhere/x"\n')
    status, _, err = fastconv_command("train", *words)
    assert status == 2
    assert message in err
    assert not Path("runs").exists()


@pytest.mark.parametrize("words", [["--init", "~nobodyhere/w.npz"], ["--recipe", "~nobody/r.toml"]])
def test_the_home_of_nobody_is_a_name_like_others(few_digits, fastconv_command, words):
    status, _, err = fastconv_command("train", *words)
    assert status == 1
    assert f"{words[1]}: no such file" in err
    assert not Path("runs").exists()


def test_too_little_memory_is_no_fault(fastconv_command, monkeypatch):
    """As for ``--batch-size 2000000000``."""

    def command(options):
        raise MemoryError("Unable to allocate 15.0 GiB")

    monkeypatch.setattr("fastconv.cli.info.run", command)
    status, _, err = fastconv_command("info")
    assert status == 1
    assert err == "fastconv info: error: not enough memory: Unable to allocate 15.0 GiB\n"


def test_more_threads_than_there_can_be(fastconv_command, monkeypatch):
    for variable in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "9" * 20)
            config.read_environment_again()
            status, _, err = fastconv_command("train")
        assert status == 2
        assert f"{variable} must be a whole number" in err
        config.read_environment_again()


# ---- mutated --------------------------------------------------------------------------


def test_mutated_configurations(monkeypatch):
    """Read, checked as a run to resume is, and built for the weights of its file."""
    monkeypatch.setattr(Data, "load", lambda self, options, facts, **more: (facts, None))
    texts = [kept(f"{name}.json").encode() for name in ("config", "ensemble-config")]
    texts.append(kept("images-config.json").encode())
    words = [f'"{name}"'.encode() for name in RunConfig.__dataclass_fields__]
    folder = folder_of()
    make_model("lenet", (1, 28, 28), 10, seed=0).save_params(folder.weights)

    def read(data: bytes) -> None:
        folder.config_file.write_bytes(data)
        config = folder.read_config()
        config.facts  # noqa: B018
        expect_sound(config)
        prepare(config, ImageOptions(), progress=False, say=str)
        load_network(config, folder.weights)

    assert COUNT // 20 < expect_harmless(read, mutated(texts, words=words)) < 0.95 * COUNT


def test_mutated_results():
    texts = [kept(f"{name}.json").encode() for name in ("result", "ensemble-result")]
    folder = folder_of()

    def read(data: bytes) -> None:
        folder.result.write_bytes(data)
        folder.read_result()

    assert COUNT // 20 < expect_harmless(read, mutated(texts)) < 0.95 * COUNT


def test_mutated_metadata_of_checkpoints():
    run, start = watched(), watched()
    for _ in range(4):
        run.train_step()
    run.save_checkpoint("now.npz")
    arrays, metadata = load_arrays("now.npz")
    texts = [json.dumps(metadata).encode()]
    as_earlier("now.npz")
    earlier, metadata = load_arrays("now.npz")
    texts.append(json.dumps(metadata).encode())
    start.save_checkpoint("start.npz")
    words = [f'"{name}"'.encode() for name in (*metadata, *metadata["progress"])]

    def read(data: bytes) -> None:
        write_checkpoint("bad.npz", data, arrays if b"train_loss_list" not in data else earlier)
        before = snapshot(start)
        try:
            start.load_checkpoint("bad.npz")
        except FastconvError:
            assert snapshot(start) == before
            raise
        start.load_checkpoint("start.npz")

    assert COUNT // 40 < expect_harmless(read, mutated(texts, words=words)) < 0.95 * COUNT


def test_mutated_recipes():
    recipes = [find_recipe(name).path.read_bytes() for name in ("mnist-book", "mnist-best")]
    recipes.append(
        b'about = "mine"\nmodel = "lenet"\nepochs = 3\nlr = 0.01\nmembers = ["lenet", "vgg11"]\n'
        b'augment = "shift=1,rotate=5"\nviews = "mirror"\nimage_size = "8x8"\ndata = "pictures"\n'
        b'schedule = "one-cycle"\nrise = 0.5\nseed = 3\nnormalize = false\nbatch_size = 10\n'
    )

    parser = build_parser()

    def read(data: bytes) -> None:
        Path("mine.toml").write_bytes(data)
        options = parser.parse_args(["train", "--recipe", "mine.toml"])
        apply_recipe(options)
        new_config(given_fields(options))

    assert COUNT // 20 < expect_harmless(read, mutated(recipes)) < 0.95 * COUNT


def test_mutated_options(monkeypatch, capsys):
    """Each ends in a status, said in one line where it is not 0."""

    def train(*facts, **options):
        raise StateError("far enough")

    monkeypatch.setattr(Data, "load", lambda self, options, facts, **more: (facts, None))
    monkeypatch.setattr("fastconv.cli.train.train_on", train)
    monkeypatch.setattr("fastconv.cli.train.train_ensemble", train)
    lines = [
        b"train --epochs 3 --batch-size 10 --lr 0.1 --seed 4 --out run --threads 2 --dtype float64",
        b"train --members 3 --views shift=1,mirror --augment rotate=5,shift=1 --ema 0.9",
        b"train --data digits --optimizer adamw --weight-decay 0.1 --clip-norm 3 --swa 2",
        b"train --schedule one-cycle --rise 0.4 --label-smoothing 0.1 --patience 3",
        b"train --validation 0.2 --patience 3",
        b"train --recipe mnist-book --image-size 8x8 --grey --normalize --test-share 0.3",
        b"train --init w.npz --freeze W1,b* --math fast --backend numpy --model lenet --json",
        b"summary --model lenet --input 1x28x28 --classes 10",
        b"evaluate run --data digits --views rotate=3 --threads 2 --out pictures",
        b"predict run one.png two.png --model lenet",
    ]
    wholes = [line.replace(b" ", b"\n") for line in lines]
    words = [word for line in lines for word in line.split()]
    statuses = set()

    def read(data: bytes) -> None:
        text = data.decode(errors="replace").replace("\0", "0")
        arguments = [word for word in text.split("\n") if word not in ("run", "--debug", "")]
        status = cli.main(arguments)
        shown = capsys.readouterr()
        assert "a fault of fastconv" not in shown.err, shown.err
        assert "Traceback" not in shown.err
        assert status in (0, 1, 2)
        assert status == 0 or shown.err.splitlines()[-1].startswith("fastconv"), shown.err
        statuses.add(status)

    parser = build_parser()  # to build it takes longer than all the rest
    monkeypatch.setattr("fastconv.cli.main.build_parser", lambda: parser)
    for data in mutated(wholes, words=words):
        read(data)
    assert statuses == {0, 1, 2}
    assert not list(Path().glob("runs/*"))
