"""Hostile values under every key of the shared state, read by everything that reads it.

    python -m tests.bad_inputs.state_fuzz read --count 100000 --seed 1 [--state sqlite]
    python -m tests.bad_inputs.state_fuzz work --count 100000 --seed 1

The same seed plants the same values. ``read`` calls every reader of the product in this
process: the fleet's sync with all that learns from it, endpoints among that, presence
and what a full worker makes of it, claims (also those of cron, of replays and of the
lease on a dead-letter topic), and an operator's rows.
``work`` plants beside a live worker and asks ``shifter status`` again and again. What must
hold: a reader raises nothing, not even a `StoreError`, since a value that is none of ours
is passed over; no process dies; no command ends with 70; jobs go on.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from redis import Redis

from shifter.adapters.redis.claims import RedisClaimStore
from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.fleet import RedisFleetStore, RedisPresenceStore
from shifter.adapters.redis.keys import ClaimKeys, fleet_keys, presence_keys
from shifter.adapters.sqlite.claim_rows import key_prefix
from shifter.adapters.sqlite.claims import SqliteClaimStore
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.fleet import SqliteFleetStore, SqlitePresenceStore
from shifter.adapters.system import SystemClock
from shifter.balance.balancer import Balancer, CallEvidence
from shifter.balance.sharing import SharedEndpoints
from shifter.cli.status import budget_cells, circuit_cells, window_cells
from shifter.config.load import load_settings
from shifter.deadletter.plan import replay_id
from shifter.fleet.guards import CallRequest
from shifter.fleet.hours import BusyFlag, Hours
from shifter.fleet.replica import FleetReplica
from shifter.fleet.view import look
from shifter.model.claim import (
    ClaimRequest,
    ClaimUpdate,
    Granted,
    JobState,
    claim_identity,
)
from shifter.model.job import LaneRule
from shifter.model.lane import Lane, Priority
from shifter.model.time import EpochMs
from shifter.policy.delivery.load_sharing import Room, targets
from shifter.policy.protection.dependency import Dependency
from shifter.policy.protection.quality import QualityPolicy
from shifter.policy.protection.rate import RatePolicy
from shifter.ports import ClaimStore, FleetStore, PresenceStore, WorkerReport
from shifter.protection import CircuitPolicy
from shifter.supervise.cron import firing_id
from shifter.testing.conformance.presence import report_of
from shifter.wire.untrusted import bounded
from shifter.work.load_sharing import load_of
from stack.redis import RedisServer
from tests.acceptance.fleet import Fleet
from tests.bad_inputs.catalogue import GOOD, OURS, with_id
from tests.bad_inputs.writers import writer_of

TARGET = "tests.regress.store_jobs:app"
NAMESPACE = "fuzz"
_BATCH = 200
_PAUSE_S = 0.04  # so that a worker's sync meets every few batches
_LEASE_MS = 10_000
_LANE = Lane(NAMESPACE, "default", Priority.NORMAL)
_IDENTITIES = (
    *(str(uuid.UUID(int=n)) for n in range(6)),
    claim_identity("pay", "", "the-key"),
    claim_identity("tick", "", "cron:1700000000000"),
    firing_id(NAMESPACE, "tick", EpochMs(1_700_000_000_000)),
    replay_id("hold", f"{NAMESPACE}.default.dlt"),
    replay_id(f"{NAMESPACE}.default.dlt", "0/0"),
)
_URLS = [f"http://h{number}:1" for number in range(6)]
_CELLS = (
    *("circuit/bank", "hand/circuit/bank", "quality", "hand/quality", "load"),
    *("hand/window/queue/default", "hand/window/lane/default/normal"),
    *("hand/window/job/pay", "hand/window/queue/any", "stranger", "circuit/\x1b[2J"),
    *(
        f"{kind}/bank/{url}"
        for kind in ("hand/endpoint", "endpoint/ejected", "endpoint/unhealthy")
        for url in _URLS
    ),
    *("endpoint/checks/bank", "endpoint/ejected/bank/", "endpoint/ejected//x"),
    *("endpoint/unhealthy/bank/\x1b[2J", f"endpoint/ejected/bank/{'x' * 900}"),
)


class Found(Exception):
    """A reader raised, or a process died; the seed makes the values again."""


class Plant(NamedTuple):
    """One value: what kind of key it lies under, the field in it, and the value.

    Attributes:
        kind: ``cell``, ``voice``, ``evidence``, ``budget``, ``rate``, ``state``,
            ``until``, ``place``, ``report``, ``claim`` or ``key``.
        name: The field, member or identity.
        value: Bytes; of ``until`` and ``place`` a score.
    """

    kind: str
    name: str
    value: bytes


def plants(seed: int, now_ms: int) -> Iterator[Plant]:
    """Hostile values without end."""
    rng = random.Random(seed)
    makers: dict[str, Callable[[], tuple[str, bytes]]] = {
        "cell": lambda: (rng.choice(_CELLS), _cell(rng, now_ms)),
        "voice": lambda: (_process(rng), _voice(rng, now_ms)),
        "evidence": lambda: (_process(rng), _words(rng, now_ms)),
        "budget": lambda: ("bank", _row(rng, now_ms)),
        "rate": lambda: ("bank", _text(rng, now_ms)),
        "state": lambda: (rng.choice(("version", "alarm")), _text(rng, now_ms)),
        "until": lambda: (f"w{rng.randrange(30)}", _score(rng, now_ms)),
        "place": lambda: (_process(rng), _score(rng, now_ms)),
        "report": lambda: (f"w{rng.randrange(30)}", _report(rng, now_ms)),
        "claim": lambda: (rng.choice(_IDENTITIES), _claim(rng, now_ms)),
        "key": lambda: (str(rng.randrange(9)), rng.randbytes(rng.randrange(9))),
    }
    kinds = list(makers)
    weights = [1.0] * (len(kinds) - 1) + [0.02]
    while True:
        (kind,) = rng.choices(kinds, weights)
        name, value = makers[kind]()
        is_score = kind in ("until", "place")
        yield Plant(kind, name, value if is_score else _damaged(value, rng))


def _number(rng: random.Random, now_ms: int) -> str:
    """A number as a liar writes it."""
    return rng.choice(
        (
            *("0", "1", "-1", "0x10", "1e3", "1e300", "-1e300", "1e999", "inf", "-inf"),
            *("nan", "", " 1", "1 ", "+1", "1_000", "007", "0.5", ".5", "5.", "-0.0"),
            *(
                str(2**31),
                str(2**53),
                str(2**63),
                str(2**64),
                "9" * 400,
                "-" + "9" * 40,
            ),
            *("٣", "²", "1\x00", "true", "null", '"1"', "[]", "{}", "1e-400"),
            *(
                str(now_ms),
                str(now_ms + 59_000),
                str(now_ms * 1_000),
                str(now_ms // 500),
            ),
            str(rng.getrandbits(rng.randrange(1, 70))),
        )
    )


def _text(rng: random.Random, now_ms: int) -> bytes:
    return _number(rng, now_ms).encode()


def _process(rng: random.Random) -> str:
    return rng.choice((f"p{rng.randrange(50)}", "\udcff", "x" * rng.randrange(2_000)))


def _voice(rng: random.Random, now_ms: int) -> bytes:
    ends = rng.choice((str(now_ms + 59_000), _number(rng, now_ms)))
    return f"{ends} {_number(rng, now_ms)}".encode()


def _cell(rng: random.Random, now_ms: int) -> bytes:
    n = lambda: rng.choice((_number(rng, now_ms), str(now_ms + 50_000)))  # noqa: E731
    return rng.choice(
        (
            f'{{"to":"open","owner":"o","reason":"r","until_ms":{n()}}}',
            f'{{"to":"MINIMAL","owner":"o","reason":"r","until_ms":{n()}}}',
            f'{{"to":"closed","owner":"\\u001b[2J","reason":"r","until_ms":{n()}}}',
            f'{{"state":"open","generation":{n()},"openings":{n()},"until_ms":{n()}}}',
            (
                f'{{"state":"half_open","generation":{n()},"openings":1,"probes":'
                f'[[{n()},{n()}]],"started":{n()},"successes":{n()}}}'
            ),
            f'{{"state":"closed","generation":{n()}}}',
            f'{{"to":"drained","owner":"o","reason":"r","until_ms":{n()}}}',
            (f'{{"since_ms":{n()},"until_ms":{n()},"times":{n()},"why":"\\u001b[2J"}}'),
            *(
                f'{{"since_ms":0,"until_ms":{until_ms},"times":1,"why":"{why}"}}'
                for until_ms in (n(), now_ms + 10**10)
                for why in ("x" * 200, "\\u001b[2J")
            ),
            f'{{"owner":"{rng.choice(("reader", "o"))}","until_ms":{n()}}}',
            f'{{"quality":"{rng.choice(("FULL", "REDUCED", "MINIMAL", "NONE"))}"}}',
            n(),
            "[" * rng.randrange(5_000),
            "x" * rng.randrange(9_000),
        )
    ).encode()


def _whole(rng: random.Random, now_ms: int) -> Any:
    return rng.choice(
        (
            *(0, 1, -1, -(2**63), 2**53, 2**63, 2**64 - 1, now_ms, now_ms // 500),
            *(
                -1_000_000_000,
                0.5,
                1e300,
                float("inf"),
                float("nan"),
                None,
                "x",
                [],
                {},
            ),
            rng.getrandbits(20),
        )
    )


def _row(rng: random.Random, now_ms: int) -> bytes:
    n = lambda: _whole(rng, now_ms)  # noqa: E731
    rows: tuple[Any, ...] = (
        [now_ms // 500, n(), n()],
        [n() for _ in range(rng.randrange(12))],
        [now_ms // 500, 0, -1_000_000_000],
        [0] * rng.choice((3, 3_000, 90_000)),
        n(),
    )
    return msgspec.msgpack.encode(rng.choice(rows))


def _words(rng: random.Random, now_ms: int) -> bytes:
    n = lambda: _whole(rng, now_ms)  # noqa: E731
    four = [n() for _ in range(4)]
    budget = [n() for _ in range(5)]
    statement = [n(), n(), n(), n(), four, [1, 2, 3, 4], n(), n(), budget]
    said = rng.choice((now_ms, n()))
    words = [{"bank": statement}, four, [0, 0, 0, 0], said]
    if rng.random() < 0.7:
        rows = [_endpoint(rng, n) for _ in range(rng.choice((1, 3, 130)))]
        words = [{}, [0] * 4, [0] * 4, now_ms, rng.choice(({"bank": rows}, n()))]
    return msgspec.msgpack.encode(words)


def _endpoint(rng: random.Random, n: Callable[[], Any]) -> list[Any]:
    """What a liar says of an endpoint; most of the numbers are in their bounds."""
    url = rng.choice((*_URLS, "", "x" * 500, "\x1b[2J"))
    state = rng.choice(("open", "ejected", "drained", "nothing"))
    few = [rng.choice((0, 1, 5, n())) if rng.random() < 0.1 else 5 for _ in range(6)]
    texts = [rng.choice(("", "\x1b[2J", "x" * 200)) for _ in range(2)]
    vote = rng.choice(("", "calls", "checks"))
    row = [url, state, vote, *few, texts[0], 5, 5, texts[1]]
    return [*row, rng.choice((0, 10**12, n()))] if rng.random() < 0.5 else row


def _score(rng: random.Random, now_ms: int) -> bytes:
    scores = ("inf", "-inf", "1e300", "-1", "0", "0.5", f"{now_ms + 90_000}.5")
    return rng.choice((*scores, str(now_ms + rng.randrange(100_000)))).encode()


def _report(rng: random.Random, now_ms: int) -> bytes:
    n = lambda: _number(rng, now_ms) if rng.random() < 0.2 else "1"  # noqa: E731
    return (
        f'{{"worker_id":"w{rng.randrange(9)}","host":"\\u001b[2J","pid":{n()},'
        f'"started_ms":{n()},"reported_ms":{n()},"concurrency":{rng.choice((n(), "9"))},'
        f'"running":{{"{_LANE.name}":{n()}}},"rate_per_s":{{"{_LANE.name}":{n()}}},'
        f'"busy":{{"{_LANE.name}":{n()}}},"partitions":{{"{_LANE.name}":[{n()},{n()}]}}}}'
    ).encode()


def _claim(rng: random.Random, now_ms: int) -> bytes:
    n = lambda: rng.choice((_number(rng, now_ms), "1", "0"))  # noqa: E731
    letter = rng.choice("rqwdxecizp")
    who = rng.choice(("", "op owner", "op%20;", "\x00" * 9))
    numbers = ";".join(n() for _ in range(7))
    job = rng.choice(("", "j1!", rng.choice(_IDENTITIES) + "!", "x" * 5_000))
    if letter == "p":
        return b"1p" + rng.choice((job.encode(), rng.randbytes(9)))
    return f"1{letter}{numbers};{who};{job}".encode()


def _damaged(value: bytes, rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.6 or not value:
        return value
    at = rng.randrange(len(value))
    if kind < 0.75:
        return value[:at]
    if kind < 0.9:
        return value[:at] + rng.randbytes(1) + value[at + 1 :]
    return rng.randbytes(rng.randrange(60)) if kind < 0.98 else value * 9


class RedisState:
    """Plants in a server, and opens its readers."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url, self._namespace = url, namespace
        self._redis = Redis.from_url(url)
        self._claim = ClaimKeys(namespace).claim
        names = ("state", "cell", "voice", "evidence", "budget", "rate", "place")
        self._fields = dict(zip(names, fleet_keys(namespace), strict=True))
        until, self._fields["report"] = presence_keys(namespace)
        self._scores = {"until": until, "place": self._fields.pop("place")}

    def plant(self, values: Sequence[Plant]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for kind, name, value in values:
            field = name.encode(errors="surrogateescape")
            if kind in self._fields:
                pipe.hset(self._fields[kind], field, value)
            elif kind in self._scores:
                pipe.zadd(self._scores[kind], {field: float(value)})
            elif kind == "claim":
                pipe.set(self._claim(name), value)
            else:
                keys = [
                    *self._fields.values(),
                    *self._scores.values(),
                    self._claim(_IDENTITIES[0]),
                ]
                key = keys[int(name) % len(keys)]
                pipe.delete(key)
                pipe.set(key, value)
        # Cells are told to who does not know their version.
        pipe.hincrby(self._fields["state"], "version", 1)
        pipe.execute(raise_on_error=False)

    def let_go(self) -> None:
        """Remove what is set by hand: some of it closes lanes, and may."""
        self._redis.delete(self._fields["cell"])
        self.plant([])

    def open(self) -> tuple[FleetStore, PresenceStore, ClaimStore]:
        client = open_redis(self._url, timeout_s=5)
        return (
            RedisFleetStore(client, self._namespace),
            RedisPresenceStore(client, self._namespace),
            RedisClaimStore(client, self._namespace),
        )

    def close(self) -> None:
        self._redis.close()


class SqliteState:
    """The same in a file; a value may be of any type that SQLite has."""

    def __init__(self, folder: Path, namespace: str) -> None:
        self._path, self._namespace = folder / "state.db", namespace
        self._fleet = folder / "state.db.fleet"
        self._rng = random.Random(1)
        Database(self._path).close_sync()

    def plant(self, values: Sequence[Plant]) -> None:
        now = time.time_ns() // 1_000_000
        prefix = key_prefix(self._namespace)
        connection = sqlite3.connect(self._path, timeout=5)
        with connection:
            for kind, name, value in values:
                key = prefix + bounded(name).encode(errors="surrogateescape")
                row = (key, self._any(now), self._value(value, now))
                if kind == "claim":
                    connection.execute("REPLACE INTO claim VALUES (?, ?, ?)", row)
                elif kind in ("report", "until"):
                    connection.execute("REPLACE INTO presence VALUES (?, ?, ?)", row)
        connection.close()
        self._plant_fleet(values, now)

    def _plant_fleet(self, values: Sequence[Plant], now: int) -> None:
        of: dict[str, dict[str, Any]] = collections.defaultdict(dict)
        for kind, name, value in values:
            of[kind][name.encode(errors="replace").decode()] = value
        whole = lambda: _whole(self._rng, now)  # noqa: E731
        table = {
            "version": self._rng.choice((1, whole())),
            "cells": of["cell"],
            "voices": {
                name: {
                    "until_ms": self._rng.choice((now + 50_000, whole())),
                    "load": self._rng.choice((0.5, whole())),
                    "evidence": value,
                }
                for name, value in of["evidence"].items()
            },
            "alarm_until_ms": self._rng.choice((now + 50_000, whole())),
            "budgets": {"bank": {now // 500: [whole(), whole()]}},
            "rates": {"bank": self._rng.choice((0, whole()))},
        }
        # Most of these are no table at all; numbers alone are lies of the right type.
        if self._rng.random() < 0.7:
            table = _typed(table)
        connection = sqlite3.connect(self._fleet, timeout=5)
        with connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS fleet "
                "(namespace TEXT PRIMARY KEY, packed BLOB)"
            )
            packed = self._value(msgspec.msgpack.encode(table), now)
            row = (self._namespace, packed)
            connection.execute("REPLACE INTO fleet VALUES (?, ?)", row)
        connection.close()

    def _any(self, now: int) -> Any:
        far = (2**63 - 1, -(2**63), 1e300, "text", b"\xff", now + 90_000)
        return self._rng.choice((*far, *[now + 5_000] * 6))

    def _value(self, value: bytes, now: int) -> Any:
        if self._rng.random() < 0.9:
            return value
        return self._rng.choice((value.decode("latin-1"), now, 1e300, b"", b"\xc1"))

    def open(self) -> tuple[FleetStore, PresenceStore, ClaimStore]:
        clock, database = SystemClock(), Database(self._path)
        return (
            SqliteFleetStore(self._fleet, self._namespace, clock),
            SqlitePresenceStore(database, self._namespace, clock),
            SqliteClaimStore(database.share(), self._namespace, clock),
        )

    def close(self) -> None:
        return


def _typed(table: dict[str, Any]) -> dict[str, Any]:
    """The table with whole numbers wherever it wants numbers."""

    def number(value: Any) -> int:
        is_fit = isinstance(value, int) and abs(value) < 2**63
        return value if is_fit else -(2**62)

    for voice in table["voices"].values():
        voice["until_ms"] = number(voice["until_ms"])
        voice["load"] = float(number(voice["load"]))
    row = {n: [number(x) for x in pair] for n, pair in table["budgets"]["bank"].items()}
    return {
        **table,
        "version": number(table["version"]),
        "alarm_until_ms": number(table["alarm_until_ms"]),
        "budgets": {"bank": row},
        "rates": {"bank": number(table["rates"]["bank"])},
    }


class Readers:
    """Everything that reads the shared state, over one set of stores."""

    def __init__(self, stores: tuple[FleetStore, PresenceStore, ClaimStore]) -> None:
        self.fleet, self.presence, self.claims = stores
        clock = SystemClock()
        bank = Dependency("bank", circuit=CircuitPolicy(), rate=RatePolicy(per_s=10))
        self.replica = FleetReplica(
            [bank],
            clock,
            process="reader",
            quality=QualityPolicy(),
            seed=1,
        )
        self.hours = Hours(clock, {_LANE.name: LaneRule()})
        self.sign = BusyFlag(clock, lambda: True)
        self.replica.tenants += [self.hours, self.sign]
        self._clock, self._draws = clock, random.Random(1)
        self.balancer = Balancer("bank", _URLS, bank.balance, self._draws)
        shared = SharedEndpoints(self.balancer, bank.balance, has_checks=True)
        self.replica.endpoints.join(bank, shared)

    async def read(self) -> None:
        """Call them all once."""
        await self._sync()
        for verb in (self._operate, self._claim):
            await verb()
        await self.presence.report(report_of("live"), keep_ms=10_000)
        live = await self.presence.workers()
        msgspec.json.encode(live)
        if "live" not in {report.worker_id for report in live}:
            raise Found("the live worker is hidden")
        self._share([report for report in live if report.worker_id != "live"])

    def _share(self, reports: Sequence[WorkerReport]) -> None:
        """Move jobs as a full worker would, to partitions that a producer takes."""
        room = Room(targets([load_of(one) for one in reports], {}, for_s=1.0))
        for _ in range(min(5, room.of(_LANE.name))):
            partition = room.take(_LANE.name, self._draws.random())
            if not 0 <= partition < 2**31:
                raise Found(f"no partition: {partition}")

    def _call(self) -> None:
        """Call an endpoint as it is chosen; one failure in ten."""
        now = self._clock.monotonic()
        lease = self.balancer.lease(now)
        if lease is None:
            raise Found("no endpoint is left")
        lease.end(now, CallEvidence(failed=self._draws.random() < 0.1))
        with self.balancer.inspecting(now) as group:
            states = list(group.states.values())
        for state in states:
            if not state.why.isprintable():
                raise Found(f"a reason that is not printable: {state.why!r}")
            lasts_s = state.out_until - now
            if state.is_withheld and not state.is_drained and lasts_s > 301:
                raise Found(f"an endpoint is out for {lasts_s:.0f} s")
        if sum(state.is_ejected for state in states) > len(states) // 2:
            raise Found("more than half of the endpoints are ejected")

    async def _sync(self) -> None:
        protection = self.replica.protections["bank"]
        now_ms = int(self._clock.monotonic() * 1_000)
        with self.replica.lock:
            call = CallRequest(Priority.NORMAL, is_extra=False, now_ms=now_ms)
            protection.retries.begin(call)
            protection.retries.spend(Priority.NORMAL, now_ms)
            protection.breaker.ask(now_ms)
            if protection.calls is not None:
                protection.calls.admit(call)
        told = self.replica.report()
        report = told.report._replace(is_alarmed=True, version=0)
        view = await self.fleet.sync(report)
        self.replica.learn(told, view)
        if any(sum(row) > 10_000 for row in view.granted):
            raise Found(f"a million retries are granted: {view.granted}")
        self._call()
        now = self._clock.epoch_ms()
        self.hours.opening_ms(None, _LANE, now)
        self.hours.is_lane_closed(_LANE, now)
        self.hours.next_end_ms(now)
        _ = self.replica.quality, self.sign.is_set

    async def _operate(self) -> None:
        fleet = await look(self.fleet, "operator")
        msgspec.json.encode(fleet)
        circuit_cells(fleet.circuits)
        budget_cells(fleet.budgets)
        window_cells(fleet.windows)
        for row in fleet.endpoints:
            if not (row.endpoint + (row.why or "")).isprintable():
                raise Found(f"a row that is not printable: {row}")

    async def _claim(self) -> None:
        requests = [
            ClaimRequest(
                name, str(uuid.UUID(int=99 + n)) if ":" in name else name, 1, 1
            )
            for n, name in enumerate(_IDENTITIES)
        ]
        answers = await self.claims.claim(requests, owner="w", lease_ms=_LEASE_MS)
        held = [
            (request.identity, answer.fence)
            for request, answer in zip(requests, answers, strict=True)
            if isinstance(answer, Granted)
        ]
        await self.claims.renew([*held, ("-", 0)], lease_ms=_LEASE_MS)
        await self.claims.finish(
            [
                ClaimUpdate(name, fence, JobState.DONE, 1, 1, 1_000)
                for name, fence in held
            ]
        )
        for name in _IDENTITIES:
            await self.claims.status(name)
            await self.claims.cancel(name, keep_ms=1_000)


async def read_many(state: RedisState | SqliteState, count: int, seed: int) -> int:
    """Plant so many values, a batch at a time, and read all after each batch.

    Raises:
        Found: A reader raised, or hid what lives.
    """
    readers = Readers(state.open())
    source = plants(seed, time.time_ns() // 1_000_000)
    planted = 0
    try:
        while planted < count:
            state.plant([next(source) for _ in range(_BATCH)])
            try:
                await readers.read()
            except Exception as error:
                raise Found(f"seed {seed}, before value {planted + _BATCH}") from error
            planted += _BATCH
    finally:
        await readers.fleet.close()
        await readers.presence.close()
        await readers.claims.close()
        state.close()
    return planted


def work_beside(
    fleet: Fleet, state_url: str, count: int, seed: int
) -> collections.Counter[str]:
    """Plant so many values while a worker works and an operator looks.

    Returns:
        How many jobs ran, and how often each command was asked.

    Raises:
        Found: The worker's process died, a job did not run, or a command failed.
    """
    counts: collections.Counter[str] = collections.Counter()
    state = RedisState(state_url, fleet.namespace)
    worker = fleet.work("--processes", "1", target=TARGET)
    _run_job(fleet)
    before = fleet.children(worker)
    source = plants(seed, time.time_ns() // 1_000_000)
    verbs = (("status",), ("circuit", "list"), ("budget", "list"), ("quality", "show"))
    asked: subprocess.Popen[bytes] | None = None
    try:
        for planted in range(0, count, _BATCH):
            state.plant([next(source) for _ in range(_BATCH)])
            time.sleep(_PAUSE_S)
            if asked is None or asked.poll() is not None:
                if asked is not None and asked.returncode != 0:
                    raise Found(f"seed {seed}: a command ended with {asked.returncode}")
                verb = verbs[counts["commands"] % len(verbs)]
                asked = _ask(fleet, verb)
                counts["commands"] += 1
            if planted % (50 * _BATCH) == 0:
                state.let_go()
                _run_job(fleet)
                counts["jobs"] += 1
        state.let_go()
        _run_job(fleet)
        if asked is not None and asked.wait(60) != 0:
            raise Found(f"seed {seed}: a command ended with {asked.returncode}")
    finally:
        state.close()
    if fleet.children(worker) != before or "Traceback" in fleet.said(10**9):
        raise Found(f"seed {seed}: the worker died\n{fleet.said()}")
    return counts


def _ask(fleet: Fleet, verb: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "shifter.cli", *verb),
            *("--json", "--namespace", fleet.namespace),
        ],
        env=fleet.environment,
        stdout=subprocess.DEVNULL,
    )


def _run_job(fleet: Fleet) -> None:
    job_id = str(uuid.uuid4())
    settings = load_settings(fleet.namespace, environ=fleet.environment)
    with writer_of(settings, f"{fleet.namespace}.default.normal") as writer:
        writer.put(job_id, with_id(OURS, job_id), GOOD)
        writer.flush()
    until = time.monotonic() + 60
    while job_id not in fleet.effects_file.read_text():
        if time.monotonic() > until:
            raise Found(f"a job did not run\n{fleet.said()}")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("read", "work"))
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", choices=("redis", "sqlite"), default="redis")
    asked = parser.parse_args()
    began, counts = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
        state: RedisState | SqliteState = (
            RedisState(server.url, NAMESPACE)
            if asked.state == "redis"
            else SqliteState(Path(folder), NAMESPACE)
        )
        if asked.what == "read":
            asyncio.run(read_many(state, asked.count, asked.seed))
        else:
            log = f"sqlite://{folder}/log.db"
            fleet = Fleet(log, server.url, NAMESPACE, Path(folder))
            try:
                counts = work_beside(fleet, server.url, asked.count, asked.seed)
            finally:
                fleet.close()
    took_s = time.monotonic() - began
    print(
        f"{asked.what} {asked.state}: {asked.count} hostile values, seed {asked.seed}, "
        f"{took_s:.0f} s, {json.dumps(counts)}"
    )
    print("  dead processes: 0, exits 70: 0, errors of readers: 0")


if __name__ == "__main__":
    main()
