"""Full measurement with ``--benchmark-only``; else every benchmark runs once, small, as a test."""

from __future__ import annotations

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
        "case": kernel_cases.cases(full) if "case" in metafunc.fixturenames else (),
        "batch": (1, 10, 100, 1000) if full else (2,),
        "dtype": DTYPES,
        "threads": thread_counts(),
        "backend_name": machine.BACKENDS,
    }
    for name, values in choices.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values, ids=str)


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


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict) -> None:
    machine_info["fastconv"] = machine.facts(thread_counts())
