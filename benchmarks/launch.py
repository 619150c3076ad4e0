"""Run a module of this package by path: ``python benchmarks/launch.py MODULE [ARGUMENT ...]``.

`python -m benchmarks.x` puts the repository root on ``sys.path``, and with it the
checkout's fastconv before one that is installed. Child processes of the suite start
here instead, and so measure the fastconv that their parent has imported.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
import sysconfig
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module of this package in a process of its own."""
    return [sys.executable, str(FOLDER / "launch.py"), module, *arguments]


def environment(**changes: str) -> dict[str, str]:
    """Return the environment in which a child finds the fastconv that this process has."""
    import fastconv

    found = os.environ | changes
    home = str(Path(fastconv.__file__).resolve().parents[1])
    if home not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        inherited = found.get("PYTHONPATH")
        found["PYTHONPATH"] = os.pathsep.join([home, inherited] if inherited else [home])
    return found


def run(module: str) -> None:
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


if __name__ == "__main__":
    chosen = sys.argv.pop(1)
    run(chosen)
