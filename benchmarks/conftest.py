"""Full measurement with ``--benchmark-only``; else a test.

As a test every benchmark runs once, untimed, on small shapes, and each kind of work once at
the least of its full sizes: some algorithms only run there.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

import fastconv
from fastconv import selection

from . import kernel_cases, machine

DTYPES = ("float32", "float64")


def is_full(config: pytest.Config) -> bool:
    """Whether this run is to measure."""
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
    full = is_full(metafunc.config)
    choices: dict[str, Any] = {
        "case": _cases(full) if "case" in metafunc.fixturenames else (),
        "size": ("full",) if full else ("small", "full"),
        "batch": (1, 10, 100, 1000) if full else (2, 10),
        "dtype": DTYPES,
        "threads": thread_counts(),
        "backend_name": machine.BACKENDS,
    }
    for name, values in choices.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values, ids=str)


def _cases(full: bool) -> list[kernel_cases.Case]:
    if full:
        return kernel_cases.cases(full=True)
    return kernel_cases.cases(full=False) + kernel_cases.smallest_of_each_kind()


@pytest.fixture
def backend(backend_name: str) -> str:
    """Name of a backend that can run here."""
    status = selection.registry().status(backend_name)
    if not status:
        pytest.skip(status.reason)
    return backend_name


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether this run is to measure."""
    return is_full(request.config)


@pytest.fixture
def benchmark(benchmark: Any, full: bool) -> Any:
    """pytest-benchmark's own, which runs the work once and times nothing unless asked to."""
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


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict) -> None:
    machine_info["fastconv"] = machine.facts(thread_counts())
