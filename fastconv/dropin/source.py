"""What a user's module defines: which definitions are the book's, and which are their own.

Files are read as syntax trees, so that nothing runs before it is known what will. A definition is
the book's if a known edition has its fingerprint. In a fingerprint, a name from elsewhere counts as
what it stands for: a layer that calls a function that the user changed is no longer the book's
either.
"""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

from .editions import EDITIONS
from .fingerprint import IMPORTED, Function, combined, fingerprint, nodes

__all__ = [
    "CALLED_BY_NAME",
    "INIT",
    "KERNELS",
    "Book",
    "Definition",
    "Library",
    "Match",
    "Source",
    "is_layer",
    "keeps_lists_of_parameters",
    "unlike",
]

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

Editions = Mapping[str, Mapping[str, Mapping[str, Mapping[str, str]]]]

CORE = ""
"""The part that stands for all methods of a class but ``__init__``, or for a function."""

INIT = "__init__"

CALLED_BY_NAME = {"AdaGrad", "Adam", "Momentum", "Nesterov", "RMSprop", "SGD"}
"""The Trainer that is served looks these up where the user's would, so they may be the user's."""

DOWNLOADS = {"_download", "download_mnist", "url_base"}
"""``load_mnist`` may get its files in any way: their checksums say what they are."""

NUMPY = f"{IMPORTED}numpy"

MOST_MODULES = 20
"""A name that is imported through more modules than this goes round in a circle."""

KERNELS = {
    *("Adam", "Affine", "BatchNormalization", "Convolution", "Pooling", "Relu"),
    *("SoftmaxWithLoss", "col2im", "im2col"),
}
"""Definitions that fastconv computes in kernels; the rest is NumPy in any case."""


# ---- the book ---------------------------------------------------------------------------


class Book:
    """The known editions, looked up by fingerprint.

    Parameters
    ----------
    editions : mapping
        By module, definition and part: the date of each edition, by fingerprint.

    Attributes
    ----------
    editions : dict
        The same without the level of modules: each definition is in one module only.
    homes : dict of str to str
        The module of each definition.
    methods : set of frozenset of str
        The sets of methods that classes of the book have, without ``__init__``.
    """

    def __init__(self, editions: Editions = EDITIONS) -> None:
        self.editions: dict[str, Mapping[str, Mapping[str, str]]] = {}
        self.homes: dict[str, str] = {}
        self.methods: set[frozenset[str]] = set()
        self._named: dict[tuple[bool, str], list[str]] = {}
        for module, definitions in editions.items():
            self.editions |= definitions
            self.homes |= dict.fromkeys(definitions, module)
        for role, parts in self.editions.items():
            is_class = len(parts) > 1
            if is_class:
                self.methods.add(frozenset(parts) - {CORE, INIT})
            for value in parts[CORE]:
                self._named.setdefault((is_class, value), []).append(role)

    def names(self, home: str) -> set[str]:
        """The definitions of a module of the book's."""
        return {role for role, module in self.homes.items() if module == home}

    def role(self, value: str, name: str, *, is_class: bool) -> str:
        """The book's definition whose core has this fingerprint; empty if none has.

        A definition with the name of another of the book's does not count.
        """
        roles = self._named.get((is_class, value), [])
        if name in roles or not roles:
            return name if roles else ""
        return "" if name in self.editions else roles[0]

    def edition(self, role: str, part: str, value: str) -> str:
        """The date of the edition whose part has this fingerprint; empty if none has."""
        return self.editions[role].get(part, {}).get(value, "")

    def meaning(self, source: Source, name: str) -> tuple[str, str] | None:
        """The book's definition that a user's definition is, and its edition."""
        match = source.match(name)
        return None if match is None or match.own else (match.role, match.edition)


