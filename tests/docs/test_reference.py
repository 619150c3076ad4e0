"""The reference of the site has every public name of its modules, and what the pages import."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from ..conftest import CHECKOUT
from .pages import PAGES

DIRECTIVE = re.compile(r"^\.\. auto(\w+):: ([\w.]+)\n((?:   :.*\n?)*)", re.MULTILINE)
INTERNAL = {"CONTRIBUTING.md", "architecture.md", "kernels.md"}
"""Pages about fastconv's own code."""


def directives() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Kind, full name and options of what the reference takes from docstrings."""
    for page in sorted((CHECKOUT / "docs/reference").glob("*.rst")):
        for kind, name, options in DIRECTIVE.findall(page.read_text()):
            yield kind, name, dict(re.findall(r":([\w-]+): ?(.*)", options))


def found(name: str) -> Any:
    """The object of a full name."""
    parts = name.split(".")
    at = next(n for n in range(len(parts), 0, -1) if is_module(".".join(parts[:n])))
    value = import_module(".".join(parts[:at]))
    for part in parts[at:]:
        value = getattr(value, part)
    return value


def is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def listed() -> tuple[dict[str, ModuleType], dict[str, Any]]:
    """The modules of the reference, and its names with their objects."""
    modules, names = {}, {}
    for kind, name, options in directives():
        if kind != "module":
            names[name] = found(name)
            continue
        modules[name] = import_module(name)
        if "members" in options:
            left_out = {word.strip() for word in options.get("exclude-members", "").split(",")}
            for each in sorted({*modules[name].__all__} - left_out):
                names[f"{name}.{each}"] = getattr(modules[name], each)
    return modules, names


def is_there(value: Any, modules: dict[str, ModuleType], names: dict[str, Any]) -> bool:
    if isinstance(value, ModuleType):
        return any(name.startswith(f"{value.__name__}.") for name in names)
    return any(value is other for other in names.values())


@pytest.fixture(scope="module")
def reference() -> tuple[dict[str, ModuleType], dict[str, Any]]:
    pytest.importorskip("sklearn")
    return listed()


def test_every_public_name_is_in_the_reference(reference):
    modules, _ = reference
    public = {
        f"{name}.{each}": getattr(module, each)
        for name, module in modules.items()
        for each in module.__all__
    }
    del public["fastconv.layers.np"]  # of the book's `from common.layers import *`
    assert len(public) > 200
    assert not [name for name, value in public.items() if not is_there(value, *reference)]


def test_no_name_is_in_the_reference_twice(reference):
    _, names = reference
    seen = [(name.split(".")[-1], id(value)) for name, value in names.items()]
    assert len(set(seen)) == len(seen)


def test_what_the_pages_import_is_in_the_reference(reference):
    named = set()
    for page in PAGES:
        if page.name not in INTERNAL:
            visible = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
            for module, words in re.findall(r"from (fastconv[\w.]*) import ([\w, ]+)", visible):
                named |= {f"{module}.{word.strip()}" for word in words.split(",")}
            named |= set(re.findall(r"`(fastconv\.[\w.]*\w)[`(]", visible))
    assert len(named) > 30
    assert not [name for name in sorted(named) if not is_there(found(name), *reference)]
