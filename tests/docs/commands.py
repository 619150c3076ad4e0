"""Commands of the pages: run, or at least parsed by the parser of the program itself."""

from __future__ import annotations

import argparse
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pytest

from fastconv.cli import main as cli
from fastconv.cli.run import profile_without_file

from ..conftest import CHECKOUT, ROOT

RUN_FILES = ("config.json", "history.jsonl", "weights.npz", "result.json", "curves.png")


class Shell:
    """Runs blocks of commands in the working folder; keeps the output of the last one."""

    def __init__(self) -> None:
        self.output = ""

    def run_block(self, text: str) -> str | None:
        """Run each command; what went wrong, or None."""
        for words in commands(text):
            problem = self._run(words)
            if problem:
                return f"{shlex.join(words)}: {problem}"
        return None

    def parse_block(self, text: str) -> str | None:
        """Let each command's own parser read it; what it refused, or None."""
        for words in commands(text):
            problem = parse(words)
            if problem:
                return f"{shlex.join(words)}: {problem}"
        return None

    def parse_ci_block(self, text: str, name: str) -> str | None:
        """`parse_block` of a block that continuous integration runs as it is."""
        program = CHECKOUT / ".ci/run"  # no part of a source distribution
        runs = rf"^run_named {re.escape(name)} "
        if program.is_file() and not re.search(runs, program.read_text(), re.MULTILINE):
            return f".ci/run does not run the block called {name!r}"
        return self.parse_block(text)

    def run_recipe(self, text: str) -> str | None:
        """Train by a recipe that a page shows."""
        Path("shown.toml").write_text(text)
        return self._run(["fastconv", "train", "--recipe", "shown.toml"])

    def compare_output(self, text: str) -> str | None:
        """Compare with what the last command printed: all but numbers and line breaks."""
        pattern = r"\s+".join(map(_but_for_numbers, text.split()))
        if re.search(pattern, self.output):
            return None
        return f"the command before printed something else:\n{self.output}"

    def _run(self, words: list[str]) -> str | None:
        *words, target = words if words[-2:-1] == [">"] else [*words, ">", ""]
        words.remove(">")
        if words[0] != "fastconv" and words[:3] != ["python", "-m", "fastconv"]:
            return parse(words)
        arguments = [name for word in words[words.index("fastconv") + 1 :] for name in expand(word)]
        if arguments[0] == "train" and "--out" in arguments:  # the stage's own run makes way
            shutil.rmtree(arguments[arguments.index("--out") + 1], ignore_errors=True)
        before = set(Path().glob("runs/*"))
        if words[0] == "python" and arguments[0] not in cli.COMMANDS:
            status = self._run_script(arguments)
        else:
            printed = io.StringIO()
            with redirect_stdout(printed), redirect_stderr(printed), _soon_ended(arguments[0]):
                status = cli.main(arguments)
            self.output = printed.getvalue()
        if target:
            Path(target).write_text(self.output)
        if status:
            return f"ended with {status}: {self.output}"
        return _not_made(arguments, set(Path().glob("runs/*")) - before, self.output)

    def _run_script(self, arguments: list[str]) -> int:
        """In a process of its own, which the import hook belongs to."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "FASTCONV_NUM_THREADS": "1"}
        line = [sys.executable, "-m", "fastconv", *arguments]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        self.output = done.stdout + done.stderr
        return done.returncode


@contextmanager
def _soon_ended(command: str) -> Iterator[None]:
    """Let a server that begins get Ctrl-C at once."""
    if command != "serve":
        yield
        return
    for package in ("starlette", "uvicorn"):
        pytest.importorskip(package, reason="the server is made of it")
    from fastconv.web import server

    def run(self, sockets):
        self.ready()
        raise KeyboardInterrupt

    def listen(host, port, real=server.listen):
        return real(host, 0)  # the port that is named may be taken

    with mock.patch.object(server.Server, "run", run), mock.patch.object(server, "listen", listen):
        yield


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a block: comments left out, lines joined, ``&&`` split."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            at = words.index("&&")
            yield words[:at]
            words = words[at + 1 :]
        if words:
            yield words


def expand(word: str) -> list[str]:
    """File names for a pattern, as a shell would."""
    return sorted(map(str, Path().glob(word))) or [word] if "*" in word else [word]


def parse(words: list[str]) -> str | None:
    """What a command's own parser has against its words, or None; nothing is run."""
    match words:
        case ["pip", "install", *wanted]:
            return _unknown_extras(wanted)
        case ["pytest", *options]:
            return _refused_by_pytest(options)
        case ["ruff" | "mypy", *_]:
            return None  # by .ci/run, as they stand there
        case ["sphinx-build", "-W", "docs", _] | ["python", "-m", "http.server", *_]:
            return None  # test_site.py builds the site, where its packages are
        case ["mpiexec", "-n", _, *command]:
            return parse(command)
        case ["fastconv", *arguments]:
            return _refused(lambda: cli.build_parser().parse_args(profile_without_file(arguments)))
        case ["python", "-m", "fastconv", *arguments]:
            given = arguments if arguments[0] in cli.COMMANDS else ["run", *arguments]
            return _refused(lambda: _parse_script(given))
        case ["python", "-m", name, *arguments] if name.startswith("benchmarks."):
            return _refused_by_module(name, arguments)
        case ["python", script, *arguments] if script.startswith("benchmarks/"):
            name = script.removesuffix(".py").replace("/", ".")
            return _refused_by_module(name, arguments)
        case ["python", script, *arguments] if (CHECKOUT / script).is_file():
            return _refused_by_main(
                lambda: runpy.run_path(str(CHECKOUT / script), run_name="__main__"),
                script,
                arguments,
            )
        case _:
            return "nothing here knows how to run or parse it"


