"""What metrics and events cost a submission, in processor time and in one run.

``python -m benchmarks.metrics`` prints, for an embedded log, and with ``--kafka`` for a
broker of its own too, the time of a ``defer`` with neither, with both as they are by
default, and with an event for each job. The three take short turns in one process, so
that other programs slow all of them alike; the tenth fastest of a hundred turns counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from typing import Final

from benchmarks.ours import make_topics
from shifter import Shifter
from shifter.config import Secret, Settings
from shifter.ports import AppendAnswer
from shifter.produce.observer import ServiceObserver
from shifter.produce.publisher import Publisher
from shifter.telemetry import Tracing
from shifter.wiring.service import open_publisher
from stack.kafka import KafkaCluster

JOBS: Final = 50
"""Of one turn."""
TURNS: Final = 1_000
CASES: Final = ("none", "failures", "all")
"""Values of the setting ``events``; without events there are no metrics either."""


class Uncounting(ServiceObserver):
    """Counts no append."""

    def appended(
        self, topic: str, answers: Sequence[AppendAnswer], took_s: float
    ) -> None:
        """Do nothing."""


def publishers(log_url: str) -> dict[str, Publisher]:
    """A publisher for each case."""
    found = {}
    for case in CASES:
        settings = Settings(namespace="bench", log_url=Secret(log_url), events=case)
        observer = Uncounting() if case == CASES[0] else ServiceObserver()
        found[case] = open_publisher(settings, observer, Tracing())
    return found


async def measure(name: str, log_url: str, turns: int) -> None:
    """Print the costs with one log."""
    app = Shifter(
        "bench", settings=Settings(namespace="bench", log_url=Secret(log_url))
    )

    @app.job()
    async def note(number: int) -> None: ...

    codec, cases = note.codec, publishers(log_url)
    await make_topics(app)
    spent: dict[str, list[float]] = {case: [] for case in CASES}
    for turn in range(turns):
        first = turn % len(CASES)
        for case in CASES[first:] + CASES[:first]:
            publisher, began = cases[case], time.process_time()
            for number in range(JOBS):
                payload = codec.encode((number,), {})
                await publisher.defer(note.plan, payload, codec.content_type)
            spent[case].append((time.process_time() - began) / JOBS * 1e6)
    for publisher in cases.values():
        publisher.close(timeout_s=5)
    tenth = {case: sorted(spent[case])[turns // 10] for case in CASES}
    for case, took_us in tenth.items():
        ratio = tenth[CASES[0]] / took_us
        sys.stdout.write(f"{name:8} {case:10} {took_us:7.2f} us {ratio:6.3f}\n")


@contextlib.contextmanager
def logs(*, has_kafka: bool) -> Generator[dict[str, str]]:
    """URLs of empty logs by name."""
    with contextlib.ExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory())
        found = {"sqlite": f"sqlite:///{folder}/bench.db"}
        if has_kafka:
            found["kafka"] = held.enter_context(KafkaCluster(fast=True)).url
        yield found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics")
    parser.add_argument("--kafka", action="store_true", help="a broker too")
    parser.add_argument("--turns", type=int, default=TURNS)
    arguments = parser.parse_args()
    with logs(has_kafka=arguments.kafka) as urls:
        for each, url in urls.items():
            asyncio.run(measure(each, url, arguments.turns))
