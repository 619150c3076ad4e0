"""What got slower between two commits: ``python -m benchmarks.guard BASE HEAD``.

::

    python -m benchmarks.guard main HEAD
    python -m benchmarks.guard main HEAD --match "training step" --threads 2
    python -m benchmarks.guard HEAD~10 HEAD --backend cython --match conv2d --launches 7

Kernels are compared from the commit on that has ``backends/table.py``, the network from any.
Both commits are unpacked and built in a temporary folder. A launch starts three processes:
the base, the head, and the base once more. Kernel by kernel they take turns, so that a
machine that slows down slows them alike. The ratio of the two bases is noise and nothing
else: a kernel is slower where the head's ratio, the median over the launches, is beyond
every one of that kernel's own noise ratios, and beyond 99 of 100 of all kernels'.

Exit status: 0, or 1 where something got slower.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import tarfile
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .guard_worker import names
from .machine import BACKENDS
from .processes import FOLDER, Child, environment

__all__ = ["Comparison", "verdicts"]

TURNS = 5
MATCH = "deepconvnet"


@dataclass
class Comparison:
    """Ratios of one kernel, or of the network, one a launch."""

    head: list[float] = field(default_factory=list)  # to the base
    noise: list[float] = field(default_factory=list)  # of the base to the base

    def noises(self) -> list[float]:
        """The noise as factors above 1: a twin that was faster by some factor is as noisy."""
        return [max(ratio, 1 / ratio) for ratio in self.noise]


def verdicts(comparisons: dict[str, Comparison]) -> dict[str, tuple[float, float, str]]:
    """By name: ratio, the ratio that noise alone may reach, and ``slower``, ``faster`` or ""."""
    everywhere = [noise for one in comparisons.values() for noise in one.noises()]
    least = float(np.quantile(everywhere, 0.99))
    found = {}
    for name, comparison in comparisons.items():
        ratio, limit = statistics.median(comparison.head), max(least, *comparison.noises())
        verdict = "slower" if ratio > limit else "faster" if 1 / ratio > limit else ""
        found[name] = (ratio, limit, verdict)
    return found


def unpack_and_build(commit: str, folder: Path) -> None:
    """Put the files of a commit into a folder and build its extensions there."""
    archive = subprocess.run(
        ["git", "archive", commit], cwd=FOLDER.parent, stdout=subprocess.PIPE, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=folder, check=True
    )


def one_launch(
    trees: tuple[Path, Path], requests: list[dict[str, str]], threads: int | None
) -> dict[str, tuple[float, float]]:
    """By name, (head to base, base to base) of one set of processes."""
    base, head = trees
    found = {}
    with ExitStack() as stack:
        children = []
        for tree in (base, head, base):
            variables = environment(threads, FASTCONV_CACHE_DIR=str(tree / ".cache"))
            child = Child("guard_worker", variables=variables | {"PYTHONPATH": str(tree)})
            children.append(stack.enter_context(child))
        for request in requests:
            turns = []
            for _ in range(TURNS):
                turns.append([child.ask(**request)["seconds"] for child in children])
                if None in turns[-1]:
                    break
            else:
                first, second, twin = (
                    statistics.median(times) for times in zip(*turns, strict=True)
                )
                found[" ".join(request.values())] = (second / first, twin / first)
    return found


def main() -> int:
    """Build, compare, print; the exit status says whether something got slower."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.guard",
        description="What got slower from one commit to another: kernels, DeepConvNet.",
        epilog="example: python -m benchmarks.guard main HEAD --backend cython",
    )
    parser.add_argument("base")
    parser.add_argument("head")
    parser.add_argument("--backend", action="append", choices=BACKENDS)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--match", default=MATCH, help=f"part of a kernel's row ({MATCH})")
    parser.add_argument("--launches", type=int, default=5)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    chosen = [name for name in names() if options.match in name]
    if not chosen:
        parser.error(f"nothing that is timed has {options.match!r} in its name")
    requests = [
        {"backend": backend, "dtype": options.dtype, "name": name}
        for backend in options.backend or ("cython", "numba")
        for name in chosen
    ]
    comparisons: dict[str, Comparison] = {}
    with tempfile.TemporaryDirectory() as folder:
        trees = (Path(folder) / "base", Path(folder) / "head")
        for tree, commit in zip(trees, (options.base, options.head), strict=True):
            tree.mkdir()
            unpack_and_build(commit, tree)
        for number in range(options.launches):
            print(f"launch {number + 1} of {options.launches}", file=sys.stderr)
            for name, (ratio, noise) in one_launch(trees, requests, options.threads).items():
                comparison = comparisons.setdefault(name, Comparison())
                comparison.head.append(ratio)
                comparison.noise.append(noise)
    if not comparisons:
        parser.error("the two commits have none of this in common")
    print(f"{options.head} against {options.base}, {options.launches} launches\n")
    print("| | head / base | limit by noise | |\n| --- | ---: | ---: | --- |")
    found = verdicts(comparisons)
    for name, (ratio, limit, verdict) in sorted(found.items(), key=lambda item: -item[1][0]):
        print(f"| {name} | {ratio:.3f} | {limit:.3f} | {verdict} |")
    left_out = len(requests) - len(found)
    if left_out:
        print(f"\n{left_out} of them are in one of the two only, and were not compared.")
    return int(any(verdict == "slower" for *_, verdict in found.values()))


if __name__ == "__main__":
    sys.exit(main())
