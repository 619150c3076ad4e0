#!/bin/sh
# uvicorn 0.54.0 on CPython 3.11, Linux: the same application answers a POST on a kept connection
#
#     uvicorn.run(app, port=0)                                         in less than a millisecond
#     server.run(sockets=[socket.create_server(("127.0.0.1", 0))])     after some 40 ms
#
# uvicorn writes the head and the body of an answer one after the other. asyncio sets TCP_NODELAY on
# a connection only if its socket's protocol is IPPROTO_TCP; that of a socket that listens, and so of
# those that it accepts, is 0 unless it was named: socket.create_server does not name it. Then Nagle's
# algorithm keeps the body until the client acknowledges the head, which its system delays by 40 ms.
# socket.socket(AF_INET, SOCK_STREAM, IPPROTO_TCP), with bind and listen, is as fast as uvicorn's own.
# The script fails where this is not so any more.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet uvicorn==0.54.0
cat > "$folder/measure.py" <<'END'
import http.client
import socket
import statistics
import threading
import time

import uvicorn


async def app(scope, receive, send):
    while (await receive())["more_body"]:
        pass
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
    await send(start)
    await send({"type": "http.response.body", "body": b"hello"})


def milliseconds(listening):
    config = uvicorn.Config(app, port=0, lifespan="off", log_level="error", loop="asyncio")
    server = uvicorn.Server(config)
    sockets = [listening] if listening else None
    thread = threading.Thread(target=server.run, args=(sockets,), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    times = []
    for _ in range(40):
        begin = time.perf_counter()
        connection.request("POST", "/", b"x" * 100)
        connection.getresponse().read()
        times.append(1e3 * (time.perf_counter() - begin))
    server.should_exit = True
    thread.join()
    return statistics.median(times)


named = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
named.bind(("127.0.0.1", 0))
named.listen()
own = milliseconds(None)
made = milliseconds(socket.create_server(("127.0.0.1", 0)))
named = milliseconds(named)
print(f"uvicorn's own socket {own:.1f} ms, create_server {made:.1f} ms, IPPROTO_TCP {named:.1f} ms")
assert made > own + 20, "changed: create_server is as fast"
assert made > named + 20, "changed: naming the protocol makes no difference"
END
"$python" "$folder/measure.py"
