"""The ``fastconv`` command."""
