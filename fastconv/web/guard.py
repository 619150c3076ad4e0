"""What stands before the server's own answers: who may ask, how often, and how errors are told.

A page of another site that the user visits could send requests to a server on the user's own
machine. Browsers say in ``Origin`` and ``Sec-Fetch-Site`` where a request comes from, and in
``Host`` the name that was asked for. A site that lets its own name point to 127.0.0.1 (DNS
rebinding) is known by that name.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections import OrderedDict
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..io.records import json_text
from .metrics import Metrics

__all__ = ["Guard", "json_answer", "refusal"]

MOST_AT_ONCE = 64
"""Requests that are answered at the same time; each may hold a body of the largest size."""

MOST_ADDRESSES = 1024
"""Addresses whose rates are remembered."""

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
"""Of every answer: the page loads nothing from elsewhere, and is shown in no other page."""


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer of plain data."""
    return Response(json_text(value), status, headers, "application/json")


def refusal(error: HTTPException) -> Response:
    """An error as an answer."""
    return json_answer({"error": error.detail}, error.status_code, dict(error.headers or {}))


class Guard:
    """ASGI middleware: checks each request, counts it, and adds headers to the answer.

    Parameters
    ----------
    app : ASGI application
    host : str
        The address or name that the server listens on.
    rate : float
        Requests that an address may send a second, on average over a second.
    paths : collection of str
        The server's own; others are counted as ``other``.
    metrics : Metrics
    """

    def __init__(
        self, app: Any, host: str, rate: float, paths: frozenset[str], metrics: Metrics
    ) -> None:
        self.app, self.rate, self.paths, self.metrics = app, rate, paths, metrics
        self.names = {"localhost", host.lower(), socket.gethostname().lower()}
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or let the application do it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, status, started = Request(scope), 500, time.perf_counter()

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        self.metrics.at_once += 1
        try:
            try:
                self._expect_allowed(request)
            except HTTPException as error:
                await refusal(error)(scope, receive, sending)
            else:
                await self.app(scope, receive, sending)
        finally:
            self.metrics.at_once -= 1
            path = request.url.path if request.url.path in self.paths else "other"
            self.metrics.answered(path, status, time.perf_counter() - started)

    def _expect_allowed(self, request: Request) -> None:
        host = request.headers.get("host", "")
        if not self._is_own(host):
            raise HTTPException(
                421,
                f"this server is not {host!r}: it answers by its address, as localhost, or by the "
                "name of --host",
            )
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise HTTPException(403, f"pages of other sites may not ask here: {origin!r}")
        site = request.headers.get("sec-fetch-site", "none")
        visits = request.method == "GET" and request.headers.get("sec-fetch-mode") == "navigate"
        if site not in ("same-origin", "none") and not visits:
            raise HTTPException(403, f"pages of other sites may not ask here: {site}")
        if self.metrics.at_once > MOST_AT_ONCE:
            raise HTTPException(
                503,
                f"{MOST_AT_ONCE} requests are being answered; ask again",
                {"retry-after": "1"},
            )
        wait = self._wait(request.client.host if request.client else "")
        if wait > 0:
            raise HTTPException(
                429,
                f"more than {self.rate:g} requests a second (--rate); wait {wait:.2g} s",
                {"retry-after": "1"},
            )

    def _is_own(self, host: str) -> bool:
        """Whether ``Host`` names this server; an address does, since no site can own that."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.lower() in self.names
        return True

    def _wait(self, address: str) -> float:
        """Seconds until this address may ask; 0 counts the request.

        Each address has as many requests as may be sent in a second, and gets them back at the
        rate (token bucket).
        """
        now, most = time.monotonic(), max(1.0, self.rate)
        left, then = self._left.pop(address, (most, now))
        left = min(most, left + (now - then) * self.rate)
        wait = (1 - left) / self.rate if left < 1 else 0.0
        self._left[address] = (left if wait else left - 1, now)
        if len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        return wait
