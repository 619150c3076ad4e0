"""Digits as a hand draws them by mouse, and how well a trained network reads them.

Each digit is a few smooth strokes in one of its usual forms, changed at random: turned, sheared,
stretched, bent at each of its points, shaken by the hand, drawn at any place in any size. The
network reads each drawing in three forms: as the page shows it, scaled down; framed and centred as
a picture; and as `frame_strokes` draws it, with a pen's width as well.

Arguments: a run folder of MNIST, how many drawings of each digit, and a seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastconv import load_prepared
from fastconv.datasets.image_file import frame_digit
from fastconv.datasets.strokes import frame_strokes
from fastconv.functions import softmax

__all__ = ["FORMS", "draw", "on_paper"]

Strokes = list[NDArray[np.float64]]

FORMS: dict[int, list[list[list[tuple[float, float]]]]] = {
    0: [
        [[(0.55, 0.02), (0.2, 0.2), (0.12, 0.6), (0.4, 0.98), (0.8, 0.75), (0.85, 0.3),
          (0.52, 0.02)]],
        [[(0.45, 0.0), (0.8, 0.2), (0.85, 0.65), (0.5, 1.0), (0.15, 0.7), (0.2, 0.2), (0.5, 0.02)]],
    ],
    1: [
        [[(0.5, 0.0), (0.5, 0.5), (0.5, 1.0)]],
        [[(0.3, 0.22), (0.42, 0.12), (0.54, 0.0), (0.54, 0.0), (0.53, 0.5), (0.52, 1.0)]],
    ],
    2: [
        [[(0.15, 0.25), (0.35, 0.02), (0.75, 0.1), (0.75, 0.4), (0.4, 0.75), (0.12, 0.98),
          (0.12, 0.98), (0.5, 0.97), (0.9, 0.97)]],
        [[(0.18, 0.2), (0.5, 0.0), (0.8, 0.25), (0.55, 0.65), (0.2, 0.95), (0.2, 0.75),
          (0.45, 0.85), (0.65, 0.98), (0.92, 0.92)]],
    ],
    3: [
        [[(0.18, 0.12), (0.5, 0.0), (0.8, 0.2), (0.65, 0.43), (0.4, 0.47), (0.4, 0.47),
          (0.75, 0.55), (0.82, 0.8), (0.5, 1.0), (0.15, 0.88)]],
        [[(0.2, 0.05), (0.78, 0.05), (0.78, 0.05), (0.45, 0.4), (0.45, 0.4), (0.8, 0.55),
          (0.8, 0.85), (0.45, 1.0), (0.15, 0.88)]],
    ],
    4: [
        [[(0.3, 0.02), (0.22, 0.3), (0.15, 0.58), (0.15, 0.58), (0.5, 0.58), (0.9, 0.55)],
         [(0.68, 0.2), (0.66, 0.6), (0.62, 1.0)]],
        [[(0.25, 0.0), (0.2, 0.3), (0.3, 0.5), (0.55, 0.5), (0.78, 0.42)],
         [(0.8, 0.0), (0.77, 0.5), (0.7, 1.0)]],
    ],
    5: [
        [[(0.28, 0.03), (0.25, 0.2), (0.22, 0.43), (0.22, 0.43), (0.55, 0.4), (0.82, 0.62),
          (0.65, 0.95), (0.35, 1.0), (0.12, 0.9)], [(0.28, 0.03), (0.55, 0.04), (0.85, 0.02)]],
        [[(0.85, 0.0), (0.55, 0.02), (0.3, 0.03), (0.3, 0.03), (0.25, 0.42), (0.25, 0.42),
          (0.6, 0.42), (0.8, 0.68), (0.55, 0.98), (0.15, 0.95)]],
    ],
    6: [
        [[(0.65, 0.0), (0.35, 0.25), (0.18, 0.65), (0.35, 0.98), (0.72, 0.92), (0.75, 0.62),
          (0.45, 0.52), (0.2, 0.75)]],
        [[(0.5, 0.0), (0.28, 0.35), (0.2, 0.75), (0.45, 1.0), (0.78, 0.8), (0.6, 0.55),
          (0.3, 0.62)]],
    ],
    7: [
        [[(0.12, 0.05), (0.5, 0.04), (0.85, 0.04), (0.85, 0.04), (0.6, 0.45), (0.42, 1.0)]],
        [[(0.15, 0.05), (0.5, 0.06), (0.85, 0.05), (0.85, 0.05), (0.62, 0.5), (0.5, 1.0)],
         [(0.38, 0.5), (0.6, 0.49), (0.82, 0.48)]],
    ],
    8: [
        [[(0.75, 0.15), (0.45, 0.0), (0.22, 0.2), (0.5, 0.45), (0.78, 0.75), (0.5, 1.0),
          (0.2, 0.78), (0.5, 0.45), (0.75, 0.18)]],
        [[(0.5, 0.46), (0.25, 0.25), (0.48, 0.0), (0.75, 0.22), (0.5, 0.46), (0.2, 0.75),
          (0.5, 1.0), (0.8, 0.75), (0.5, 0.46)]],
    ],
    9: [
        [[(0.78, 0.2), (0.5, 0.02), (0.22, 0.22), (0.4, 0.48), (0.72, 0.38), (0.78, 0.2),
          (0.78, 0.2), (0.74, 0.6), (0.68, 1.0)]],
        [[(0.75, 0.12), (0.45, 0.0), (0.2, 0.25), (0.45, 0.48), (0.76, 0.22), (0.76, 0.22),
          (0.75, 0.7), (0.55, 0.98), (0.25, 0.92)]],
    ],
}  # fmt: skip
"""The usual forms of each digit: strokes of points in a square, x to the right and y down.

