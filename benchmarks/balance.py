"""Calls to ten HTTP servers of which three are ill: ours, naive choices and haproxy.

One server is ten times slower, one fails half of its calls, one never answers. All
contenders have the same arrivals, the same timeout of a try and two retries, and run
one after the other. Ours begins without knowledge, as a process that has just started;
haproxy's health checks have run meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx

from benchmarks.report import Finding
from shifter import Shifter
from shifter.balance import Endpoint
from shifter.balance.balancer import Balancer, CallEvidence
from shifter.balance.http import AsyncBalancedTransport
from shifter.config import Secret, Settings
from shifter.errors import ShifterError
from shifter.policy.balance.group import Group
from shifter.protection import BalancePolicy
from stack.install import program
from stack.process import free_port
from tests.unit.balance.simulation import Server, Simulation, tailed

ILL = [*["healthy"] * 7, "slow", "failing", "stalled"]
TIMEOUT_S = 1.0
RETRIES = 2
_FINE = CallEvidence(failed=False)

Get = Callable[[], Awaitable[int]]
"""Makes one request; the status, or 599 for an exception."""


class Seen(NamedTuple):
    """What the callers of one contender saw.

    Attributes:
        took_ms: Milliseconds of each request.
        errors: Requests without an answer of 200.
        calls: Calls that the servers got for them.
    """

    took_ms: list[float]
    errors: list[int]
    calls: int

    @property
    def p99(self) -> float:
        """Milliseconds."""
        return statistics.quantiles(self.took_ms, n=100)[98]

    @property
    def error_percent(self) -> float:
        """Of the requests."""
        return 100 * sum(self.errors) / len(self.took_ms)

    @property
    def extra_percent(self) -> float:
        """Calls beyond one for each request."""
        return 100 * (self.calls / len(self.took_ms) - 1)


class Servers:
    """HTTP servers in a process of their own.

    Args:
        kinds: See `benchmarks.balance_servers`.

    Attributes:
        addresses: One for each kind.
    """

    def __init__(self, kinds: list[str]) -> None:
        command = [sys.executable, "-m", "benchmarks.balance_servers", *kinds]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        ports = json.loads(self._process.stdout.readline())
        self.addresses = [f"127.0.0.1:{port}" for port in ports]

    def take_calls(self) -> int:
        """Calls that they got since the last time."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return sum(json.loads(self._process.stdout.readline()))

    def stop(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait(20)


@contextlib.contextmanager
def serving(kinds: list[str]) -> Iterator[Servers]:
    """Servers while the block runs."""
    servers = Servers(kinds)
    try:
        yield servers
    finally:
        servers.stop()


def measure(scale: float) -> list[Finding]:
    """All findings."""
    seconds = max(10.0, 40 * scale)
    with serving(ILL) as servers:
        seen = asyncio.run(_contend(servers, seconds))
    with serving(["tailed"] * 10) as servers:
        plain, hedged = asyncio.run(_hedge(servers, seconds))
    best, ours, proxy = seen["seven healthy"], seen["ours"], seen["haproxy"]
    findings = [
        _ms("p99, three ill of ten", ours.p99, "seven healthy", best.p99, 1.5),
        _ms("p99, three ill of ten", ours.p99, "haproxy", proxy.p99, 1.0),
        _most("errors, ours", ours.error_percent, "%", 0.1),
        _most("extra calls, ours", ours.extra_percent, "%", 20),
        _most(
            "errors, ours less haproxy's",
            ours.error_percent - proxy.error_percent,
            "%",
            0,
        ),
    ]
    for name in ("haproxy", "random", "round robin"):
        found = seen[name]
        findings += [
            _told(f"p99, {name}", found.p99, "ms"),
            _told(f"errors, {name}", found.error_percent, "%"),
            _told(f"extra calls, {name}", found.extra_percent, "%"),
        ]
    return [
        *findings,
        _ms("hedged at p95, long tail, p99", hedged.p99, "no hedge", plain.p99, 0.5),
        _most("extra calls of hedges", hedged.extra_percent, "%", 6),
        *_choice(int(100_000 * scale) + 1_000),
        _spread(scale),
    ]


def _ms(name: str, value: float, against: str, other: float, most: float) -> Finding:
    return Finding(name, value, "ms", against, other, most, at_most=True)


def _most(name: str, value: float, unit: str, most: float) -> Finding:
    return Finding(name, value, unit, None, None, most, at_most=True)


def _told(name: str, value: float, unit: str) -> Finding:
    """A number of others, which has no target."""
    return _most(name, value, unit, float("inf"))


async def _contend(servers: Servers, seconds: float) -> dict[str, Seen]:
    """What the callers of each contender see."""
    addresses = servers.addresses
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        app = _app(folder)
        gets = {
            "seven healthy": await _ours(stack, app, "healthy", addresses[:7]),
            "ours": await _ours(stack, app, "ill", addresses),
            "random": await _naive(stack, addresses, random.Random(1).choice),
            "round robin": await _naive(stack, addresses, _in_turn()),
            "haproxy": await _proxied(stack, addresses, folder),
        }
        await stack.enter_async_context(app)
        return await _one_by_one(servers, gets, seconds)


async def _hedge(servers: Servers, seconds: float) -> list[Seen]:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        app = _app(folder)
        gets = {
            "plain": await _ours(stack, app, "plain", servers.addresses, timeout="5s"),
            "hedged": await _ours(
                stack, app, "hedged", servers.addresses, hedge="p95", timeout="5s"
            ),
        }
        await stack.enter_async_context(app)
        return list((await _one_by_one(servers, gets, seconds)).values())


async def _one_by_one(
    servers: Servers, gets: dict[str, Get], seconds: float
) -> dict[str, Seen]:
    """The same arrivals for each contender, one after the other."""
    seen = {}
    for name, get in gets.items():
        servers.take_calls()
        found = await _requests(get, random.Random(1), seconds)
        await asyncio.sleep(TIMEOUT_S)
        seen[name] = found._replace(calls=servers.take_calls())
    return seen


async def _requests(get: Get, draws: random.Random, seconds: float) -> Seen:
    """Requests at random times; none waits for another."""
    seen = Seen([], [], 0)

    async def one() -> None:
        began = time.perf_counter()
        status = await get()
        seen.took_ms.append((time.perf_counter() - began) * 1_000)
        seen.errors.append(status != 200)

    began, at = time.perf_counter(), 0.0
    async with asyncio.TaskGroup() as group:
        while (at := at + draws.expovariate(RATE)) < seconds:
            await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
            group.create_task(one())
    return seen


RATE = 60.0


def _app(folder: Path) -> Shifter:
    url = Secret(f"sqlite:///{folder}/shifter.db")
    settings = Settings(namespace="bench", log_url=url, state_url=url, spool="off")
    return Shifter("bench", settings=settings)


async def _ours(stack, app: Shifter, name: str, addresses: list[str], **options) -> Get:
    dependency = app.dependency(name, endpoints=addresses)
    options = {"timeout": f"{TIMEOUT_S}s", "retries": RETRIES} | options
    transport = AsyncBalancedTransport(dependency, **options)
    return await _client(stack, f"http://{name}", transport)


async def _proxied(stack, addresses: list[str], folder: Path) -> Get:
    """Debian's haproxy in front of the servers."""
    port = free_port()
    lines = [f"server s{number} {address}" for number, address in enumerate(addresses)]
    (folder / "haproxy.cfg").write_text(
        _HAPROXY.format(
            port=port,
            timeout_ms=int(TIMEOUT_S * 1_000),
            retries=RETRIES,
            servers="\n  ".join(lines),
        )
    )
    path = program("haproxy", package="haproxy", of="haproxy")
    process = subprocess.Popen([path, "-db", "-f", str(folder / "haproxy.cfg")])
    stack.callback(process.wait, 20)
    stack.callback(process.terminate)
    get = await _client(stack, f"http://127.0.0.1:{port}", httpx.AsyncHTTPTransport())
    async with asyncio.timeout(30):
        while await get() == _NO_ANSWER:
            await asyncio.sleep(0.1)
    return get


_HAPROXY = """
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server {timeout_ms}ms
  timeout check 1s
  retries {retries}
  option redispatch 1
  retry-on all-retryable-errors
  http-reuse always
frontend all
  bind 127.0.0.1:{port}
  default_backend ten
backend ten
  balance leastconn
  option httpchk GET /health
  default-server check inter 1s fall 2 rise 2 observe layer7 error-limit 5 on-error mark-down
  {servers}
"""
_NO_ANSWER = 599


async def _client(stack, base: str, transport: httpx.AsyncBaseTransport) -> Get:
    client = httpx.AsyncClient(transport=transport, base_url=base, timeout=10)
    await stack.enter_async_context(client)

    async def get() -> int:
        try:
            return (await client.get("/")).status_code
        except (httpx.HTTPError, ShifterError):
            return _NO_ANSWER

    return get


async def _naive(stack, addresses: list[str], choose) -> Get:
    """The same timeout and retries, each try on an endpoint that is chosen alone."""
    client = await stack.enter_async_context(httpx.AsyncClient(timeout=10))

    async def get() -> int:
        status = _NO_ANSWER
        for _ in range(1 + RETRIES):
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    url = f"http://{choose(addresses)}/"
                    status = (await client.get(url)).status_code
            except (TimeoutError, httpx.HTTPError):
                status = _NO_ANSWER
            if status < 500:
                break
        return status

    return get


def _in_turn():
    turn = itertools.count()
    return lambda addresses: addresses[next(turn) % len(addresses)]


def _choice(count: int) -> list[Finding]:
    """A choice between 1,000 endpoints, and with the lease and its end around it."""
    draws = random.Random(1)
    group = Group(BalancePolicy())
    group.update([Endpoint(f"h{number}:1") for number in range(1_000)], 0.0)
    for state in group.states.values():
        state.latency.observe(0.0, draws.random())
    balancer = Balancer(
        "many", [f"h{n}:1" for n in range(1_000)], BalancePolicy(), draws
    )
    us = [draws.random() for _ in range(count)]
    chosen, leased = [], []
    for number, u in enumerate(us):
        now = 100 + number / 10_000
        began = time.perf_counter_ns()
        group.choose(now, u)
        chosen.append(time.perf_counter_ns() - began)
        began = time.perf_counter_ns()
        lease = balancer.lease(now)
        lease.end(now, _FINE)
        leased.append(time.perf_counter_ns() - began)
    return [
        _most(
            "choice of 1,000 endpoints, p50", statistics.median(chosen) / 1e3, "us", 3
        ),
        _told("lease and its end, p50", statistics.median(leased) / 1e3, "us"),
    ]


def _spread(scale: float) -> Finding:
    """The busiest of 100 endpoints; each of 100 processes sees its own calls only."""
    calls = int(200_000 * scale)
    servers = {f"http://h{number}:1": Server(tailed(0.01)) for number in range(100)}
    processes = [
        Balancer("render", list(servers), BalancePolicy(), random.Random(seed))
        for seed in range(100)
    ]
    made = Simulation(servers).run(processes, calls=calls, per_s=5_000).made
    mean = sum(made.values()) / 100
    return Finding(
        "busiest of 100 endpoints, 100 processes",
        max(made.values()),
        "calls",
        "mean",
        mean,
        1.25,
        at_most=True,
    )
