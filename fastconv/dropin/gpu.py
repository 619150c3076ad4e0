"""Modules that may compute with CuPy, whose arrays fastconv's layers do not take."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path

__all__ = ["can_switch_to_cupy"]


def can_switch_to_cupy(
    tree: ast.Module, module: str, find: Callable[[str], ModuleSpec | None]
) -> bool:
    """Whether CuPy is here, and a user's module, or one that it star-imports, imports it.

    Usually a flag decides whether it does, and the flag's value is not known before it runs.

    Parameters
    ----------
    tree : ast.Module
    module : str
        Its full name.
    find : callable
        Finds the user's modules by their full names.
    """
    try:
        if importlib.util.find_spec("cupy") is None:
            return False
    except ValueError:  # its stand-in in sys.modules has no spec
        pass
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            if any(alias.name.partition(".")[0] == "cupy" for alias in node.names):
                return True
        elif isinstance(node, ast.ImportFrom):
            name = node.module or ""
            if node.level:
                name = ".".join([*module.split(".")[: -node.level], *([name] if name else [])])
            if name.partition(".")[0] == "cupy":
                return True
            if node.names[0].name == "*" and name != module and "." in name:
                spec = find(name)
                if spec is None or not isinstance(spec.loader, SourceFileLoader):
                    continue
                other = ast.parse(Path(spec.loader.path).read_bytes())
                if can_switch_to_cupy(other, name, lambda _: None):
                    return True
    return False
