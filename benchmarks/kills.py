"""Runs on ranks, a random one of which is killed at a random moment, and what is left of them.

::

    python benchmarks/kills.py --kills 50

Each time, ``fastconv train`` trains LeNet on two ranks, and one of these gets SIGKILL. Then all
must end within 10 seconds, no process may be left, and ``--resume`` must lead to the weights of a
run that nobody killed, bit for bit.
"""

from __future__ import annotations

if not __package__:  # run as a script
    import processes

    processes.run_module("kills")
    raise SystemExit

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fastconv.distributed.arrival import ranks_here
from fastconv.io.arrays import load_arrays

from .processes import environment
from .ranks import RANKS, mpiexec

RUN = "--model lenet --seed 1 --dtype float64 --threads 1"

WITHIN = 10.0
"""Seconds in which all ranks have to end."""


def start(*words: str) -> subprocess.Popen[str]:
    """The command on two ranks."""
    return subprocess.Popen(
        [mpiexec(), "-n", str(RANKS), sys.executable, "-m", "fastconv", "train", *words],
        env=environment(1),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ranks_of(launcher: int) -> dict[int, int]:
    """The processes of the ranks that a launcher has started, by rank."""
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # ended
            continue
        if parent == launcher:  # MPICH's proxy, whose children the ranks are
            children = Path(f"/proc/{path.name}/task/{path.name}/children")
            for child in children.read_text().split():
                found = ranks_here("PMI_RANK", int(child))
                return {rank: min(each.computed) for rank, each in found.items() if each.computed}
    return {}


def attempt(folder: Path, epochs: str, whole: dict[str, np.ndarray], wait: float) -> float:
    """Kill a rank so many seconds after the first checkpoint; return how long it took to end.

    Raises
    ------
    RuntimeError
        Something was not as it must be.
    """
    run = start(*RUN.split(), "--epochs", epochs, "--out", str(folder))
    while not (folder / "checkpoint.npz").exists():
        time.sleep(0.01)
    time.sleep(wait)
    processes = ranks_of(run.pid)
    if run.poll() is not None or len(processes) != RANKS:
        raise RuntimeError("the run has ended before it could be killed: expected more --epochs")
    os.kill(random.choice([*processes.values()]), signal.SIGKILL)
    begun = time.perf_counter()
    try:
        said = run.communicate(timeout=WITHIN)[1]
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"ranks live on {WITHIN:g} s after one was killed") from None
    seconds = time.perf_counter() - begun
    if not run.returncode:
        raise RuntimeError(f"the launcher returned 0: {said}")
    if left := [process for process in processes.values() if Path(f"/proc/{process}").exists()]:
        raise RuntimeError(f"processes {left} are left")
    again = start("--resume", str(folder))
    said = again.communicate()[1]
    if again.returncode:
        raise RuntimeError(f"resuming failed: {said}")
    own = load_arrays(folder / "weights.npz")[0]
    if not all(np.array_equal(own[name], value) for name, value in whole.items()):
        raise RuntimeError("the weights are not those of a run that nobody killed")
    return seconds


def main() -> None:
    """Kill, resume, compare, count."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/kills.py",
        description="Kill ranks at random moments; check that runs end, and go on as they were.",
        epilog="example: python benchmarks/kills.py --kills 10",
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", default="30", help="of each run (30)")
    options = parser.parse_args()
    taken = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.perf_counter()
        reference = start(*RUN.split(), "--epochs", options.epochs, "--out", str(folder / "whole"))
        while not (folder / "whole" / "checkpoint.npz").exists() and reference.poll() is None:
            time.sleep(0.01)
        begun = time.perf_counter()
        if reference.wait():
            parser.exit(1, f"no run: {reference.communicate()[1]}\n")
        longest = 0.7 * (time.perf_counter() - begun)
        whole = load_arrays(folder / "whole" / "weights.npz")[0]
        for number in range(options.kills):
            wait = random.uniform(0, longest)
            run = folder / str(number)
            taken.append(attempt(run, options.epochs, whole, wait))
            print(f"{number + 1}: killed after {wait:.2f} s, all ended in {taken[-1]:.2f} s")
    print(
        f"{len(taken)} kills, {len(taken)} clean ends (median {statistics.median(taken):.2f} s, "
        f"longest {max(taken):.2f} s), {len(taken)} resumes with the same weights bit for bit"
    )


if __name__ == "__main__":
    main()