@dataclass(frozen=True)
class Match:
    """A user's definition that is one of the book's.

    Attributes
    ----------
    role : str
        Its name in the book.
    edition : str
        The date of the first edition with this definition (a class: with these methods, without
        ``__init__``).
    init : str
        The date of the first edition with this ``__init__``; empty if there is none.
    methods : frozenset of str
        The methods that are the book's.
    own : tuple of str
        Methods and attributes of the class that are the user's.
    needs : dict of str to str
        The editions of the book's definitions that it calls.
    """

    role: str
    edition: str
    init: str = ""
    methods: frozenset[str] = frozenset()
    own: tuple[str, ...] = ()
    needs: dict[str, str] = field(default_factory=dict)


# ---- modules ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Imported:
    """A name from a module that is not the user's."""

    what: str


@dataclass(frozen=True)
class _From:
    """A name from another module."""

    module: str
    name: str


@dataclass(frozen=True)
class _Value:
    node: ast.expr


@dataclass(frozen=True)
class _Unclear:
    """A name that is bound more than once, or only in some cases."""


_Binding = _Imported | _From | _Value | _Unclear | Definition


class Library:
    """The user's modules, as far as they have been read.

    Parameters
    ----------
    find : callable
        From a module's name to the path of its source; to its names, if fastconv provides all
        of it; or to None, if it is not the user's.
    book : Book, optional
    """

    def __init__(
        self,
        find: Callable[[str], Path | frozenset[str] | None],
        book: Book | None = None,
    ) -> None:
        self.find = find
        self.book = Book() if book is None else book
        self._sources: dict[Path, Source] = {}

    def source(self, module: str, path: Path, package: str) -> Source:
        """Return the module, read once.

        Raises
        ------
        SyntaxError
            As importing it would.
        """
        if path not in self._sources:
            self._sources[path] = Source(self, module, path, package)
        return self._sources[path]

    def module(self, name: str) -> Source | frozenset[str] | None:
        """A module by name: the user's, the names that fastconv provides, or None."""
        found = self.find(name)
        if not isinstance(found, Path):
            return found
        package = name if found.name == "__init__.py" else name.rpartition(".")[0]
        try:
            return self.source(name, found, package)
        except (SyntaxError, ValueError):  # its import will say what is wrong
            return None