A point that stands twice is a corner.
"""

PAPER = 280
"""Side of the paper, in pixels of the page."""

WIDTH = 12
"""Width of the line that the page shows."""


def draw(digit: int, rng: np.random.Generator) -> Strokes:
    """Strokes (n, 2) of one digit on the paper, in pixels, at random."""
    forms = FORMS[digit]
    form = forms[rng.integers(len(forms))]
    angle, shear = rng.normal(0, np.radians(6)), rng.normal(0, 0.12)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag([rng.uniform(0.6, 1.0), 1.0])
    change = turn @ np.array([[1, -shear], [0, 1]]) @ stretch
    size = rng.uniform(80, 230)
    bent = [_smooth(_bend(np.array(stroke), rng)) @ change.T * size for stroke in form]
    every = np.concatenate(bent)
    low, high = every.min(0), every.max(0)
    place = rng.uniform(np.minimum(5, PAPER - 5 - (high - low)), PAPER - 5 - (high - low)) - low
    return [
        np.clip(stroke + place + rng.normal(0, 0.7, stroke.shape), 1, PAPER - 1) for stroke in bent
    ]


def _bend(points: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Control points, each moved a little; corners stay corners."""
    moves = rng.normal(0, 0.03, points.shape)
    for i in range(1, len(points)):
        if (points[i] == points[i - 1]).all():
            moves[i] = moves[i - 1]
    return points + moves


def _smooth(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A Catmull-Rom curve through the control points."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    t = np.linspace(0, 1, 9)[:-1, None]
    parts = [
        0.5
        * (
            2 * b
            + (c - a) * t
            + (2 * a - 5 * b + 4 * c - d) * t**2
            + (3 * b - 3 * c + d - a) * t**3
        )
        for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False)
    ]
    return np.concatenate([*parts, points[-1:]])


def on_paper(strokes: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """The drawing as the page shows it, (H, W): 1 paper, 0 ink."""
    from PIL import Image, ImageDraw

    paper = Image.new("L", (PAPER, PAPER), 255)
    pen = ImageDraw.Draw(paper)
    for stroke in strokes:
        pen.line([tuple(point) for point in stroke], fill=0, width=WIDTH, joint="curve")
        for x, y in (stroke[0], stroke[-1]):
            pen.ellipse((x - WIDTH / 2, y - WIDTH / 2, x + WIDTH / 2, y + WIDTH / 2), fill=0)
    return np.asarray(paper, np.float32) / np.float32(255)


def as_it_is(strokes: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """The paper scaled down to 28x28, as it is."""
    side = PAPER // 28
    return 1 - on_paper(strokes).reshape(1, 28, side, 28, side).mean((2, 4))


WAYS = {
    "as it is, scaled down": as_it_is,
    "scaled to 20x20, centred by mass": lambda strokes: frame_digit(on_paper(strokes)),
    "and of a pen's width (frame_strokes)": frame_strokes,
}


def main() -> None:
    """Print the accuracy in each form, and which digits are misread in the last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run folder of MNIST")
    parser.add_argument("--each", type=int, default=50, help="drawings of each digit")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    labels = np.repeat(np.arange(10), options.each)
    drawings = [draw(digit, rng) for digit in labels]
    network = load_prepared(options.run, batch_size=100)
    for name, way in WAYS.items():
        images = np.stack([way(strokes) for strokes in drawings])
        parts = [network.predict(images[at : at + 100]) for at in range(0, len(images), 100)]
        answers = np.concatenate(parts).argmax(1)
        print(f"{name}: {100 * (answers == labels).mean():.1f} % of {len(labels)}")
    wrong = answers != labels
    pairs = ", ".join(f"{t} as {a}" for t, a in zip(labels[wrong], answers[wrong], strict=True))
    sure = softmax(np.concatenate(parts)).max(1).mean()
    print(f"misread: {pairs or 'none'}; mean probability of the answers {100 * sure:.1f} %")


if __name__ == "__main__":
    main()
