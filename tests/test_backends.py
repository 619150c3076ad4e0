"""Which backend runs: registry, entry points, precedence, reasons, what auto means."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import fastconv
from fastconv import config, selection
from fastconv.backends.table import FAMILIES, KERNELS
from fastconv.errors import ArgumentError, BackendUnavailable, FallbackWarning, UnknownBackend
from fastconv.info import configuration
from fastconv.layers import (
    Affine,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Convolution,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Relu,
    SoftmaxWithLoss,
    Tanh,
)
from fastconv.ops import conv2d_block_backward, conv2d_block_forward

from .conftest import ROOT
from .stand_ins import StandIn, add, fresh_registry


def broken(error: Exception):
    """A factory that raises, and the list of its calls."""
    calls: list[int] = []

    def factory():
        calls.append(1)
        raise error

    return factory, calls


# ---- registry -------------------------------------------------------------------------


def test_every_known_backend_is_listed_with_its_availability():
    listed = fastconv.list_backends()
    assert {"numpy", "numba", "cython"} <= set(listed)
    assert listed["numpy"] and listed["numpy"].reason == ""
    for name, status in listed.items():
        assert status.name == name
        assert bool(status) == status.available == (status.reason == "")


def test_a_backend_is_loaded_once(registry):
    calls = []
    registry.register("mine", lambda: calls.append(1) or StandIn("mine"))
    assert not calls
    assert registry.load("mine") is registry.load("mine")
    assert calls == [1]


def test_a_name_is_registered_once(registry):
    for name in ("numpy", "auto"):
        with pytest.raises(UnknownBackend, match=f"'{name}' is registered already"):
            registry.register(name, lambda: None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BackendUnavailable("mine: no compiler; install one"), "mine: no compiler; install one"),
        (ImportError("no module x"), "mine: loading failed with ImportError: no module x"),
        (ZeroDivisionError("oops"), "mine: loading failed with ZeroDivisionError: oops"),
    ],
)
def test_a_broken_backend_says_why_and_is_not_tried_again(registry, error, reason):
    factory, calls = broken(error)
    registry.register("mine", factory)
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match=re.escape(reason)):
            registry.load("mine")
    status = registry.status("mine")
    assert not status and status.reason == reason
    assert calls == [1]


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (object(), "lacks name, layout, configure, describe"),
        (StandIn("other"), "calls itself 'other'"),
    ],
)
def test_objects_that_are_not_backends_are_errors(registry, backend, reason):
    registry.register("mine", lambda: backend)
    with pytest.raises(BackendUnavailable, match=f"mine: .*{reason}"):
        registry.load("mine")


def test_backends_come_through_entry_points(monkeypatch):
    def entry(name, load):
        return SimpleNamespace(name=name, load=load)

    def fail():
        raise ImportError("half installed")

    entries = [
        entry("theirs", lambda: lambda: StandIn("theirs")),
        entry("broken", fail),
        entry("numpy", lambda: lambda: StandIn("numpy")),
    ]
    asked = []
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: asked.append(group) or entries
    )
    registry = fresh_registry(monkeypatch)
    assert registry.load("numpy").providers["relu_forward"] == "numpy"  # not the third party's
    assert asked == []  # looking through all packages takes time
    assert {"theirs", "broken"} <= set(registry.names())
    assert asked == ["fastconv.backends"]
    out = Relu(backend="theirs").forward(np.array([-1.0, 2.0]))
    np.testing.assert_array_equal(out, [0, 2])
    assert registry.load("theirs").calls == ["relu_forward"]
    assert asked == ["fastconv.backends"]
    assert "half installed" in fastconv.list_backends()["broken"].reason
    assert not isinstance(registry.load("numpy"), StandIn)  # the reference's name cannot be taken


# ---- precedence -----------------------------------------------------------------------


def ran_on(layer, backends) -> str:
    """Name of the backend on which a forward pass of the layer ran."""
    before = [len(backend.calls) for backend in backends]
    layer.forward(np.ones(3))
    (name,) = [
        backend.name
        for backend, count in zip(backends, before, strict=True)
        if len(backend.calls) > count
    ]
    return name


def test_argument_before_context_before_process_before_environment_before_auto(
    registry, monkeypatch, environment
):
    backends = add(registry, "a", "b", "c", "d", "e")
    monkeypatch.setattr(selection, "AUTO_ORDER", ("a",))
    layer = Relu()
    assert ran_on(layer, backends) == fastconv.get_backend() == "a"
    environment("FASTCONV_BACKEND", "b")
    assert ran_on(layer, backends) == fastconv.get_backend() == "b"
    fastconv.set_backend("c")
    assert ran_on(layer, backends) == fastconv.get_backend() == "c"
    with fastconv.use_backend("d"):
        assert ran_on(layer, backends) == fastconv.get_backend() == "d"
        assert ran_on(Relu(backend="e"), backends) == "e"
        with fastconv.use_backend("auto"):
            assert ran_on(layer, backends) == fastconv.get_backend() == "a"
        assert ran_on(layer, backends) == "d"
    assert ran_on(layer, backends) == "c"
    fastconv.set_backend(None)
    assert ran_on(layer, backends) == "b"
    environment("FASTCONV_BACKEND", "auto")
    assert ran_on(layer, backends) == "a"


def test_the_context_ends_with_an_exception(registry):
    add(registry, "a", "b")
    fastconv.set_backend("a")
    with pytest.raises(RuntimeError), fastconv.use_backend("b"):
        raise RuntimeError
    assert fastconv.get_backend() == "a"


def test_backward_runs_where_forward_ran(registry):
    """Even if the choice has changed in between."""
    first, second = add(registry, "a", "b")
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4))
    layers = [
        Convolution(np.ones((2, 3, 3, 3)), np.zeros(2)),
        Convolution(np.ones((3, 1, 3, 3)), groups=3),
        Relu(),
        Tanh(),
        LocalResponseNormalization(),
        Pooling(2, 2),
        BatchNormalization(np.ones(48), np.zeros(48)),
        Affine(np.ones((48, 2)), np.zeros(2)),
        Convolution(np.ones((3, 1, 3, 3)), groups=3),
        AveragePooling(2, 2),
        BatchNormalization2d(np.ones(3), np.zeros(3)),
        LeakyRelu(),
        LocalResponseNormalization(),
    ]
    for layer in layers:
        with fastconv.use_backend("a"):
            out = layer.forward(x)
        with fastconv.use_backend("b"):
            layer.backward(np.ones_like(out))
    with fastconv.use_backend("a"):
        (loss := SoftmaxWithLoss()).forward(np.ones((2, 3)), [0, 1])
    weight = np.ones((3, 3, 3, 3))
    with fastconv.use_backend("a"):
        out, context = conv2d_block_forward(np.ones((2, 3, 4, 4)), weight, np.ones(3), pool=True)
    with fastconv.use_backend("b"):
        loss.backward()
        conv2d_block_backward(np.ones_like(out), weight, context)
    assert second.calls == []
    one_way = {"im2col", "col2im", "batchnorm_infer", "adam_update", *FAMILIES["augment"]}
    assert set(first.calls) == set(KERNELS) - one_way


@pytest.mark.parametrize("how", ["argument", "context", "process", "environment"])
def test_an_unknown_backend_is_never_replaced(environment, how):
    with pytest.raises(UnknownBackend, match=r"unknown backend 'cuda'; known: auto, .*numpy"):
        match how:
            case "argument":
                Relu(backend="cuda").forward(np.ones(3))
            case "context":
                with fastconv.use_backend("cuda"):
                    pass
            case "process":
                fastconv.set_backend("cuda")
            case "environment":
                environment("FASTCONV_BACKEND", "cuda")
                Relu().forward(np.ones(3))


def test_a_missing_backend_is_never_replaced_and_its_error_says_who_asked(registry, environment):
    registry.register("mine", broken(BackendUnavailable("mine: no compiler"))[0])
    fastconv.set_backend("numpy")
    with pytest.raises(BackendUnavailable, match="no compiler"):
        fastconv.set_backend("mine")
    assert fastconv.get_backend() == "numpy"  # the choice stays as it was
    with pytest.raises(BackendUnavailable, match="no compiler"), fastconv.use_backend("mine"):
        pass
    fastconv.set_backend(None)
    environment("FASTCONV_BACKEND", "mine")
    for _ in range(2):  # the second error equals the first, with no more notes
        with pytest.raises(BackendUnavailable, match="no compiler") as caught:
            Relu().forward(np.ones(3))
        assert caught.value.__notes__ == ["asked for by FASTCONV_BACKEND"]


@pytest.mark.parametrize("name", [3, b"numpy", ["numpy"]])
def test_a_backend_is_named_by_a_string(name):
    with pytest.raises(UnknownBackend, match="named by a string"):
        fastconv.set_backend(name)


def test_use_backend_wants_a_name():
    message = "expected the name of a backend, got None"
    with pytest.raises(ArgumentError, match=message), fastconv.use_backend(None):
        pass


def test_auto_takes_the_first_that_works_and_says_once_why(registry, monkeypatch):
    for name in ("fast", "faster"):
        registry.register(name, broken(BackendUnavailable(f"{name}: not here"))[0])
    (slow,) = add(registry, "slow")
    monkeypatch.setattr(selection, "AUTO_ORDER", ("faster", "fast", "slow", "numpy"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.warns(FallbackWarning) as told:
            for _ in range(3):
                assert ran_on(Relu(), [slow]) == fastconv.get_backend() == "slow"
    assert [str(warning.message) for warning in told] == [
        "fastconv: backend 'auto' uses slow: faster: not here; fast: not here"
    ]


def test_auto_prefers_cython_then_numba_then_numpy():
    assert selection.AUTO_ORDER == ("cython", "numba", "numpy")


# ---- facts ----------------------------------------------------------------------------


def test_configuration_is_plain_data_and_names_each_backend(capsys):
    facts = json.loads(json.dumps(configuration()))
    assert facts["fastconv"] == fastconv.__version__
    for name, status in fastconv.list_backends().items():
        assert facts["backends"][name]["available"] == status.available
        assert facts["backends"][name].get("reason", "") == status.reason
    fastconv.show_config()
    out = capsys.readouterr().out
    for word in ("numpy", "threads", "blas", "backend cython: ", "backend numba: "):
        assert word in out


NO_HOME = """
import json, pathlib, sys, warnings
def nobody_at_home():
    raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = nobody_at_home
