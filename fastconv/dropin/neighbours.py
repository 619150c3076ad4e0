"""Other teaching frameworks with the same convolution loops: dezero, CS231n.

Their modules are the user's, and run as they are. Then their known functions are replaced by ours,
which compute on kernels.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from .finder import Finder, Report
from .fingerprint import Function, fingerprint

__all__ = ["GIVEN", "NEIGHBOURS", "NeighbourFinder", "definitions", "fingerprints"]

Serve = Callable[[ModuleType, Mapping[str, str], Report], None]

NEIGHBOURS = {
    "cs231n.fast_layers": "fastconv.dropin.cs231n",
    "dezero.functions_conv": "fastconv.dropin.dezero",
}
"""User's modules, and our modules whose ``serve`` changes them."""

GIVEN = {"cs231n.im2col_cython": "fastconv.dropin.cs231n_columns"}
"""Modules that the user would have to build, and our modules that replace them."""


class NeighbourFinder(MetaPathFinder):
    """Finds the neighbours' modules before any other finder does, if the others find them.

    Parameters
    ----------
    report : Report
        Gets what is served.
    """

    def __init__(self, report: Report) -> None:
        self.report = report

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the user's module with our loader, or of one that is not built."""
        if fullname not in NEIGHBOURS and fullname not in GIVEN:
            return None
        found = self._elsewhere(fullname, path)
        if fullname in GIVEN:
            return found or spec_from_loader(fullname, _Given(self.report))
        if found is None or found.origin is None:
            return None
        if not isinstance(found.loader, SourceFileLoader):
            self.report.theirs[fullname] = "your own, which is not Python source"
            return None
        loader = _Neighbour(fullname, found.origin, self.report)
        return spec_from_file_location(fullname, found.origin, loader=loader)

    def _elsewhere(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """What the other finders find."""
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)  # finders from Python 2 times lack it
            ours = isinstance(finder, Finder | NeighbourFinder)
            if not ours and find is not None and (spec := find(fullname, path)):
                return spec
        return None


class _Neighbour(SourceFileLoader):
    """Runs the user's file, and serves what it defines."""

    def __init__(self, fullname: str, path: str, report: Report) -> None:
        super().__init__(fullname, path)
        self.report = report

    def exec_module(self, module: ModuleType) -> None:
        """Run the file as usual, then replace the known functions by ours."""
        super().exec_module(module)
        serve: Serve = importlib.import_module(NEIGHBOURS[module.__name__]).serve
        own = definitions(ast.parse(Path(self.path).read_bytes()))
        marks = fingerprints(own)
        # Names that were assigned again later are the user's.
        marks |= {part: "" for part, node in own.items() if not _is_made_by(module, part, node)}
        serve(module, marks, self.report)


def definitions(tree: ast.Module) -> dict[str, Function]:
    """The functions of a module, and the methods of its classes as ``Class.method``."""
    found: dict[str, Function] = {}
    for node in tree.body:
        if isinstance(node, Function):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            inside = [part for part in node.body if isinstance(part, Function)]
            found |= {f"{node.name}.{part.name}": part for part in inside}
    return found


def fingerprints(own: Mapping[str, Function]) -> dict[str, str]:
    """The fingerprint of each definition; names from outside count as they are spelled."""
    return {
        part: fingerprint(node, str, method="." in part, on_numpy=True)
        for part, node in own.items()
    }


def _is_made_by(module: ModuleType, part: str, node: Function) -> bool:
    """Whether this definition made what the module has under its name, not a later one."""
    made: Any = module
    for name in part.split("."):
        made = getattr(made, name, None)
    code = getattr(made, "__code__", None)
    return code is not None and code.co_firstlineno == node.lineno


class _Given(Loader):
    """Fills a module that the user has not built."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def exec_module(self, module: ModuleType) -> None:
        """Put our functions into the module."""
        ours = importlib.import_module(GIVEN[module.__name__])
        vars(module).update({name: getattr(ours, name) for name in ours.__all__})
        self.report.served[module.__name__] = sorted(ours.__all__)
