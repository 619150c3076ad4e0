"""Run a script as ``python script.py`` does, or a module as ``python -m module``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from ..errors import ArgumentError
from . import look_also_in, note_script, script_serving
from .serving import Serving

__all__ = ["prepare"]

_replaced: list[ModuleType] = []  # alive, as its code may be what called us


def prepare(words: Sequence[str], module: bool) -> Callable[[], None]:
    """Return a function that runs a script, or with `module` a module by its name.

    Parameters
    ----------
    words : sequence of str
        The script and its arguments.
    module : bool

    Raises
    ------
    ArgumentError
        No script is named, or the named one does not exist.
    """
    if not words:
        raise ArgumentError("no script is named (see fastconv run --help)")
    name, *arguments = words
    if module:
        return partial(_run_module, name, arguments)
    if not Path(name).is_file():
        what = "is a folder" if Path(name).is_dir() else "does not exist"
        raise ArgumentError(f"{name} {what}: expected a script (see fastconv run --help)")
    return partial(_run_script, name, arguments)


def _run_script(path: str, arguments: Sequence[str]) -> None:
    file = Path(path).absolute()
    code = compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    folder = file.resolve().parent
    _first_on_path(str(folder))
    look_also_in(str(folder.parent))
    sys.argv[:] = [path, *arguments]
    loader = SourceFileLoader("__main__", str(file))
    own = {"__loader__": loader, "__package__": None, "__spec__": None}
    _execute(code, str(file), script_serving(file), own)


def _run_module(name: str, arguments: Sequence[str]) -> None:
    _first_on_path(str(Path.cwd()))
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}, or a package without __main__")
    get_code: Any = getattr(spec.loader, "get_code", None)
    code = None if get_code is None else get_code(spec.name)
    if code is None:
        raise ImportError(f"module {name!r} has no Python code to run")
    sys.argv[:] = [str(spec.origin), *arguments]
    own: dict[str, Any] = {"__loader__": spec.loader, "__package__": spec.parent, "__spec__": spec}
    _execute(code, str(spec.origin), getattr(spec.loader, "serving", None), own)


def _first_on_path(folder: str) -> None:
    """Put the folder in the place on `sys.path` where Python put the ``fastconv`` command's."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _execute(
    code: CodeType, file: str, serving: Serving | None, attributes: dict[str, Any]
) -> None:
    """Run the code in a new ``__main__``, which stays for ``python -i`` to show afterwards."""
    main = ModuleType("__main__")
    vars(main).update(attributes, __file__=file, __cached__=None, __builtins__=__builtins__)
    _replaced.append(sys.modules["__main__"])
    sys.modules["__main__"] = main
    if serving is not None:
        code = serving.code()
        serving.fill(vars(main))
        note_script(serving)
    exec(code, vars(main))
