"""README, docs, docstrings and help: what they show is run."""
