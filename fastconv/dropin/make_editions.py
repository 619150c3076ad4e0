"""Make the table of editions: ``python -m fastconv.dropin.make_editions REPOSITORY ... FOLDER``.

Each repository is read at every commit of its main branch; a folder without a history counts as
the book's code, like the one in the tests. The table keeps only fingerprints, each with the date
on which it first appeared.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import editions
from .fingerprint import fingerprint
from .source import CORE, Book, Library, Source, core

__all__ = ["NAMES", "fingerprints", "main", "states"]

STAND_IN = "stand-in"

NAMES = {
    "common.functions": (
        *("cross_entropy_error", "identity_function", "mean_squared_error", "relu", "relu_grad"),
        *("sigmoid", "sigmoid_grad", "softmax", "softmax_loss", "step_function"),
        "sum_squared_error",
    ),
    "common.gradient": ("numerical_gradient", "numerical_gradient_2d"),
    "common.layers": (
        *("Affine", "BatchNormalization", "Convolution", "Dropout", "Pooling", "Relu", "Sigmoid"),
        "SoftmaxWithLoss",
    ),
    "common.optimizer": ("AdaGrad", "Adam", "Momentum", "Nesterov", "RMSprop", "SGD"),
    "common.trainer": ("Trainer",),
    "common.util": ("col2im", "conv_output_size", "im2col", "shuffle_dataset", "smooth_curve"),
    "dataset.mnist": ("load_mnist",),
}
"""The book's definitions that fastconv serves."""

Table = dict[str, dict[str, dict[str, dict[str, str]]]]


class _ByName(Book):
    """In the book itself, a definition is identified by its module and name."""

    def __init__(self) -> None:
        super().__init__({})

    def meaning(self, source: Source, name: str) -> tuple[str, str] | None:
        known = source.module in NAMES and name in NAMES[source.module]
        return (name, "") if known else None


def main(words: list[str]) -> int:
    """Write the table of these repositories and folders."""
    table: Table = {module: {name: {} for name in names} for module, names in NAMES.items()}
    for word in words:
        for date, folder in states(Path(word)):
            _add(table, folder, date)
    Path(editions.__file__).write_text(_text(table))
    return 0


def states(place: Path) -> Iterator[tuple[str, Path]]:
    """The folders of each commit, the oldest first, with its date."""
    if (place / "common").is_dir():
        yield STAND_IN, place
        return
    parts = ["common", "dataset/mnist.py"]
    log = _git(place, "log", "--reverse", "--date=short", "--format=%H %ad", "HEAD", "--", *parts)
    for line in log.decode().splitlines():
        commit, date = line.split()
        present = _git(place, "ls-tree", "--name-only", commit, *parts).decode().split()
        if "common" not in present:
            continue
        with tempfile.TemporaryDirectory() as folder:
            content = io.BytesIO(_git(place, "archive", commit, *present))
            with tarfile.open(fileobj=content) as archive:
                archive.extractall(folder, filter="data")
            yield date, Path(folder)


def _git(repository: Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", repository, *words], check=True, capture_output=True).stdout


def _add(table: Table, folder: Path, date: str) -> None:
    def find(module: str) -> Path | None:
        path = folder.joinpath(*module.split(".")).with_suffix(".py")
        return path if path.is_file() else None

    library = Library(find, _ByName())
    for module, definitions in table.items():
        source = library.module(module)
        if not isinstance(source, Source):
            continue
        for name, parts in definitions.items():
            if name not in source.definitions:
                continue
            try:
                values = list(fingerprints(source, name))
            except LookupError:  # a commit that could not run, as an import was missing
                continue
            for part, value in values:
                known = parts.setdefault(part, {})
                known[value] = min(known.get(value, date), date)


def fingerprints(source: Source, name: str) -> Iterator[tuple[str, str]]:
    """The fingerprints of a definition, and of each method."""
    node = source.definitions[name]

    def meaning(other: str) -> str:
        text = source.meaning(other, {})
        if text.startswith("unknown"):
            raise LookupError(other)
        return text

    if not isinstance(node, ast.ClassDef):
        yield CORE, fingerprint(node, meaning, name=name)
        return
    values = source.methods(node, meaning)
    yield CORE, core(values, set(values) - {"__init__"})
    yield from values.items()


def _text(table: Table) -> str:
    lines = [
        '"""The known editions of the book\'s definitions: fingerprints, made by `.make_editions`.',
        "",
        "By module, definition and part: ``__init__`` or another method, or, under an empty name,",
        "the function, or all methods of the class but ``__init__``. Each fingerprint has the date",
        "of the first state of a repository that has it so.",
        '"""',
        "",
        "EDITIONS: dict[str, dict[str, dict[str, dict[str, str]]]] = {",
    ]
    for module, definitions in table.items():
        lines.append(f'    "{module}": {{')
        for name, parts in definitions.items():
            lines.append(f'        "{name}": {{')
            for part, values in sorted(parts.items()):
                lines.append(f'            "{part}": {{')
                by_date = sorted(values.items(), key=lambda item: item[1])
                lines += [f'                "{value}": "{date}",' for value, date in by_date]
                lines.append("            },")
            lines.append("        },")
        lines.append("    },")
    return "\n".join([*lines, "}", ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
