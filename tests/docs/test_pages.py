"""Every block of README, docs and examples is run, with the names of its page."""

from __future__ import annotations

import argparse
import re

import pytest

from fastconv.cli.main import build_parser

from ..conftest import CHECKOUT
from .commands import Shell
from .pages import PAGES, parse
from .stage import set_the_stage

WITH_BLOCKS = [path for path in PAGES if "```" in path.read_text()]


@pytest.mark.parametrize("path", WITH_BLOCKS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_page(path, kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = parse(path, Shell())
    document.namespace["stage"] = set_the_stage(monkeypatch, kept)
    for example in document:
        example.evaluate()


def sub_commands() -> dict[str, set[str]]:
    """The options of each sub-command of ``fastconv``."""
    [choices] = [
        action.choices
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    return {name: set(parser._option_string_actions) for name, parser in choices.items()}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_commands_and_options_in_the_text_exist(path):
    known = sub_commands()
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    for command, rest in re.findall(r"`fastconv\s+([a-z]+)\b([^`]*)`", text):
        assert command in known, command
        for option in re.findall(r"--[a-z][\w-]*", rest):
            assert option in known[command], f"fastconv {command} has no {option}"
    if path.name == "benchmarks.md":
        return  # whose other options are those of its own programs
    every = set().union(*known.values())
    for option in re.findall(r"`(--[a-z][\w-]*)", text):
        assert option in every, f"no command has {option}"


def test_a_block_that_nothing_runs_is_a_failure(tmp_path):
    page = tmp_path / "page.md"
    for block, problem in {
        "```python\n1 / 0\n```": "division by zero",
        "```sh\nfastconv train --no-such-option\n```": "--no-such-option",
        "```sh\nrm photos\n```": "nothing here knows",
        "```sh\npip install '.[pictures]'\n```": "no extra pictures",
        "```\nsomething\n```": "nothing runs blocks of the language ''",
        "```julia\n1\n```": "nothing runs blocks of the language 'julia'",
        "```text\nfastconv: served all\n```": "printed something else",
        "<!-- not run: -->\n```python\n1 / 0\n```": "Could not find end of",  # a reason
        "<!-- parsed only: takes hours -->\n```sh\nfastconv trian\n```": "trian",
        "<!-- ci: deploy -->\n```sh\npytest\n```": "does not run the block called 'deploy'",
        "<!--- invisible-code-block: python\nassert False, 'hidden'\n-->": "hidden",
    }.items():
        page.write_text(f"# A page\n\n{block}\n")
        with pytest.raises(Exception, match=re.escape(problem)):
            run(page)
    page.write_text("<!-- not run: never ends -->\n```python\n1 / 0\n```\n")
    run(page)


def run(page) -> None:
    for example in parse(page, Shell()):
        example.evaluate()
