"""A process's first training step, and what it has needed: started by `test_cold_start`.

Arguments: a contender's name, a problem file, and how many steps to take. Prints JSON:
the time when the first step was finished, on the clock of `time.monotonic`, which all
processes share, and the largest memory of the process after the first and last step.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from . import peers


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    # On Linux getrusage starts from what the parent had when it started this process.
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].removesuffix("kB")) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main(name: str, problem: str, steps: int) -> None:
    contender = peers.make(name, peers.load_problem(Path(problem)))
    contender.step()
    finished, first = time.monotonic(), peak_memory()
    for _ in range(steps - 1):
        contender.step()
    print(json.dumps({"finished": finished, "first": first, "last": peak_memory()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
