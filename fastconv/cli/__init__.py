"""The ``fastconv`` command: a module of its own for each that it has."""

__all__ = ["COMMANDS"]

COMMANDS = (
    *("train", "recipes", "ensemble", "evaluate", "predict", "convert", "export", "augment"),
    *("summary", "run", "warmup", "info"),
)
"""Their names; the import of some modules takes a while."""
