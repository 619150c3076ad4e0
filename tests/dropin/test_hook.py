"""`install`, `uninstall`: whose modules are imported, and what of the reader's own stays."""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys
import warnings
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np
import pytest

import fastconv
from fastconv import config, layers
from fastconv.dropin import util as dropin_util
from fastconv.dropin.finder import SERVED
from fastconv.errors import ArgumentError, BackendUnavailable, StateError, UnknownBackend

from .. import naive
from ..compare import assert_close
from .conftest import python


def test_install_and_uninstall(reader):
    fastconv.install()
    assert fastconv.is_installed()
    served = importlib.import_module("common.layers")
    assert served.Convolution is layers.Convolution
    net = importlib.import_module("common.multi_layer_net")
    assert net.__file__ == str(reader / "common" / "multi_layer_net.py")
    assert type(net.MultiLayerNet(4, [3], 2).layers["Affine1"]) is layers.Affine
    fastconv.install()  # again: nothing happens
    assert importlib.import_module("common.layers") is served

    fastconv.uninstall()
    assert not fastconv.is_installed()
    own = importlib.import_module("common.layers")
    assert own.Convolution is not layers.Convolution
    assert own.__file__ == str(reader / "common" / "layers.py")
    net = importlib.import_module("common.multi_layer_net")
    assert type(net.MultiLayerNet(4, [3], 2).layers["Affine1"]) is own.Affine
    fastconv.uninstall()  # again: nothing happens


@pytest.mark.parametrize("name", SERVED)
def test_every_module_is_served(reader, name):
    fastconv.install()
    module = importlib.import_module(name)
    for known in fastconv.stats()["served"][name]:
        assert getattr(module, known).__module__.startswith("fastconv."), known
    public = {name for name in vars(module) if not name.startswith("_")}
    fastconv.uninstall()
    own = importlib.import_module(name)
    missing = {name for name in vars(own) if not name.startswith("_")} - public
    assert not missing, "a star import would give less than the reader's own file"


def test_install_names_what_was_imported_already(reader):
    importlib.import_module("common.trainer")
    with pytest.raises(StateError, match=r"common\.optimizer, common\.trainer imported already"):
        fastconv.install()
    assert not fastconv.is_installed()


def test_what_was_imported_before_stays(reader):
    package = importlib.import_module("common")
    fastconv.install()
    importlib.import_module("common.layers")
    fastconv.uninstall()
    assert sys.modules["common"] is package
    assert not hasattr(package, "layers")


@pytest.mark.parametrize(
    "settings, error",
    [
        ({"dtype": "float16"}, ArgumentError),
        ({"threads": 0}, ArgumentError),
        ({"backend": "nonsense"}, UnknownBackend),
    ],
)
def test_a_wrong_setting_installs_nothing(clean, settings, error):
    with pytest.raises(error):
        fastconv.install(**settings)
    assert not fastconv.is_installed()


def test_a_backend_that_cannot_run(clean, registry):
    def broken():
        raise OSError("no such machine")

    registry.register("broken", broken)
    with pytest.raises(BackendUnavailable, match="no such machine"):
        fastconv.install(backend="broken")
    assert not fastconv.is_installed()


@pytest.mark.parametrize(
    "settings, error",
    [
        ({"backend": "nonsense"}, UnknownBackend),
        ({"dtype": "float16"}, ArgumentError),
        ({"threads": "4"}, ArgumentError),
        ({"threads": 0}, ArgumentError),
    ],
)
@pytest.mark.parametrize("installed", [False, True])
def test_a_wrong_setting_changes_no_other(clean, monkeypatch, settings, error, installed):
    """All settings are looked at before one is changed."""
    monkeypatch.setattr(config.Process, "threads", 3)
    monkeypatch.setattr(config.Process, "backend", "numba")
    if installed:
        fastconv.install()
    with pytest.raises(error):
        fastconv.install(**({"backend": "numpy", "dtype": "float32", "threads": 4} | settings))
    assert (config.Process.threads, config.Process.backend) == (3, "numba")
    assert layers.Relu().forward(np.ones(1)).dtype == np.float64
    assert fastconv.is_installed() == installed
    if installed:
        assert _installation().settings == {}


def _installation():
    return fastconv.dropin._installation


def test_a_finder_that_others_took_out(reader):
    """It is put back by another `install`; `uninstall` does not miss it."""
    fastconv.install()
    del sys.meta_path[:2]
    own = importlib.import_module("common.util")
    assert own.im2col is not dropin_util.im2col
    del sys.modules["common.util"]
    fastconv.install()
    assert importlib.import_module("common.util").im2col is dropin_util.im2col
    before = len(sys.meta_path)
    sys.meta_path.pop(0)
    sys.modules["common"] = None  # as a program does that forbids an import
    fastconv.uninstall()
    assert len(sys.meta_path) == before - 2
    assert not fastconv.is_installed()


