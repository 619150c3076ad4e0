"""The import hook: which modules of ``common`` and ``dataset`` fastconv gives, and how.

A module that fastconv serves is still the user's where their file defines more: the file runs,
but for the definitions that fastconv's stand in for, and these are there from its first line.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .gpu import can_switch_to_cupy
from .mnist import loader
from .source import UserFile, keeps_lists_of_parameters

__all__ = ["SERVED", "Finder", "Report"]

SERVED = {
    "common.functions": "fastconv.functions",
    "common.gradient": "fastconv.gradient",
    "common.layers": "fastconv.layers",
    "common.optimizer": "fastconv.optimizer",
    "common.trainer": "fastconv.dropin.trainer",
    "common.util": "fastconv.util",
    "dataset.mnist": "fastconv.datasets.mnist",  # its load_mnist is that of .mnist here
}
"""The user's modules, and those of fastconv that stand in for them."""

DATA = "dataset.mnist"

PACKAGES = ("common", "dataset")


@dataclass
class Report:
    """What was imported, and whose it was.

    Attributes
    ----------
    served : dict of str to list of str
        Modules that fastconv serves, each with the names that it gives.
    theirs : dict of str to str
        What of these modules is the user's own, and why.
    data : str
        Where ``load_mnist`` got its data, once it was called.
    """

    served: dict[str, list[str]] = field(default_factory=dict)
    theirs: dict[str, str] = field(default_factory=dict)
    data: str = ""


class Finder(MetaPathFinder):
    """Finds the served modules before any other finder does.

    Attributes
    ----------
    report : Report
    home : str or None
        Where to look for the user's packages that are not on the path: the folder above
        the script's, which ``sys.path.append(os.pardir)`` means, and misses where the
        script is run from another folder.
    """

    def __init__(self) -> None:
        self.report = Report()
        self.home: str | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a served module, or of a package that the user does not have."""
        if fullname in PACKAGES:
            theirs = self._elsewhere(fullname, None)
            return theirs or ModuleSpec(fullname, _Nothing(), is_package=True)
        package = fullname.partition(".")[0]
        if package not in PACKAGES or path is None:
            return None
        path = self._grown(package, path)
        if fullname in SERVED:
            return self._served(fullname, path)
        if fullname.count(".") == 1 and self._elsewhere(fullname, path) is not None:
            self.report.theirs[fullname] = "your file"
        return None

    def _elsewhere(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """What the other finders find."""
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)  # finders of Python 2 times have none
            if finder is self or find is None:
                continue
            if (spec := find(fullname, path)) is not None:
                return spec
        if path is None and self.home is not None:
            return PathFinder.find_spec(fullname, [self.home])
        return None

    def _grown(self, package: str, path: Sequence[str]) -> Sequence[str]:
        """The path of a package that we made, with the user's folder if there is one by now.

        A script may import our part before it says ``sys.path.append(os.pardir)``.
        """
        spec = getattr(sys.modules.get(package), "__spec__", None)
        if spec is None or not isinstance(spec.loader, _Nothing) or not isinstance(path, list):
            return path
        found = self._elsewhere(package, None)
        if found is not None and not path:
            path.extend(found.submodule_search_locations or ())
        return path

    def _served(self, fullname: str, path: Sequence[str]) -> ModuleSpec | None:
        ours = _public(importlib.import_module(SERVED[fullname]))
        found = self._elsewhere(fullname, path)
        if found is None:
            return spec_from_loader(fullname, _Served(self.report, ours, None, path))
        if not isinstance(found.loader, SourceFileLoader) or found.origin is None:
            self.report.theirs[fullname] = "your own, which is not Python source"
            return None
        theirs = UserFile.read(Path(found.origin), ours)
        if can_switch_to_cupy(theirs.tree, fullname, lambda name: self._elsewhere(name, path)):
            self.report.theirs[fullname] = "your own, as it can switch to CuPy, which is installed"
            return None
        if fullname.startswith("common.") and self._second_volume(path):
            self.report.theirs[fullname] = (
                "your own, as your layers keep lists params and grads: the second volume's form"
            )
            return None
        if not theirs.replaced and (theirs.kept or theirs.more):
            why = "; ".join(f"{name} {reason}" for name, reason in theirs.kept.items())
            why = why or "defines nothing of the book's"
            self.report.theirs[fullname] = f"your own, which {why}"
            return None
        own = _Served(self.report, ours, theirs, path)
        return spec_from_loader(fullname, own, origin=found.origin)

    def _second_volume(self, path: Sequence[str]) -> bool:
        spec = self._elsewhere("common.layers", path)
        if spec is None or not isinstance(spec.loader, SourceFileLoader) or not spec.origin:
            return False
        return keeps_lists_of_parameters(UserFile.read(Path(spec.origin), {}).tree)


class _Nothing(Loader):
    """An empty package, to hold served modules where the user has no such folder."""

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing."""


class _Served(Loader):
    """Fills one served module."""

    def __init__(
        self,
        report: Report,
        ours: dict[str, Any],
        theirs: UserFile | None,
        path: Iterable[str],
    ) -> None:
        self.report = report
        self.ours = ours
        self.theirs = theirs
        self.path = path

    def exec_module(self, module: ModuleType) -> None:
        """Put our names into the module and run the rest of the user's file, if there is one."""
        name, theirs = module.__name__, self.theirs
        if theirs is None or not theirs.replaced:
            vars(module).update(self.ours, np=np)
            names = list(self.ours)
        else:
            names = list(theirs.replaced)
            vars(module).update({name: self.ours[name] for name in names})
            module.__file__ = str(theirs.path)
            # The loader of ours falls back on the user's own, so that one must be there.
            left = theirs.tree if name == DATA else theirs.without_replaced()
            exec(compile(left, str(theirs.path), "exec", dont_inherit=True), vars(module))
            for own, reason in theirs.kept.items():
                self.report.theirs[f"{name}.{own}"] = f"your own, which {reason}"
        if name != DATA:
            for own in theirs.more if theirs else ():
                self.report.theirs[f"{name}.{own}"] = "in your file only"
        elif "load_mnist" in names:
            names = ["load_mnist"]
            own_loader = vars(module)["load_mnist"] if theirs and theirs.replaced else None
            vars(module)["load_mnist"] = loader(self.path, own_loader, self._note_data)
        self.report.served[name] = sorted(names)

    def _note_data(self, text: str) -> None:
        self.report.data = text


def _public(module: ModuleType) -> dict[str, Any]:
    return {name: getattr(module, name) for name in module.__all__}
