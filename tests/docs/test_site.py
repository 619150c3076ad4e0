"""The site, built: no warning, no broken link, nothing from elsewhere, every public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from ..conftest import CHECKOUT, ROOT
from .test_reference import listed

pytestmark = pytest.mark.skipif(
    os.environ.get("FASTCONV_TEST_SITE") != "1",
    reason="building the site takes half a minute and the extra docs; FASTCONV_TEST_SITE=1 does it",
)


class Page(HTMLParser):
    """What a page is made of, what it links to, and the places that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.places |= {found[name] for name in ("id", "name") if name in found}
        if "src" in found:
            self.loaded.append(found["src"])
        if "href" in found:
            (self.loaded if tag == "link" else self.links).append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-d", f"{folder}/kept", "docs"]
    done = subprocess.run(
        [sys.executable, *words, f"{folder}/html"],
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if path.parent.name != "_static"}


def test_every_link_leads_to_a_place(site, pages):
    assert len(pages) > 40
    wrong = []
    for path, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "data"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not target.is_file() or (place and place not in pages[target].places):
                wrong.append((str(path.relative_to(site)), link))
    assert not wrong


def test_nothing_is_loaded_from_elsewhere(site, pages):
    loaded = {name for page in pages.values() for name in page.loaded}
    assert not [name for name in loaded if urlsplit(name).scheme not in ("", "data")]
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.search(r"(@import|url\()[\s\"']*(https?:)?//", styles)


def test_every_page_and_public_name_is_in_the_site(site, pages):
    for page in [*(CHECKOUT / "docs").rglob("*.md"), *(CHECKOUT / "docs").rglob("*.rst")]:
        assert (site / page.relative_to(CHECKOUT / "docs")).with_suffix(".html") in pages
    places = set().union(*(page.places for page in pages.values()))
    assert not [name for name in listed()[1] if name not in places]
