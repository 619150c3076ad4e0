"""What runs here: versions, backends, threads, instruction set, BLAS."""

from __future__ import annotations

import os
import platform
import sys
from importlib import util
from typing import Any, TextIO

import numpy as np

from . import config, selection
from ._version import __version__
from .console import in_columns, tell
from .errors import DataNotFound, FastconvError
from .network import executor

__all__ = ["as_table", "configuration", "layer_table", "show_config"]


def configuration() -> dict[str, Any]:
    """Return facts about this installation, as plain data that JSON can hold.

    Loads every backend to see whether it works.
    """
    backends: dict[str, Any] = {}
    for name, status in selection.list_backends().items():
        facts: dict[str, Any] = {"available": status.available}
        if status.available:
            backend = selection.registry().load(name)
            facts |= backend.describe() | {"math modes": ", ".join(status.math_modes)}
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
        "cpus": _cpus(),
        "threads": config.get_num_threads(),
        "OpenMP threads wait": config.waiting(),
        "max_isa": config.max_isa() or "none",
        "math mode": config.get_math_mode(),
        "convolution algorithm": config.get_conv_algorithm(),
        "programs": config.get_programs(),
        "blas": _blas(),
        "cache": _cache(),
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
        tell(f"{name:<{width}}{value}", out)
    for name, details in backends.items():
        state = "available" if details.pop("available") else "not available"
        tell(f"\nbackend {name}: {state}", out)
        for key, value in details.items():
            tell(f"  {key}: {value}", out)


def layer_table(network: Any, input_shape: tuple[int, ...]) -> list[dict[str, str]]:
    """How a network trains on inputs of this shape, batch first: a row for each group of layers.

    How it predicts is what `fastconv.network.PreparedNetwork.description` says.

    Parameters
    ----------
    network : Network
    input_shape : tuple of int

    Returns
    -------
    list of dict
        ``layers``, ``input``, ``output`` and, for convolutions, the algorithms of ``forward``,
        ``input gradient`` and ``weight gradient``.
    """
    rows = []
    for facts in executor.describe(network.layers, input_shape, network.dtype):
        row = {
            "layers": " + ".join(facts.layers),
            "input": " x ".join(map(str, facts.input_shape)),
            "output": " x ".join(map(str, facts.output_shape)),
        }
        if (way := facts.algorithms) is not None:
            row |= {
                "forward": way.forward,
                "input gradient": way.input_gradient,
                "weight gradient": way.weight_gradient,
            }
        rows.append(row)
    return rows


def as_table(rows: list[dict[str, str]]) -> str:
    """Rows of named texts as columns; a row may lack some."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    return in_columns(lines)


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


def _cpus() -> str:
    """How many CPUs this process may use, and what says so."""
    quota = config.container_cpus()
    limit = "" if quota is None else f"; the container's limit is {quota:g}"
    return f"{config.count_cpus()} of {os.cpu_count()}{limit}"


def _cache() -> str:
    try:
        return str(config.cache_dir())
    except DataNotFound as error:
        return f"none ({error})"


def _blas() -> str:
    """NumPy's BLAS with the architecture it picked at run time, where that can be asked."""
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    text = f"{built.get('name', 'unknown')} {built.get('version', '')}".strip()
    if util.find_spec("threadpoolctl") is None:
        return f"{text}; architecture unknown without threadpoolctl (pip install threadpoolctl)"
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool.get("user_api") == "blas"]
    found = [
        f"{pool['internal_api']} {pool.get('version')}, architecture "
        f"{pool.get('architecture', 'unknown')}, {pool.get('num_threads')} threads"
        for pool in pools
    ]
    return "; ".join(found) if found else text
