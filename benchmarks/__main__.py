"""``python -m benchmarks [--quick]``: a table, and build/bench.json."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.progress import Progress

from benchmarks import admission, balance, embedded, fleet, ours, peers, raw, skew
from benchmarks.report import Finding, publish
from stack.kafka import KafkaCluster
from stack.redis import RedisServer


def main() -> None:
    """Measure everything on servers of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many")
    parser.add_argument(
        "--waiting", type=int, default=1_000_000, help="jobs in the large file"
    )
    parser.add_argument("--embedded", action="store_true", help="no server, that only")
    parser.add_argument("--admission", action="store_true", help="no server, that only")
    parser.add_argument("--fleet", action="store_true", help="a Redis, that only")
    parser.add_argument("--skew", action="store_true", help="a Kafka, that only")
    parser.add_argument("--balance", action="store_true", help="haproxy, that only")
    arguments = parser.parse_args()
    scale = 0.1 if arguments.quick else 1.0
    findings = []
    if arguments.admission:
        publish(admission.measure(scale), Path("build/bench.json"))
        return
    if arguments.fleet:
        publish(fleet.measure(scale), Path("build/bench.json"))
        return
    if arguments.skew:
        publish(skew.measure(scale), Path("build/bench.json"))
        return
    if arguments.balance:
        publish(balance.measure(scale), Path("build/bench.json"))
        return
    if not arguments.embedded:
        with KafkaCluster(fast=True) as kafka, RedisServer() as redis:
            urls = (kafka.bootstrap, kafka.url, redis.url)
            findings = measure(*urls, scale, arguments.rounds)
        findings += fleet.measure(scale)
    findings += admission.measure(scale)
    findings += embedded.measure(_fresh_app, scale, arguments.waiting)
    publish(findings, Path("build/bench.json"))


def measure(
    bootstrap: str, log: str, state: str, scale: float, rounds: int
) -> list[Finding]:
    """All findings; ours and theirs take turns, so that noise hits both."""

    namespace = f"bench{uuid.uuid4().hex[:6]}"
    os.environ.update(ours.environment(log, state, namespace))
    sys.stderr.write("measuring; nothing else should run on this machine\n")
    with Progress(transient=True) as progress:
        steps = progress.add_task("measuring", total=7)

        def take_turns(*measures: Callable[[], float]) -> list[float]:
            taken = [[measure() for measure in measures] for _ in range(rounds)]
            progress.advance(steps)
            return [statistics.median(column) for column in zip(*taken, strict=True)]

        return _measure(bootstrap, log, state, scale, take_turns)


def _measure(
    bootstrap: str,
    log: str,
    state: str,
    scale: float,
    take_turns: Callable[..., list[float]],
) -> list[Finding]:
    many, some = int(200_000 * scale), int(50_000 * scale)
    raw_topic = f"raw-{uuid.uuid4().hex[:6]}"
    raw.make_topic(bootstrap, raw_topic)
    fresh = _fresh_app

    async def ours_defer() -> float:
        app = await fresh()
        async with app:
            return await ours.defer(app, some, 100)

    async def ours_alone() -> tuple[float, float]:
        app = await fresh()
        async with app:
            return await ours.defer_alone(app, int(2_000 * scale) + 100)

    async def ours_many() -> float:
        app = await fresh()
        async with app:
            await ours.defer_many(app, 100)
            return await ours.defer_many(app, many)

    defer, bridge = take_turns(
        lambda: asyncio.run(ours_defer()),
        lambda: asyncio.run(raw.bare_bridge(bootstrap, raw_topic, some, 100)),
    )
    bulk, produce = take_turns(
        lambda: asyncio.run(ours_many()),
        lambda: raw.raw_produce(bootstrap, raw_topic, many),
    )
    memory: list[float] = []

    async def filled() -> str:
        app = await fresh()
        async with app:
            await ours.defer_many(app, many)
        return app.namespace

    def ours_drain() -> float:
        rate, rss = ours.drain(log, state, asyncio.run(filled()), many)
        memory.append(rss)
        return rate

    def bare_drain() -> float:
        topic = _bare_topic(bootstrap, many)
        return asyncio.run(raw.bare_loop(bootstrap, state, topic, many))

    def peer_drain() -> float:
        count = int(20_000 * scale)
        topic = _bare_topic(bootstrap, count)
        return asyncio.run(peers.faststream_drain(bootstrap, topic, count))

    drained, bare, faststream = take_turns(ours_drain, bare_drain, peer_drain)
    (dramatiq,) = take_turns(lambda: peers.dramatiq_drain(state, int(5_000 * scale)))
    p50, p99 = asyncio.run(ours_alone())

    async def ours_pickup() -> tuple[float, float]:
        app = await fresh()
        async with app:
            return await ours.pickup(
                log, state, app.namespace, app, 1_000, int(10_000 * scale)
            )

    pick50, pick99 = asyncio.run(ours_pickup())
    return [
        Finding("defer, 100 awaiting", defer, "jobs/s", "bare bridge", bridge, 0.7),
        Finding("defer_many", bulk, "jobs/s", "raw produce", produce, 0.4),
        Finding("drain, claims on", drained, "jobs/s", "bare loop", bare, 0.7),
        Finding("drain, claims on", drained, "jobs/s", "FastStream", faststream, 10),
        Finding("drain, claims on", drained, "jobs/s", "Dramatiq", dramatiq, 15),
        Finding("defer alone, p50", p50, "ms", None, None, 1, at_most=True),
        Finding("defer alone, p99", p99, "ms", None, None, 10, at_most=True),
        Finding("pick-up at 1,000/s, p50", pick50, "ms", None, None, 5, at_most=True),
        Finding("pick-up at 1,000/s, p99", pick99, "ms", None, None, 30, at_most=True),
        Finding("worker memory", max(memory), "MiB", None, None, 200, at_most=True),
        Finding(
            "import shifter", ours.import_ms(), "ms", None, None, 130, at_most=True
        ),
        Finding(
            "shifter version", ours.version_ms(), "ms", None, None, 300, at_most=True
        ),
    ]


async def _fresh_app():
    """The benchmark's app in a namespace of its own, with its topics."""
    from shifter import Shifter

    app = Shifter(f"bench{uuid.uuid4().hex[:8]}")

    @app.job
    async def noop(number: int, text: str) -> None: ...

    @app.job(queue="pickup")
    async def stamp(sent: float) -> None: ...

    await ours.make_topics(app)
    return app


def _bare_topic(bootstrap: str, count: int) -> str:
    """A topic with jobs as a hand-written producer would make them."""
    topic = f"bare-{uuid.uuid4().hex[:6]}"
    raw.make_topic(bootstrap, topic)
    raw.fill(
        bootstrap,
        topic,
        [
            (
                raw.VALUE,
                [
                    (
                        "shifter",
                        msgspec.json.encode(
                            {"id": str(uuid.uuid4()), "type": "noop", "pad": "x" * 90}
                        ),
                    )
                ],
            )
            for _ in range(count)
        ],
    )
    return topic


if __name__ == "__main__":
    main()
