"""A replay that is killed again and again, through the command, on real logs.

50,000 dead letters, a fifth of them not selected. ``SHIFTER_LETTERS`` and
``SHIFTER_REPLAY_KILLS`` make it larger.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path
from uuid import UUID

import pytest

from shifter.config import Secret, Settings
from shifter.ports import Record
from shifter.wire.dead_letter import DeadLetterInfo, dead_letter_headers
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import build_headers, read_headers
from shifter.wiring import open_admin, open_log, topic_specs

ROOT = Path(__file__).parents[2]
LETTERS = int(os.environ.get("SHIFTER_LETTERS", "50000"))
KILLS = int(os.environ.get("SHIFTER_REPLAY_KILLS", "5"))
FILTER = 'error == "SMTPError" and payload.order_id >= 0'
SETTLE_S = 90.0


def job_id(number: int) -> str:
    return str(UUID(int=number + 1))


def dead_letter(namespace: str, number: int) -> Record:
    """Of these, four in five are selected."""
    is_meant = number % 5 != 0
    envelope = EnvelopeV1(
        v=1,
        id=job_id(number),
        type="send",
        queue="mail",
        attempt=4,
        turn=4,
        key=f"k{number % 100}",
    )
    user = [("x-number", b"%d" % number), ("x-sum", b"%d" % zlib.crc32(b"%d" % number))]
    info = DeadLetterInfo(
        job_id=job_id(number),
        job_type="send",
        queue="mail",
        reason="attempts_exhausted",
        origin_topic=f"{namespace}.mail.low",
        origin_partition=0,
        origin_offset=number,
        origin_timestamp_ms=1,
        attempts=4,
        first_failed_ms=1_000,
        last_failed_ms=2_000 + number,
        error_type="smtplib.SMTPError" if is_meant else "builtins.KeyError",
        error_message=f"no such address {number}",
        error_stack="jobs:7 in send",
        fingerprint="0123456789ab" if is_meant else "ba9876543210",
        worker="w1",
    )
    original = build_headers(envelope, content_type="application/json", extra=user)
    return Record(
        f"{namespace}.mail.dlt",
        b'{"order_id": %d}' % number,
        dead_letter_headers(info, original),
        f"k{number % 100}".encode(),
    )


class Place:
    """A namespace on a log, and an operator's shell in it."""

    def __init__(self, namespace: str, log: str, state: str) -> None:
        self.namespace = namespace
        self.settings = Settings(
            namespace=namespace,
            log_url=Secret.of_url(log),
            state_url=Secret.of_url(state),
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
        self.environ = {
            **kept,
            "SHIFTER_LOG": log,
            "SHIFTER_STATE": state,
            "SHIFTER_NAMESPACE": namespace,
            "PYTHONPATH": str(ROOT),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "shifter.cli", *arguments],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    async def prepare(self) -> None:
        admin = open_admin(self.settings)
        try:
            await admin.apply(topic_specs(self.settings, ["mail"]))
        finally:
            await admin.close()

    async def fill(self, numbers) -> None:
        log = open_log(self.settings)
        try:
            batch = []
            for number in numbers:
                batch.append(dead_letter(self.namespace, number))
                if len(batch) == 5_000:
                    await log.append(batch, timeout_s=60)
                    batch = []
            await log.append(batch, timeout_s=60)
        finally:
            log.close(timeout_s=30)

    async def count(self, topic: str) -> int:
        admin = open_admin(self.settings)
        try:
            return await admin.count(f"{self.namespace}.{topic}")
        finally:
            await admin.close()

    async def lane(self):
        admin = open_admin(self.settings)
        try:
            return [
                found
                async for batch in admin.scan(f"{self.namespace}.mail.low")
                for found in batch
            ]
        finally:
            await admin.close()


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.redis]),
    ]
)
def place(request, namespace, tmp_path) -> Place:
    if request.param == "embedded":
        url = f"sqlite://{tmp_path}/log.db"
        return Place(namespace, url, url)
    kafka, redis_url = (request.getfixturevalue(n) for n in ("kafka", "redis_url"))
    return Place(namespace, kafka.url, redis_url)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_replay_killed_again_and_again_replays_each_selected_letter_once(place):
    dice = random.Random(46)
    asyncio.run(place.prepare())
    asyncio.run(place.fill(range(LETTERS)))
    selected = {job_id(n) for n in range(LETTERS) if n % 5}
    begin = ("--name", "mend", "--filter", FILTER, "--reason", "fixed", "--yes")
    pace = ("--rate", "8000", "--slow-start", "0s")
    arguments = ("dlt", "replay", "mail", *begin, *pace)

    kills = 0
    while True:
        process = place.start(*arguments, "--json")
        before, due = asyncio.run(place.count("mail.low")), dice.randint(500, 6_000)
        until = time.monotonic() + SETTLE_S
        while kills < KILLS and process.poll() is None and time.monotonic() < until:
            if asyncio.run(place.count("mail.low")) >= before + due:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
        out, err = process.communicate(timeout=300)
        if process.returncode != -signal.SIGKILL:
            break
        arguments = ("dlt", "replay", "--resume", "mend", *pace)

    assert process.returncode == 0, err
    assert kills == KILLS
    assert json.loads(out)["counts"] == {"sent": len(selected)}
    lane = asyncio.run(place.lane())
    came_back = Counter(read_headers(d.headers).envelope.replay_of for d in lane)
    assert set(came_back) == selected
    assert [job for job, count in came_back.items() if count != 1] == []
    assert_whole(lane)
    listed = place.run("dlt", "list", "mail", "--json")
    assert [(g["error"], g["count"]) for g in json.loads(listed.stdout)] == [
        ("builtins.KeyError", LETTERS - len(selected))
    ]


def assert_whole(lane) -> None:
    """Keys, headers and payloads are those of the letters; keys kept their order."""
    last: dict[tuple[int, bytes | None], int] = {}
    for found in lane:
        number = json.loads(found.value)["order_id"]
        read = read_headers(found.headers)
        assert found.key == f"k{number % 100}".encode()
        assert read.extra == [
            ("x-number", b"%d" % number),
            ("x-sum", b"%d" % zlib.crc32(b"%d" % number)),
        ]
        assert (read.envelope.replays, read.envelope.attempt) == (1, 4)
        line = (found.partition, found.key)
        assert last.get(line, -1) < number
        last[line] = number
