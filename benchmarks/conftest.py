"""Full measurement with ``--benchmark-only``; else a test.

As a test every benchmark is called once, untimed, in float32 on the default number of threads: on
small shapes, and each kind of work at the least of its full sizes, where some algorithms are chosen
that are not on small ones. Other dtypes and threads are for the tests of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import product
from typing import Any

import pytest

import fastconv
from fastconv import selection

from . import machine
from .cases import cases, smallest_of_each_kind

DTYPES = ("float32", "float64")


def is_full(config: pytest.Config) -> bool:
    """Whether benchmarks are to be timed, at their full sizes."""
    return bool(config.option.benchmark_only or config.option.benchmark_enable)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "filterwarnings", "ignore:fastconv. backend 'auto' uses:fastconv.errors.FallbackWarning"
    )


def thread_counts() -> tuple[int, ...]:
    """One thread, and as many as fastconv uses by default here."""
    return tuple(sorted({1, fastconv.get_num_threads()}))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise by what a benchmark asks for; inputs outermost, so that they can be shared."""
    asked = [name for name in _choices("full") if name in metafunc.fixturenames]
    sizes = ["full"] if is_full(metafunc.config) else ["small"]
    if sizes == ["small"] and {"case", "size", "batch"} & set(asked):
        sizes.append("least full")
    choices = [_choices(size) for size in sizes]
    rows = [row for choice in choices for row in product(*(choice[name]() for name in asked))]
    if asked:
        metafunc.parametrize(asked, rows, ids=["-".join(map(str, row)) for row in rows])


def _choices(size: str) -> dict[str, Callable[[], Sequence[Any]]]:
    """By parameter: its values in a measurement (full), and in the two parts of a test."""
    kernel_cases = {
        "full": lambda: cases(full=True),
        "small": lambda: cases(full=False),
        "least full": smallest_of_each_kind,
    }
    batches = {"full": (1, 10, 100, 1000), "small": (2,), "least full": (10,)}
    # At a full size the reference has nothing to prove.
    fast = tuple(name for name in machine.BACKENDS if name != "numpy")
    backends = {"full": machine.BACKENDS, "small": machine.BACKENDS, "least full": fast}
    timed = size == "full"
    return {
        "case": kernel_cases[size],
        "size": lambda: (size.removeprefix("least "),),
        "batch": lambda: batches[size],
        "dtype": lambda: DTYPES if timed else DTYPES[:1],
        "threads": lambda: thread_counts() if timed else thread_counts()[-1:],
        "backend_name": lambda: backends[size],
    }


@pytest.fixture
def backend(backend_name: str) -> str:
    """Name of a backend that can run here."""
    status = selection.registry().status(backend_name)
    if not status:
        pytest.skip(status.reason)
    return backend_name


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether benchmarks are to be timed, at their full sizes."""
    return is_full(request.config)


@pytest.fixture
def benchmark(benchmark: Any, full: bool) -> Any:
    """pytest-benchmark's own, which calls the work once and times nothing unless asked to."""
    benchmark.disabled = benchmark.disabled or not full
    return benchmark


@pytest.hookimpl(wrapper=True, tryfirst=True)  # after pytest-benchmark's own, which sets it too
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A benchmark that fails before it measures anything is one failure.

    pytest-benchmark would warn of its unused fixture as well, and warnings are errors.
    """
    report = yield
    fixture = getattr(item, "funcargs", {}).get("benchmark")
    if fixture is not None and report.failed:
        fixture.skipped = True
    return report


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    # Not in machine_info: its peaks are measured anew each time, and its commit differs, where
    # --benchmark-compare wants the same machine.
    output_json["fastconv"] = machine.facts(thread_counts())
