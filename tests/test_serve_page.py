"""The page of ``fastconv serve`` in a browser: FASTCONV_TEST_BROWSER names a Chromium."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the server needs Starlette")
pytest.importorskip("uvicorn", reason="the server needs uvicorn")

from benchmarks.serve_strokes import draw_on
from fastconv.datasets.strokes import frame_strokes
from fastconv.experiment.settings import new_config
from fastconv.models import lenet
from fastconv.models.ensemble import Ensemble
from fastconv.web.inside import Neighbours
from fastconv.web.runs import ServedRun

from .test_serve import Client, digits_run, pictures_run, png, serving

pytestmark = pytest.mark.skipif(
    "FASTCONV_TEST_BROWSER" not in os.environ, reason="FASTCONV_TEST_BROWSER names no Chromium"
)

SQUEEZED = """() => [...document.querySelectorAll(".layer canvas")].some(
    (maps) => maps.clientWidth < parseInt(maps.style.width)
)"""

SIZES = {"wide": (1280, 900), "narrow": (360, 740)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="drives the browser")
    with playwright.sync_playwright() as started:
        path = os.environ["FASTCONV_TEST_BROWSER"]
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    pytest.importorskip("sklearn", reason="the training images are scikit-learn's")
    with serving(digits_run("first", 0, knows_data=True), digits_run("second", 1)) as client:
        yield client


@pytest.fixture(scope="module")
def pictures() -> Iterator[Client]:
    with serving(pictures_run()) as client:
        yield client


class Watched:
    """A page, with all that it has asked for and complained of."""

    def __init__(self, browser: Any, client: Client, size: str = "wide", **options: Any) -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.page = self.context.new_page()
        self.asked: list[Any] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.url = f"http://127.0.0.1:{client.port}/"
        self.page.goto(self.url)
        self.page.wait_for_selector("body[data-ready]")

    def labels(self) -> list[str]:
        return [text.strip() for text in self.page.locator(".answer .label").all_inner_texts()]

    def strokes(self) -> list[list[list[float]]]:
        """The strokes that the page asked about last."""
        bodies = [request.post_data for request in self.asked if "/predict" in request.url]
        return json.loads(bodies[-1])["strokes"]

    def expect_answer(self, images: Any = None) -> None:
        """Wait until the page shows what the two networks say of the strokes, or of the images."""
        self.page.wait_for_selector(".inside canvas.weights", state="visible")
        self.page.wait_for_timeout(400)
        if images is None:
            images = frame_strokes([np.array(stroke) for stroke in self.strokes()])[None]
        expected = [lenet(seed=seed).predict_proba(images)[0] for seed in (0, 1)]
        assert self.labels() == [str(each.argmax()) for each in expected]
        assert not self.page.evaluate(SQUEEZED)
        shown = self.page.locator(".answer .share").all_inner_texts()
        shares = [float(text.removesuffix(" %")) for text in shown]
        np.testing.assert_allclose(shares, 100 * np.concatenate(expected), atol=0.051)

    def end(self) -> None:
        """Check that all went well meanwhile."""
        assert self.complaints == []
        own = (self.url, "blob:", "data:")
        assert [r.url for r in self.asked if not r.url.startswith(own)] == []
        wider = "document.documentElement.scrollWidth - innerWidth"
        assert self.page.evaluate(wider) <= 0
        self.context.close()


def test_training_images_are_shown_once_they_are_read(browser, monkeypatch):
    pytest.importorskip("sklearn", reason="the training images are scikit-learn's")
    may_read, load = threading.Event(), Neighbours.load
    monkeypatch.setattr(Neighbours, "load", lambda self: may_read.wait(30) and load(self))
    with serving(digits_run("first", 0, knows_data=True)) as client:
        watched = Watched(browser, client)
        draw_on(watched.page, 7, np.random.default_rng(0), pause=0)
        watched.page.wait_for_selector(".among:visible")
        assert "still being read" in watched.page.locator(".among").inner_text()
        may_read.set()  # and nothing is drawn
        watched.page.wait_for_selector(".nearest canvas", state="visible")
        watched.page.set_viewport_size({"width": 400, "height": 700})
        watched.page.wait_for_function(f"() => innerWidth === 400 && !({SQUEEZED})()")
        watched.end()


def test_a_certain_answer_takes_one_line(browser):
    network = lenet(seed=0)
    network.layers[-1].b[1] = 1000
    run = ServedRun("certain", new_config({"model": "lenet"}), Ensemble([network]), False)
    with serving(run, digits_run("second", 1)) as client:
        watched = Watched(browser, client, "narrow")
        draw_on(watched.page, 1, np.random.default_rng(0), pause=0)
        watched.page.wait_for_selector(".inside canvas.weights", state="visible")
        assert watched.page.locator(".share").nth(1).inner_text() == "100.0 %"
        heights = {bar.bounding_box()["height"] for bar in watched.page.locator(".bar").all()}
        assert len(heights) == 1
        watched.end()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_digit_is_drawn_by_mouse(browser, client, size, scheme):
    watched = Watched(browser, client, size, color_scheme=scheme)
    page = watched.page
    assert watched.labels() == ["", ""]
    draw_on(page, 3, np.random.default_rng(0), pause=0.004)
    asked = sum("/predict?run=1" in request.url for request in watched.asked)
    assert asked > 5  # it answers while the pen moves
    watched.expect_answer()
    # Inside: the image, the places, the nearest images of the run that knows its data.
    assert page.locator(".inside:visible").count() == 2
    assert "by occlusion" in page.locator(".why").first.inner_text()
    assert page.locator(".nearest").first.locator("canvas").count() == 8
    among = page.locator(".among").all_inner_texts()
    assert "Of 1,437 training images" in among[0]
    assert "they do not come with these weights" in among[1]
    names = page.locator(".inside").first.locator(".layer .name").all_inner_texts()
    assert names[0] == "Convolution 1 + Relu"
    brightest = page.locator(".layer canvas").first.evaluate(
        "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.reduce("
        "(most, value, i) => (i % 4 == 0 ? Math.max(most, value) : most), 0)"
    )
    assert brightest == 255
    # Another class can be explained.
    page.locator(".bar").nth(4).click()
    page.wait_for_function("document.querySelector('.why').textContent.includes('for 4 ')")
    assert page.locator(".bar[aria-pressed=true]").count() == 2
    # A screen reader is told once it rests.
    assert re.fullmatch(r"first: \d, [\d.]+ %; second: \d, [\d.]+ %", page.inner_text("#said"))
    page.locator("#undo").click()
    page.locator("#clear").click()
    page.wait_for_timeout(300)
    assert watched.labels() == ["", ""]
    assert page.locator(".inside:visible").count() == 0
    watched.end()


def test_a_digit_is_drawn_by_keys(browser, client):
    watched = Watched(browser, client)
    page = watched.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "paper"
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Space")
    for _ in range(10):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")  # the pen is up
    watched.expect_answer()
    [stroke] = watched.strokes()
    assert len(stroke) == 11
    assert stroke[0] == [140, 108] and stroke[-1] == [140, 188]
    page.keyboard.press("Space")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    assert len(watched.strokes()) == 2
    page.keyboard.press("Backspace")
    watched.expect_answer()
    assert len(watched.strokes()) == 1
    page.keyboard.press("Delete")
    page.wait_for_timeout(300)
    assert watched.labels() == ["", ""]
    # On from the paper, every control can be reached.
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.className")
        )
    assert reached == ["undo", "clear", "bar", "bar"]
    watched.end()


def test_a_digit_is_drawn_by_finger(browser, client):
    watched = Watched(browser, client, "narrow", has_touch=True, is_mobile=True)
    page = watched.page
    box = page.locator("#paper").bounding_box()
    touch = page.context.new_cdp_session(page)
    before = page.evaluate("scrollY")
    for kind, share in [("Start", 0.2), ("Move", 0.4), ("Move", 0.6), ("Move", 0.8), ("End", None)]:
        places = (
            [{"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] * share}]
            if share
            else []
        )
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": places})
    watched.expect_answer()
    [stroke] = watched.strokes()
    assert stroke[-1][1] - stroke[0][1] > 100
    assert page.evaluate("scrollY") == before  # the page did not move
    watched.end()


def test_pictures_are_opened_and_pasted(browser, client):
    pixels = np.full((40, 40), 250, np.uint8)
    pixels[8:32, 18:23] = 10
    content = png(pixels)
    image = client.runs[0].images(content, False)
    watched = Watched(browser, client)
    page = watched.page
    page.set_input_files(
        "#file", files=[{"name": "1.png", "mimeType": "image/png", "buffer": content}]
    )
    watched.expect_answer(image)
    assert page.locator("#preview").is_visible()
    draw_on(page, 7, np.random.default_rng(0), pause=0)  # takes its place
    watched.expect_answer()
    assert not page.locator("#preview").is_visible()
    page.evaluate(
        """(bytes) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "1.png", { type: "image/png" }));
            const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
            document.dispatchEvent(event);
        }""",
        list(content),
    )
    page.wait_for_selector("#preview", state="visible")
    watched.expect_answer(image)
    page.set_input_files(
        "#file", files=[{"name": "x.png", "mimeType": "image/png", "buffer": b"x"}]
    )
    page.wait_for_selector("#problem", state="visible")
    assert "not an image of a kind that is read" in page.inner_text("#problem")
    watched.end()


def test_a_run_on_pictures_has_no_paper(browser, pictures):
    watched = Watched(browser, pictures, "narrow")
    page = watched.page
    assert not page.locator("#paper").is_visible()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3)).astype(np.uint8)
    content = png(pixels)
    page.set_input_files(
        "#file", files=[{"name": "a.png", "mimeType": "image/png", "buffer": content}]
    )
    page.wait_for_selector(".inside canvas.seen", state="visible")
    image = pictures.runs[0].images(content, False)
    answer = pictures.runs[0].network.predict(image).argmax()
    assert watched.labels() == [("cat", "dog", "owl")[answer]]
    seen = page.locator("canvas.seen").evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, 6, 8).data]"
    )
    assert np.array_equal(np.reshape(seen, (8, 6, 4))[..., :3], pixels)
    watched.end()


def test_a_server_that_has_ended_is_said(browser):
    with serving(digits_run()) as client:
        watched = Watched(browser, client)
    draw_on(watched.page, 1, np.random.default_rng(0), pause=0)
    watched.page.wait_for_selector("#problem", state="visible")
    assert "does not answer" in watched.page.inner_text("#problem")
    watched.end()
