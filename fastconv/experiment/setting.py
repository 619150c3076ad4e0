"""One setting of a run: how it is given, checked, kept and reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import ArgumentError, suggestion
from ..io.records import of_text, of_type

__all__ = ["REQUIRED", "Setting", "setting", "settings_of"]

REQUIRED: Any = dataclasses.MISSING
"""The default of a field that every ``config.json`` has."""


@dataclass(frozen=True)
class Setting:
    """What is declared beside a field's type; `settings_of` adds what the field itself says."""

    help: str  # shown by ``fastconv train --help``; describes a setting without an option
    metavar: str | None = None
    found: str = ""  # how it is found, if it has neither option nor key
    choices: Collection[str] = ()  # the names to choose from
    flag: bool = False  # the option has no counterpart with ``no-``
    in_recipes: bool = True
    parse: Callable[[str], Any] | None = None  # turns a text into the value
    written: Any = None  # the type in a recipe, if it differs: `parse` turns it into the value
    beside: Callable[[Path, str], str] | None = None  # the path that a recipe in a folder means
    settle: Callable[[Any], Any] | None = None  # turns what is given into what is kept: `settled`
    new: Any = None  # for a new run, if not the default: a value, or a function of earlier ones
    account: str | None = None  # a text that reports a value other than the default
    belongs_to: str | None = None  # the setting without whose value this one means nothing
    instead_of: str | None = None  # the setting that it rules out
    may_change: bool | Callable[[Any, Any], bool] = False  # when a run goes on; from, to
    computed_with: str | None = None  # if it changes only the last bits of weights: its name
    name: str = ""
    kind: Any = None
    default: Any = None

    @property
    def option(self) -> str:
        """The option on the command line."""
        return "--" + self.name.replace("_", "-")

    def of_text(self, text: str) -> Any:
        """Return the value that a word of the command line means.

        Raises
        ------
        ValueError
            Not a number where one is expected; an `ArgumentError` if the value is not allowed.
        """
        if self.parse is not None or self.choices:  # argparse checks choices
            return self.parsed(text)
        return of_text(text, self.kind)

    def parsed(self, text: str) -> Any:
        """Return `parse` of a text, or the text without it; errors do not repeat the name."""
        try:
            return text if self.parse is None else self.parse(text)
        except ArgumentError as error:
            raise ArgumentError(str(error).removeprefix(f"{self.name}: ")) from None

    def of_recipe(self, value: Any, folder: Path) -> Any:
        """Return the value that a recipe in this folder gives, or None if it gives none.

        Raises
        ------
        ArgumentError
            Another type, or a value that is not allowed.
        """
        kind = self.written or self.kind
        try:
            said = of_type(value, kind)
            text = ",".join(said) if isinstance(said, list) else str(said)
            said = said if self.parse is None else self.parsed(text)
        except TypeError as error:
            raise ArgumentError(f"{self.name} is {_shown(value)}, expected {error}") from None
        except ArgumentError as error:
            raise ArgumentError(f"{self.name}: {error}") from None
        self.expect_known(said)
        if self.beside is not None:
            return self.beside(folder, said)
        return None if self.flag and not said else said

    def expect_known(self, value: Any) -> None:
        """Raise an `ArgumentError` that lists the known names, unless this is one of them."""
        if self.choices and value not in self.choices:
            raise ArgumentError(
                f"unknown {self.name} {value!r}; known: {', '.join(self.choices)}"
                f"{suggestion(value, self.choices)}"
            )

    def settled(self, value: Any) -> Any:
        """What a run keeps of an option's or key's value: paths become absolute, for example."""
        if self.settle is not None:
            return self.settle(value)
        return value if self.beside is None else self.beside(Path.cwd(), value)

    def of_new_run(self, before: dict[str, Any]) -> Any:
        """The value of a new run if none is given, from the settings before it."""
        new = self.default if self.new is None else self.new
        return new(before) if callable(new) else new

    def allows(self, before: Any, now: Any) -> bool:
        """Whether a run may go on with another value."""
        return self.may_change(before, now) if callable(self.may_change) else self.may_change


def setting(help: str, metavar: str | None = None, default: Any = None, **more: Any) -> Any:
    """A field of a dataclass, with its `Setting`."""
    entry = Setting(help, metavar, **more)
    return dataclasses.field(default=default, metadata={"setting": entry})


def settings_of(record: type) -> dict[str, Setting]:
    """The settings that a dataclass declares, by name."""
    kinds, settings = get_type_hints(record, include_extras=True), {}
    for field in dataclasses.fields(record):
        entry, kind = field.metadata["setting"], kinds[field.name]
        types = (kind, *get_args(kind))
        named = next((get_args(each) for each in types if get_origin(each) is Literal), ())
        settings[field.name] = dataclasses.replace(
            entry,
            name=field.name,
            kind=kind,
            default=field.default,
            choices=entry.choices or named,
        )
    return settings


def _shown(value: Any) -> str:
    """A value as messages show it: nothing that a recipe can hold is too large for one."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return repr(value)
