"""The server: a page to draw on, and predictions for other programs.

``POST /predict`` takes a picture or an array and answers in JSON; `ServedRun.images` says in which
forms. ``POST /inside`` adds what the page shows of the network. ``GET /runs``, ``/health`` and
``/metrics`` are about the server itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    ArgumentError,
    DataCorrupt,
    DTypeError,
    FastconvError,
    LabelError,
    MissingDependency,
    ShapeError,
)
from ..geometry import as_int

try:
    import uvicorn
except ImportError:
    raise MissingDependency("serving needs uvicorn: pip install uvicorn") from None
try:
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.routing import Route
except ImportError:
    raise MissingDependency("serving needs Starlette: pip install starlette") from None

from .batches import Batcher
from .guard import Guard, json_answer, refusal
from .inside import Neighbours, layer_outputs, picture, what_decided
from .metrics import Metrics
from .runs import ServedRun

__all__ = ["Limits", "ServedRun", "Server", "listen", "make_app"]

Array = NDArray[Any]

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}

PATIENCE = 30.0
"""Seconds in which a request's body must have come."""

BACKLOG = 512
"""Connections that may wait to be accepted."""

GRACE = 5
"""Seconds that requests have to end when the server ends."""

STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (DataCorrupt, 400),
    (ShapeError, 422),
    (DTypeError, 422),
    (LabelError, 422),
    (ArgumentError, 422),
    (MissingDependency, 501),
)
"""The status of each kind of error; what is none of them is the server's own."""


@dataclass(frozen=True)
class Limits:
    """What the server allows.

    Attributes
    ----------
    bytes : int
        Of a request's body.
    rate : float
        Requests a second from one address.
    """

    bytes: int = 10 * 2**20
    rate: float = 1000.0


