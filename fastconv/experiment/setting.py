"""What is known of one setting of a run: how it is said, checked, kept and told of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import ArgumentError
from ..io.records import of_text, of_type, type_in_words

__all__ = ["Setting", "settings_of"]


@dataclass(frozen=True)
class Setting:
    """One setting. It stands in the annotation of its field; `settings_of` adds the rest.

    Attributes
    ----------
    help : str
        What ``fastconv train --help`` says; of what nobody says, what it is.
    metavar : str or None
    found : str
        Of what is found and not said: by what. There is no option then, and no key.
    choices : collection of str
        The names that there are.
    flag : bool
        The option has no counterpart with ``no-``.
    in_recipes : bool
    parse : callable or None
        Makes the value of a text; raises `ArgumentError` without the setting's name.
    written : type or None
        What a recipe takes, where it is not what is kept: `parse` makes that of it.
    beside : callable or None
        ``beside(folder, text)``: the place that a recipe in a folder means.
    settle : callable or None
        Brings what was said to what is kept: it depends on the process or its files.
    new : object
        Of a new run where nobody says, if not the field's default: a value, or a function of
        a dict of the settings before it.
    account : str or None
        Tells of a value, unless it is the default.
    belongs_to, instead_of : str or None
        The setting without whose value this one means nothing; one that it rules out.
    may_change : callable or None
        ``may_change(before, now)``: whether a run may go on with another value; None: it may not.
    computed_with : str or None
        The words for what may change, though the last bits of the weights do.
    name, kind, default
        Of the field.
    """

    help: str
    metavar: str | None = None
    found: str = ""
    choices: Collection[str] = ()
    flag: bool = False
    in_recipes: bool = True
    parse: Callable[[str], Any] | None = None
    written: Any = None
    beside: Callable[[Path, str], str] | None = None
    settle: Callable[[Any], Any] | None = None
    new: Any = None
    account: str | None = None
    belongs_to: str | None = None
    instead_of: str | None = None
    may_change: Callable[[Any, Any], bool] | None = None
    computed_with: str | None = None
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
            No number where one is expected; an `ArgumentError` where the value is none.
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
        except TypeError:
            expected = type_in_words(kind)
            raise ArgumentError(f"{self.name} is {_shown(value)}, expected {expected}") from None
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

    def of_new_run(self, before: dict[str, Any]) -> Any:
        """The value where nobody says one, after the settings before it."""
        new = self.default if self.new is None else self.new
        return new(before) if callable(new) else new


def settings_of(record: type) -> dict[str, Setting]:
    """The settings that a dataclass declares, by name."""
    kinds, settings = get_type_hints(record, include_extras=True), {}
    for field in dataclasses.fields(record):
        kind = kinds[field.name]
        [setting] = (each for each in kind.__metadata__ if isinstance(each, Setting))
        types = (kind.__origin__, *get_args(kind.__origin__))
        named = next((get_args(each) for each in types if get_origin(each) is Literal), ())
        settings[field.name] = dataclasses.replace(
            setting,
            name=field.name,
            kind=kind,
            default=field.default,
            choices=setting.choices or named,
        )
    return settings


def _shown(value: Any) -> str:
    """A value as messages show it: nothing that a recipe can hold is too large for one."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return repr(value)
