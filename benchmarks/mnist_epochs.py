"""Epochs of MNIST, by fastconv and by other libraries: the whole loop as a user waits for it.

::

    python benchmarks/mnist_epochs.py --data-dir FOLDER
    python benchmarks/mnist_epochs.py --contender "fastconv numba" --epochs 2

An epoch is 600 training steps of DeepConvNet (batches of 100, drawn as the book draws them; the
gradient and Adam's update) and the accuracy on all 10,000 test images. Contenders have the same
first weights and batches, and take turns of one epoch, each in a process of its own.
"""

from __future__ import annotations

if not __package__:  # run as a script
    import launch

    launch.run("mnist_epochs")
    raise SystemExit

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any

import numpy as np

import fastconv
from fastconv.datasets import load_mnist

from . import machine, peers
from .launch import command, environment

BATCH = 100
NAMES = (
    "fastconv cython",
    "fastconv cython, math fast",
    "fastconv numba",
    "PyTorch eager NCHW",
    "PyTorch eager channels_last",
)
"""Of `peers.CONTENDERS`."""


def train(name: str, folder: str | None, threads: int) -> None:
    """The child: a line when it is warm, then an epoch and a line of JSON for each it is sent."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not to come between the answers
    (x, t), (x_test, t_test) = load_mnist(flatten=False, data_dir=folder)
    contender: Any = peers.make(name, peers.new_problem(BATCH, threads))
    contender.scores()
    contender.gradients()
    answers.write("ready\n")
    answers.flush()
    rng = np.random.RandomState(0)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(len(x) // BATCH):
            chosen = rng.choice(len(x), BATCH)
            contender.take(x[chosen], t[chosen])
            contender.step()
        trained = time.perf_counter()
        correct = 0
        for at in range(0, len(x_test), BATCH):
            contender.take(x_test[at : at + BATCH], t_test[at : at + BATCH])
            answer = contender.scores().argmax(axis=1)
            correct += int(np.sum(answer == t_test[at : at + BATCH]))
        times = {"training": trained - start, "evaluation": time.perf_counter() - trained}
        answers.write(json.dumps(times | {"accuracy": correct / len(x_test)}) + "\n")
        answers.flush()


def said(name: str, home: subprocess.Popen[str]) -> str:
    """The child's next line."""
    assert home.stdout is not None
    line = home.stdout.readline()
    if not line:
        raise RuntimeError(f"{name} ended, status {home.wait()}")
    return line


def race(names: list[str], folder: str | None, threads: int, epochs: int) -> None:
    """Epochs in turns; print each, then a table."""
    count = str(threads)
    variables = environment(
        FASTCONV_NUM_THREADS=count, OMP_NUM_THREADS=count, OPENBLAS_NUM_THREADS=count
    )
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with ExitStack() as stack:
        homes = {}
        for name in names:
            words = ["--train", name, "--threads", count]
            words += [] if folder is None else ["--data-dir", folder]
            homes[name] = stack.enter_context(
                subprocess.Popen(
                    command("mnist_epochs", *words),
                    env=variables,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        for name, home in homes.items():
            said(name, home)  # none is to import and compile while another is timed
        for epoch in range(1, epochs + 1):
            for name, home in homes.items():
                assert home.stdin is not None
                home.stdin.write("epoch\n")
                home.stdin.flush()
                line = said(name, home)
                found[name].append(json.loads(line))
                print(f"epoch {epoch}  {name}: {line.strip()}", file=sys.stderr, flush=True)
        for home in homes.values():
            assert home.stdin is not None
            home.stdin.close()
    print("| | training, s an epoch | evaluation, s | 20 epochs of both, s | accuracy |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, epochs_of in found.items():
        training = float(np.median([one["training"] for one in epochs_of]))
        evaluation = float(np.median([one["evaluation"] for one in epochs_of]))
        whole, accuracy = 20 * (training + evaluation), 100 * epochs_of[-1]["accuracy"]
        print(f"| {name} | {training:.1f} | {evaluation:.2f} | {whole:.0f} | {accuracy:.2f} % |")


def main() -> None:
    """Parse, race, print."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/mnist_epochs.py",
        description="Seconds of an epoch of MNIST, by fastconv and by other libraries, in turns.",
        epilog="example: python benchmarks/mnist_epochs.py --data-dir mnist --epochs 2",
    )
    parser.add_argument("--data-dir", help="folder of the four files")
    parser.add_argument("--contender", action="append", choices=NAMES, help="default: all")
    parser.add_argument("--epochs", type=int, default=1, help="of each contender (1)")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--train", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(options.train, options.data_dir, options.threads)
        return
    names = []
    for name in options.contender or NAMES:
        if reason := peers.missing(name):
            print(f"left out: {reason}", file=sys.stderr)
        else:
            names.append(name)
    print(
        f"{options.threads} threads, float32, batch {BATCH}; {machine.processor()}; NumPy "
        f"{np.__version__}, BLAS {machine.blas()}; fastconv {fastconv.__version__}, commit "
        f"{machine.commit()}\n"
    )
    race(names, options.data_dir, options.threads, options.epochs)


if __name__ == "__main__":
    main()
