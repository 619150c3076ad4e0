"""Fingerprints of definitions: equal for definitions that compute the same by the same steps.

What a reader may change without changing the computation does not count: the names of local
variables, of a method's first parameter and of the definition itself; docstrings, comments,
annotations, layout, messages of assertions; how a number or a string is spelled. A name from
outside the definition counts as what it stands for, which the caller says. The result is the same
on every version of Python that fastconv supports, since nodes are written here, not by `ast.dump`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Container, Iterable, Iterator
from functools import cache
from hashlib import blake2b
from typing import Any

__all__ = ["Function", "combined", "fingerprint", "nodes"]

Function = ast.FunctionDef | ast.AsyncFunctionDef

IMPORTED = "import "
"""Marks what an imported name stands for: a module that is not the user's, or a name in one."""

LEFT_OUT = {"annotation", "ctx", "decorator_list", "kind", "returns", "type_comment", "type_params"}


def fingerprint(
    node: ast.AST,
    meaning: Callable[[str], str],
    *,
    method: bool = False,
    name: str = "",
    on_numpy: bool = False,
) -> str:
    """Return the fingerprint of a function, a method or an expression.

    It is empty, which no edition has, if the nodes are nested too deeply.

    Parameters
    ----------
    node : ast.AST
    meaning : callable
        Says what a name from outside stands for.
    method : bool
        Whether the first parameter may have any name.
    name : str
        The definition's own name, by which it may call itself.
    on_numpy : bool
        Whether a definition that asks its arrays for their module (NumPy or CuPy) counts as the
        same one with NumPy alone.
    """
    try:
        modules = {_module_of_arrays(inner) for inner in nodes(node)} - {""} if on_numpy else set()
        return combined(_Writer(meaning, name, modules).definition(node, method))
    except RecursionError:
        return ""


def combined(parts: Iterable[str]) -> str:
    """One fingerprint for several texts in order."""
    return blake2b("\x1f".join(parts).encode(), digest_size=10).hexdigest()


def nodes(tree: ast.AST) -> list[Any]:
    """All nodes of a tree: those of `ast.walk`, in another order and a third of the time."""
    found: list[Any] = [tree]
    for node in found:
        found += _children(node)
    return found


@cache
def _fields_of(kind: type) -> list[str]:
    """The fields of a kind of node, sorted: their order depends on the version of Python."""
    return sorted(set(getattr(kind, "_fields", ())) - LEFT_OUT)


def _children(node: ast.AST) -> list[ast.AST]:
    children: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, ast.AST):
            children.append(value)
        elif type(value) is list:
            children += [item for item in value if isinstance(item, ast.AST)]
    return children


