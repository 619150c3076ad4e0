"""What runs here: versions, backends, threads, instruction set, BLAS."""

from __future__ import annotations

import platform
import sys
from importlib import util
from typing import Any, TextIO

import numpy as np

from . import config, selection
from ._version import __version__
from .errors import FastconvError

__all__ = ["configuration", "show_config"]


def configuration() -> dict[str, Any]:
    """Return facts about this installation, as plain data that JSON can hold.

    Loads every backend to see whether it works.
    """
    backends: dict[str, Any] = {}
    for name, status in selection.list_backends().items():
        facts: dict[str, Any] = {"available": status.available}
        if status.available:
            backend = selection.registry().load(name)
            facts |= backend.describe()
            borrowed = sorted({kernel for kernel, by in _providers(backend) if by != name})
            if borrowed:
                facts["completed from the reference"] = ", ".join(borrowed)
        else:
            facts["reason"] = status.reason
        backends[name] = facts
    return {
        "fastconv": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": np.__version__,
        "backend": _chosen(),
        "threads": config.get_num_threads(),
        "max_isa": config.max_isa() or "none",
        "blas": _blas(),
        "cache": str(config.cache_dir()),
        "backends": backends,
    }


def show_config(file: TextIO | None = None) -> None:
    """Print `configuration` for a person to read.

    Parameters
    ----------
    file : text file, optional
        Standard output by default.
    """
    facts = configuration()
    backends = facts.pop("backends")
    out = sys.stdout if file is None else file
    width = max(len(name) for name in facts) + 2
    for name, value in facts.items():
        print(f"{name:<{width}}{value}", file=out)
    for name, details in backends.items():
        state = "available" if details.pop("available") else "not available"
        print(f"\nbackend {name}: {state}", file=out)
        for key, value in details.items():
            print(f"  {key}: {value}", file=out)


def _providers(backend: Any) -> list[tuple[str, str]]:
    return list(backend.providers.items())


def _chosen() -> str:
    """The backend that a call would use now, and who chose it."""
    name, source = config.requested_backend()
    if name != "auto":
        return f"{name} (from {source})"
    try:
        choice, why = selection.auto_choice()
    except FastconvError as error:
        return f"none ({error})"
    return f"{choice} (auto: {why})"


def _blas() -> str:
    """NumPy's BLAS with the architecture it picked at run time, where that can be asked."""
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    text = f"{built.get('name', 'unknown')} {built.get('version', '')}".strip()
    if util.find_spec("threadpoolctl") is None:
        return f"{text}; architecture unknown without threadpoolctl (pip install 'fastconv[bench]')"
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool.get("user_api") == "blas"]
    found = [
        f"{pool['internal_api']} {pool.get('version')}, architecture "
        f"{pool.get('architecture', 'unknown')}, {pool.get('num_threads')} threads"
        for pool in pools
    ]
    return "; ".join(found) if found else text
