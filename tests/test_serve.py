"""``fastconv serve``: what its server answers, refuses and counts."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the server needs Starlette")
pytest.importorskip("uvicorn", reason="the server needs uvicorn")

from fastconv import DeepConvNet
from fastconv.cli import main as cli
from fastconv.datasets import DATASETS, Normalization
from fastconv.datasets.record import ImageFacts
from fastconv.datasets.strokes import frame_strokes
from fastconv.experiment.data import prepare_picture
from fastconv.experiment.settings import new_config
from fastconv.layers import Affine, Convolution, Pooling, Relu
from fastconv.layers.containers import Chain
from fastconv.models import lenet
from fastconv.models.ensemble import Ensemble
from fastconv.network import Network
from fastconv.web import guard, inside
from fastconv.web.batches import Batcher
from fastconv.web.runs import ServedRun
from fastconv.web.server import PAGE, Limits, Server, listen, make_app

from .cli.conftest import environment

STROKES = [[[10, 10], [60, 12], [40, 100]], [[20, 50], [70, 50]]]
PICTURES = ImageFacts(
    (3, 8, 6),
    ("cat", "dog", "owl"),
    Normalization((0.3, 0.4, 0.5), (0.2, 0.3, 0.4)),
    0.2,
    "0" * 64,
)


@dataclass
class Client:
    """Sends requests to a server of this process."""

    port: int
    runs: list[ServedRun]

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, content (plain data if it is JSON) and headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        got = {name.lower(): value for name, value in answer.getheaders()}
        if got["content-type"] == "application/json":
            return answer.status, json.loads(content), got
        return answer.status, content.decode(), got

    def predict(self, value: Any, path: str = "/predict") -> tuple[int, Any]:
        body = value if isinstance(value, bytes) else json.dumps(value)
        return self.ask("POST", path, body)[:2]


@contextmanager
def serving(*runs: ServedRun, **limits: Any) -> Iterator[Client]:
    ready = threading.Event()
    app, _ = make_app(runs, "127.0.0.1", Limits(**limits))
    with listen("127.0.0.1", 0) as listening:
        server = Server(app, ready.set)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            assert ready.wait(30)
            yield Client(listening.getsockname()[1], list(runs))
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def digits_run(name: str = "first", seed: int = 0, knows_data: bool = False) -> ServedRun:
    config = new_config({"model": "lenet", "seed": seed})
    return ServedRun(name, config, Ensemble([lenet(seed=seed)]), knows_data)


def pictures_run() -> ServedRun:
    config = replace(new_config({"model": "lenet", "data": "photos"}), image_facts=PICTURES)
    rng, zeros = np.random.default_rng(0), np.zeros(4, np.float32)
    filters = rng.normal(0, 1, (4, 3, 3, 3)).astype(np.float32)
    weights = rng.normal(0, 1, (4 * 6 * 4, 3)).astype(np.float32)
    network = Network([Convolution(filters, zeros), Relu(), Affine(weights, zeros[:3])])
    return ServedRun("photos", config, Ensemble([network]), False)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(digits_run(), digits_run("second", 1)) as client:
        yield client


@pytest.fixture(scope="module")
def pictures() -> Iterator[Client]:
    with serving(pictures_run()) as client:
        yield client


def png(pixels: np.ndarray) -> bytes:
    image = pytest.importorskip("PIL.Image", reason="writes and reads pictures")
    file = io.BytesIO()
    image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def shares(answer: Any) -> list[list[float]]:
    return [list(each["probabilities"].values()) for each in answer["predictions"]]


# ---- What is answered ---------------------------------------------------------------


@pytest.mark.parametrize(("run", "seed"), [("", 0), ("?run=1", 0), ("?run=2", 1)])
def test_strokes_are_framed_and_read_by_the_run_that_is_named(client, run, seed):
    status, answer = client.predict({"strokes": STROKES}, f"/predict{run}")
    image = frame_strokes([np.array(stroke, float) for stroke in STROKES])
    expected = lenet(seed=seed).predict_proba(image[None])
    assert status == 200
    assert answer["run"] == ["first", "second"][seed]
    np.testing.assert_allclose(shares(answer), expected, rtol=1e-5)
    [prediction] = answer["predictions"]
    assert prediction["label"] == str(expected.argmax())
    assert list(prediction["probabilities"]) == list("0123456789")


def test_arrays_of_one_image_and_of_several(client):
    images = np.random.default_rng(0).uniform(0, 1, (3, 1, 28, 28)).astype(np.float32)
    expected = lenet(seed=0).predict_proba(images)
    several = client.predict(images.tolist())[1]
    np.testing.assert_allclose(shares(several), expected, rtol=1e-4)
    for one in (images[1], images[1, 0]):
        np.testing.assert_allclose(
            shares(client.predict(one.tolist())[1]), expected[1:2], rtol=1e-4
        )


def test_a_picture_of_a_digit(client, tmp_path):
    pixels = np.full((90, 70), 240, np.uint8)
    pixels[20:60, 30:38] = 20
    content = png(pixels)
    (tmp_path / "one.png").write_bytes(content)
    image = prepare_picture(str(tmp_path / "one.png"), client.runs[0].facts)
    expected = lenet(seed=0).predict_proba(image[None])
    for kind in ("image/png", "application/octet-stream", "application/x-www-form-urlencoded"):
        status, answer, _ = client.ask("POST", "/predict", content, content_type=kind)
        assert status == 200
        np.testing.assert_allclose(shares(answer), expected, rtol=1e-5)


def test_pictures_of_a_run_on_images_are_normalized_like_its_own(pictures, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3)).astype(np.uint8)
    content = png(pixels)
    image = pixels.transpose(2, 0, 1) / 255
    mean, deviation = np.array([0.3, 0.4, 0.5]), np.array([0.2, 0.3, 0.4])
    normalized = (image - mean[:, None, None]) / deviation[:, None, None]
    expected = pictures.runs[0].network.predict_proba(normalized[None])
    for body in (content, image.tolist(), [image.tolist()]):
        status, answer = pictures.predict(body)
        assert status == 200
        np.testing.assert_allclose(shares(answer), expected, atol=1e-4)
    assert list(answer["predictions"][0]["probabilities"]) == ["cat", "dog", "owl"]
    status, seen = pictures.predict(content, "/inside")
    assert status == 200
    assert decoded(seen["image"]).tobytes() == pixels.transpose(2, 0, 1).tobytes()
    assert pictures.predict({"strokes": STROKES}) == (
        422,
        {"error": "the request: photos takes pictures, not strokes"},
    )


def test_facts_of_the_runs(client, pictures):
    status, answer, _ = client.ask("GET", "/runs")
    assert status == 200
    first, second = answer["runs"]
    assert (first["name"], second["name"]) == ("first", "second")
    assert first["classes"] == list("0123456789")
    assert (first["model"], first["shape"], first["draws"]) == ("lenet", [1, 28, 28], True)
    assert not pictures.ask("GET", "/runs")[1]["runs"][0]["draws"]


def test_large_images_come_in_small_batches():
    config = new_config({"model": "lenet"})
    for side, most in ((8, 32), (64, 16), (224, 1), (600, 1)):
        facts = ImageFacts((3, side, side), ("a", "b"), None, None, "0" * 64)
        layers = [
            Pooling(side, side, side),
            Affine(np.ones((3, 2), np.float32), np.zeros(2, np.float32)),
        ]
        run = ServedRun("x", replace(config, image_facts=facts), Ensemble([Network(layers)]), False)
        assert run.most == most


# ---- What is refused ----------------------------------------------------------------

IMAGE = np.zeros((1, 28, 28)).tolist()


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "got nothing"),
        (b"rubbish", 400, "not an image of a kind that is read"),
        (b"[1, 2", 400, "not JSON"),
        (b'{"strokes": 3}', 400, r"Expected `array`, got `int` - at `\$.strokes`"),
        (b'{"strokes": [[[1, "a"]]]}', 400, "Expected `float`, got `str`"),
        (b'{"lines": []}', 400, "missing required field `strokes`"),
        (b"[" * 100_000, 400, "not JSON"),
        ({"strokes": []}, 422, "expected 1 to 10,000 points, got 0"),
        ({"strokes": [[]]}, 422, r"got \(0, 2\)"),
        ({"strokes": [[[1e300, 0], [0, 0]]]}, 422, "places within"),
        ({"strokes": [[[0, 0]] * 10_001]}, 422, "got 10,001"),
        ({"strokes": [[[0, 0]]] * 1001}, 400, "length <= 1000"),
        ([], 422, r"array of \(0,\), expected images of 1 x 28 x 28, one or up to 64"),
        ([[1, 2], [3]], 422, "lists of several lengths"),
        ([["a"]], 422, "not an array of numbers"),
        ([[None]], 422, "not an array of numbers"),
        (np.zeros((1, 28, 27)).tolist(), 422, r"an array of \(1, 28, 27\)"),
        ([[[[IMAGE]]]], 422, "an array of"),
        ([IMAGE] * 65, 422, r"an array of \(65, 1, 28, 28\)"),
        ([[[255.0] * 28] * 28], 422, "numbers from 255 to 255, expected 0 to 1"),
        (b"[[" + b",".join([b"[" + b",".join([b"NaN"] * 28) + b"]"] * 28) + b"]]", 422, "nan"),
    ],
)
def test_bodies_that_are_refused(client, body, status, text):
    got, answer = client.predict(body)
    assert got == status
    assert list(answer) == ["error"]
    assert re.search(text, answer["error"])


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/nothing", 404, "Not Found"),
        ("GET", "/../pyproject.toml", 404, "Not Found"),
        ("GET", "/predict", 405, "Method Not Allowed"),
        ("POST", "/", 405, "Method Not Allowed"),
        ("POST", "/predict?run=3", 422, "run=3: expected a whole number, 1 to 2"),
        ("POST", "/predict?run=x", 422, "run=x"),
        ("POST", "/inside?class=10", 422, "class=10: expected a whole number, -1 to 9"),
        ("POST", "/inside?class=--1", 422, "class=--1"),
    ],
)
def test_paths_that_are_refused(client, method, path, status, text):
    got, answer, headers = client.ask(method, path, json.dumps(IMAGE) if method == "POST" else None)
    assert got == status
    assert text in answer["error"]
    assert headers["x-content-type-options"] == "nosniff"


def test_forms_are_refused(client):
    status, answer, _ = client.ask("POST", "/predict", b"--x", content_type="multipart/form-data")
    assert status == 415
    assert "--data-binary" in answer["error"]


def test_inside_takes_one_image(client):
    assert client.predict([IMAGE, IMAGE], "/inside") == (
        422,
        {"error": "/inside: expected one image, got 2"},
    )


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:9", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("192.168.1.2:8000", 200),  # an address belongs to no other site
        (socket.gethostname(), 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8000", 421),
        ("", 421),
        ("[::1", 421),
    ],
)
def test_only_its_own_names_are_answered(client, host, status):
    assert client.ask("GET", "/health", host=host)[0] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # a program
        ({"origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000"}, 200),
        ({"origin": "http://127.0.0.1:9000", "host": "127.0.0.1:8000"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, 403),
    ],
)
def test_pages_of_other_sites_cannot_ask(client, headers, status):
    body = json.dumps({"strokes": STROKES})
    assert client.ask("POST", "/predict", body, **headers)[0] == status


def test_a_link_of_another_site_may_lead_here(client):
    how = {"sec_fetch_site": "cross-site"}
    assert client.ask("GET", "/", sec_fetch_mode="navigate", **how)[0] == 200
    assert client.ask("GET", "/runs", sec_fetch_mode="no-cors", **how)[0] == 403


def test_limits_of_size():
    with serving(digits_run(), bytes=1000) as client:
        assert client.predict(b" " * 1000)[0] == 400  # read, and no picture
        status, answer, _ = client.ask("POST", "/predict", b" " * 1001)
        assert (status, answer["error"]) == (
            413,
            "the body is larger than 0.000953674 MiB (--max-size)",
        )
        with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
            head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n"
            connection.sendall(head.encode())  # refused before it comes
            assert connection.recv(2000).startswith(b"HTTP/1.1 413 ")
        parts = iter([b" " * 600] * 2)
        status, _, headers = client.ask("POST", "/predict", parts)  # chunked: no length is said
        assert status == 413
        assert headers["connection"] == "close"


def test_a_limit_of_rate():
    with serving(digits_run(), rate=3) as client:
        statuses = Counter(client.ask("GET", "/health")[0] for _ in range(12))
        assert statuses[200] < 12
        assert statuses[200] + statuses[429] == 12
        status, answer, headers = client.ask("GET", "/health")
        assert (status, headers["retry-after"]) == (429, "1")
        assert "more than 3 requests a second (--rate)" in answer["error"]


def test_rates_are_counted_for_each_address_and_come_back(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(guard, "time", SimpleNamespace(monotonic=lambda: now[0]))
    watch = guard.Guard(None, "127.0.0.1", 2.0, frozenset(), None)
    assert [watch._wait("a") for _ in range(3)] == [0, 0, 0.5]
    assert watch._wait("b") == 0
    now[0] += 0.25
    assert watch._wait("a") == 0.25
    now[0] += 0.25
    assert watch._wait("a") == 0
    now[0] += 1000  # no more than a second's are saved up
    assert [watch._wait("a") > 0 for _ in range(3)] == [False, False, True]
    monkeypatch.setattr(guard, "MOST_ADDRESSES", 3)
    for address in "cdefg":
        watch._wait(address)
    assert list(watch._left) == ["e", "f", "g"]


def test_too_many_at_once(client, monkeypatch):
    monkeypatch.setattr(guard, "MOST_AT_ONCE", 0)
    status, answer, headers = client.ask("GET", "/health")
    assert (status, headers["retry-after"]) == (503, "1")
    assert answer == {"error": "0 requests are being answered; ask again"}


def test_a_body_that_does_not_come(client, monkeypatch):
    monkeypatch.setattr("fastconv.web.server.PATIENCE", 0.05)
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
        connection.sendall(head.encode() + b"[")
        assert connection.recv(2000).startswith(b"HTTP/1.1 408 ")


def test_a_fault_is_told_and_printed(client, monkeypatch, caplog):
    def fail(images):
        raise RuntimeError("on purpose")

    monkeypatch.setattr(client.runs[0], "images", fail)
    status, answer = client.predict({"strokes": STROKES})
    assert (status, answer) == (500, {"error": "a fault of the server's, which has printed it"})
    monkeypatch.undo()
    assert client.predict({"strokes": STROKES})[0] == 200


# ---- Batches ------------------------------------------------------------------------


def test_what_waits_is_predicted_together():
    begun, go_on = threading.Event(), threading.Event()
    sizes: list[int] = []
    batches: list[int] = []

    def predict(images):
        sizes.append(len(images))
        begun.set()
        assert go_on.wait(30)
        return images.reshape(len(images), 1) * 10

    async def ask():
        batcher = Batcher(predict, 4, batches.append)
        first = asyncio.create_task(batcher(np.full((1, 1), 7.0)))
        await asyncio.to_thread(begun.wait)
        others = [asyncio.create_task(batcher(np.array([[n], [n + 0.5]]))) for n in range(4)]
        await asyncio.sleep(0)
        others[1].cancel()  # its client has gone: the others get their answers
        go_on.set()
        assert (await first).tolist() == [[70.0]]
        for n in (0, 2, 3):
            assert (await others[n]).tolist() == [[10.0 * n], [10 * n + 5.0]]
        batcher.close()

    asyncio.run(asyncio.wait_for(ask(), 30))
    assert batches == [1, 4, 4]
    assert sizes == [1, 4, 4]


def test_batches_are_filled_up_to_powers_of_two_and_faults_reach_all():
    sizes: list[int] = []

    def predict(images):
        sizes.append(len(images))
        if images[0, 0] == 9:
            raise ValueError("nine")
        return images

    async def ask():
        batcher = Batcher(predict, 32, lambda count: None)
        for count in (1, 2, 3, 5, 8, 9, 32, 40):
            images = np.arange(count, dtype=float).reshape(-1, 1) + 100
            assert np.array_equal(await batcher(images), images)
        with pytest.raises(ValueError, match="nine"):
            await batcher(np.full((2, 1), 9.0))
        assert (await batcher(np.ones((1, 1)))).tolist() == [[1.0]]
        batcher.close()

    asyncio.run(asyncio.wait_for(ask(), 30))
    assert sizes == [1, 2, 4, 8, 8, 16, 32, 32, 8, 2, 1]


def test_nothing_is_lost_when_many_ask_at_once(client):
    images = np.random.default_rng(0).uniform(0, 1, (100, 1, 28, 28)).round(3)
    expected = lenet(seed=0).predict_proba(images)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(client.predict, images.tolist()))
    assert [status for status, _ in answers] == [200] * 100
    np.testing.assert_allclose([shares(answer)[0] for _, answer in answers], expected, rtol=1e-3)


def test_health_and_metrics():
    with serving(digits_run()) as client:
        assert client.ask("GET", "/health")[:2] == (200, {"status": "ok"})
        for _ in range(3):
            client.predict([IMAGE] * 5)
        client.predict(b"rubbish")
        client.ask("GET", "/nothing")
        status, text, headers = client.ask("GET", "/metrics")
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = dict(re.findall(r"^([^#]\S*) (\S+)$", text, re.MULTILINE))
    assert found['fastconv_requests_total{path="/predict",status="200"}'] == "3"
    assert found['fastconv_requests_total{path="/predict",status="400"}'] == "1"
    assert found['fastconv_requests_total{path="other",status="404"}'] == "1"
    assert found["fastconv_requests_at_once"] == "1"  # this one
    assert found["fastconv_batch_images_count"] == "3"
    assert found["fastconv_batch_images_sum"] == "15"
    assert found['fastconv_batch_images_bucket{le="4"}'] == "0"
    assert found['fastconv_batch_images_bucket{le="8"}'] == "3"
    assert found['fastconv_request_seconds_bucket{path="/predict",le="+Inf"}'] == "4"
    assert float(found['fastconv_request_seconds_sum{path="/predict"}']) > 0
    assert re.fullmatch(r"((# .*|\w+(\{[^}]*\})? [\d.e+-]+)\n)+", text)


# ---- Inside -------------------------------------------------------------------------


def decoded(picture: dict[str, Any]) -> np.ndarray:
    import base64

    shape = [picture[name] for name in ("count", "channels", "height", "width")]
    return np.frombuffer(base64.b64decode(picture["pixels"]), np.uint8).reshape(shape)


def test_inside_of_a_drawing(client):
    status, found = client.predict({"strokes": STROKES}, "/inside?run=2")
    assert status == 200
    assert (found["run"], found["method"]) == ("second", "occlusion")
    image = frame_strokes([np.array(stroke, float) for stroke in STROKES])
    assert np.array_equal(decoded(found["image"])[0], np.rint(image * 255))
    assert np.shape(found["weights"]) == (28, 28)
    assert found["explained"] == str(lenet(seed=1).predict(image[None]).argmax())
    problem = "they do not come with these weights"
    assert found["nearest"] == {"problem": problem, "pending": False}
    other = client.predict({"strokes": STROKES}, "/inside?run=2&class=4")[1]
    assert other["explained"] == "4"


def test_outputs_of_each_layer():
    network = lenet(seed=0)
    image = np.random.default_rng(0).uniform(0, 1, (1, 28, 28)).astype(np.float32)
    rows = inside.layer_outputs(network, image)
    x, outputs = image[None], []
    for layer in network.layers:
        x = layer.forward(x)
        outputs.append((type(layer).__name__, x[0]))
    shown = [output for i, (_, output) in enumerate(outputs[:-1]) if outputs[i + 1][0] != "Relu"]
    assert [row["shape"] for row in rows] == [list(output.shape) for output in shown]
    assert rows[0]["name"] == "Convolution 1 + Relu"
    for row, output in zip(rows, shown, strict=True):
        maps = output if output.ndim == 3 else output[None, None]
        low = min(0, maps.min())
        bright = np.rint((maps - low) / (maps.max() - low) * 255)
        np.testing.assert_allclose(decoded(row)[:, 0], bright, atol=1)


def test_many_and_large_maps_are_cut_short():
    layers = [
        Convolution(np.ones((40, 1, 1, 1)), np.zeros(40)),
        Affine(np.ones((40, 2)), np.zeros(2)),
    ]
    network = Network([Chain([layers[0]]), Pooling(100, 130, 100), layers[1]])
    rows = inside.layer_outputs(network, np.ones((1, 100, 130), np.float32))
    assert [row["name"] for row in rows] == ["Convolution 1", "Pooling 1"]
    assert rows[0]["shape"] == [40, 100, 130]
    assert decoded(rows[0]).shape == (32, 1, 34, 44)
    assert decoded(rows[0]).min() == 255
    assert rows[1]["shape"] == [40]  # maps of one pixel are units
    assert decoded(rows[1]).shape == (1, 1, 1, 40)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 7, 10), (1, 1, 3), (3, 100, 80)])
def test_squares_cover_everything_alike(shape):
    image = np.random.default_rng(0).uniform(1, 2, shape)
    copies, squares = inside.covered(image, 0.5)
    times = np.zeros(shape[1:])
    for copy, (rows, columns) in zip(copies, squares, strict=True):
        hidden = np.zeros(shape[1:], bool)
        hidden[rows, columns] = True
        assert np.array_equal(copy, np.where(hidden, 0.5, image))
        times += hidden
    assert times.min() >= 1
    assert len(squares) <= 169


def test_what_decided_is_where_the_class_comes_from():
    """Of a network that looks at one place for class 0, and at another for class 1."""
    image = np.ones((1, 28, 28))

    async def probabilities(images):
        scores = np.stack([images[:, 0, 4, 5], images[:, 0, 20, 21], 0 * images[:, 0, 0, 0]], 1)
        shares = np.exp(scores)
        return shares / shares.sum(1, keepdims=True)

    weights = asyncio.run(inside.what_decided(image, 0, 0.0, probabilities, 32))
    # Covering the place takes 1 from the score, and as much from the log-odds.
    assert weights.max() == pytest.approx(1)
    assert weights[4, 5] == pytest.approx(1)
    assert weights[20, 21] < 0
    assert np.abs(weights[9:17]).max() == pytest.approx(0, abs=1e-12)


def test_the_nearest_training_images(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (300, 1, 28, 28)).astype(np.float32)
    labels = rng.integers(0, 10, 300)
    few = replace(DATASETS["digits"], load=lambda flatten: ((images, labels), (images, labels)))
    monkeypatch.setitem(DATASETS, "digits", few)
    neighbours = inside.Neighbours(digits_run(knows_data=True))
    assert neighbours.of(images[0]) == {"problem": "they are still being read", "pending": True}
    neighbours.load()

    def features(x):
        for layer in lenet(seed=0).layers[:-1]:
            x = layer.forward(x)
        return x

    known = features(images)
    for image in rng.uniform(0, 1, (10, 1, 28, 28)).astype(np.float32):
        found = neighbours.of(image)
        nearest = np.argsort(((known - features(image[None])) ** 2).sum(1))[:8]
        assert found["labels"] == [str(label) for label in labels[nearest]]
        assert found["among"] == 300
        assert np.array_equal(decoded(found), np.rint(images[nearest] * 255))


def test_features_are_the_input_of_the_last_affine_layer():
    network = DeepConvNet(seed=0)
    image = np.random.default_rng(0).uniform(0, 1, (1, 1, 28, 28)).astype(np.float32)
    before = inside._body(network).predict(image)
    last = network.layers[-2]
    np.testing.assert_allclose(0.5 * (before @ last.W + last.b), network.predict(image), rtol=1e-4)


def test_training_images_that_cannot_be_read_are_said(monkeypatch):
    config = new_config({"model": "lenet", "data": "mnist", "data_dir": "/nowhere"})
    with serving(ServedRun("x", config, Ensemble([lenet(seed=0)]), True)) as client:
        for _ in range(100):
            nearest = client.predict(IMAGE, "/inside")[1]["nearest"]
            if not nearest["pending"]:
                break
        assert "the data folder /nowhere does not exist" in nearest["problem"]


# ---- The page and the command -------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("/", "index.html", "html"),
        ("/page.css", "page.css", "css"),
        ("/page.js", "page.js", "java"),
    ],
)
def test_the_page_is_whole_and_loads_nothing_from_elsewhere(client, path, name, kind):
    status, text, headers = client.ask("GET", path)
    assert status == 200
    assert kind in headers["content-type"]
    assert text == (PAGE / name).read_text()
    assert not re.search(r"https?:|//\w+\.\w+|@import|url\(", text)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert not re.search(r"https?:|\*|unsafe", policy)


def test_answers_do_not_wait_for_acknowledgements():
    """asyncio sets TCP_NODELAY only on sockets that name their protocol."""
    with listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_the_command_serves_until_ctrl_c(tmp_path):
    lenet(seed=0).save_params(tmp_path / "weights.npz")
    words = ["serve", "weights.npz", "--model", "lenet", "--port", "0", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fastconv", *words],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "weights.npz: lenet, " in process.stderr.readline()
    port = re.search(r"serving on http://127.0.0.1:(\d+)/", process.stderr.readline())[1]
    assert Client(int(port), []).predict(IMAGE)[0] == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err == "ended after 1 request\n"
    assert json.loads(out)["requests"] == 1


def test_a_port_that_is_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lenet(seed=0).save_params("weights.npz")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        words = ["serve", "weights.npz", "--model", "lenet", "--port", port]
        assert cli.main(words) == 2
    assert f"cannot listen on 127.0.0.1, port {port}: " in capsys.readouterr().err
    assert cli.main([*words, "--host", "nowhere.invalid"]) == 2
    assert "cannot listen on nowhere.invalid" in capsys.readouterr().err


def test_runs_of_different_kinds_are_not_compared(monkeypatch, capsys):
    kinds = {"digits": digits_run(), "photos": pictures_run()}
    monkeypatch.setattr(
        "fastconv.cli.serve.read_trained",
        lambda named, given, tests: (kinds[named].config, Ensemble([kinds[named].network]), Path()),
    )
    assert cli.main(["serve", "digits", "photos"]) == 2
    assert "digits and photos: one reads digits, the other pictures" in capsys.readouterr().err
