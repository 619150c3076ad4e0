"""Which kernels got slower between two commits: ``python -m benchmarks.guard BASE HEAD``.

::

    python -m benchmarks.guard main HEAD
    python -m benchmarks.guard v0.1.0 HEAD --backend cython --match conv2d --launches 7

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
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .cases import cases
from .launch import FOLDER, command, environment

__all__ = ["Comparison", "limit", "verdicts"]

TURNS = 5
MATCH = "deepconvnet"


@dataclass
class Comparison:
    """A kernel's ratios, one a launch: head to base, and base to base."""

    head: list[float] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)


def limit(comparison: Comparison, everything: list[Comparison]) -> float:
    """The ratio up to which a kernel may have slowed down by noise alone."""
    # A twin that was faster by some factor is noise of that factor as well.
    own = max(max(ratio, 1 / ratio) for ratio in comparison.noise)
    every = [max(ratio, 1 / ratio) for other in everything for ratio in other.noise]
    return max(own, float(np.quantile(every, 0.99)))


def verdicts(comparisons: dict[str, Comparison]) -> dict[str, tuple[float, float, str]]:
    """By kernel: ratio, limit, and ``slower``, ``faster`` or nothing."""
    found = {}
    for name, comparison in comparisons.items():
        ratio = statistics.median(comparison.head)
        bound = limit(comparison, list(comparisons.values()))
        verdict = "slower" if ratio > bound else "faster" if 1 / ratio > bound else ""
        found[name] = (ratio, bound, verdict)
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


class _Process:
    """A `guard_worker` that runs the kernels of one tree."""

    def __init__(self, tree: Path, cache: Path, threads: int | None) -> None:
        changes = {"FASTCONV_CACHE_DIR": str(cache)}
        if threads:
            changes["FASTCONV_NUM_THREADS"] = str(threads)
        self.process = subprocess.Popen(
            command("guard_worker"),
            env=environment(**changes) | {"PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()  # tells it to end
        self.process.wait()
        self.process.stdout.close()

    def ask(self, **request: str) -> float | None:
        """Seconds of a turn, or None where this tree has no such kernel or backend."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {request} ended, status {self.process.wait()}")
        return json.loads(line)["seconds"]


def one_launch(
    trees: tuple[Path, Path], requests: list[dict[str, str]], threads: int | None
) -> dict[str, tuple[float, float]]:
    """By kernel, (head to base, base to base) of one set of processes."""
    base, head = trees
    found = {}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(_Process(tree, tree / ".cache", threads))
            for tree in (base, head, base)
        ]
        for request in requests:
            times: list[list[float]] = [[], [], []]
            for _ in range(TURNS):
                answers = [process.ask(**request) for process in processes]
                if None in answers:
                    break
                for kept, answer in zip(times, answers, strict=True):
                    kept.append(answer or 0.0)
            if len(times[0]) == TURNS:
                first, second, twin = map(statistics.median, times)
                found[" ".join(request.values())] = (second / first, twin / first)
    return found


def main() -> int:
    """Build, compare, print; the exit status says whether something got slower."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.guard",
        description="Kernels that got slower from one commit to another.",
        epilog="example: python -m benchmarks.guard main HEAD --backend cython",
    )
    parser.add_argument("base")
    parser.add_argument("head")
    parser.add_argument("--backend", action="append", choices=("cython", "numba", "numpy"))
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--match", default=MATCH, help=f"part of a case's name ({MATCH})")
    parser.add_argument("--launches", type=int, default=5)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    names = [str(case) for case in cases(full=True) if options.match in str(case)]
    if not names:
        parser.error(f"no kernel's name contains {options.match!r}")
    requests = [
        {"backend": backend, "dtype": options.dtype, "case": name}
        for backend in options.backend or ("cython", "numba")
        for name in names
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
        parser.error("the two commits have none of these kernels in common")
    print(f"{options.head} against {options.base}, {options.launches} launches\n")
    print("| kernel | head / base | limit by noise | |\n| --- | ---: | ---: | --- |")
    found = verdicts(comparisons)
    for name, (ratio, bound, verdict) in sorted(found.items(), key=lambda item: -item[1][0]):
        print(f"| {name} | {ratio:.3f} | {bound:.3f} | {verdict} |")
    left_out = len(requests) - len(found)
    if left_out:
        print(f"\n{left_out} kernels run in one of the two only, and were not compared.")
    return int(any(verdict == "slower" for *_, verdict in found.values()))


if __name__ == "__main__":
    sys.exit(main())
