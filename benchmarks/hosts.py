"""Two hosts on one machine: network namespaces, joined by a link of a given rate and latency.

Without latency, the link is a pair of veth interfaces, whose rate tc limits. tc's netem delays
packets too, but many kernels lack it. So with latency, a process reads packets from one host's TUN
interface and writes them to the other's, later; that takes the processors' time, as tc does. Needs
root, Linux, iproute2 and util-linux.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select

__all__ = ["HOSTS", "INTERFACE", "Unavailable", "call", "on_hosts", "two_hosts"]

HOSTS = {"fastconv-a": "10.77.19.1", "fastconv-b": "10.77.19.2"}
"""Their addresses."""

INTERFACE = "fastconv0"

BURST = "128k"
"""What tc lets pass at once: two of the largest packets."""

UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}

LARGEST = 65000
"""Bytes of a packet on a link with latency: delaying few takes little of the CPUs' time."""

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


class Unavailable(RuntimeError):
    """What this machine lacks."""


def call(*words: str) -> str:
    """Run a command that changes the network; return what it says."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def bytes_per_second(rate: str) -> float:
    """What tc means by a rate such as ``10gbit``; without one, infinity."""
    if not rate:
        return math.inf
    number, unit = rate[:-4], rate[-4:].lower()
    try:
        return float(number) * UNITS[unit] / 8
    except (ValueError, KeyError):
        raise ValueError(f"expected a rate such as 10gbit or 100mbit, got {rate!r}") from None


def inside(host: str) -> str:
    """A shell's words for running what follows on a host, under its name."""
    return f"ip netns exec {host} unshare --uts sh -c 'hostname {host}; exec \"$@\"' -"


def on_hosts(mpiexec: str, agent: Path) -> tuple[list[str], dict[str, str]]:
    """Words that start what follows on one rank of each host, and variables that it needs."""
    first = next(iter(HOSTS))
    where = ["-localhost", HOSTS[first], "-hosts", ",".join(HOSTS.values()), "-n", "2"]
    words = [mpiexec, "-launcher", "ssh", "-launcher-exec", str(agent), *where]
    # Else UCX finds the memory that both have in common.
    variables = {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": INTERFACE}
    return ["bash", "-c", f'exec {inside(first)} "$@"', "-", *words], variables


@contextmanager
def two_hosts(rate: str = "", latency: float = 0.0) -> Iterator[Path]:
    """Have two hosts inside the block; yields the program that stands for ssh.

    Parameters
    ----------
    rate : str
        Of each direction, as tc has it: ``10gbit``. Empty: no limit.
    latency : float
        Seconds that a packet takes, at least.

    Raises
    ------
    Unavailable
        Names what cannot be had here.
    ValueError
        No rate.
    """
    speed = bytes_per_second(rate)
    if absent := [name for name in ("ip", "tc", "unshare") if shutil.which(name) is None]:
        raise Unavailable(f"there is no {absent[0]}: install iproute2 and util-linux")
    first, second = HOSTS
    relay: subprocess.Popen[bytes] | None = None
    with tempfile.TemporaryDirectory() as folder:
        agent = Path(folder, "instead-of-ssh")
        agent.write_text(
            "#!/bin/bash\nwhile [[ $1 == -* ]]; do shift; done; shift\n"
            f'exec {inside(second)} bash -c "$*"\n'
        )
        agent.chmod(0o755)
        try:
            for host in HOSTS:
                call("ip", "netns", "add", host)
            if latency:
                relay = _delayed(speed, latency)
            else:
                peer = ("peer", "name", INTERFACE, "netns", second)
                call("ip", "link", "add", "name", INTERFACE, "netns", first, "type", "veth", *peer)
            for host, address in HOSTS.items():
                call("ip", "-n", host, "addr", "add", f"{address}/24", "dev", INTERFACE)
                for name in ("lo", INTERFACE):
                    call("ip", "-n", host, "link", "set", name, "up")
                if rate and not latency:
                    limit = ("tbf", "rate", rate, "burst", BURST, "latency", "50ms")
                    call("tc", "-n", host, "qdisc", "add", "dev", INTERFACE, "root", *limit)
            _wait()
            yield agent
        finally:
            if relay is not None:
                relay.kill()
                relay.wait()
            for host in HOSTS:
                subprocess.run(["ip", "netns", "del", host], capture_output=True, check=False)


def _wait() -> None:
    """Wait until both interfaces are up: that takes a moment."""
    latest = time.monotonic() + 10
    while time.monotonic() < latest:
        shown = [call("ip", "-n", host, "link", "show", INTERFACE) for host in HOSTS]
        # Of a TUN interface, the system does not know its state.
        if all("LOWER_UP" in text and re.search("state (UP|UNKNOWN)", text) for text in shown):
            return
        time.sleep(0.02)
    raise Unavailable("the interfaces do not come up")


def _delayed(speed: float, latency: float) -> subprocess.Popen[bytes]:
    """Join the hosts by interfaces whose packets a process delays."""
    import fcntl  # other systems have none

    ends = []
    for number, host in enumerate(HOSTS):
        try:
            end = os.open("/dev/net/tun", os.O_RDWR)
            name = f"fastconv-{number}"
            request = struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI)
            fcntl.ioctl(end, TUNSETIFF, request)
        except OSError as error:
            raise Unavailable(f"/dev/net/tun: {error.strerror}") from error
        ends.append(end)
        call("ip", "link", "set", name, "netns", host, "name", INTERFACE, "mtu", str(LARGEST))
    words = [sys.executable, "-I", "-S", __file__, str(speed), str(latency), *map(str, ends)]
    relay = subprocess.Popen(words, pass_fds=ends)
    for end in ends:
        os.close(end)
    return relay


def delay(speed: float, latency: float, first: int, second: int) -> None:
    """Pass packets on: one after the other at this speed, and each then so many seconds later."""
    with suppress(OSError):  # timers are then exact to microseconds
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    other, free = {first: second, second: first}, {first: 0.0, second: 0.0}
    waiting = {end: deque[tuple[float, bytes]]() for end in other}
    while True:
        now = time.monotonic()
        for end, packets in waiting.items():
            while packets and packets[0][0] <= now:
                with suppress(OSError):  # an interface that is down
                    os.write(end, packets.popleft()[1])
        due = min((packets[0][0] for packets in waiting.values() if packets), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        for end in select(other, [], [], timeout)[0]:
            packet = os.read(end, LARGEST)
            free[end] = max(free[end], time.monotonic()) + len(packet) / speed
            waiting[other[end]].append((free[end] + latency, packet))


if __name__ == "__main__":
    delay(*map(float, sys.argv[1:3]), *map(int, sys.argv[3:]))
