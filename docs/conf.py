"""The site: ``sphinx-build -W docs build/site`` makes it of these pages and of the docstrings.

It loads nothing from elsewhere. It is Sphinx's because MkDocs 1 has had no release since August
2024, its theme Material ends in May 2027, and their successor is young; Sphinx reads NumPy's style
of docstrings, and its search needs no server.
"""

import posixpath
import re
import sys
from pathlib import Path

import fastconv

ROOT = Path(__file__).resolve().parents[1]

project = "fastconv"
author = "The fastconv developers"
release = fastconv.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say more: shapes and units
default_role = "py:obj"  # what docstrings have in `backticks`; code, where it is no public name
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = "fastconv"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_copy_source = False
html_show_sourcelink = False

ELSEWHERE = {
    "index": "README.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "examples": "examples/README.md",
}
"""Pages of the site whose text stands elsewhere in the project, where people look for it."""

LINK = re.compile(r"(?<=\]\()(?!https?:|#)[^)#\s]+")
FILE_NAME = re.compile(r"\[[\w/.-]+\.md\](?=\()")


def read_page(app: object, name: str, source: list[str]) -> None:
    """Put a text from elsewhere before its page's own, and lead links to such texts to the pages.

    A link that shows the name of a page's file shows the page's title instead.
    """
    source[0] = _led(source[0], f"docs/{name}", name)
    if name in ELSEWHERE:
        text = (ROOT / ELSEWHERE[name]).read_text(encoding="utf-8")
        source[0] = _led(text, ELSEWHERE[name], name) + "\n" + source[0]


def _led(text: str, path: str, name: str) -> str:
    """The text of the file `path`, with links as they have to be on the page called `name`."""
    pages = {file: f"docs/{page}.md" for page, file in ELSEWHERE.items()}

    def moved(link: re.Match[str]) -> str:
        file = posixpath.normpath(posixpath.join(posixpath.dirname(path), link[0]))
        return posixpath.relpath(pages.get(file, file), posixpath.dirname(f"docs/{name}"))

    return FILE_NAME.sub("[]", LINK.sub(moved, text))


def module_of(app: object, module: str, name: str) -> str | None:
    """The module whose page of source has a name; None: the one that defines it.

    Such a page leads back to names of one module only: not of `fastconv` and of its own.
    """
    alias = getattr(getattr(sys.modules[module], name, None), "__module__", "") == "builtins"
    return module if module == project or alias else None


def setup(app: object) -> None:
    app.connect("source-read", read_page)
    app.connect("viewcode-follow-imported", module_of)
