"""The import hook: which modules fastconv serves, and which of their definitions.

``common`` and ``dataset`` are the book's. If the user has no file of that name, fastconv provides
the module. If there is one, it runs, with the book's definitions in it replaced; so does any other
module in the user's own folders that has some of these.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location, spec_from_loader
from pathlib import Path
from types import ModuleType

import numpy as np

from .folders import Folders
from .gpu import can_switch_to_cupy
from .mnist import loader
from .serving import SERVED, Serving, public
from .source import Library, Source, is_layer, keeps_lists_of_parameters

__all__ = ["PACKAGES", "SERVED", "Finder", "Report", "UserLoader"]

DATA = "dataset.mnist"

PACKAGES = ("common", "dataset")

SIGNS = (b"im2col", b"def forward", b"def update", b"def load_mnist")
"""Other modules without any of these are left alone: little could be gained there."""


@dataclass
class Report:
    """What was served, and what was the user's own.

    Attributes
    ----------
    served : dict of str to list of str
        Modules that fastconv serves, each with the names that it replaces.
    theirs : dict of str to str
        The user's own definitions in these modules, and why they stay.
    editions : dict of str to str
        The date of the book's edition that a definition is served as.
    data : str
        Where ``load_mnist`` got its data, once it was called.
    """

    served: dict[str, list[str]] = field(default_factory=dict)
    theirs: dict[str, str] = field(default_factory=dict)
    editions: dict[str, str] = field(default_factory=dict)
    data: str = ""


class Finder(MetaPathFinder):
    """Finds the user's modules before any other finder does.

    Attributes
    ----------
    report : Report
    serve_all : bool
        Whether definitions of the book's modules are served by name, whatever they do.
    modules : dict of str to str
        User's modules that are served by name like one of the book's, by that one's name.
    home : str or None
        Where to look for the user's packages that are not on the path: the folder above the
        script's. Scripts mean it by ``sys.path.append(os.pardir)``, which fails if they are run
        from another folder.
    """

    def __init__(self) -> None:
        self.report = Report()
        self.home: str | None = None
        self.serve_all = False
        self.modules: dict[str, str] = {}
        self._folders = Folders()
        self._library = Library(self._place)

    def choose(self, serve_all: bool, modules: Mapping[str, str]) -> None:
        """Serve by name from now on: in all of the book's modules, or in these of the user's."""
        self.serve_all |= serve_all
        self.modules |= modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module that fastconv serves, or of a missing package."""
        if fullname in PACKAGES:
            theirs = self._elsewhere(fullname, None)
            return theirs or ModuleSpec(fullname, _Nothing(), is_package=True)
        package = fullname.partition(".")[0]
        if package in PACKAGES:
            if path is None:
                return None
            path = self._grown(package, path)
            if fullname in SERVED and fullname not in self.modules:
                return self._books(fullname, path)
        if fullname in self.modules:
            return self._mapped(fullname, path)
        spec = self._own(fullname, path)
        if package in PACKAGES and fullname.count(".") == 1:
            if spec is None and self._elsewhere(fullname, path) is None:
                return None
            self.report.theirs[fullname] = "your file"
        return None if spec is None else self._with_ours(fullname, spec)

    def _elsewhere(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """What the other finders find."""
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)  # finders from Python 2 times lack it
            if finder is self or find is None:
                continue
            if (spec := find(fullname, path)) is not None:
                return spec
        if path is None and self.home is not None:
            return PathFinder.find_spec(fullname, [self.home])
        return None

    def _grown(self, package: str, path: Sequence[str]) -> Sequence[str]:
        """The path of a package that we made, with the user's folder if there is one by now.

        A script may import from it before its ``sys.path.append(os.pardir)``.
        """
        spec = getattr(sys.modules.get(package), "__spec__", None)
        if spec is None or not isinstance(spec.loader, _Nothing) or not isinstance(path, list):
            return path
        found = self._elsewhere(package, None)
        if found is not None and not path:
            path.extend(found.submodule_search_locations or ())
        return path

    # ---- the book's modules ----------------------------------------------------------------

    def _books(self, fullname: str, path: Sequence[str]) -> ModuleSpec | None:
        found = self._elsewhere(fullname, path)
        if found is None:
            return spec_from_loader(fullname, _Whole(self.report, fullname, path))
        if not isinstance(found.loader, SourceFileLoader) or found.origin is None:
            self.report.theirs[fullname] = "your own, which is not Python source"
            return None
        source = self._source(fullname, found)
        if can_switch_to_cupy(source.tree, fullname, lambda name: self._elsewhere(name, path)):
            self.report.theirs[fullname] = "your own, as it can switch to CuPy, which is installed"
            return None
        if fullname.startswith("common.") and self._second_volume(path):
            self.report.theirs[fullname] = (
                "your own, as your layers keep lists params and grads: the second volume's form"
            )
            return None
        serving = self._serving(source, fullname if self.serve_all else "")
        more = [
            name
            for name in source.definitions
            if name not in serving.served and name not in serving.kept and name[0] != "_"
            if fullname != DATA  # there, these are what the book's loader calls
        ]
        if not serving.served and (serving.kept or more):
            self._note_kept(fullname, serving)
            if not serving.kept:
                self.report.theirs[fullname] = "your own, which defines nothing of the book's"
            return None
        own = UserLoader(fullname, found.origin, serving, self.report, more)
        return _like(found, own)

    def _second_volume(self, path: Sequence[str]) -> bool:
        """Whether the user's layers are those of the book's second volume."""
        found = self._elsewhere("common.layers", path)
        if found is None or not isinstance(found.loader, SourceFileLoader) or not found.origin:
            return False
        if b"params" not in Path(found.origin).read_bytes():
            return False
        source = self._source("common.layers", found)
        names = self._library.book.names("common.layers")
        return keeps_lists_of_parameters(source.tree, names) and not any(
            source.match(name) for name in source.definitions
        )

    def _mapped(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
        found = self._elsewhere(fullname, path)
        if found is None or not isinstance(found.loader, SourceFileLoader) or not found.origin:
            self.report.theirs[fullname] = "not served, as it is no Python file"
            return None
        serving = self._serving(self._source(fullname, found), self.modules[fullname])
        return _like(found, UserLoader(fullname, found.origin, serving, self.report))

    # ---- other modules ----------------------------------------------------------------------

    def _own(self, fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """The Python file in a folder of the user's that is this module."""
        package = fullname.partition(".")[0]
        if package in sys.stdlib_module_names or package == "fastconv":
            return None
        folders = self._folders.own(sys.path if path is None else path)
        if not folders or PathFinder.find_spec(fullname, folders) is None:
            return None
        found = self._elsewhere(fullname, path)
        if found is None or not isinstance(found.loader, SourceFileLoader) or not found.origin:
            return None
        return found if self._folders.own([str(Path(found.origin).parent)]) else None

    def _with_ours(self, fullname: str, found: ModuleSpec) -> ModuleSpec | None:
        """The module with our definitions in place of the book's, if it has any."""
        assert found.origin is not None
        try:
            if not any(sign in Path(found.origin).read_bytes() for sign in SIGNS):
                return None
            serving = self._serving(self._source(fullname, found))
        except (OSError, SyntaxError, ValueError):  # its import will say what is wrong
            return None
        if not serving.served:
            self._note_kept(fullname, serving)
            return None
        return _like(found, UserLoader(fullname, found.origin, serving, self.report))

    def script(self, path: Path) -> Serving | None:
        """What is served of a script; None if nothing is."""
        content = path.read_bytes()
        if not any(sign in content for sign in SIGNS):
            return None
        serving = self._serving(self._library.source("__main__", path, ""))
        if not serving.served:
            self._note_kept("__main__", serving)
            return None
        return serving

    def _note_kept(self, module: str, serving: Serving) -> None:
        """Note the user's own definitions of a module that has nothing of the book's."""
        for name, why in serving.kept.items():
            if module in SERVED or is_layer(serving.source.definitions[name]):
                self.report.theirs[f"{module}.{name}"] = why

    # ---- what all have in common --------------------------------------------------------------

    def _source(self, fullname: str, found: ModuleSpec) -> Source:
        package = fullname if found.submodule_search_locations else fullname.rpartition(".")[0]
        return self._library.source(fullname, Path(str(found.origin)), package)

    def _serving(self, source: Source, by_name: str = "") -> Serving:
        folder = str(source.path.parent)
        return Serving(source, by_name, lambda own: loader([folder], own, self._note_data))

    def _note_data(self, text: str) -> None:
        self.report.data = text

    def _place(self, name: str) -> Path | frozenset[str] | None:
        """The source of a module, if it is the user's; its names, if it is all ours."""
        path = self._path_of(name.rpartition(".")[0])
        package = name.partition(".")[0]
        if name in SERVED:
            found = None if path is None else self._elsewhere(name, path)
            if found is None:
                return frozenset(public(name)) | {"np"}
        if path is None and "." in name:
            return None
        found = self._own(name, path)
        if found is None and package in PACKAGES:
            found = self._elsewhere(name, path)
        if found is None or not isinstance(found.loader, SourceFileLoader) or not found.origin:
            return None
        return Path(found.origin)

    def _path_of(self, package: str) -> Sequence[str] | None:
        """The search path of a package's modules; imports nothing."""
        if not package:
            return None
        if package in sys.modules:
            path = getattr(sys.modules[package], "__path__", None)
            if path is not None and package in PACKAGES:
                return self._grown(package, path)
            return path
        parent, _, _ = package.rpartition(".")
        above = self._path_of(parent)
        if parent and above is None:
            return None
        found = self._elsewhere(package, above)
        return None if found is None else found.submodule_search_locations


def _like(found: ModuleSpec, own: Loader) -> ModuleSpec | None:
    """The spec of the same file with our loader."""
    locations = found.submodule_search_locations
    return spec_from_file_location(
        found.name, found.origin, loader=own, submodule_search_locations=locations
    )


class _Nothing(Loader):
    """An empty package, to hold served modules if the user has no such folder."""

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing."""


class _Whole(Loader):
    """Fills one of the book's modules for which the user has no file."""

    def __init__(self, report: Report, fullname: str, path: Sequence[str]) -> None:
        self.report = report
        self.names = public(fullname)
        self.path = path

    def exec_module(self, module: ModuleType) -> None:
        """Put our names into the module."""
        name, names = module.__name__, list(self.names)
        vars(module).update(self.names, np=np)
        if name == DATA:
            names = ["load_mnist"]
            vars(module)["load_mnist"] = loader(self.path, None, self._note_data)
        self.report.served[name] = sorted(names)

    def _note_data(self, text: str) -> None:
        self.report.data = text


class UserLoader(SourceFileLoader):
    """Runs a user's module with our definitions in place of the book's.

    Its `get_code` returns the file's own code, for tools that run it elsewhere.
    """

    def __init__(
        self,
        fullname: str,
        path: str,
        serving: Serving,
        report: Report,
        more: Sequence[str] = (),
    ) -> None:
        super().__init__(fullname, path)
        self.serving = serving
        self.report = report
        self.more = more

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, and note what was served."""
        code = self.serving.code()
        self.serving.fill(vars(module))
        exec(code, vars(module))
        note(self.report, module.__name__, self.serving, self.more)


def note(report: Report, module: str, serving: Serving, more: Sequence[str] = ()) -> None:
    """Note what was served of a module, and what stays the user's."""
    report.served[module] = sorted(serving.served)
    for name, date in serving.editions.items():
        report.editions[f"{module}.{name}"] = date
    for name, why in serving.kept.items():
        report.theirs[f"{module}.{name}"] = why
    for name in more:
        report.theirs[f"{module}.{name}"] = "in your file only"
