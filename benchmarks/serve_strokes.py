"""From a stroke to its answer on the page of ``fastconv serve``, in headless Chromium.

A mouse draws each digit, a point every few milliseconds. The page itself measures the time from
the first event that no answer shows yet to the answer's bars ("answer" in the browser's
performance timeline). Needs playwright and a Chromium.

Arguments: a run folder of digits, the browser, and perhaps a file for a picture of the page.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np

from .drawn_digits import PAPER, draw

__all__ = ["draw_on", "main"]

PAUSE = 0.008
"""Seconds between two points: a mouse reports 125 places a second."""


def draw_on(page: Any, digit: int, rng: np.random.Generator, pause: float = PAUSE) -> None:
    """Draw a digit on the page's paper by mouse."""
    box = page.locator("#paper").bounding_box()
    for stroke in draw(digit, rng):
        first, *others = stroke * (box["width"] / PAPER) + [box["x"], box["y"]]
        page.mouse.move(*first)
        page.mouse.down()
        for place in others:
            page.mouse.move(*place)
            time.sleep(pause)
        page.mouse.up()


def main() -> None:
    """Draw each digit once, print how long answers took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run folder of digits")
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--picture", help="a PNG file for the page, after the last digit")
    parser.add_argument("--digits", default="0123456789")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    words = [sys.executable, "-m", "fastconv", "serve", options.run, "--port", "0"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    url = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
    rng, right = np.random.default_rng(3), 0
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=options.browser, args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1100, "height": 1000})
            page.goto(url)
            page.wait_for_selector("body[data-ready]")
            time.sleep(8)  # the training images are read
            for digit in map(int, options.digits):
                page.locator("#clear").click()
                draw_on(page, digit, rng)
                time.sleep(0.5)
                right += page.locator(".answer .label").inner_text() == str(digit)
            times = page.evaluate("performance.getEntriesByName('answer').map((e) => e.duration)")
            if options.picture:
                page.screenshot(path=options.picture)
            browser.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
    p50, p95 = np.percentile(times, [50, 95])
    print(
        f"{len(times)} answers: p50 {p50:.0f} ms, p95 {p95:.0f} ms; "
        f"{right} of {len(options.digits)} digits read as they were drawn"
    )


if __name__ == "__main__":
    main()
