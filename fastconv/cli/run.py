"""``fastconv run`` and ``python -m fastconv SCRIPT``, which start without the other commands.

A script of the book's runs for seconds, and importing what the other commands need takes a tenth
of a second.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stderr
from typing import Any

from .. import config as process
from .. import dropin
from ..backends.algorithms import MATH_MODES
from ..console import mention, reserve_descriptors
from ..dropin.script import prepare
from ..errors import ArgumentError, FastconvError, suggestion
from . import COMMANDS
from .output import INTERRUPTED, complain, one_line
from .parser import Parser
from .types import typed, whole

__all__ = ["add_parser", "is_copied", "main", "profile_without_file", "read", "run"]


COPIES = (
    "a launcher has started {0} processes, each of which would do the whole work and write the "
    "same files: start it without mpiexec. mpiexec -n {0} fastconv train, or a Trainer with "
    "distributed=fastconv.distributed.DataParallel(), trains one network on all of them"
)


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "run",
        help="run a script of the book's form on fastconv's layers",
        description=(
            "Run a script that imports common.layers, common.trainer, dataset.mnist and so on,\n"
            "unchanged, on fastconv. 'python -m fastconv SCRIPT' is short for it. The book's\n"
            "definitions, in any edition, run on fastconv wherever they are in your folders; what\n"
            "you have changed runs as you wrote it, and is named at the end."
        ),
        epilog=(
            "examples:\n"
            "  python -m fastconv train_convnet.py\n"
            "  python -m fastconv --dtype float32 --profile train_convnet.py --epochs 20\n"
            "  python -m fastconv --map layers=common.layers train_convnet.py"
        ),
        usage="fastconv run [options] [-m] SCRIPT [ARGUMENT ...]",
    )
    add = parser.add_argument
    add("--backend", metavar="NAME", help="numpy, numba, cython or another (default: auto)")
    add(
        "--dtype",
        choices=("float32", "float64"),
        help="compute in this type, whatever the script's arrays have (default: theirs)",
    )
    threads = whole(1, process.MOST_THREADS)
    add("--threads", type=threads, metavar="N", help="threads (default: one for each CPU)")
    add(
        "--math",
        choices=MATH_MODES,
        help="fast: convolutions may round more, to about 1e-5 in float32; bf16: products of "
        "bfloat16s, a few 1e-3 (default: default)",
    )
    add(
        "--profile",
        nargs="?",
        type=typed(_json_name, "name"),
        const="",
        metavar="FILE.json",
        help="show times by layer at the end, and write a trace of the calls to the file",
    )
    add(
        "--map",
        action="append",
        default=[],
        type=typed(_module_pair, "pair"),
        metavar="MODULE=COMMON.X",
        help="serve your module as this one of the book's, by its definitions' names; repeatable",
    )
    add(
        "--serve-all",
        action="store_true",
        help="serve all that has the book's names and arguments, even what you changed",
    )
    add("-m", dest="module", action="store_true", help="SCRIPT is a module's name")
    add("script", metavar="SCRIPT", nargs=argparse.REMAINDER, help="what to run, and its arguments")


def main(arguments: Sequence[str]) -> int:
    """Run a script: ``fastconv run`` with these arguments, which ``run`` begins.

    Returns
    -------
    int
        The exit status.
    """
    options = read(_parser_of_run, arguments)
    return options if isinstance(options, int) else run(options)


def _parser_of_run() -> Parser:
    parser = Parser(prog="fastconv")
    add_parser(parser.add_subparsers(dest="command", required=True, metavar="COMMAND"))
    return parser


def read(build_parser: Callable[[], Parser], arguments: Sequence[str]) -> argparse.Namespace | int:
    """Parse the arguments of the process: its options, or an exit status if it ends here."""
    reserve_descriptors()
    # Of several ranks, the first says what is wrong.
    mute = redirect_stderr(None) if process.launched().rank else nullcontext()
    try:
        with mute:
            return build_parser().parse_args(profile_without_file(arguments))
    except SystemExit as exit_:  # argparse has printed the help or the error
        return int(exit_.code or 0)
    except KeyboardInterrupt:
        mention("fastconv: error: interrupted")
        return INTERRUPTED


def is_copied(command: str) -> bool:
    """Whether a launcher has started several processes of a command for one; the first says so."""
    rank, size = process.launched()
    if size > 1 and rank == 0:
        complain(command, COPIES.format(size))
    return size > 1


def run(options: argparse.Namespace) -> int:
    """Run the script that the options name; its errors are its own."""
    if is_copied("run"):
        return 2
    if options.math:
        process.set_math_mode(options.math)
    try:
        script = prepare(options.script, options.module)
        dropin.install(
            backend=options.backend,
            dtype=options.dtype,
            threads=options.threads,
            serve_all=options.serve_all,
            map=dict(options.map),
        )
        if options.profile is not None:
            dropin.report_at_exit(table=True, trace=options.profile or None)
    except FastconvError as error:
        words = [] if options.module else [word for word in options.script[:1] if "." not in word]
        near = "".join(suggestion(word, COMMANDS) for word in words)  # a command, misspelt
        complain("run", one_line(error) + near)
        return 2
    script()
    return 0


def profile_without_file(arguments: Sequence[str]) -> list[str]:
    """The arguments with ``--profile SCRIPT`` as ``--profile= SCRIPT``: a file ends in .json."""
    words = list(arguments)
    if words[:1] != ["run"]:
        return words
    at = 1
    while at < len(words) and words[at].startswith("-"):
        value = words[at + 1] if at + 1 < len(words) else ""
        if words[at] == "--profile" and not value.endswith(".json"):
            words[at] = "--profile="
        elif words[at] in ("--profile", "--backend", "--dtype", "--threads", "--math", "--map"):
            at += 1
        at += 1
    return words


def _json_name(text: str) -> str:
    """The name of a ``.json`` file, or nothing."""
    if text and not text.endswith(".json"):
        raise ArgumentError(f"must end in .json, got {text}")
    return text


def _module_pair(text: str) -> tuple[str, str]:
    """Two names of modules, as ``layers=common.layers``."""
    theirs, equals, ours = text.partition("=")
    if not (theirs and equals and ours):
        raise ArgumentError(f"expected MODULE=COMMON.X, got {text!r}")
    return theirs, ours