class _Writer:
    """Writes a syntax tree as a list of words; names of `modules` are NumPy."""

    def __init__(self, meaning: Callable[[str], str], name: str, modules: set[str]) -> None:
        self.meaning = meaning
        self.name = name
        self.modules = modules
        self.words: list[str] = []
        self.scopes: list[dict[str, int]] = []
        self.count = 0

    def definition(self, node: ast.AST, method: bool) -> list[str]:
        if isinstance(node, Function):
            self._function(node, method)
        else:
            self._write(node)
        return self.words

    def _function(self, node: Function | ast.Lambda, method: bool = False) -> None:
        self.words.append(type(node).__name__)
        if not isinstance(node, ast.Lambda):
            self._all(node.decorator_list)
        arguments = node.args
        self._all([*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)])
        body = node.body if isinstance(node.body, list) else [node.body]
        self.scopes.append(dict.fromkeys(_bound(node), -1))
        free = (arguments.posonlyargs + arguments.args)[:1] if method else []
        for kind in ("posonlyargs", "args", "vararg", "kwonlyargs", "kwarg"):
            given = getattr(arguments, kind)
            for argument in given if isinstance(given, list) else [given] if given else []:
                # A caller may pass it by name.
                self.words.append(kind if argument in free else f"{kind} {argument.arg}")
                self._local(argument.arg)
        with_none = [i for i, default in enumerate(arguments.kw_defaults) if default is None]
        self.words.append(f"{len(arguments.defaults)} {with_none}")
        self._all(body)
        self.scopes.pop()
        self.words.append(")")

    def _write(self, node: ast.AST) -> None:
        write = WRITERS.get(type(node))
        if write is not None:
            write(self, node)
        else:
            self._fields(node)

    def _nested(self, node: Function) -> None:
        self.words.append(self._named(node.name))
        self._function(node)

    def _name(self, node: ast.Name) -> None:
        self.words.append(self._named(node.id))

    def _constant(self, node: ast.Constant) -> None:
        self.words.append(f"{type(node.value).__name__} {node.value!r}")

    def _joined(self, node: ast.JoinedStr) -> None:
        """An f-string; Python 3.12 has empty strings between some parts."""
        empty = [p for p in node.values if isinstance(p, ast.Constant) and p.value == ""]
        self.words.append("JoinedStr")
        self._all(part for part in node.values if part not in empty)

    def _annotated(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assignment(ast.Assign([node.target], node.value))

    def _assertion(self, node: ast.Assert) -> None:
        self._fields(node, {"msg"})

    def _assignment(self, node: ast.Assign) -> None:
        if _module_of_arrays(node) not in self.modules:
            self._fields(node)

    def _condition(self, node: ast.If) -> None:
        """With NumPy, the body of ``if xp != np`` does not run, but its ``else`` does."""
        match node.test:
            case ast.Compare(ast.Name(xp), [ast.NotEq()], [ast.Name("np")]) if xp in self.modules:
                for statement in node.orelse:
                    self._write(statement)
            case _:
                self._fields(node)

    def _handler(self, node: ast.ExceptHandler) -> None:
        self._fields(node, {"name"})
        self.words.append(self._named(node.name) if node.name else "")

    def _alias(self, node: ast.alias) -> None:
        bound = node.asname or node.name.partition(".")[0]
        self.words.append(f"{node.name} as {self._named(bound)}")

    def _pass(self, node: ast.Pass) -> None:
        """It does not count."""

    def _expression(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # not a docstring or another lone value
            self._fields(node)

    def _fields(self, node: ast.AST, but: Container[str] = ()) -> None:
        self.words.append(type(node).__name__)
        kind: Any = type(node)
        for field in _fields_of(kind):
            value = getattr(node, field, None)
            if value is None or value == [] or field in but:
                continue
            self.words.append(f"{field}=")
            if isinstance(value, list):
                self._all(value)
            elif isinstance(value, ast.AST):
                self._write(value)
            else:
                self.words.append(repr(value))
        self.words.append(")")

    def _all(self, values: Iterable[ast.AST | str | None]) -> None:
        self.words.append("[")
        for value in values:
            if isinstance(value, ast.AST):
                self._write(value)
            else:
                self.words.append(repr(value))
        self.words.append("]")

    def _attribute(self, node: ast.Attribute) -> None:
        """``np.random.rand`` counts as one of NumPy's names, whatever NumPy is called here."""
        names = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            word = self._named(inner.id)
            if word.startswith(IMPORTED):
                self.words.append(".".join([word, *reversed(names)]))
                return
        self.words += ["Attribute", node.attr]
        self._write(node.value)
        self.words.append(")")

    def _negation(self, node: ast.UnaryOp) -> None:
        """``not a is b`` is ``a is not b``."""
        inner = node.operand
        if isinstance(node.op, ast.Not) and isinstance(inner, ast.Compare) and len(inner.ops) == 1:
            if isinstance(inner.ops[0], ast.Is):
                return self._fields(ast.Compare(inner.left, [ast.IsNot()], inner.comparators))
            if isinstance(inner.ops[0], ast.In):
                return self._fields(ast.Compare(inner.left, [ast.NotIn()], inner.comparators))
        return self._fields(node)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ) -> None:
        self.words.append(type(node).__name__)
        targets = [name for part in node.generators for name in _stored(part.target)]
        self._write(node.generators[0].iter)  # outside the scope
        self.scopes.append(dict.fromkeys(targets, -1))
        for number, part in enumerate(node.generators):
            self._write(part.target)
            if number:
                self._write(part.iter)
            self._all(part.ifs)
            self.words.append(str(part.is_async))
        if isinstance(node, ast.DictComp):
            self._write(node.key)
            self._write(node.value)
        else:
            self._write(node.elt)
        self.scopes.pop()
        self.words.append(")")

    def _named(self, name: str) -> str:
        if name in self.modules:
            name = "np"
        if any(name in scope for scope in self.scopes):
            return self._local(name)
        return "itself" if name == self.name else self.meaning(name)

    def _local(self, name: str) -> str:
        """A local variable, by the number of its first appearance."""
        scope = next(scope for scope in reversed(self.scopes) if name in scope)
        if scope[name] < 0:
            scope[name] = self.count
            self.count += 1
        return f"local {scope[name]}"


WRITERS: dict[type, Callable[[_Writer, Any], None]] = {
    ast.AnnAssign: _Writer._annotated,
    ast.Assert: _Writer._assertion,
    ast.Assign: _Writer._assignment,
    ast.AsyncFunctionDef: _Writer._nested,
    ast.Attribute: _Writer._attribute,
    ast.Constant: _Writer._constant,
    ast.DictComp: _Writer._comprehension,
    ast.ExceptHandler: _Writer._handler,
    ast.Expr: _Writer._expression,
    ast.FunctionDef: _Writer._nested,
    ast.GeneratorExp: _Writer._comprehension,
    ast.If: _Writer._condition,
    ast.JoinedStr: _Writer._joined,
    ast.Lambda: _Writer._function,
    ast.ListComp: _Writer._comprehension,
    ast.Name: _Writer._name,
    ast.Pass: _Writer._pass,
    ast.SetComp: _Writer._comprehension,
    ast.UnaryOp: _Writer._negation,
    ast.alias: _Writer._alias,
}
"""How to write the kinds of nodes that are not written field by field."""


def _module_of_arrays(node: ast.AST) -> str:
    """``xp`` in ``xp = cuda.get_array_module(x)``; empty for all else."""
    match node:
        case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), _, value):
            match value:
                case ast.Call(
                    ast.Name("get_array_module") | ast.Attribute(ast.Name(), "get_array_module"),
                    [ast.Name()],
                    [],
                ):
                    return name
    return ""