class Answers:
    """The server's answers, for the runs that it serves; `routes` says which to what."""

    def __init__(self, runs: Sequence[ServedRun], limits: Limits) -> None:
        self.runs, self.limits, self.metrics = list(runs), limits, Metrics()
        self.batchers = [
            Batcher(run.probabilities, run.most, self.metrics.predicted) for run in runs
        ]
        self.neighbours = [Neighbours(run) for run in runs]
        self._looking = ThreadPoolExecutor(1, "fastconv-inside")

    def routes(self) -> list[Route]:
        """Paths and what answers there."""
        pages = [Route(path, self.page, methods=["GET"]) for path in FILES]
        return [
            *pages,
            Route("/predict", self.predict, methods=["POST"]),
            Route("/inside", self.inside, methods=["POST"]),
            Route("/runs", self.about, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/metrics", self.counts, methods=["GET"]),
        ]

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Read training images meanwhile; end the threads at the end."""
        threading.Thread(target=self._load, name="fastconv-neighbours", daemon=True).start()
        yield
        for batcher in self.batchers:
            batcher.close()
        self._looking.shutdown()

    def _load(self) -> None:
        for run, neighbours in zip(self.runs, self.neighbours, strict=True):
            try:
                if run.knows_data:
                    neighbours.load()
                else:
                    neighbours.problem = "they do not come with these weights"
            except (FastconvError, OSError, MemoryError) as error:
                neighbours.problem = f"they cannot be read: {error}"
            finally:
                neighbours.pending = False

    async def page(self, request: Request) -> Response:
        """A file of the page."""
        name, kind = FILES[request.url.path]
        return Response((PAGE / name).read_bytes(), headers={"content-type": kind})

    async def about(self, request: Request) -> Response:
        """What is served."""
        return json_answer({"runs": [run.about() for run in self.runs]})

    async def health(self, request: Request) -> Response:
        """Whether predictions can be had."""
        return json_answer({"status": "ok"})

    async def counts(self, request: Request) -> Response:
        """The metrics."""
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(self.metrics.text(), headers={"content-type": kind})

    async def predict(self, request: Request) -> Response:
        """Probabilities of the images in the body."""
        number = self._number(request, "run", 1, len(self.runs)) - 1
        images = await self._images(request, self.runs[number])
        probabilities = await self.batchers[number](images)
        names = self.runs[number].facts.class_names
        predictions = [
            {
                "label": names[int(shares.argmax())],
                "probabilities": dict(zip(names, shares.tolist(), strict=True)),
            }
            for shares in probabilities
        ]
        return json_answer({"run": self.runs[number].name, "predictions": predictions})

    async def inside(self, request: Request) -> Response:
        """What the network makes of one image."""
        number = self._number(request, "run", 1, len(self.runs)) - 1
        run, batcher = self.runs[number], self.batchers[number]
        images = await self._images(request, run)
        if len(images) != 1:
            raise ShapeError(f"/inside: expected one image, got {len(images)}")
        names = run.facts.class_names
        label = self._number(request, "class", -1, len(names) - 1)
        if label < 0:
            label = int((await batcher(images))[0].argmax())
        image = images[0]
        background = 0.0 if run.draws or run.facts.normalization else float(image.mean())
        weights = await what_decided(image, label, background, batcher, run.most)
        loop = asyncio.get_running_loop()
        layers, nearest = await loop.run_in_executor(self._looking, self._look, number, image)
        return json_answer(
            {
                "run": run.name,
                "image": picture(run.shown(images)),
                "explained": names[label],
                "method": "occlusion",
                "weights": np.round(weights, 4).tolist(),
                "layers": layers,
                "nearest": nearest,
            }
        )

    def _look(self, number: int, image: Array) -> tuple[Any, Any]:
        run = self.runs[number]
        return layer_outputs(run.network, image), self.neighbours[number].of(image)

    def _number(self, request: Request, name: str, least: int, most: int) -> int:
        text = request.query_params.get(name, str(least))
        try:
            return as_int("the request", name, int(text), least, most)
        except ValueError:
            told = f"{name}={text}: expected a whole number, {least} to {most}"
            raise HTTPException(422, told) from None

    async def _images(self, request: Request, run: ServedRun) -> Array:
        body = await self._body(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.startswith("multipart/"):
            raise HTTPException(
                415, "expected a picture or JSON as the body itself (curl --data-binary @FILE)"
            )
        # Programs that send bytes often say nothing, or a form; no picture begins like this.
        is_json = kind == "application/json" or body.lstrip()[:1] in (b"{", b"[")
        return await run_in_threadpool(run.images, body, is_json)

    async def _body(self, request: Request) -> bytes:
        most = self.limits.bytes
        text = f"the body is larger than {most / 2**20:g} MiB (--max-size)"
        too_large = HTTPException(413, text, {"connection": "close"})
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(PATIENCE):
                async for part in request.stream():
                    body += part
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            raise HTTPException(
                408, f"the body did not come within {PATIENCE:g} s", {"connection": "close"}
            ) from None
        if not body:
            raise HTTPException(400, "expected a picture or JSON in the body, got nothing")
        return bytes(body)


async def _told(request: Request, error: Exception) -> Response:
    """An error in JSON."""
    if isinstance(error, HTTPException):
        return refusal(error)
    if isinstance(error, ClientDisconnect):
        return json_answer({"error": "the client has gone"}, 400)
    for kind, status in STATUSES:
        if isinstance(error, kind):
            return json_answer({"error": " ".join(str(error).split())}, status)
    return json_answer({"error": "a fault of the server's, which has printed it"}, 500)


def make_app(runs: Sequence[ServedRun], host: str, limits: Limits) -> tuple[Any, Metrics]:
    """The server as an ASGI application, and what it counts.

    Parameters
    ----------
    runs : sequence of ServedRun
        The first answers unless a request names another by ``?run=2``.
    host : str
        What the server listens on.
    limits : Limits
    """
    answers = Answers(runs, limits)
    own = [kind for kind, _ in STATUSES]
    told: Any = dict.fromkeys([HTTPException, ClientDisconnect, *own, Exception], _told)
    routes = answers.routes()
    app = Starlette(routes=routes, exception_handlers=told, lifespan=answers.lifespan)
    paths = frozenset(route.path for route in routes)
    return Guard(app, host, limits.rate, paths, answers.metrics), answers.metrics


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one.

    Raises
    ------
    ArgumentError
        Nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named: else each answer, whose
    # head and body are sent one after the other, waits some 40 ms for an acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix")
        listening.bind((host, port))
        listening.listen(BACKLOG)
        return listening
    except OSError as error:
        listening.close()
        raise ArgumentError(
            f"cannot listen on {host}, port {port}: {error}; choose another by --host or --port"
        ) from None


class Server(uvicorn.Server):
    """Answers until Ctrl-C or SIGTERM, which its ``run`` passes on at the end.

    Requests that have begun are answered first, for `GRACE` seconds at most.

    Parameters
    ----------
    app : ASGI application
    ready : callable
        Is called when the first request can come.
    """

    def __init__(self, app: Any, ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=GRACE,
        )
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say so."""
        await super().startup(sockets)
        if self.started:
            self.ready()
