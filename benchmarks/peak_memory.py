"""How much memory a training step of a large network takes, beside PyTorch.

::

    python benchmarks/peak_memory.py --network vgg16
    python benchmarks/peak_memory.py --network resnet50 --batch 4 --threads 1

Each contender has a process of its own, which takes some steps and then says how many bytes of
memory it had at most, and how many before it made its network: the library itself. Weights,
gradients and momentum are in the first figure, of either library.
"""

from __future__ import annotations

if not __package__:  # run as a script
    import processes

    processes.run_module("peak_memory")
    raise SystemExit

import argparse
import json
import sys

import fastconv

from . import machine, peers
from .cold_start import peak_memory
from .data import new_model_problem
from .processes import environment, told_by
from .shapes import LARGE_IMAGES

STEPS = 3
MIB = 1 << 20


def measure(name: str, network: str, images: int, size: int, threads: int) -> dict[str, int]:
    """Let a contender take some steps in this process."""
    peers.load(name)
    before = peak_memory()
    contender = peers.make(name, new_model_problem(network, images, size, threads, state={}))
    for _ in range(STEPS):
        contender.step()
    return {"before": before, "most": peak_memory()}


def main() -> None:
    """Measure each contender in a process of its own, print a table."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/peak_memory.py",
        description="Peak memory of a process that trains a large network.",
        epilog="example: python benchmarks/peak_memory.py --network resnet50 --contender cython",
    )
    parser.add_argument("--network", choices=peers.TWINNED, default="resnet50")
    parser.add_argument("--contender", action="append", help="only those with this in their name")
    parser.add_argument("--batch", type=int, default=LARGE_IMAGES)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what = (options.network, options.batch, options.image_size, options.threads)
        print(json.dumps(measure(options.one, *what)))
        return
    print(
        f"{options.network}, training step (gradient and SGD with momentum), batch "
        f"{options.batch}, {options.image_size} x {options.image_size} images, float32, "
        f"{options.threads} threads\n{machine.summary()}; most after {STEPS} steps\n"
    )
    print("| | MiB at most | MiB before the network |")
    print("| --- | ---: | ---: |")
    variables = environment(options.threads)
    for name in peers.able("training step", options.contender, model=options.network):
        found = told_by("peak_memory", *sys.argv[1:], "--one", name, variables=variables)
        print(f"| {name} | {found['most'] / MIB:.0f} | {found['before'] / MIB:.0f} |", flush=True)


if __name__ == "__main__":
    main()