class Source:
    """A user's module.

    Attributes
    ----------
    module : str
    path : Path
    tree : ast.Module
    """

    def __init__(self, library: Library, module: str, path: Path, package: str) -> None:
        self.library = library
        self.module = module
        self.path = path
        self.package = package
        self.tree = ast.parse(path.read_bytes(), str(path))
        self._matches: dict[str, Match | None] = {}
        self._meanings: dict[str, tuple[str, dict[str, str]]] = {}
        self._busy = False

    # ---- names --------------------------------------------------------------------------

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        """The definitions that the module has at its end, by name."""
        return {n: b for n, b in self.bindings.items() if isinstance(b, Definition)}

    @cached_property
    def bindings(self) -> dict[str, _Binding]:
        """What each of the module's names is bound to once it has run."""
        self._busy = True
        names: dict[str, _Binding] = {}
        for statement in self.tree.body:
            for name, binding in self._bindings_of(statement):
                names[name] = binding
        for name in _changed_elsewhere(self.tree):
            if name in names:
                names[name] = _Unclear()
        self._busy = False
        return names

    def _bindings_of(self, statement: ast.stmt) -> Iterator[tuple[str, _Binding]]:
        if isinstance(statement, Definition):
            yield statement.name, statement
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                bound = alias.asname or alias.name.partition(".")[0]
                yield bound, _Imported(alias.name if alias.asname else bound)
        elif isinstance(statement, ast.ImportFrom):
            yield from self._imports(statement)
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            yield from _assigned(statement.targets[0], statement.value)
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            yield from _assigned(statement.target, statement.value)
        elif not _is_main_guard(statement):
            for name in _bound_within(statement):
                yield name, _Unclear()

    def _imports(self, statement: ast.ImportFrom) -> Iterator[tuple[str, _Binding]]:
        module = statement.module or ""
        if statement.level:
            parts = self.package.split(".")
            parts = parts[: len(parts) - statement.level + 1]
            module = ".".join([*parts, module] if module else parts)
        for alias in statement.names:
            if alias.name != "*":
                yield alias.asname or alias.name, _From(module, alias.name)
                continue
            found = self.library.module(module)
            if found is None:
                yield f"*{module}", _Imported(module)
            elif not isinstance(found, Source):
                for name in found:
                    yield name, _From(module, name)
            elif not found._busy:
                for name, binding in found._exported():
                    yield name, binding if name[0] == "*" else _From(module, name)

    def _exported(self) -> Iterator[tuple[str, _Binding]]:
        listed = self.bindings.get("__all__")
        chosen = None
        if isinstance(listed, _Value):
            try:
                chosen = set(ast.literal_eval(listed.node))
            except (ValueError, TypeError):
                chosen = set()
        for name, binding in self.bindings.items():
            if name[0] == "*" or (name in chosen if chosen is not None else name[0] != "_"):
                yield name, binding

    def meaning(self, name: str, needs: dict[str, str]) -> str:
        """What a name of this module stands for; adds the editions of the book's definitions."""
        if name not in self._meanings:
            self._meanings[name] = f"again {name}", {}
            self._meanings[name] = self._meaning(name)
        text, found = self._meanings[name]
        needs.update(found)
        return text

    def _meaning(self, name: str) -> tuple[str, dict[str, str]]:
        if name in CALLED_BY_NAME or name in DOWNLOADS:
            return f"the {name}", {}
        binding = self.bindings.get(name)
        if binding is None:
            stars = [b.what for n, b in self.bindings.items() if n[0] == "*" and _is_imported(b)]
            if hasattr(builtins, name):
                return f"builtin {name}", {}
            return (f"{IMPORTED}{stars[0]}.{name}" if len(stars) == 1 else f"unknown {name}"), {}
        if isinstance(binding, _Imported):
            return IMPORTED + binding.what, {}
        if isinstance(binding, _From):
            return self._meaning_of_import(binding)
        if isinstance(binding, _Unclear):
            return f"unclear {name}", {}
        if not isinstance(binding, _Value) and (known := self.library.book.meaning(self, name)):
            role, edition = known
            return f"the book's {role}", {role: edition}
        needs: dict[str, str] = {}
        node = binding.node if isinstance(binding, _Value) else binding
        return "its " + fingerprint(node, lambda n: self.meaning(n, needs), name=name), needs

    def _meaning_of_import(self, binding: _From) -> tuple[str, dict[str, str]]:
        found = self.library.module(binding.module)
        needs: dict[str, str] = {}
        if found is None:
            return f"{IMPORTED}{binding.module}.{binding.name}", needs
        if isinstance(found, Source):
            return found.meaning(binding.name, needs), needs
        if binding.name == "np":
            return NUMPY, needs
        return f"the book's {binding.name}", needs

    def defined_in(self, name: str) -> tuple[Source, str] | None:
        """The user's module that a name comes from, and its name there; None if there is none."""
        source: Source | frozenset[str] | None = self
        for _ in range(MOST_MODULES):
            if not isinstance(source, Source):
                return None
            binding = source.bindings.get(name)
            if not isinstance(binding, _From):
                return source, name
            source, name = self.library.module(binding.module), binding.name
        return None

    # ---- what is the book's -----------------------------------------------------------------

    def match(self, name: str) -> Match | None:
        """The book's definition that this one is, if it is one."""
        if name not in self._matches:
            self._matches[name] = None
            node = self.definitions.get(name)
            if node is not None:
                self._matches[name] = self._match(name, node)
        return self._matches[name]

    def _match(self, name: str, node: Definition) -> Match | None:
        book, needs = self.library.book, dict[str, str]()
        if not isinstance(node, ast.ClassDef):
            value = fingerprint(node, lambda n: self.meaning(n, needs), name=name)
            role = book.role(value, name, is_class=False)
            return Match(role, book.edition(role, CORE, value), needs=needs) if role else None
        if not _stands_alone(node):
            return None
        values = self.methods(node, lambda n: self.meaning(n, needs))
        for methods in sorted(book.methods, key=len, reverse=True):
            if not methods | {INIT} <= set(values):
                continue
            value = core(values, methods)
            if role := book.role(value, name, is_class=True):
                edition = book.edition(role, CORE, value)
                init = book.edition(role, INIT, values[INIT])
                own = [*([] if init else [INIT]), *_own_parts(node, methods | {INIT})]
                return Match(role, edition, init, methods, tuple(own), needs)
        return None

    def methods(self, node: ast.ClassDef, meaning: Callable[[str], str]) -> dict[str, str]:
        """The fingerprint of each method."""
        return {
            inner.name: fingerprint(inner, meaning, method=True, name=node.name)
            for inner in node.body
            if isinstance(inner, Function)
        }

    def difference(self, name: str) -> str:
        """How a definition differs from the book's definition of that name."""
        book, node = self.library.book, self.definitions[name]
        parts = book.editions[name]
        is_class = len(parts) > 1
        if isinstance(node, ast.ClassDef) != is_class:
            return f"is a {'function' if is_class else 'class'} here"
        called: list[str] = []
        elsewhere: list[str] = []

        def as_if_the_books(other: str) -> str:
            if other in book.editions and other != name and other in self.bindings:
                if not self.meaning(other, {}).startswith("the book's"):
                    called.append(other)
                return f"the book's {other}"
            text = self.meaning(other, {})
            if other == "np" and text != NUMPY:
                elsewhere.append(other)
                return NUMPY
            return text

        if not isinstance(node, ast.ClassDef):
            value = fingerprint(node, as_if_the_books, name=name)
            if value not in parts[CORE]:
                return "differs from the book's"
        else:
            if not _stands_alone(node):
                return "derives from another class, or has decorators"
            values = self.methods(node, as_if_the_books)
            unlike = [m for m in parts if m[:1] not in ("", "_") and m not in values]
            if unlike:
                return f"has no {_listed(unlike)}"
            unlike = [m for m in values if m in parts and m != INIT and values[m] not in parts[m]]
            if unlike:
                verb = "differs" if len(unlike) == 1 else "differ"
                return f"has a {_listed(unlike)} that {verb} from the book's"
            if core(values, frozenset(parts) - {CORE, INIT}) not in parts[CORE]:
                return "mixes methods of different editions"
        if elsewhere:
            return "computes with an np that may be another module than NumPy"
        if called:
            return f"calls your own {_listed(dict.fromkeys(called))}"
        return "differs from the book's"


