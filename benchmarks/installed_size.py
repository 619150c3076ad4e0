"""How much disk a package takes, with everything that it needs."""

from __future__ import annotations

from importlib import metadata

from packaging.requirements import Requirement

__all__ = ["installed_size"]


def installed_size(distribution: str) -> dict[str, int]:
    """Bytes by distribution: the named one and, over and over, what it requires.

    Extras are left out, as a plain ``pip install`` leaves them.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        The named one is not installed.
    """
    sizes: dict[str, int] = {}
    waiting = [distribution]
    while waiting:
        name = waiting.pop()
        if name in sizes:
            continue
        found = metadata.distribution(name)
        paths = (file.locate() for file in found.files or ())
        sizes[name] = sum(path.stat().st_size for path in paths if path.is_file())
        for text in found.requires or ():
            requirement = Requirement(text)
            # No extra is asked for: a marker that names one is false.
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name.lower().replace("_", "-"))
    return sizes
