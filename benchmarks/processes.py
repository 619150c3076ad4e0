"""Processes of the suite: modules of this package, each started by path.

``python benchmarks/processes.py MODULE [ARGUMENT ...]`` runs a module. `python -m benchmarks.x`
would put the repository root on ``sys.path``, and with it the checkout's fastconv before one that
is installed. Child processes start here instead, and so measure the fastconv that their parent
has imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


def run_module(module: str) -> None:
    """Run a module as the main program, as a member of the package `benchmarks`."""
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != FOLDER]
    spec = importlib.util.spec_from_file_location(
        "benchmarks", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {FOLDER}")
    package = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = package
    spec.loader.exec_module(package)
    runpy.run_module(f"benchmarks.{module}", run_name="__main__", alter_sys=True)


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module of this package in a process of its own."""
    return [sys.executable, str(FOLDER / "processes.py"), module, *arguments]


def environment(threads: int | None = None, **changes: str) -> dict[str, str]:
    """Return the environment in which a child finds the fastconv that this process has.

    Parameters
    ----------
    threads : int, optional
        How many fastconv, OpenMP and OpenBLAS are to take; by default as many as here.
    """
    import fastconv

    found = os.environ | changes
    if threads is not None:
        names = ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        found |= dict.fromkeys(names, str(threads))
    home = str(Path(fastconv.__file__).resolve().parents[1])
    if home not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        inherited = found.get("PYTHONPATH")
        found["PYTHONPATH"] = os.pathsep.join([home, inherited] if inherited else [home])
    return found


def told_by(
    module: str,
    *arguments: str,
    variables: dict[str, str] | None = None,
    timeout: float | None = None,
) -> Any:
    """Run a module to its end, and return the JSON that it prints last.

    Raises
    ------
    subprocess.CalledProcessError, subprocess.TimeoutExpired
        It failed, after what it wrote to standard error; or it took longer than `timeout` seconds.
    """
    done = subprocess.run(
        command(module, *arguments),
        env=environment() if variables is None else variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=timeout,
    )
    return json.loads(done.stdout.splitlines()[-1])


class Child:
    """A module in a process of its own, which answers requests until the ``with`` block ends.

    Parameters
    ----------
    module, *arguments : str
        The module calls `answer_requests`.
    variables : dict
        Its whole environment.
    launcher : sequence of str
        What starts it, perhaps several times; the first process answers.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        variables: dict[str, str],
        launcher: Sequence[str] = (),
    ) -> None:
        self.process = subprocess.Popen(
            [*launcher, *command(module, *arguments)],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()  # tells it to end
        self.process.wait()
        self.process.stdout.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {request} ended, status {self.process.wait()}")
        return json.loads(line)


def answer_requests(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """In a `Child`: answer each line of JSON on standard input by one, until the input ends."""
    # What libraries print goes to standard error: it must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    chosen = sys.argv.pop(1)
    run_module(chosen)