def _parse_script(arguments: list[str]) -> None:
    options = cli.build_parser().parse_args(profile_without_file(arguments))
    assert options.script


def _refused(call) -> str | None:
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(said):
        try:
            call()
        except SystemExit as end:
            if end.code:
                return said.getvalue()
    return None


class _Parsed(Exception):
    """The options have been read."""


def _refused_by_main(main, name: str, arguments: list[str]) -> str | None:
    """Start a program up to the point where it has read its options."""
    read = argparse.ArgumentParser.parse_args

    def parse_args(self, *given):
        read(self, *given)
        raise _Parsed

    def start() -> None:
        with (
            mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args),
            mock.patch.object(sys, "argv", [name, *arguments]),
        ):
            try:
                main()
            except _Parsed:
                return
        raise AssertionError(f"{name} has read no options")

    return _refused(start)


def _refused_by_module(name: str, arguments: list[str]) -> str | None:
    with mock.patch.object(sys, "path", [str(CHECKOUT), *sys.path]):
        return _refused_by_main(import_module(name).main, name, arguments)


def _refused_by_pytest(options: list[str]) -> str | None:
    """Let pytest collect, in a process that does not take itself for a worker of this one."""
    line = [sys.executable, "-P", "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    line += [option for option in options if not option.startswith("--benchmark-json")]
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    done = subprocess.run(
        line if "benchmarks" in options else [*line, "benchmarks/test_tools.py"],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else None


def _unknown_extras(wanted: list[str]) -> str | None:
    """Whether the extras in ``pip install '.[data,plots]'`` are there."""
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        known = tomllib.load(file)["project"]["optional-dependencies"]
    for word in wanted:
        if word == "-e":
            continue
        own = re.fullmatch(r"(?:\.|fastconv)(?:\[([\w,]+)\])?", word)
        if own is None:
            return f"{word} is not this package"
        missing = set((own[1] or "").split(",")) - {"", *known}
        if missing:
            return f"no extra {', '.join(missing)}"
    return None


def _not_made(arguments: list[str], new_runs: set[Path], output: str) -> str | None:
    """What a command should have left or printed, but did not."""
    command, *rest = arguments
    options = {a: b for a, b in pairwise([*rest, ""]) if a.startswith("--")}
    if command == "train":
        named = options.get("--resume") or options.get("--out")
        folder = Path(named) if named else next(iter(new_runs), Path("runs/none"))
        lacking = [name for name in RUN_FILES if not (folder / name).is_file()]
        members = [*folder.glob("member-*")]
        lacking = [] if members and (folder / "ensemble.npz").is_file() else lacking
        if lacking or "test accuracy" not in output:
            return f"{folder} lacks {', '.join(lacking)}: {output}"
        if not named:  # the pages call the run that they have just trained runs/my-run
            shutil.rmtree("runs/my-run", ignore_errors=True)
            shutil.copytree(folder, "runs/my-run")
        return None
    files = {
        "convert": lambda: rest[1],
        "export": lambda: rest[1],
        "ensemble": lambda: options["--out"],
        "augment": lambda: next(word for word in rest if word.endswith(".png")),
        "summary": lambda: options.get("--draw"),
    }
    name = files[command]() if command in files else None
    if name and not Path(name).is_file():
        return f"{name} was not written"
    if command == "serve" and "serving on http://" not in output:
        return f"served nothing: {output}"
    if command == "evaluate" and " %" not in output:
        return f"no accuracy: {output}"
    if command == "predict":
        images = [word for word in rest[1:] if word.endswith((".png", ".jpg"))]
        return next((f"nothing about {i}: {output}" for i in images if i not in output), None)
    return None if output else "printed nothing"


def _but_for_numbers(word: str) -> str:
    if word == "...":
        return r"[\s\S]*?"
    parts = re.split(r"(\d[\d,.]*|\.\.\.)", word)
    kinds = {True: r"[\d,.]+", False: r"\S*"}
    return "".join(
        re.escape(part) if number % 2 == 0 else kinds[part[0].isdigit()]
        for number, part in enumerate(parts)
    )
