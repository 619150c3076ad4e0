"""Which definitions of a user's module are replaced by which of ours, and the resulting code."""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import CodeType
from typing import Any

from .beside import beside
from .fingerprint import Function
from .source import CALLED_BY_NAME, INIT, KERNELS, Definition, Match, Source, unlike

__all__ = ["SERVED", "Serving", "public"]

SERVED = {
    "common.functions": "fastconv.functions",
    "common.gradient": "fastconv.gradient",
    "common.layers": "fastconv.dropin.layers",
    "common.optimizer": "fastconv.optimizer",
    "common.trainer": "fastconv.dropin.trainer",
    "common.util": "fastconv.dropin.util",
    "dataset.mnist": "fastconv.datasets.mnist",  # its load_mnist is that of .mnist here
}
"""The book's modules, and fastconv's modules that replace them."""

LOADER = "load_mnist"

TRAINER = "Trainer"

OURS = "__fastconv__"
"""The name under which a running module finds the definitions that replace its own."""


class Serving:
    """What fastconv serves of a user's module.

    Parameters
    ----------
    source : Source
    by_name : str, optional
        A module of the book's: definitions with names from it are replaced whatever they do.
    load_mnist : callable
        Makes the ``load_mnist`` that is served from the user's.

    Attributes
    ----------
    served : list of str
        Definitions that fastconv's replace.
    kept : dict of str to str
        The user's own definitions with a name of the book's, or own parts of a served class, and
        why they stay.
    editions : dict of str to str
        The date of the book's edition that a definition is served as.
    """

    def __init__(
        self,
        source: Source,
        by_name: str = "",
        load_mnist: Callable[[Any], Any] | None = None,
    ) -> None:
        self.source = source
        self.load_mnist = load_mnist
        self.served: list[str] = []
        self.kept: dict[str, str] = {}
        self.editions: dict[str, str] = {}
        self._matches: dict[str, Match] = {}
        self._by_name = public(by_name) if by_name else {}
        for name, node in source.definitions.items():
            self._choose(name, node)

    def _choose(self, name: str, node: Definition) -> None:
        match = self.source.match(name)
        if match is not None and match.own and (why := self._unsound(name, node, match)):
            match = None
        elif match is None:
            why = self.source.difference(name) if name in self.source.library.book.editions else ""
        if match is not None:
            self.served.append(name)
            self._matches[name] = match
            self.editions[name] = max(match.edition, match.init)
            for part in match.own:
                self.kept[f"{name}.{part}"] = "your own, beside what is served of the class"
        elif name in self._by_name and not (why := unlike(node, self._by_name[name])):
            self.served.append(name)
        elif why:
            cost = ": it runs in NumPy" if name in KERNELS else ", at no cost"
            self.kept[name] = f"your own, which {why}{cost}"

    def _unsound(self, name: str, node: Definition, match: Match) -> str:
        """Why the user's part of a class does not work with the rest of ours; empty if it does."""
        book, ours = self.source.library.book, self._current(match.role)
        if book.homes[match.role] not in ("common.layers", "common.optimizer"):
            return f"has its own {match.own[0]}"
        assert isinstance(node, ast.ClassDef)
        theirs, its_own = _parts(node, match)
        methods = {method.name for method in theirs if isinstance(method, Definition)}
        state = set(_attributes(theirs))
        kept = [part for part in theirs if not (isinstance(part, Definition) and part.name == INIT)]
        stored = set(_attributes(kept, ast.Store))
        for part in its_own:
            inner = set(_attributes([part], ast.Store))
            is_init = isinstance(part, Definition) and part.name == INIT
            foreign = (inner | set(match.own)) - state - {INIT}
            if any(hasattr(ours, attribute) for attribute in foreign):
                return f"sets {_first(a for a in foreign if hasattr(ours, a))}"
            if not is_init and inner & stored:
                return f"sets {_first(inner & stored)} elsewhere"
            names = {inner.id for inner in ast.walk(part) if isinstance(inner, ast.Name)}
            names |= {a for a in _attributes([part]) if a.startswith("__") and a[-2:] != "__"}
            if names & methods or "super" in names or "" in match.own:
                return f"has its own {_first(m for m in match.own if m) or 'statements'}"
        return ""

    def _current(self, role: str) -> Any:
        home = SERVED[self.source.library.book.homes[role]]
        return getattr(importlib.import_module(home), role)

    # ---- the module -----------------------------------------------------------------------

    def code(self) -> CodeType:
        """The module's code, with our definitions in place of those that are served."""
        body: list[ast.stmt] = []
        last = -1
        for node in self.source.tree.body:
            name = getattr(node, "name", "")
            if name not in self.served or self.source.definitions[name] is not node:
                body.append(node)
                continue
            body += [ast.copy_location(new, node) for new in self._instead(name, node)]
            last = len(body)
        if last >= 0:
            gone = ast.Delete([ast.Name(OURS, ast.Del())])
            body.insert(last, ast.copy_location(gone, body[last - 1]))
        tree = ast.Module(body, self.source.tree.type_ignores)
        ast.fix_missing_locations(tree)
        return compile(tree, str(self.source.path), "exec", dont_inherit=True)

    def _instead(self, name: str, node: ast.stmt) -> Iterator[ast.stmt]:
        ours = ast.Subscript(ast.Name(OURS, ast.Load()), ast.Constant(name), ast.Load())
        match = self._matches.get(name)
        if isinstance(node, ast.ClassDef) and match is not None and match.own:
            changed = copy.copy(node)
            changed.bases = [ours]
            changed.body = [part for part in node.body if part in _parts(node, match)[1]]
            yield changed
            return
        value: ast.expr = ours
        if isinstance(node, Function):  # ours may call the user's
            yield node
            value = ast.Call(ours, [ast.Name(name, ast.Load())], [])
        yield ast.Assign([ast.Name(name, ast.Store())], value)

    def fill(self, namespace: dict[str, Any]) -> None:
        """Put what the code needs into its module's namespace, before it runs."""
        if self.served:
            namespace[OURS] = {name: self._object(name, namespace) for name in self.served}

    def _role(self, name: str) -> str:
        return self._matches[name].role if name in self._matches else name

    def _object(self, name: str, namespace: dict[str, Any]) -> Any:
        if self._role(name) == LOADER:
            return self.load_mnist
        match = self._matches.get(name)
        if match is None:
            role, ours = name, self._by_name[name]
        else:
            role, ours = match.role, self._of_edition(match)
        if not inspect.isclass(ours):
            return beside(ours) or (lambda theirs: ours)
        if match is not None and match.own:
            return ours
        own_optimizers = role == TRAINER and not self._optimizers_are_ours()
        if name == role and ours is self._current(role) and not own_optimizers:
            return ours
        # A pickle finds a class by its module and name, and scripts look at the name.
        own = {"__module__": namespace["__name__"], "__doc__": ours.__doc__}
        return type(name, (ours,), own | ({"optimizers": namespace} if own_optimizers else {}))

    def _optimizers_are_ours(self) -> bool:
        """Whether all optimizers that the module's Trainer finds are fastconv's own."""
        for name in CALLED_BY_NAME:
            found = self.source.defined_in(name)
            if found is None:
                continue
            source, theirs = found
            match = source.match(theirs)
            if match is None or match.own or self._of_edition(match) is not self._current(name):
                return False
        return True

    def _of_edition(self, match: Match) -> Any:
        from .older import of_edition

        return of_edition(match, SERVED[self.source.library.book.homes[match.role]])


def public(module: str) -> dict[str, Any]:
    """The names that fastconv provides for a module of the book's."""
    ours = importlib.import_module(SERVED[module])
    return {name: getattr(ours, name) for name in ours.__all__}


def _parts(node: ast.ClassDef, match: Match) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """The statements of a class: those that are the book's, and the user's own."""
    replaced = match.methods if INIT in match.own else match.methods | {INIT}
    theirs: list[ast.stmt] = [
        part for part in node.body if isinstance(part, Definition) and part.name in replaced
    ]
    return theirs, [part for part in node.body if part not in theirs]


def _attributes(
    nodes: list[ast.stmt], context: type[ast.expr_context] | None = None
) -> Iterator[str]:
    """Attributes that are used, or stored, in these statements."""
    for node in nodes:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, context or ast.AST):
                yield inner.attr


def _first(names: Iterable[str]) -> str:
    return min(names, default="")
