"""The examples that ``--help`` shows: each is run, beside the files of the pages' stage."""

from __future__ import annotations

import argparse

import pytest

from fastconv.cli.main import build_parser

from .commands import Shell, commands
from .stage import set_the_stage

PARSERS = next(
    action.choices
    for action in build_parser()._actions
    if isinstance(action, argparse._SubParsersAction)
)


def examples(parser: argparse.ArgumentParser) -> list[str]:
    """The commands after "example:" or "examples:" at the end of the help."""
    heading, _, lines = (parser.epilog or "").partition("\n")
    assert heading in ("example:", "examples:"), f"{parser.prog} --help has no examples"
    return [line for line in lines.splitlines() if line.strip()]


def test_the_command_itself_has_an_example():
    [line] = examples(build_parser())
    assert list(commands(line)) == [["fastconv", "train"]]  # which is run below


@pytest.mark.parametrize("name", PARSERS)
def test_examples(name, kept, tmp_path, monkeypatch):
    if name == "completion":
        pytest.importorskip("shtab")
    monkeypatch.chdir(tmp_path)
    set_the_stage(monkeypatch, kept)
    shell = Shell()
    for line in examples(PARSERS[name]):
        [words] = commands(line)
        named = words[1] if words[0] == "fastconv" else "run"
        assert named == name
        assert shell.run_block(line) is None