def core(values: Mapping[str, str], methods: Iterable[str]) -> str:
    """One fingerprint for some methods of a class."""
    return combined(f"{name} {values[name]}" for name in sorted(methods))


def _listed(names: Iterable[str]) -> str:
    return " and ".join(", ".join(names).rsplit(", ", 1))


def _is_imported(binding: _Binding) -> TypeGuard[_Imported]:
    return isinstance(binding, _Imported)


def _stands_alone(node: ast.ClassDef) -> bool:
    """Whether a class has no base, no decorator, and no method twice."""
    bases = [
        base for base in node.bases if not (isinstance(base, ast.Name) and base.id == "object")
    ]
    names = [inner.name for inner in node.body if isinstance(inner, Definition)]
    return not (bases or node.decorator_list or node.keywords or len(names) > len(set(names)))


def _own_parts(node: ast.ClassDef, but: Iterable[str]) -> list[str]:
    """What a class has besides these methods; an empty name for anything but a plain attribute."""
    own = []
    for inner in node.body:
        if isinstance(inner, Definition):
            own += [inner.name] if inner.name not in but else []
        elif isinstance(inner, ast.Assign | ast.AnnAssign):
            targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
            own += [target.id if isinstance(target, ast.Name) else "" for target in targets]
        elif not isinstance(inner, ast.Pass) and not (
            isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant)
        ):
            own.append("")
    return own


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, _Binding]]:
    if isinstance(target, ast.Name):
        yield target.id, _Value(value)
    elif (
        isinstance(target, ast.Tuple)
        and isinstance(value, ast.Tuple)
        and len(target.elts) == len(value.elts)
    ):
        for one, its in zip(target.elts, value.elts, strict=True):
            yield from _assigned(one, its)
    else:
        for name in _bound_within(target):
            yield name, _Unclear()


