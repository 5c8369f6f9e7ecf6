"""A dead-letter topic, live traffic beside it, and a replay that is killed.

Of the letters four in five are selected by `FILTER`. What was there and what came of
it is told in the words of `tests.acceptance.replay_history`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from shifter.config.load import load_settings
from shifter.ports import Appended, Record
from shifter.wire.dead_letter import dead_letter_headers
from shifter.wire.headers import Headers, build_headers, read_headers
from shifter.wiring import open_admin, open_log
from tests.acceptance.fleet import ROOT, Fleet
from tests.acceptance.replay_history import Letter, Replay, Sample, content_of
from tests.unit.deadletter import letters

TARGET = "tests.acceptance.replay_jobs:app"
FILTER = 'error == "SMTPError" and payload.order_id >= 0'
KEYS = 100
BATCH = 5_000


def is_selected(number: int) -> bool:
    return number % 5 != 0


def key_of(number: int) -> bytes:
    return b"k%d" % (number % KEYS)


def value_of(number: int) -> bytes:
    return b'{"order_id": %d}' % number


def users_headers(number: int) -> Headers:
    return [("x-number", b"%d" % number), ("x-tenant", b"t%d" % (number % 7))]


def dead_letter(namespace: str, number: int) -> Record:
    """Of the job that has this number, from 1 on."""
    facts: dict[str, Any] = {"origin_topic": f"{namespace}.mail.low"}
    if not is_selected(number):
        facts |= {"error_type": "builtins.KeyError", "fingerprint": "ba9876543210"}
    job = letters.envelope(number, queue="mail", key=key_of(number).decode())
    own = build_headers(
        job, content_type="application/json", extra=users_headers(number)
    )
    story = letters.info(number, **facts)
    headers = dead_letter_headers(story, own)
    topic = f"{namespace}.mail.dlt"
    return Record(topic, value_of(number), headers, key_of(number))


def history_of(count: int) -> dict[str, Letter]:
    """The letters as the checker wants them."""
    return {
        letters.job_id(n): Letter(
            is_selected(n),
            key_of(n),
            n,
            content_of(key_of(n), value_of(n), users_headers(n)),
        )
        for n in range(1, count + 1)
    }


class Trial:
    """Letters 1 to ``count`` in a fleet of its own."""

    def __init__(self, fleet: Fleet, count: int) -> None:
        fleet.environment["SHIFTER_NAMESPACE"] = fleet.namespace
        self.fleet, self.count = fleet, count
        self.settings = load_settings(fleet.namespace, environ=fleet.environment)
        self.lane = f"{fleet.namespace}.mail.low"
        self._runner = asyncio.Runner()
        self._admin = open_admin(self.settings)
        fleet.run("topics", "apply", TARGET)

    def close(self) -> None:
        self._runner.run(self._admin.close())
        self._runner.close()

    def fill(self) -> None:
        log = open_log(self.settings)
        try:
            for first in range(1, self.count + 1, BATCH):
                numbers = range(first, min(first + BATCH, self.count + 1))
                records = [dead_letter(self.fleet.namespace, n) for n in numbers]
                answers = self._runner.run(log.append(records, timeout_s=60))
                assert all(isinstance(answer, Appended) for answer in answers)
        finally:
            log.close(timeout_s=30)

    def is_drained(self) -> bool:
        [depth] = self._runner.run(self._admin.depths([self.lane]))
        return depth.waiting == 0

    def replays(self) -> list[Replay]:
        """What came back to the lane; live jobs are none."""

        async def scan() -> list[Replay]:
            return [
                replay
                async for batch in self._admin.scan(self.lane)
                for found in batch
                if (replay := _replay(found)) is not None
            ]

        return self._runner.run(scan())

    def replay(
        self, *pace: str, kills: int, entry: str = "tests.acceptance.seeded"
    ) -> dict[str, Any]:
        """Replay, killed and resumed so often, at random places; the run's facts."""
        dice = random.Random(46)
        chosen = ("--filter", FILTER, "--reason", "fixed", "--name", "mend", "--yes")
        arguments = ("dlt", "replay", "mail", *chosen)
        # So that the last kill, too, comes before the end.
        farthest = max(1, int(0.7 * self.count * 4 / 5 / max(1, kills)))
        for _ in range(kills):
            letters = str(dice.randint(1, farthest))
            process = self._start(entry, *arguments, *pace, KILL_AFTER=letters)
            _, err = process.communicate(timeout=240)
            assert process.returncode == -signal.SIGKILL, err
            arguments = ("dlt", "replay", "--resume", "mend")
        process = self._start(entry, *arguments, *pace, "--json")
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        facts = json.loads(out)
        assert isinstance(facts, dict)
        return facts

    def _start(
        self, entry: str, *arguments: str, **environment: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", entry, *arguments],
            env={**self.fleet.environment, **environment},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextlib.contextmanager
    def live(self, rate_per_s: float) -> Iterator[list[int]]:
        """Live traffic while the block runs; then how many were accepted."""
        traffic = self._start("tests.acceptance.replay_jobs", str(rate_per_s))
        accepted: list[int] = []
        try:
            yield accepted
            traffic.send_signal(signal.SIGTERM)
            out, err = traffic.communicate(timeout=60)
            assert traffic.returncode == 0, err
            accepted.append(int(out))
        finally:
            if traffic.poll() is None:
                traffic.kill()
                traffic.communicate()

    def effects(self) -> tuple[list[str], list[Sample]]:
        """Job ids of replays that ran; and the live traffic's waits."""
        ran, samples = [], []
        for job, kind, offered, at in self.fleet.effects():
            if kind == "replay":
                ran.append(job)
            else:
                samples.append(Sample(float(offered), float(at) - float(offered)))
        return ran, samples


def _replay(found: Any) -> Replay | None:
    read = read_headers(found.headers)
    if read.envelope.replay_of is None:
        return None
    content = content_of(found.key, found.value, read.extra)
    return Replay(read.envelope.replay_of, read.envelope.id, found.key, content)