import numpy as np
import fastconv
from fastconv.info import configuration
from fastconv.layers import LeakyRelu
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always", RuntimeWarning)
    found = [LeakyRelu(0.5, sys.argv[1]).forward(np.array([-1.0, 2.0])).tolist() for _ in range(2)]
print(json.dumps([found, [str(warning.message) for warning in told], configuration()["cache"]]))
"""


@pytest.mark.parametrize(
    "variables",
    [{}, {"FASTCONV_CACHE_DIR": "~nobodyhere/cache"}, {"XDG_CACHE_HOME": "relative"}],
    ids=["none", "unknown user", "relative"],
)
def test_without_a_home_folder_every_backend_computes(backend, tmp_path, variables):
    """As for an unknown user id in a container; only Numba has something to keep."""
    ours = ("FASTCONV_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "USERPROFILE", "PYTHONPATH")
    others = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        [sys.executable, "-P", "-c", NO_HOME, backend],
        env={**others, "PYTHONPATH": str(ROOT), **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, told, cache = json.loads(done.stdout)
    assert found == [[-0.5, 2.0]] * 2
    assert cache.startswith("none (no cache folder: ")
    if backend == "numba":
        (warning,) = told
        assert "cannot be kept" in warning
        assert "Set FASTCONV_CACHE_DIR" in warning
    else:
        assert told == []
        assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_a_cache_folder_that_is_named_from_here_stays_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTCONV_CACHE_DIR", "kept")
    assert config.cache_dir() == tmp_path / "kept"
    monkeypatch.setenv("FASTCONV_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert config.cache_dir() == tmp_path / "fastconv"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert config.cache_dir() == tmp_path / "home" / ".cache" / "fastconv"