def _stored(target: ast.AST) -> Iterator[str]:
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


BINDING = {
    *(ast.AsyncFunctionDef, ast.ClassDef, ast.DictComp, ast.ExceptHandler, ast.FunctionDef),
    *(ast.GeneratorExp, ast.Global, ast.Lambda, ast.ListComp, ast.MatchAs, ast.MatchMapping),
    *(ast.MatchStar, ast.Name, ast.Nonlocal, ast.SetComp, ast.alias),
}
"""Kinds of nodes that bind names, or inside which bound names are not the function's."""


def _bound(function: Function | ast.Lambda) -> list[str]:
    """Names that are local to a function."""
    arguments = function.args
    ends = [end for end in (arguments.vararg, arguments.kwarg) if end]
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *ends]
    names = [argument.arg for argument in given]
    outer: set[str] = set()
    left: list[ast.AST] = list(function.body) if isinstance(function.body, list) else []
    while left:
        node = left.pop()
        if type(node) not in BINDING:
            left += _children(node)
            continue
        if isinstance(node, ast.Global | ast.Nonlocal):
            outer.update(node.names)
        elif isinstance(node, Function | ast.ClassDef):
            names.append(node.name)
            continue  # what is inside is bound there
        elif isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                names.append(node.id)
            continue
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.append(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.append(node.rest)
        elif isinstance(node, ast.alias):
            names.append(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.Lambda):
            continue
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            walrus = (n.target for n in ast.walk(node) if isinstance(n, ast.NamedExpr))
            names += [target.id for target in walrus]
            continue
        left += _children(node)
    return [name for name in names if name not in outer]
