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
    import processes

    processes.run_module("mnist_epochs")
    raise SystemExit

import argparse
import json
import sys
import time
from contextlib import ExitStack
from typing import Any

import numpy as np

import fastconv
from fastconv.datasets import load_mnist

from . import machine, peers
from .data import new_problem
from .processes import Child, answer_requests, environment
from .shapes import IMAGES

NAMES = (
    "fastconv cython",
    "fastconv cython, math fast",
    "fastconv cython, math bf16",
    "fastconv numba",
    "PyTorch eager NCHW",
    "PyTorch eager channels_last",
    "PyTorch autocast bfloat16",
)
"""Of `peers.CONTENDERS`."""


class Trainee:
    """A contender in a process of its own: it warms up, then trains and evaluates by the epoch."""

    def __init__(self, name: str, folder: str | None, threads: int) -> None:
        train, test = load_mnist(flatten=False, data_dir=folder)
        (self.x, self.t), (self.x_test, self.t_test) = train, test
        self.name, self.threads = name, threads
        self.rng = np.random.RandomState(0)

    def answer(self, request: dict[str, str]) -> dict[str, float]:
        """``{"do": "warm up"}``, or ``{"do": "epoch"}`` for its seconds and accuracy."""
        if request["do"] == "warm up":
            self.contender: Any = peers.make(self.name, new_problem(IMAGES, self.threads))
            self.contender.scores()
            self.contender.gradients()
            return {}
        start = time.perf_counter()
        for _ in range(len(self.x) // IMAGES):
            chosen = self.rng.choice(len(self.x), IMAGES)
            self.contender.take(self.x[chosen], self.t[chosen])
            self.contender.step()
        trained = time.perf_counter()
        correct = 0
        for at in range(0, len(self.x_test), IMAGES):
            labels = self.t_test[at : at + IMAGES]
            self.contender.take(self.x_test[at : at + IMAGES], labels)
            correct += int(np.sum(self.contender.scores().argmax(axis=1) == labels))
        times = {"training": trained - start, "evaluation": time.perf_counter() - trained}
        return times | {"accuracy": correct / len(self.x_test)}


def race(names: list[str], folder: str | None, threads: int, epochs: int) -> None:
    """Epochs in turns; print each, then a table."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    more = [] if folder is None else ["--data-dir", folder]
    with ExitStack() as stack:
        children = {}
        for name in names:
            words = ["--train", name, "--threads", str(threads), *more]
            child = Child("mnist_epochs", *words, variables=environment(threads))
            children[name] = stack.enter_context(child)
        for child in children.values():
            child.ask(do="warm up")  # none is to import and compile while another is timed
        for epoch in range(1, epochs + 1):
            for name, child in children.items():
                found[name].append(child.ask(do="epoch"))
                line = json.dumps(found[name][-1])
                print(f"epoch {epoch}  {name}: {line}", file=sys.stderr, flush=True)
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
        trainee = Trainee(options.train, options.data_dir, options.threads)
        answer_requests(trainee.answer)
        return
    wanted = options.contender or NAMES
    names = [name for name in peers.able("training step", wanted) if name in wanted]
    print(f"{options.threads} threads, float32, batch {IMAGES}; {machine.summary()}\n")
    race(names, options.data_dir, options.threads, options.epochs)


if __name__ == "__main__":
    main()
