"""How many times faster than the book's code a training step is.

::

    python benchmarks/training_step.py
    python benchmarks/training_step.py --backend cython --dtype float32 --threads 2 --launches 5

A step is the gradient of DeepConvNet and Adam's update for one batch. Each launch is a new
process in which the book's own way (`benchmarks/reference.py`: NumPy, float64, the whole
column matrix) and the backends take turns; first their results are compared. A launch gives
the ratio of its medians, the table the median over the launches. The machine's speed
drifts, so the ratio says more than the times.
"""

from __future__ import annotations

if not __package__:  # run as a script
    import launch

    launch.run("training_step")
    raise SystemExit

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable

import numpy as np

import fastconv
from fastconv.optimizer import Adam

from . import machine
from .check import assert_same_gradients
from .data import batch_of, network_of
from .launch import command, environment
from .reference import BookAdam, BookNet
from .timing import limited_threads, turn

TURNS = 7


def one_launch(backends: list[str], dtypes: list[str], batch: int) -> dict[str, float]:
    """Median seconds of one step, by contender; ``reference`` is the book's way."""
    x, t = batch_of(batch, "float64")
    book, book_adam = BookNet(network_of("float32", "numpy").params), BookAdam()
    np.random.seed(0)
    wanted = book.gradient(x, t)
    steps: dict[str, Callable[[], None]] = {
        "reference": lambda: book_adam.update(book.params, book.gradient(x, t))
    }
    for backend in backends:
        for dtype in dtypes:
            name = f"{backend} {dtype}"
            steps[name] = _step_of(name, backend, dtype, batch, wanted)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(TURNS):
        for name, step in steps.items():
            seconds[name].append(turn(step))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _step_of(
    name: str, backend: str, dtype: str, batch: int, wanted: dict[str, np.ndarray]
) -> Callable[[], None]:
    """A training step of fastconv whose gradients are those of the reference."""
    network, adam = network_of(dtype, backend), Adam()
    x, t = batch_of(batch, dtype)
    np.random.seed(0)
    assert_same_gradients(network.gradient(x, t), wanted, dtype, name)

    def step() -> None:
        # Adam's update follows the surrounding choice of backend.
        with fastconv.use_backend(backend):
            adam.update(network.params, network.gradient(x, t))

    return step


def table(launches: list[dict[str, float]]) -> str:
    """The launches as a Markdown table."""
    lines = [
        "| | ms a step | times faster | lowest and highest launch |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name in launches[0]:
        ratios = [launch["reference"] / launch[name] for launch in launches]
        milliseconds = 1e3 * statistics.median(launch[name] for launch in launches)
        lines.append(
            f"| {name} | {milliseconds:.2f} | {statistics.median(ratios):.1f} "
            f"| {min(ratios):.1f} - {max(ratios):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Launch, collect, print."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/training_step.py",
        description="Ratio of the book's own training step to fastconv's.",
        epilog="example: python benchmarks/training_step.py --backend cython --threads 2",
    )
    parser.add_argument("--backend", action="append", choices=machine.BACKENDS)
    parser.add_argument("--dtype", action="append", choices=("float32", "float64"))
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--launches", type=int, default=5)
    parser.add_argument("--one-launch", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    available = {name: bool(status) for name, status in fastconv.list_backends().items()}
    backends = options.backend or [name for name in machine.BACKENDS if available[name]]
    for name in backends:
        if not available[name]:
            parser.error(fastconv.list_backends()[name].reason)
    dtypes = options.dtype or ["float32", "float64"]
    if options.one_launch:
        with limited_threads(options.threads):
            print(json.dumps(one_launch(backends, dtypes, options.batch)))
        return
    arguments = [*sys.argv[1:], "--one-launch"]
    launches = []
    for number in range(options.launches):
        print(f"launch {number + 1} of {options.launches}", file=sys.stderr)
        done = subprocess.run(
            command("training_step", *arguments),
            env=environment(OMP_NUM_THREADS=str(options.threads)),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        launches.append(json.loads(done.stdout.splitlines()[-1]))
    print(
        f"DeepConvNet, training step (gradient and Adam), batch {options.batch}, "
        f"{options.threads} threads\n{machine.processor()}; NumPy {np.__version__}, "
        f"BLAS {machine.blas()}; fastconv {fastconv.__version__}, commit {machine.commit()}\n"
        f"reference: the book's way in NumPy, float64, the same threads; "
        f"median of {options.launches} launches, in turns within each\n"
    )
    print(table(launches))


if __name__ == "__main__":
    main()
