"""Every test that asks for `backend` runs on every backend, and for `dtype` in both."""

from __future__ import annotations

import gc
import os
import stat

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several workers share the CPUs: a thread that spins while it waits takes them from the others.
    # NumPy's BLAS has such threads, and is told when it is loaded: before the imports below.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import fastconv
from fastconv import backends, config, selection
from fastconv.backends import Registry
from fastconv.backends.short import Short
from fastconv.backends.table import KERNELS, Backend
from fastconv.testing.contract import Freedoms, checked

from .stand_ins import fresh_registry
from .took import fine_grain, guarded_scratch

BACKENDS = ("numpy", "numba", "cython")
ROOT = Path(fastconv.__file__).resolve().parents[1]
"""Where fastconv is imported from: the checkout, or the environment that it is installed in."""

CHECKOUT = Path(__file__).resolve().parents[1]

# The same examples in every run: a failure is one that everybody can see.
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    # Warnings are errors, but that a machine has no fast backend is not one: where a test
    # needs that backend, it is skipped with the reason.
    config.addinivalue_line(
        "filterwarnings", "ignore:fastconv. backend 'auto' uses:fastconv.errors.FallbackWarning"
    )


def _complete_and_check(backend: Any, name: str, complete: Any = backends.complete) -> Backend:
    """A backend as the registry loads it, every call of whose kernels is checked."""
    completed = complete(backend, name)
    rules = backend.layout, Freedoms.of(backend)
    for kernel in KERNELS:
        setattr(backend, kernel, checked(getattr(backend, kernel), kernel, *rules))
    return completed


# Under the whole suite: where a front door breaks the kernels' contract, the test that does so
# fails, and no kernel reads or writes where it must not.
backends.complete = _complete_and_check


@pytest.fixture(autouse=True, scope="module")
def _little_to_collect() -> None:
    """What the modules before have left is never looked at again.

    It is millions of objects, most of them Numba's: looking for garbage among them takes a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _scratch_is_enough() -> Iterator[None]:
    with guarded_scratch():
        yield


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name of a backend that can run; FASTCONV_REQUIRE_BACKENDS=1 makes a missing one fail."""
    status = selection.registry().status(request.param)
    if not status:
        if os.environ.get("FASTCONV_REQUIRE_BACKENDS") == "1":
            pytest.fail(status.reason, pytrace=False)
        pytest.skip(status.reason)
    return request.param


@pytest.fixture
def table(backend: str) -> Backend:
    """The kernel table of `backend`, on as many threads as it uses by default."""
    return selection.active(backend)


@pytest.fixture(scope="session", params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    return np.dtype(request.param)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A fresh registry, in place of the process's own."""
    return fresh_registry(monkeypatch)


@pytest.fixture(scope="module")
def fine_grained() -> Iterator[None]:
    """For a module whose tests take numbers of threads: they are used for the least work."""
    with fine_grain():
        yield


@pytest.fixture(params=["short way", "kernels"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How little data is computed: the tests of a module that uses it run both ways."""
    if request.param == "kernels":
        for name in BACKENDS:
            if selection.registry().status(name):
                monkeypatch.setattr(selection.registry().load(name), "short", Short())
    return request.param


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Sets a variable as if it had been there when the process began."""

    def put(variable: str, value: str) -> None:
        monkeypatch.setenv(variable, value)
        config.read_environment_again()

    return put


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20160924)


@pytest.fixture(autouse=True)
def _choices_of_the_process(monkeypatch: pytest.MonkeyPatch):
    """No test sees the backend or thread choice of the user's shell, or of another test."""
    ours = ("BACKEND", "NUM_THREADS", "MATH", "CONV_ALGORITHM")
    for variable in ("OMP_NUM_THREADS", *(f"FASTCONV_{name}" for name in ours)):
        monkeypatch.delenv(variable, raising=False)
    config.read_environment_again()
    yield
    config.read_environment_again()
    fastconv.set_backend(None)
    fastconv.set_num_threads(None)
    fastconv.set_math_mode(None)
    config.set_conv_algorithm(None)
    config.set_programs(None)
    selection.auto_choice.cache_clear()


@pytest.fixture
def full_device(tmp_path: Path) -> Path:
    """A device that takes nothing, to be written to by its name.

    Root gets one of the test's own: a fault that replaces devices would replace the machine's.
    """
    if os.geteuid() != 0:
        return Path("/dev/full")
    device = tmp_path / "full"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        device.open("wb").close()
    except PermissionError:
        pytest.skip("no devices can be made here")
    return device
