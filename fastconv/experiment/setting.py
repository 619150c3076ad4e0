"""What is known of one setting of a run: how it is said, checked, kept and told of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import ArgumentError
from ..io.records import of_text, of_type

__all__ = ["REQUIRED", "Setting", "setting", "settings_of"]

REQUIRED: Any = dataclasses.MISSING
"""The default of a field that every ``config.json`` has."""


@dataclass(frozen=True)
class Setting:
    """What stands beside the type of a field; `settings_of` adds what the field says itself."""

    help: str  # what ``fastconv train --help`` says; of what nobody says, what it is
    metavar: str | None = None
    found: str = ""  # how, where nobody says it: there is neither option nor key then
    choices: Collection[str] = ()  # the names that there are
    flag: bool = False  # the option has no counterpart with ``no-``
    in_recipes: bool = True
    parse: Callable[[str], Any] | None = None  # makes the value of a text
    written: Any = None  # the type in a recipe, if another: `parse` makes the value of it
    beside: Callable[[Path, str], str] | None = None  # the place that a file in a folder means
    settle: Callable[[Any], Any] | None = None  # makes of what is said what is kept: `settled`
    new: Any = None  # of a new run, if not the default: a value, or a function of those before it
    account: str | None = None  # tells of a value that is not the default
    belongs_to: str | None = None  # without whose value this one means nothing
    instead_of: str | None = None  # which it rules out
    may_change: bool | Callable[[Any, Any], bool] = False  # when a run goes on; from, to
    computed_with: str | None = None  # names what may change, but for the last bits of weights
    name: str = ""
    kind: Any = None
    default: Any = None

    @property
    def option(self) -> str:
        """On the command line."""
        return "--" + self.name.replace("_", "-")

    def of_text(self, text: str) -> Any:
        """Return the value that a word of the command line says.

        Raises
        ------
        ValueError
            No number where one is expected; an `ArgumentError` where it is no such value.
        """
        if self.parse is not None or self.choices:  # which argparse knows
            return self.parsed(text)
        return of_text(text, self.kind)

    def parsed(self, text: str) -> Any:
        """Return what `parse` makes of a text, if anything does; its errors do not name it."""
        try:
            return text if self.parse is None else self.parse(text)
        except ArgumentError as error:
            raise ArgumentError(str(error).removeprefix(f"{self.name}: ")) from None

    def of_recipe(self, value: Any, folder: Path) -> Any:
        """Return the value that a recipe in this folder gives, or None where it says nothing.

        Raises
        ------
        ArgumentError
            Another type, or a value that is none.
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
        """Raise an `ArgumentError` that says which names there are, where this is none."""
        if self.choices and value not in self.choices:
            raise ArgumentError(f"unknown {self.name} {value!r}; known: {', '.join(self.choices)}")

    def settled(self, value: Any) -> Any:
        """What a run keeps of an option or a key: places are absolute, whatever else is named."""
        if self.settle is not None:
            return self.settle(value)
        return value if self.beside is None else self.beside(Path.cwd(), value)

    def of_new_run(self, before: dict[str, Any]) -> Any:
        """The value where nobody says one, after the settings before it."""
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
