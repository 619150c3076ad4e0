"""How many times faster than other libraries, or than the book's code, fastconv is.

::

    python benchmarks/against_peers.py --task "training step" --threads 2
    python benchmarks/against_peers.py --task inference --contender PyTorch --contender fastconv
    python benchmarks/against_peers.py --task "training step" --base book --contender book \
        --contender fastconv
    python benchmarks/against_peers.py --task "training step" --network resnet50 --launches 3
    python benchmarks/against_peers.py --task inference --network resnet20 --image-size 32 \
        --batch 1 --base ONNX --base OpenVINO --contender ONNX --contender OpenVINO \
        --contender prepared
    python benchmarks/against_peers.py --task convolution --network vgg16
    python benchmarks/against_peers.py --task convolution --network resnet50 --batch 1
    python benchmarks/against_peers.py --dtype float64 --contender eager --contender fastconv

DeepConvNet at batch 100, another network of `fastconv.models` on 8 images of 224 x 224 (its
training step has SGD with momentum; PyTorch has some of them, see `peers.TWINNED`), or the distinct
convolutions of a network, forward and both gradients, one after the other and summed. Results are
compared first. Contenders take turns, in several launches of new processes; a ratio is the median
over the launches of the base's time (where several contenders have its name, or there are several
bases, the fastest in each launch) by the contender's.
"""

from __future__ import annotations

if not __package__:  # run as a script
    import processes

    processes.run_module("against_peers")
    raise SystemExit

import argparse
import dataclasses
import statistics
import sys

import fastconv
from fastconv.models import LEAST_SIDE, MODELS

from . import machine, peers, tournament
from .data import default_side, new_conv_problem, new_model_problem, new_problem
from .shapes import IMAGES, LARGE_IMAGES, conv_shapes

CLAMPS = {
    "avx2": {
        "FASTCONV_MAX_ISA": "avx2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "DNNL_MAX_CPU_ISA": "AVX2",
    },
}
"""What keeps every library to an instruction set."""

Seconds = dict[str, list[float]]
"""By contender, for each launch."""


def race(
    names: list[str], task: str, problem: peers.AnyProblem, options: argparse.Namespace
) -> Seconds:
    """Median seconds of each launch, by contender; those that fail are named and left out."""
    variables = CLAMPS.get(options.max_isa, {})
    result = tournament.hold(
        names, task, problem, launches=options.launches, turns=options.turns, **variables
    )
    for name, error in result.errors.items():
        print(f"left out: {name}: {error.strip().splitlines()[-1]}", file=sys.stderr)
    return result.medians()


def table(seconds: Seconds, title: str, words: list[str]) -> str:
    """The contenders as a Markdown table; bases are those with one of the words in their name."""
    lines = [
        f"| {title} | ms | {' or '.join(words)} / this | lowest and highest launch |",
        "| --- | ---: | ---: | ---: |",
    ]
    bases = [times for name, times in seconds.items() if any(word in name for word in words)]
    best = [min(launch) for launch in zip(*bases, strict=True)]
    for name, times in seconds.items():
        line = f"| {name} | {1e3 * statistics.median(times):.2f} |"
        ratios = [a / b for a, b in zip(best, times, strict=False)]
        if ratios:
            line += f" {statistics.median(ratios):.2f} | {min(ratios):.2f} - {max(ratios):.2f} |"
        else:
            line += " | |"
        lines.append(line)
    return "\n".join(lines)


def convolutions(names: list[str], options: argparse.Namespace) -> None:
    """Race on each shape of a network, print each, then the sums."""
    shapes = [
        shape
        for shape in conv_shapes()
        if shape.network == (options.network or "vgg16")
        and (not options.size or shape.size == options.size)
    ]
    total: dict[str, list[list[float]]] = {}
    print("| ms | " + " | ".join(names) + " |")
    print("| --- |" + " ---: |" * len(names))
    for shape in shapes:
        if options.batch:
            shape = dataclasses.replace(shape, n=options.batch)
        problem = new_conv_problem(shape, options.threads, options.dtype)
        seconds = race(names, "convolution", problem, options)
        cells = [
            f"{1e3 * statistics.median(seconds[n]):.2f}" if n in seconds else "" for n in names
        ]
        print(f"| {shape.label} | " + " | ".join(cells) + " |", flush=True)
        for name, times in seconds.items():
            total.setdefault(name, []).append(times)
    whole = {
        name: [sum(launch) for launch in zip(*times, strict=True)]
        for name, times in total.items()
        if len(times) == len(shapes)
    }
    print()
    print(table(whole, f"sum of {len(shapes)} shapes", options.base))


def main() -> None:
    """Parse, race, print."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/against_peers.py",
        description="Ratio of another's time to fastconv's and others', in turns.",
        epilog='example: python benchmarks/against_peers.py --task "training step" --threads 2',
    )
    parser.add_argument("--task", action="append", choices=peers.ALL_TASKS)
    parser.add_argument("--contender", action="append", help="only those with this in their name")
    parser.add_argument(
        "--base",
        action="append",
        help="whose time the ratios divide: those with this in their name (PyTorch eager); "
        "given several times, the fastest of all these",
    )
    parser.add_argument("--network", choices=MODELS, help="(deepconvnet; convolution: vgg16)")
    parser.add_argument("--size", type=int, help="only filters of this size")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--batch", type=int, help="images (DeepConvNet: 100, others: 8)")
    parser.add_argument(
        "--image-size", type=int, help="of all networks but DeepConvNet (224; of digits 28)"
    )
    parser.add_argument("--max-isa", choices=CLAMPS, help="keep every library to it")
    parser.add_argument("--launches", type=int, default=5)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    options.base = options.base or ["PyTorch eager"]
    tasks = options.task or peers.NETWORK_TASKS
    measured = sorted({shape.network for shape in conv_shapes()})
    if "convolution" in tasks and options.network not in (None, *measured):
        parser.error(
            f"--task convolution: expected --network {', '.join(measured)}, got {options.network}"
        )
    least = LEAST_SIDE.get(options.network, 1)
    if options.image_size is not None and options.image_size < least:
        parser.error(
            f"--image-size: expected at least {least} for {options.network}, "
            f"got {options.image_size}"
        )
    print(
        f"{options.threads} threads, {options.dtype}, batch {options.batch or 'its own'}"
        f"{', at most ' + options.max_isa if options.max_isa else ''}; {machine.summary()}; "
        f"{options.launches} launches"
    )
    for task in tasks:
        model = None if task == "convolution" else options.network
        if model == "deepconvnet":
            model = None  # its own kind of problem
        # The other libraries compute in float32 only.
        modules = () if options.dtype == "float32" else ("ours", "pytorch")
        names = peers.able(task, options.contender, modules, model)
        for word in options.base:
            if not any(word in name for name in names):
                print(f"no ratios to {word!r}: no contender here is called that", file=sys.stderr)
        print()
        if task == "convolution":
            convolutions(names, options)
            continue
        problem: peers.AnyProblem
        if model:
            problem = new_model_problem(
                *(model, options.batch or LARGE_IMAGES, options.image_size or default_side(model)),
                *(options.threads, options.dtype),
            )
        else:
            problem = new_problem(options.batch or IMAGES, options.threads, options.dtype)
        print(table(race(names, task, problem, options), task, options.base))


if __name__ == "__main__":
    main()
