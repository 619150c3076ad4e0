"""Pages of documentation as examples: every block in a fence is run, by its language.

``python`` shares its names within a page. Of ``sh`` each command is run, see `commands`. A block
in an HTML comment, ``<!--- invisible-code-block: python ... -->``, prepares or checks. In front
of a block, ``<!-- not run: REASON -->`` leaves it out, ``<!-- parsed only: REASON -->`` has only
the options of its commands read, and ``<!-- ci: NAME -->`` says that ``.ci/run`` runs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sybil import Document, Example, Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, RawFencedCodeBlockLexer

from ..conftest import CHECKOUT
from .commands import Shell

PAGES = (
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    *sorted((CHECKOUT / "docs").rglob("*.md")),
    CHECKOUT / "examples/README.md",
)

Evaluator = Callable[[Example], str | None]


class Blocks:
    """A Sybil parser of every block in a fence, and of invisible ones."""

    def __init__(self, by_language: dict[str, Evaluator]) -> None:
        self.by_language = by_language
        language = {"language": "language", "source": "source"}
        self.lexers = (
            RawFencedCodeBlockLexer(re.compile(r"(?P<language>[^\n]*)$\n", re.MULTILINE), language),
            DirectiveInHTMLCommentLexer(
                "invisible-code-block", ".+", {"arguments": "language", "source": "source"}
            ),
        )

    def __call__(self, document: Document) -> Iterator[Region]:
        for lexer in self.lexers:
            for region in lexer(document):
                language = region.lexemes["language"].strip()
                region.parsed = region.lexemes["source"]
                region.evaluator = self.by_language.get(language, nobody_runs(language))
                yield region


def nobody_runs(language: str) -> Evaluator:
    """Fail: a block that nothing can run has to say why."""

    def fail(example: Example) -> str:
        return (
            f"nothing runs blocks of the language {language!r}; put <!-- not run: REASON --> in "
            "front of it, or teach tests/docs/pages.py to run it"
        )

    return fail


class Marker:
    """A Sybil parser of ``<!-- NAME: TEXT -->``, and what to do with the block after it."""

    def __init__(self, name: str, instead: Callable[[Example, str], str | None]) -> None:
        self.lexer = DirectiveInHTMLCommentLexer(name, r"[^\n]*?\S")
        self.instead = instead

    def __call__(self, document: Document) -> Iterable[Region]:
        for region in self.lexer(document):
            region.parsed = region.lexemes["arguments"].strip(" -")
            region.evaluator = self.mark
            yield region

    def mark(self, example: Example) -> None:
        document, text = example.document, example.parsed

        def take_over(block: Example) -> str | None:
            document.pop_evaluator(take_over)
            return self.instead(block, text)

        document.push_evaluator(take_over)


def parse(path: Path, shell: Shell) -> Document:
    """The page's examples, in order."""
    by_language = {
        "python": PythonEvaluator(),
        "sh": lambda example: shell.run_block(example.parsed),
        "toml": lambda example: shell.run_recipe(example.parsed),
        "text": lambda example: shell.compare_output(example.parsed),
    }
    markers = (
        Marker("not run", lambda block, reason: None),
        Marker("parsed only", lambda block, reason: shell.parse_block(block.parsed)),
        Marker("ci", lambda block, name: shell.parse_ci_block(block.parsed, name)),
    )
    return Sybil([Blocks(by_language), *markers]).parse(path)
