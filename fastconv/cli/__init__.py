"""The ``fastconv`` command: one module for each of its commands."""

__all__ = ["COMMANDS"]

COMMANDS = (
    *(
        "train",
        "search",
        "recipes",
        "ensemble",
        "evaluate",
        "show",
        "predict",
        "serve",
        "convert",
        "export",
    ),
    *("augment", "summary", "run", "warmup", "info", "completion"),
)
"""The names of the commands; some of their modules take a while to import."""