def _is_main_guard(statement: ast.stmt) -> bool:
    """Whether this is ``if __name__ == "__main__"``, which an import does not run."""
    return (
        isinstance(statement, ast.If)
        and isinstance(statement.test, ast.Compare)
        and isinstance(statement.test.left, ast.Name)
        and statement.test.left.id == "__name__"
    )


def _bound_within(statement: ast.AST) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.id
        elif isinstance(node, Definition):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


def _changed_elsewhere(tree: ast.Module) -> Iterator[str]:
    """Names that functions rebind, and names whose attributes are set from outside."""
    for node in nodes(tree):
        kind = type(node)
        if kind is ast.Global:
            yield from node.names
        elif kind is ast.Attribute and type(node.ctx) is not ast.Load:
            if isinstance(node.value, ast.Name):
                yield node.value.id
        elif (
            kind is ast.Call
            and isinstance(node.func, ast.Name)
            and node.func.id in ("setattr", "delattr")
            and node.args
            and isinstance(node.args[0], ast.Name)
        ):
            yield node.args[0].id


# ---- what only resembles the book's ------------------------------------------------------


def unlike(theirs: Definition, ours: Any) -> str:
    """Why ours cannot replace the user's definition, by arguments and methods alone."""
    if isinstance(theirs, ast.ClassDef) != inspect.isclass(ours):
        return f"is a {'class' if isinstance(theirs, ast.ClassDef) else 'function'} here"
    known = inspect.signature(ours).parameters
    if not isinstance(theirs, ast.ClassDef):
        count = len(theirs.args.posonlyargs + theirs.args.args)
        more = [argument.arg for argument in theirs.args.kwonlyargs if argument.arg not in known]
        if count > len(known) or more or theirs.args.vararg or theirs.args.kwarg:
            return "takes other arguments"
        return ""
    for node in theirs.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        if node.name == "__init__":
            # Keyword-only arguments of ours cannot be passed by position.
            places = [name for name, p in known.items() if p.kind is not p.KEYWORD_ONLY]
            by_place = [*node.args.posonlyargs, *node.args.args][1:]
            more = [argument.arg for argument in by_place if argument.arg not in places]
            more += [argument.arg for argument in node.args.kwonlyargs if argument.arg not in known]
            if more:
                return f"takes {', '.join(more)}"
        elif not node.name.startswith("_") and not hasattr(ours, node.name):
            return f"has a method {node.name}"
    return ""


def is_layer(node: Definition) -> bool:
    """Whether this is a class with ``forward`` and ``backward`` that derives from no other."""
    return (
        isinstance(node, ast.ClassDef)
        and not node.bases
        and {"forward", "backward"} <= {n.name for n in node.body if isinstance(n, Function)}
    )


def keeps_lists_of_parameters(tree: ast.Module, names: Container[str]) -> bool:
    """Whether layers of this file keep lists of parameters, as in the book's second volume.

    A layer has ``forward`` and ``backward``, or one of these names.
    """
    return any(
        isinstance(node, ast.ClassDef)
        and (is_layer(node) or node.name in names)
        and "params" in _lists(node)
        for node in tree.body
    )


def _lists(layer: ast.ClassDef) -> Iterator[str]:
    """Attributes of ``self`` that are set to a list."""
    for node in ast.walk(layer):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            for one, value in pairs:
                if (
                    isinstance(one, ast.Attribute)
                    and isinstance(one.value, ast.Name)
                    and one.value.id == "self"
                    and isinstance(value, ast.List)
                ):
                    yield one.attr