@pytest.mark.parametrize("forward", [np.array, np.matrix])
@pytest.mark.parametrize("backward", [np.array, np.matrix])
def test_matrices_go_through_relu(clean, forward, backward):
    fastconv.install()
    relu = importlib.import_module("common.layers").Relu()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        x, dout = forward([[1.0, -2.0], [0.0, 4.0]]), backward([[5.0, 6.0], [7.0, 8.0]])
    np.testing.assert_array_equal(relu.forward(x), [[1.0, 0.0], [0.0, 4.0]])
    np.testing.assert_array_equal(relu.backward(dout), [[5.0, 0.0], [0.0, 8.0]])
    np.testing.assert_array_equal(relu.forward(x.T), [[1.0, 0.0], [0.0, 4.0]])
    np.testing.assert_array_equal(relu.backward(dout.T), [[5.0, 0.0], [0.0, 8.0]])


def test_no_file_of_that_name_is_still_an_error(reader):
    fastconv.install()
    with pytest.raises(ModuleNotFoundError, match=r"common\.nothing"):
        importlib.import_module("common.nothing")


# ---- the reader's own definitions ---------------------------------------------------------


def extend(book, module, text):
    path = book / "common" / f"{module}.py"
    path.write_text(path.read_text() + text)


def test_a_layer_of_the_readers_own_in_the_file(reader):
    """It is there, and what it derives from is ours."""
    extend(
        reader,
        "layers",
        "\nclass Leaky(Relu):\n"
        "    def forward(self, x):\n"
        "        return super().forward(x) + 0.1 * np.minimum(x, 0)\n"
        "\nSLOPE = 0.1\n",
    )
    fastconv.install()
    served = importlib.import_module("common.layers")
    assert issubclass(served.Leaky, layers.Relu)
    np.testing.assert_allclose(served.Leaky().forward(np.array([-1.0, 2.0])), [-0.1, 2.0])
    assert served.SLOPE == 0.1
    assert fastconv.stats()["theirs"]["common.layers.Leaky"] == "in your file only"
    assert inspect.getsource(served.Leaky).startswith("class Leaky(Relu):")


def test_a_file_with_nothing_of_the_books(reader):
    (reader / "common" / "util.py").write_text("def slug(text):\n    return text.lower()\n")
    fastconv.install()
    module = importlib.import_module("common.util")
    assert module.slug("A") == "a" and not hasattr(module, "im2col")
    stats = fastconv.stats()
    assert stats["theirs"] == {"common.util": "your own, which defines nothing of the book's"}
    assert stats["served"] == {}


def test_the_second_volume_is_left_alone(reader):
    """Its layers keep lists of parameters, which its optimizers change by number."""
    (reader / "common" / "layers.py").write_text(
        "class Affine:\n    def __init__(self, W, b):\n        self.params = [W, b]\n"
    )
    fastconv.install()
    for name in ("common.layers", "common.optimizer"):
        module = importlib.import_module(name)
        assert "the second volume's form" in fastconv.stats()["theirs"][name]
        assert module.__spec__.loader.get_filename(name).startswith(str(reader))
    assert fastconv.stats()["served"] == {}


def test_an_error_in_the_readers_file_is_shown(reader):
    (reader / "common" / "layers.py").write_text("def Relu(:\n")
    fastconv.install()
    with pytest.raises(SyntaxError) as raised:
        importlib.import_module("common.layers")
    assert raised.value.filename == str(reader / "common" / "layers.py")


# ---- layers as in the reference -------------------------------------------------------------


def test_a_subclass_that_calls_no_constructor(clean):
    fastconv.install()
    served = importlib.import_module("common.layers")

    class Own(served.Affine):
        def __init__(self, W, b):
            self.W, self.b = W, b

    layer = Own(np.eye(2), np.ones(2))
    np.testing.assert_array_equal(layer.forward(np.array([[1.0, 2.0]])), [[2.0, 3.0]])
    np.testing.assert_array_equal(layer.backward(np.array([[1.0, 1.0]])), [[1.0, 1.0]])
    np.testing.assert_array_equal(layer.dW, [[1.0, 1.0], [2.0, 2.0]])


