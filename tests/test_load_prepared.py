"""What is trained, loaded and prepared by one call, against the networks that were saved."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import fastconv
from fastconv.backends.algorithms import CONSTANT, forward_by
from fastconv.errors import ArgumentError, DataCorrupt, DataNotFound, ShapeError, WeightsError
from fastconv.experiment.folder import RunFolder
from fastconv.experiment.settings import new_config
from fastconv.models import make_model
from fastconv.models.ensemble import Ensemble
from fastconv.network import PreparedNetwork
from fastconv.network.views import View, Views

from .conftest import ROOT

SHAPE = (1, 28, 28)


@pytest.fixture(autouse=True)
def cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def trained(seed=0, name="lenet", shape=SHAPE, classes=10, dtype="float32"):
    return make_model(name, shape, classes, seed=seed, dtype=dtype)


def a_run(network, place="run", **settings):
    """A run folder as training leaves it."""
    folder = RunFolder(place)
    folder.path.mkdir()
    given = {"model": network.spec["name"], "dtype": network.spec["dtype"], "seed": 3}
    folder.write_config(new_config(given | settings))
    network.save_params(folder.weights)
    return folder


def an_ensemble(folder, networks, views=None):
    """The file of a run's ensemble."""
    config = folder.read_config().plain()
    about = {"runs": [config | {"members": None, "views": None}] * len(networks), "views": views}
    Ensemble(networks, Views.parse(views).views, about).save(folder.ensemble)


def images(rng, n=3, shape=SHAPE, dtype="float32"):
    return rng.random((n, *shape)).astype(dtype)


@pytest.mark.parametrize("ending", ["npz", "safetensors", "pkl"])
def test_a_file_of_weights(rng, backend, ending):
    if ending == "safetensors":
        pytest.importorskip("safetensors")
    network = trained(name="resnet20", shape=(3, 12, 14), classes=5, dtype="float64")
    network.save_params(f"w.{ending}", allow_pickle=True)
    prepared = fastconv.load_prepared(
        f"w.{ending}",
        3,
        model="resnet20",
        input_dim=(3, 12, 14),
        classes=5,
        dtype="float64",
        backend=backend,
    )
    assert isinstance(prepared, PreparedNetwork)
    assert (prepared.input_shape, prepared.dtype) == ((3, 3, 12, 14), np.float64)
    assert prepared.parts[0].startswith(backend)
    network.backend = backend
    for n in (3, 1):
        x = images(rng, n, (3, 12, 14), "float64")
        with forward_by(CONSTANT):
            np.testing.assert_array_equal(prepared.predict(x), network.predict(x))


def test_what_nobody_says_of_weights(rng):
    network = trained(name="digitnet4")
    network.save_params("w.npz")
    prepared = fastconv.load_prepared("w.npz", model="digitnet4")
    x = images(rng, 1)
    with forward_by(CONSTANT):
        np.testing.assert_array_equal(prepared.predict(x), network.predict(x))
    with pytest.raises(ShapeError, match=r"prepared for inputs of shape \(1 to 1, 1, 28, 28\)"):
        prepared.predict(images(rng, 2))
    assert fastconv.load_prepared("w.npz", model="digitnet4").input_shape == (1, *SHAPE)


@pytest.mark.parametrize("of", [str, RunFolder], ids=["text", "path"])
def test_a_run_folder(rng, backend, of):
    network = trained()
    a_run(network, backend="numba" if backend != "numba" else "numpy", math="fast", threads=7)
    before = fastconv.get_math_mode(), fastconv.get_num_threads()
    prepared = fastconv.load_prepared("run" if of is str else of("run").path, 4, backend=backend)
    assert isinstance(prepared, PreparedNetwork)
    assert prepared.parts[0].startswith(backend)  # and not the run's own
    assert (fastconv.get_math_mode(), fastconv.get_num_threads()) == before
    network.backend = backend
    x = images(rng, 4)
    np.testing.assert_array_equal(prepared.predict(x), network.predict(x))


def test_the_surrounding_choice_of_backend_is_followed():
    a_run(trained(), backend="cython")
    prepared = fastconv.load_prepared("run")
    with fastconv.use_backend("numpy"):
        assert prepared.parts[0].startswith("numpy")


def test_the_views_of_a_run(rng):
    network = trained()
    a_run(network, views="shift=1")
    prepared = fastconv.load_prepared("run")
    assert isinstance(prepared, Ensemble) and len(prepared.views) == 5
    assert [type(member) for member in prepared.members] == [PreparedNetwork]
    x = images(rng, 1)
    expected = Ensemble([network], Views.parse("shift=1").views).probabilities(x)
    np.testing.assert_array_equal(prepared.predict_proba(x), expected)


@pytest.mark.parametrize("place", ["run", "run/ensemble.npz"])
@pytest.mark.parametrize("views", [None, "mirror"])
def test_an_ensemble_of_a_run(rng, place, views):
    networks = [trained(1), trained(2)]
    folder = a_run(networks[0], members=2)
    an_ensemble(folder, networks, views)
    prepared = fastconv.load_prepared(place, 3)
    x = images(rng)
    expected = Ensemble(networks, Views.parse(views).views).probabilities(x)
    np.testing.assert_array_equal(prepared.predict_proba(x), expected)
    assert [type(member) for member in prepared.members] == [PreparedNetwork] * 2


