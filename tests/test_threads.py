"""Numbers of threads, several Python threads at once, and forked children."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

import fastconv
from fastconv import config, selection
from fastconv.errors import ArgumentError
from fastconv.layers import Convolution, Relu
from fastconv.testing import ways

from . import naive
from .compare import assert_close
from .conftest import ROOT
from .stand_ins import add

pytestmark = pytest.mark.usefixtures("fine_grained")

# ---- how many -------------------------------------------------------------------------


def test_the_number_that_was_set_goes_before_the_environment_before_the_cpus(
    monkeypatch, environment
):
    monkeypatch.setattr(config, "container_cpus", lambda: None)
    if hasattr(os, "sched_getaffinity"):
        assert fastconv.get_num_threads() == len(os.sched_getaffinity(0))
    environment("OMP_NUM_THREADS", "5,2")
    assert fastconv.get_num_threads() == 5
    environment("FASTCONV_NUM_THREADS", "4")
    assert fastconv.get_num_threads() == 4
    fastconv.set_num_threads(3)
    assert fastconv.get_num_threads() == 3
    fastconv.set_num_threads(None)
    assert fastconv.get_num_threads() == 4


@pytest.mark.parametrize("variable", ["FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("text", ["0", "-2", "two", "1.5"])
def test_a_wrong_number_in_the_environment_is_told(environment, variable, text):
    environment(variable, text)
    with pytest.raises(
        ArgumentError, match=f"{variable} must be a whole number from 1 to 65536, got '{text}'"
    ):
        fastconv.get_num_threads()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (0, "at least 1, got 0"),
        (-1, "at least 1"),
        (1.5, "whole number, got 1.5"),
        ("2", "got '2'"),
        (2**20, "at most 65536, got 1048576"),
    ],
)
def test_a_wrong_number_is_told(number, message):
    fastconv.set_num_threads(3)
    with pytest.raises(ArgumentError, match=f"set_num_threads: threads must be .*{message}"):
        fastconv.set_num_threads(number)
    assert fastconv.get_num_threads() == 3


def test_a_backend_is_told_when_the_number_changes(registry):
    (mine,) = add(registry, "mine")
    layer = Relu(backend="mine")
    for number in (2, 2, 1, 3):
        fastconv.set_num_threads(number)
        layer.forward(np.ones(3))
    assert mine.threads == [2, 1, 3]


@contextmanager
def runs_on(backend: str, threads: int):
    """Fail if a way of the fast backends runs on one thread instead of several, or the reverse."""
    if backend == "numpy":  # whose threads are NumPy's own
        yield
        return
    with ways(selection.active(backend)) as taken:
        yield
    assert {way.part for way in taken} == {"forward", "input_gradient", "weight_gradient"}
    assert {way.parallel for way in taken} == {threads > 1}


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_any_number_of_threads_gives_the_result(backend, dtype, rng, threads, images):
    """With fewer images than threads, as many, and numbers that do not divide each other."""
    x = rng.standard_normal((images, 5, 9, 8)).astype(dtype)
    weight = rng.standard_normal((17, 5, 3, 3)).astype(dtype)
    dout = rng.standard_normal((images, 17, 9, 8)).astype(dtype)
    fastconv.set_num_threads(threads)
    layer = Convolution(weight, np.zeros(17, dtype), 1, 1, backend)
    with runs_on(backend, threads):
        out, dx = layer.forward(x), layer.backward(dout)
    assert_close(out, naive.conv2d(x, weight, np.zeros(17), 1, 1), dtype=dtype)
    expected, dweight, dbias = naive.conv2d_gradients(dout, x, weight, 1, 1)
    assert_close(dx, expected, dtype=dtype)
    assert_close(layer.dW, dweight, dtype=dtype)
    assert_close(layer.db, dbias, dtype=dtype, scale=np.abs(dout).max() * 9)


def test_the_columns_of_one_pixel_are_shared_out(rng):
    """It has only one row, which cannot be shared."""
    if not (status := selection.registry().status("cython")):
        pytest.skip(status.reason)
    fastconv.set_num_threads(2)
    x, weight = rng.standard_normal((1, 64, 1, 1)), rng.standard_normal((256, 64, 1, 1))
    with ways(selection.active("cython")) as taken:
        out = Convolution(weight, np.zeros(256), 1, 0, "cython").forward(x)
    assert {way.parallel for way in taken} == {True}
    assert_close(out, naive.conv2d(x, weight, np.zeros(256), 1, 0))


HELPERS = """
import os
import numpy as np
import fastconv
from fastconv.layers import Relu

def running():
    return len(os.listdir("/proc/self/task"))

before = running()
counts = []
for threads in (1, 3, 2):
    fastconv.set_num_threads(threads)
    Relu("cython").forward(np.ones((64, 1 << 14), np.float32))
    counts.append(running() - before)