def test_state_that_scripts_read(clean, rng):
    fastconv.install()
    served = importlib.import_module("common.layers")
    x = rng.standard_normal((2, 3, 6, 6))
    conv = served.Convolution(rng.standard_normal((4, 3, 3, 3)), np.zeros(4))
    y = conv.forward(x)
    np.testing.assert_array_equal(conv.x, x)
    relu = served.Relu()
    z = relu.forward(y)
    np.testing.assert_array_equal(relu.mask, y <= 0)
    pool = served.Pooling(2, 2, 2)
    pool.forward(z)
    np.testing.assert_array_equal(pool.x, z)
    col = served.im2col(z, 2, 2, 2).reshape(-1, 4)
    np.testing.assert_array_equal(pool.arg_max, col.argmax(axis=1))
    conv.backward(np.ones_like(y))
    assert conv.dW.shape == conv.W.shape and conv.db.shape == conv.b.shape


def test_weights_that_are_replaced_or_changed_in_place(clean, rng):
    fastconv.install()
    served = importlib.import_module("common.layers")
    x = rng.standard_normal((2, 3, 5, 5))
    params = {"W": rng.standard_normal((4, 3, 3, 3)), "b": np.zeros(4)}
    layer = served.Convolution(params["W"], params["b"], pad=1)
    layer.forward(x)
    params["W"] -= 0.5
    expected = naive.conv2d(x, params["W"], params["b"], 1, 1)
    assert_close(layer.forward(x), expected, dtype=np.float64)
    layer.W = params["W"].astype(np.float16)
    half = naive.conv2d(x, layer.W.astype(float), params["b"], 1, 1)
    assert_close(layer.forward(x), half, dtype=np.float64)