def test_an_ensemble_of_pythons(rng):
    """It says nothing of a run, and members' shapes and dtypes are their own."""
    networks = [trained(seed, shape=(3, 20, 16), classes=4) for seed in range(2)]
    Ensemble(networks, (View(), View(down=1))).save("two.npz")
    prepared = fastconv.load_prepared("two.npz", 2)
    x = images(rng, 2, (3, 20, 16))
    expected = Ensemble(networks, (View(), View(down=1))).probabilities(x)
    np.testing.assert_array_equal(prepared.predict_proba(x), expected)


def test_an_ensemble_of_one_is_a_network(rng):
    network = trained()
    Ensemble([network]).save("one.npz")
    prepared = fastconv.load_prepared("one.npz")
    assert isinstance(prepared, PreparedNetwork)
    x = images(rng, 1)
    np.testing.assert_array_equal(prepared.predict(x), network.predict(x))


def test_probabilities_of_all_that_predicts(rng):
    network = trained()
    x = images(rng)
    scores = np.exp(network.predict(x).astype(np.float64))
    expected = scores / scores.sum(axis=1, keepdims=True)
    for one in (network, network.prepare((3, *SHAPE)), Ensemble([network])):
        np.testing.assert_allclose(one.predict_proba(x), expected, rtol=1e-5)


# ---- what cannot be loaded -------------------------------------------------------------------


def refused(error, message, *arguments, **more):
    with pytest.raises(error, match=message):
        fastconv.load_prepared(*arguments, **more)


def test_nothing_there():
    refused(ArgumentError, "no-such does not exist: expected a run folder", "no-such")
    (path := RunFolder("empty").path).mkdir()
    refused(ArgumentError, "empty: no run has begun|empty", path)


def test_weights_that_nobody_names():
    trained().save_params("w.npz")
    refused(ArgumentError, "w.npz: weights do not say .* model='deepconvnet'", "w.npz")
    refused(ArgumentError, "unknown model 'lenot'", "w.npz", model="lenot")
    refused(WeightsError, "another architecture", "w.npz", model="deepconvnet")
    refused(
        WeightsError, r"shape \(10,\), expected \(4,\)|has shape", "w.npz", model="lenet", classes=4
    )
    refused(ArgumentError, r"must be \(C, H, W\)", "w.npz", model="lenet", input_dim=(28, 28))


@pytest.mark.parametrize("more", [{"model": "lenet"}, {"input_dim": SHAPE}])
def test_what_knows_its_model_takes_none(more):
    a_run(trained())
    Ensemble([trained()]).save("one.npz")
    for place in ("run", "one.npz"):
        refused(ArgumentError, f"{place} knows its own model: leave out", place, **more)


def test_runs_that_are_not_at_their_end():
    folder = a_run(trained())
    folder.weights.unlink()
    refused(DataNotFound, "no weights: the run has not finished an epoch yet", "run")
    a_run(trained(), "many", members=2)
    refused(DataNotFound, "not all members are trained yet", "many")


def test_damaged_files():
    folder = a_run(trained())
    folder.weights.write_bytes(b"no weights")
    refused(DataCorrupt, "weights.npz", "run")
    folder.config_file.write_text("{}")
    refused(DataCorrupt, "config.json", "run")


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "all"])
def test_a_batch_of_none(batch_size):
    a_run(trained())
    refused(ArgumentError, re.escape(f"{batch_size!r}"), "run", batch_size)


# ---- what it imports -------------------------------------------------------------------------

UNUSED = (
    *("fastconv.trainer", "fastconv.experiment.train", "fastconv.figures"),
    *("fastconv.io.onnx_model", "fastconv.io.torch_weights", "fastconv.io.book_pickle"),
    *("fastconv.datasets.user_images", "fastconv.datasets.picture", "fastconv.dropin"),
    *("fastconv.cli", "fastconv.backends.numba", "importlib.metadata", "numpy.random"),
    *("concurrent.futures", "matplotlib", "PIL", "sklearn", "scipy", "tqdm", "onnx", "torch"),
)


@pytest.mark.parametrize("what", ["run", "one.npz", "w.npz"])
def test_it_starts_without_what_it_does_not_need(what):
    """A process that answers one image should not first load what trains, draws and exports."""
    network = trained(name="deepconvnet")
    a_run(network)
    Ensemble([network]).save("one.npz")
    network.save_params("w.npz")
    more = ", model='deepconvnet'" if what == "w.npz" else ""
    code = (
        "import sys, fastconv\n"
        f"prepared = fastconv.load_prepared({what!r}{more}, backend='numpy')\n"
        "import numpy as np\n"
        "prepared.predict(np.zeros((1, 1, 28, 28)))\n"
        f"print(*(name for name in {UNUSED!r} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split() == []


def test_what_is_imported_late_is_there():
    for package in (fastconv.io, fastconv.datasets):
        for name in package.__all__:
            assert name in dir(package)
            assert getattr(package, name) is not None
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = package.nothing
