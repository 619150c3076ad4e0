"""What the user's file of a module defines, beside what fastconv would put in its place.

Files are read as syntax trees, so that nothing of them runs before it is known what will.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["UserFile", "keeps_lists_of_parameters"]

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class UserFile:
    """A module of the user's.

    Attributes
    ----------
    path : Path
    tree : ast.Module
    replaced : tuple of str
        Definitions that fastconv's stand in for.
    kept : dict of str to str
        Definitions of the same name that it does not stand in for, and why.
    more : tuple of str
        Public definitions that fastconv knows nothing of.
    """

    path: Path
    tree: ast.Module
    replaced: tuple[str, ...] = ()
    kept: dict[str, str] = field(default_factory=dict)
    more: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, ours: Mapping[str, Any]) -> UserFile:
        """Read the file and compare each definition with ours of that name.

        Raises
        ------
        SyntaxError
            As importing it would.
        """
        tree = ast.parse(path.read_bytes(), str(path))
        theirs = {node.name: node for node in tree.body if isinstance(node, Definition)}
        unlike = {
            name: why
            for name, node in theirs.items()
            if name in ours and (why := _difference(node, ours[name]))
        }
        replaced = tuple(name for name in theirs if name in ours and name not in unlike)
        more = tuple(name for name in theirs if name not in ours and not name.startswith("_"))
        return cls(path, tree, replaced, unlike, more)

    def without_replaced(self) -> ast.Module:
        """The file's code but for the definitions that fastconv's stand in for."""
        left = [
            node
            for node in self.tree.body
            if not (isinstance(node, Definition) and node.name in self.replaced)
        ]
        return ast.Module(left, self.tree.type_ignores)


def _difference(theirs: Definition, ours: Any) -> str:
    """Why ours cannot be used as the user's definition is; empty where it can."""
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
            # What ours takes by keyword alone cannot be given by its place.
            places = [name for name, p in known.items() if p.kind is not p.KEYWORD_ONLY]
            by_place = [*node.args.posonlyargs, *node.args.args][1:]
            more = [argument.arg for argument in by_place if argument.arg not in places]
            more += [argument.arg for argument in node.args.kwonlyargs if argument.arg not in known]
            if more:
                return f"takes {', '.join(more)}"
        elif not node.name.startswith("_") and not hasattr(ours, node.name):
            return f"has a method {node.name}"
    return ""


def keeps_lists_of_parameters(tree: ast.Module) -> bool:
    """Whether layers of this file keep ``self.params``, as the book's second volume has them."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "params"
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        for node in ast.walk(tree)
    )