def test_old_pickles_of_whole_layers(clean, reader):
    """A class is looked up by the name of its module, which is then ours."""
    own = importlib.import_module("common.layers")
    layer = own.Affine(np.eye(2), np.ones(2))
    layer.forward(np.ones((1, 2)))
    content = pickle.dumps(layer)
    for name in [name for name in sys.modules if name.split(".")[0] == "common"]:
        del sys.modules[name]
    fastconv.install()
    loaded = pickle.loads(content)
    assert type(loaded) is layers.Affine
    np.testing.assert_array_equal(loaded.forward(np.ones((1, 2))), [[2.0, 2.0]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_to_compute_in(clean, dtype):
    fastconv.install(dtype=dtype)
    served = importlib.import_module("common.layers")
    other = np.float64 if dtype == "float32" else np.float32
    params = {"W": np.ones((3, 2), other), "b": np.zeros(2, other)}
    layer = served.Affine(params["W"], params["b"])
    assert layer.forward(np.ones((4, 3), other)).dtype == dtype
    assert layer.backward(np.ones((4, 2), other)).dtype == dtype
    optimizer = importlib.import_module("common.optimizer").Adam()
    optimizer.update(params, {"W": layer.dW, "b": layer.db})
    assert params["W"] is layer.W and layer.W.dtype == other
    fastconv.uninstall()
    assert served.Affine(params["W"], params["b"]).forward(np.ones((4, 3), other)).dtype == other


# ---- numbers ---------------------------------------------------------------------------------


def test_stats(clean, rng):
    with pytest.raises(StateError, match="nothing is installed"):
        fastconv.stats()
    fastconv.install(backend="numpy", threads=1)
    served = importlib.import_module("common.layers")
    first, second = (
        served.Affine(rng.standard_normal((3, 2)), np.zeros(2)),
        served.Affine(rng.standard_normal((2, 5)), np.zeros(5)),
    )
    for _ in range(4):
        second.forward(first.forward(np.ones((7, 3))))
    second.backward(np.ones((7, 5)))
    first.backward(np.ones((7, 2)), input_gradient=False)
    stats = fastconv.stats()
    rows = {(row["layer"], row["kernel"]): row for row in stats["kernels"]}
    assert {key: row["calls"] for key, row in rows.items()} == {
        ("Affine 1", "affine_forward"): 4,
        ("Affine 2", "affine_forward"): 4,
        ("Affine 2", "affine_backward"): 1,
        ("Affine 1", "affine_backward"): 1,
    }
    operations = {key: round(row["gflops"] * row["seconds"] * 1e9) for key, row in rows.items()}
    assert operations == {
        ("Affine 1", "affine_forward"): 4 * 2 * 7 * 3 * 2,
        ("Affine 2", "affine_forward"): 4 * 2 * 7 * 2 * 5,
        ("Affine 2", "affine_backward"): 2 * 2 * 7 * 2 * 5,
        ("Affine 1", "affine_backward"): 2 * 7 * 3 * 2,  # dx was not asked for
    }
    assert (stats["backend"], stats["threads"]) == ("numpy", 1)
    assert 0 < stats["kernel_seconds"] < stats["seconds"]
    fastconv.uninstall()
    assert fastconv.selection.active().im2col.__qualname__ != "_timed.<locals>.timed"


def test_report(reader):
    """What the end of a process would show, so far, in words and as HTML."""
    with pytest.raises(StateError, match="report: nothing is installed"):
        fastconv.report()
    extend(reader, "layers", "\ndef Sigmoid(x, slope):\n    pass\n")
    fastconv.install(backend="numpy", threads=1)
    empty = fastconv.report()
    assert "fastconv: nothing served: no import of common" in repr(empty)
    served = importlib.import_module("common.layers")
    served.Affine(np.ones((3, 2)), np.zeros(2)).forward(np.ones((7, 3)))
    report = fastconv.report()
    told = fastconv.stats()
    first, *_, last = str(report).splitlines()
    assert first.split()[:3] == ["layer", "operation", "backend"]
    assert last.startswith("fastconv: served common (functions, layers, util); ")
    assert "common.layers.Sigmoid: your own" in last
    assert "Affine 1" in str(report) and "nothing served" in repr(empty)

    page = report._repr_html_()
    tree = ElementTree.fromstring(f"<div>{page}</div>")
    table = [[cell.text or "" for cell in row] for row in tree.iter("tr")]
    assert table[0] == first.split()
    assert table[1][:4] == ["Affine 1", "affine_forward", "numpy", "float64"]
    assert table[1][5] == "1" and table[-1][0] == "elsewhere"
    assert len(table) == 2 + len(told["kernels"])
    assert tree.findtext("p") == last


def test_what_a_report_says_is_no_markup(clean):
    fastconv.install()
    fastconv.dropin._installation.finder.report.theirs["common.<i>"] = "your own & <script>"
    page = fastconv.report()._repr_html_()
    assert "common.&lt;i&gt;: your own &amp; &lt;script&gt;" in page
    assert "<script>" not in page and "<i>" not in page


def test_stats_of_layers_that_run_as_one_and_of_the_readers_own(clean):
    fastconv.install(threads=1)
    served = importlib.import_module("common.util")

    class Unfold:
        layers: ClassVar = {"none": "of ours"}

        def forward(self, x):
            return served.im2col(x, 3, 3)

    x = np.ones((1, 1, 28, 28))
    Unfold().forward(x)
    fastconv.DeepConvNet(seed=0).predict(x)
    told = fastconv.stats()
    if told["backend"] == "cython":
        assert told["short_calls"] == 2  # ReLU and the last layer, of one image
    fastconv.dropin._installation.profile.time_little()
    fastconv.DeepConvNet(seed=0).predict(x)
    assert fastconv.stats()["short_calls"] == 0
    rows = {(row["layer"], row["kernel"]) for row in fastconv.stats()["kernels"]}
    assert ("Unfold", "im2col") in rows
    layer_names = {layer for layer, _ in rows}
    blocks = {"Convolution 1 + Relu 1", "Convolution 2 + Relu 2 + Pooling 1"}
    assert blocks <= layer_names or {"Convolution 1", "Relu 1", "Pooling 1"} <= layer_names
    assert {"Affine 2", "Affine 3"} <= layer_names


def test_ipython(reader):
    class Shell:
        pass

    fastconv.load_ipython_extension(Shell())
    assert fastconv.is_installed()
    assert fastconv.report()._repr_html_().startswith("<p>fastconv: nothing served")
    fastconv.unload_ipython_extension(Shell())
    assert not fastconv.is_installed()


def test_ipython_itself(reader):
    pytest.importorskip("IPython", reason="IPython is not installed")
    session = "%load_ext fastconv\nfrom common.layers import Relu\nprint(Relu.__module__)\nexit\n"
    done = python("-m", "IPython", "--simple-prompt", cwd=reader, stdin=session)
    assert "fastconv.layers" in done.stdout
    assert "fastconv: served common (functions, layers, util)" in done.stderr


def test_columns_are_float64_as_the_originals_are(clean, rng):
    """Its arrays come from np.zeros; what is summed is summed in float64."""
    fastconv.install()
    served = importlib.import_module("common.util")
    x = rng.standard_normal((2, 3, 5, 5)).astype(np.float32)
    col = served.im2col(x, 3, 3, 1, 1)
    assert col.dtype == np.float64
    np.testing.assert_array_equal(col, naive.im2col(x, 3, 3, 1, 1))
    back = served.col2im(col.astype(np.float32), x.shape, 3, 3, 1, 1)
    assert back.dtype == np.float64
    np.testing.assert_allclose(
        back, naive.col2im(naive.im2col(x, 3, 3, 1, 1), x.shape, 3, 3, 1, 1), rtol=1e-14
    )
    fastconv.install(dtype="float32")
    assert served.im2col(x, 3, 3).dtype == served.col2im(col, x.shape, 3, 3, 1, 1).dtype == "f4"
