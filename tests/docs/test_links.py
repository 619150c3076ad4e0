"""Links of the pages lead to files that exist, and to headings in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ..conftest import CHECKOUT
from .pages import PAGES

LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(path: Path) -> str:
    """A page without its blocks and comments."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def headings(path: Path) -> set[str]:
    """What a link may have after ``#``: a heading in lower case, spaces as hyphens."""
    titles = re.findall(r"^#+ +(.+?) *$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(path: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for link in LINK.findall(prose(path)):
        file, _, heading = link.partition("#")
        if re.match(r"https?://[\w.-]+\.\w+(/|$)", link):
            continue
        target = (path.parent / file).resolve() if file else path
        inside = target.is_relative_to(CHECKOUT) or target.is_relative_to(path.parent)
        if not (inside and target.exists() and (not heading or heading in headings(target))):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("path", [*PAGES, CHECKOUT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    assert not broken(path)


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# Its `title`, here\n\n```sh\n# no heading\n```\n")
    page = tmp_path / "page.md"
    good = "[a](other.md) [b](other.md#its-title-here) [c](https://arxiv.org/abs/1) [d](#one)"
    bad = ("gone.md", "other.md#gone", "other.md#no-heading", "#two", "http:/x", "/etc/passwd")
    page.write_text(f"# One\n\n{good} ![e](gone.png)" + "".join(f" [x]({link})" for link in bad))
    assert broken(page) == ["gone.png", *bad]


def test_readme_leads_to_every_page_of_the_guides():
    """So that someone who has only the checkout finds them, too."""
    linked = set(re.findall(r"docs/([\w/-]+\.md)", prose(CHECKOUT / "README.md")))
    guides = re.findall(r"^[\w-]+$", (CHECKOUT / "docs/guides.md").read_text(), re.MULTILINE)
    assert {f"{name}.md" for name in guides} - {"examples.md"} <= linked


def test_every_page_is_in_the_navigation():
    pages = {path for kind in ("*.md", "*.rst") for path in (CHECKOUT / "docs").rglob(kind)}
    listed = {CHECKOUT / "docs/index.md"}
    for page in pages:
        _, _, entries = page.read_text().partition("toctree")
        for name in re.findall(r"^ *([\w/-]+)$", entries, re.MULTILINE):
            listed |= {page.parent / f"{name}.md", page.parent / f"{name}.rst"}
    assert pages <= listed
