"""Many clients at once against ``fastconv serve``: what is lost, and how long answers take.

The server is a process of its own; the clients are in this one, each on a connection that it
keeps. They send images as JSON arrays and wait for each answer before they send the next. The same
server with ONNX Runtime in place of fastconv's network takes turns with it.

Arguments: a run folder, how many clients, requests and rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.experiment.trained import read_trained
from fastconv.io import export_onnx
from fastconv.models.ensemble import Ensemble
from fastconv.network import Predictor

__all__ = ["CONTENDERS", "load", "main"]


class OnnxRuntime(Predictor):
    """The network in ONNX Runtime."""

    def __init__(self, network: Any, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "network.onnx")
            export_onnx(network, path)
            self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def predict(self, x: Any, train_flg: bool = False) -> Any:
        """Return the scores."""
        return self.session.run(None, {self.input: np.asarray(x, np.float32)})[0]


CONTENDERS = {
    "fastconv": lambda network, threads: network,
    "ONNX Runtime": OnnxRuntime,
}


def serve(contender: str, run: str, port: Connection) -> None:
    """Be the server; send the port when it is ready."""
    from fastconv.web.server import Limits, ServedRun, Server, listen, make_app

    config, ensemble, _ = read_trained(run, {}, tests=False)
    network = CONTENDERS[contender](ensemble.members[0], config.threads)
    served = ServedRun(contender, config, Ensemble([network]), knows_data=False)
    app, _ = make_app([served], "127.0.0.1", Limits(rate=1e9))
    with listen("127.0.0.1", 0) as listening:
        Server(app, lambda: port.send(listening.getsockname()[1])).run(sockets=[listening])


async def load(port: int, bodies: list[bytes], clients: int) -> tuple[list[float], int, float]:
    """Send all bodies; the seconds that each took, how many were not answered, and all seconds."""
    waiting, times, lost = iter(bodies), [], 0

    async def client() -> None:
        nonlocal lost
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in waiting:
            head = (
                f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            started = time.perf_counter()
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            [length] = [
                int(line.split(b":")[1])
                for line in answer.lower().splitlines()
                if line.startswith(b"content-length:")
            ]
            content = json.loads(await reader.readexactly(length))
            times.append(time.perf_counter() - started)
            lost += b" 200 " not in answer[:13] or len(content["predictions"]) != 1
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return times, lost + len(bodies) - len(times), time.perf_counter() - started


def measure(contender: str, run: str, bodies: list[bytes], clients: int) -> str:
    """One line about a contender, in a server that it begins and ends."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(contender, run, there), daemon=True
    )
    server.start()
    try:
        port = here.recv()
        asyncio.run(load(port, bodies[: 4 * clients], clients))  # warms up
        times, lost, seconds = asyncio.run(load(port, bodies, clients))
    finally:
        server.terminate()
        server.join()
    p50, p99 = 1e3 * np.percentile(times, [50, 99])
    return (
        f"{contender}: {len(times)} requests from {clients} clients, {lost} lost; "
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms; {len(times) / seconds:,.0f} requests/s"
    )


def main() -> None:
    """Measure both in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run folder")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config, _, _ = read_trained(options.run, {}, tests=False)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (options.requests, *config.facts.shape)).round(3)
    bodies = [json.dumps(image.tolist()).encode() for image in images]
    for _ in range(options.rounds):
        for contender in CONTENDERS:
            print(measure(contender, options.run, bodies, options.clients), flush=True)


if __name__ == "__main__":
    main()
