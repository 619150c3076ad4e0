"""Counts and times of a server, as Prometheus reads them.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

__all__ = ["Metrics"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
SIZES = (1, 2, 4, 8, 16, 32)


class Histogram:
    """How many values were at most each of some bounds, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str, label: str = "") -> Iterator[str]:
        """The lines of the text."""
        total = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            labels = ",".join(filter(None, (label, f'le="{bound}"')))
            yield f"{name}_bucket{{{labels}}} {total}"
        ending = f"{{{label}}}" if label else ""
        yield f"{name}_sum{ending} {self.sum:.9g}"
        yield f"{name}_count{ending} {total}"


class Metrics:
    """What has happened since the server began.

    Attributes
    ----------
    at_once : int
        Requests that are being answered.
    """

    def __init__(self) -> None:
        self.at_once = 0
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: dict[str, Histogram] = {}
        self.batches = Histogram(SIZES)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests[path, status] += 1
        self.seconds.setdefault(path, Histogram(SECONDS)).add(seconds)

    def predicted(self, images: int) -> None:
        """Count a batch."""
        self.batches.add(images)

    def text(self) -> str:
        """All counts, in Prometheus's format."""
        lines = [
            "# HELP fastconv_requests_total Requests answered, by path and status.",
            "# TYPE fastconv_requests_total counter",
        ]
        for (path, status), count in sorted(self.requests.items()):
            lines.append(f'fastconv_requests_total{{path="{path}",status="{status}"}} {count}')
        lines += [
            "# HELP fastconv_requests_at_once Requests that are being answered.",
            "# TYPE fastconv_requests_at_once gauge",
            f"fastconv_requests_at_once {self.at_once}",
            "# HELP fastconv_request_seconds Time from a request's head to the end of its answer.",
            "# TYPE fastconv_request_seconds histogram",
        ]
        for path, histogram in sorted(self.seconds.items()):
            lines += histogram.lines("fastconv_request_seconds", f'path="{path}"')
        lines += [
            "# HELP fastconv_batch_images Images predicted together.",
            "# TYPE fastconv_batch_images histogram",
            *self.batches.lines("fastconv_batch_images"),
        ]
        return "\n".join(lines) + "\n"