print(*counts)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_helpers_are_employed_when_they_are_needed():
    if not (status := selection.registry().status("cython")):
        pytest.skip(status.reason)
    done = subprocess.run(
        [sys.executable, "-P", "-c", HELPERS],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.split() == ["0", "2", "2"]


def test_threadpoolctl_limits_numpy_s_blas_and_not_the_kernels(registry):
    """As `set_num_threads` says: kernels obey no other limit."""
    threadpoolctl = pytest.importorskip("threadpoolctl")
    (mine,) = add(registry, "mine")
    layer = Relu(backend="mine")
    fastconv.set_num_threads(2)
    for limit in (2, 1):
        with threadpoolctl.threadpool_limits(limit):
            layer.forward(np.ones(3))
            pools = threadpoolctl.threadpool_info()
            assert {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"} <= {limit}
    assert mine.threads == [2]


# ---- several Python threads -----------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_python_threads_may_call_one_backend_at_once(backend, dtype, threads):
    """Each has its own layer and data; none sees the scratch of another."""
    fastconv.set_num_threads(threads)
    workers = 4
    together = threading.Barrier(workers, timeout=60)

    def work(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((3, 4, 10, 9)).astype(dtype)
        weight = rng.standard_normal((18, 4, 3, 3)).astype(dtype)
        layer = Convolution(weight, np.zeros(18, dtype), 1, 1, backend)
        dout = rng.standard_normal((3, 18, 10, 9)).astype(dtype)
        expected = naive.conv2d(x, weight, np.zeros(18), 1, 1)
        gradients = naive.conv2d_gradients(dout, x, weight, 1, 1)
        together.wait()
        with runs_on(backend, threads):
            for _ in range(20):
                assert_close(layer.forward(x), expected, dtype=dtype)
                assert_close(layer.backward(dout), gradients[0], dtype=dtype)
                assert_close(layer.dW, gradients[1], dtype=dtype)
        return True

    with ThreadPoolExecutor(workers) as pool:
        assert all(pool.map(work, range(workers)))


def test_use_backend_is_for_its_own_thread(registry):
    add(registry, "a", "b")
    fastconv.set_backend("a")
    with fastconv.use_backend("b"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(fastconv.get_backend).result() == "a"
        assert fastconv.get_backend() == "b"


# ---- forked children ------------------------------------------------------------------

FORK = """
import os, signal, sys, warnings
import numpy as np
import fastconv
from fastconv.layers import Convolution

fastconv.set_backend(sys.argv[1])
fastconv.set_num_threads(int(sys.argv[2]))
warnings.simplefilter("ignore", DeprecationWarning)  # of os.fork, where there are threads
rng = np.random.default_rng(0)
layer = Convolution(rng.standard_normal((16, 3, 3, 3)), np.zeros(16), pad=1)
x = rng.standard_normal((8, 3, 12, 12))
out = layer.forward(x)
dx = layer.backward(out)
child = os.fork()
if child == 0:
    signal.alarm(60)  # a child that hangs is killed, and told by its status
    again = layer.forward(x)
    same = np.allclose(again, out, rtol=1e-12) and np.allclose(layer.backward(again), dx, rtol=1e-9)
    os._exit(10 + fastconv.get_num_threads() if same else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
layer.forward(x)
print(status, fastconv.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_child_computes_on_one_thread(backend, threads):
    done = subprocess.run(
        [sys.executable, "-P", "-c", FORK, backend, str(threads)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.split() == ["11", str(threads)], done.stderr
    told = "forked after its parent had used several threads" in done.stderr
    assert told == (threads > 1)


# ---- how they wait --------------------------------------------------------------------

WAIT = """
import os, sys
import numpy as np
import fastconv
from fastconv.info import configuration
from fastconv.layers import Relu

if sys.argv[2] == "loaded before":
    import ctypes
    ctypes.CDLL("libgomp.so.1")
fastconv.set_num_threads(2)
Relu(sys.argv[1]).forward(np.ones((64, 1 << 12)))
print(os.environ.get("GOMP_SPINCOUNT"), "|", configuration()["OpenMP threads wait"])
"""


def waits(backend: str, when: str, **variables: str) -> tuple[str, str, str]:
    """The spins that libgomp reports, the environment that fastconv leaves, and what it reports."""
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    others = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        [sys.executable, "-P", "-c", WAIT, backend, when],
        env={**others, "PYTHONPATH": str(ROOT), "OMP_DISPLAY_ENV": "verbose", **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    spins = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    if not spins:
        pytest.skip("the kernels' OpenMP is not GCC's")
    left, _, said = done.stdout.strip().partition(" | ")
    return spins[0], left, said


@pytest.fixture
def on_openmp():
    if not (status := selection.registry().status("numba")):
        pytest.skip(status.reason)
    return "numba"


def test_threads_wait_briefly_then_sleep(on_openmp):
    """Child processes do not inherit this: GOMP_SPINCOUNT is set only while libgomp loads."""
    assert waits(on_openmp, "") == ("5000", "None", "5000 spins, then asleep")


@pytest.mark.parametrize(
    ("variables", "spins"),
    [
        ({"OMP_WAIT_POLICY": "passive"}, "0"),
        ({"GOMP_SPINCOUNT": "77"}, "77"),
        ({"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "78"}, "78"),
    ],
)
def test_the_users_way_of_waiting_stands(on_openmp, variables, spins):
    found, left, said = waits(on_openmp, "", **variables)
    assert found == spins
    assert left == str(variables.get("GOMP_SPINCOUNT"))
    assert said in [f"as {name}={value} says" for name, value in variables.items()]


def test_an_openmp_that_was_loaded_before_is_reported(on_openmp):
    _, left, said = waits(on_openmp, "loaded before")
    assert (left, said) == (
        "None",
        "as set when libgomp was loaded, before fastconv's kernels",
    )
