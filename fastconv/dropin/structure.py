"""What a definition does, as a short word: equal for equal syntax trees, whatever their text."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from typing import Any

__all__ = ["definitions", "fingerprint", "is_made_by"]

Function = ast.FunctionDef | ast.AsyncFunctionDef

UNREAD = {
    "arg": ("annotation", "type_comment"),
    "AnnAssign": ("annotation",),
    "Assert": ("msg",),
    "Constant": ("kind",),
    "AsyncFunctionDef": ("name", "returns", "type_comment"),
    "FunctionDef": ("name", "returns", "type_comment"),
}
"""Fields of nodes that change nothing of what a definition computes."""


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


def is_made_by(function: Any, node: Function) -> bool:
    """Whether a function of a module is that of this definition, and not of a later assignment."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_firstlineno == node.lineno


def fingerprint(node: Function) -> str:
    """Hash of a function's syntax tree.

    Formatting, comments, docstrings, annotations, the function's own name, messages of
    assertions and the names of local variables do not count; names of arguments do, as a
    caller may use them. Empty for a tree that is too deep to be read: no known one is.
    """
    given = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
    stored = [
        name.id
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store) and name.id not in given
    ]
    numbers = {name: f"local {i}" for i, name in enumerate(dict.fromkeys(stored))}
    try:
        text = "".join(_words(node, numbers))
    except RecursionError:
        return ""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _words(value: Any, numbers: dict[str, str]) -> Iterator[str]:
    """The tree in words, without what differs from one version of Python to the next."""
    if isinstance(value, ast.Name):
        yield f"{numbers.get(value.id, value.id)};"
    elif isinstance(value, ast.AST):
        kind = type(value).__name__
        yield f"{kind}("
        for field, part in ast.iter_fields(value):
            if field == "body" and isinstance(value, Function) and ast.get_docstring(value):
                part = part[1:]
            if part not in (None, []) and field not in ("ctx", *UNREAD.get(kind, ())):
                yield f"{field}="
                yield from _words(part, numbers)
        yield ")"
    elif isinstance(value, list):
        yield "["
        for part in value:
            yield from _words(part, numbers)
        yield "]"
    else:
        yield f"{value!r};"
