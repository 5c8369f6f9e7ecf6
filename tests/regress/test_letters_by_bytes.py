"""`dlt list` and its siblings kept whole dead letters, or pages of them, in memory.

A group kept its newest letter with its payload: 4,000 letters of 890 kB with distinct
fingerprints took 4.3 GiB. Pages were counted in records. Right: of a letter a group keeps
the few texts that it shows, and pages end at a number of bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from shifter.config.load import load_settings
from shifter.deadletter.journal import RunBegun
from shifter.deadletter.transfer import bring_in
from shifter.deadletter.triage import MAX_GROUPS, Triage
from shifter.ports import Delivery, Record
from shifter.wire.dead_letter import dead_letter_headers
from shifter.wire.headers import Headers
from shifter.wiring import open_admin, open_log, topic_specs
from tests.acceptance.conftest import EMBEDDED, SERVERS
from tests.unit.deadletter.letters import info

LARGE = 890_000
MIB = 1 << 20


def headers_of(number: int, size: int = 0) -> Headers:
    facts = {"fingerprint": f"{number:012x}", "error_message": "x" * 500}
    own: Headers = [("x-user", b"u" * size)] if size else []
    return dead_letter_headers(info(number, **facts), own)


def letters(count: int) -> Iterator[Delivery]:
    for number in range(count):
        value = bytes(LARGE)
        yield Delivery(
            "shop.mail.dlt", None, value, headers_of(number, 4_000), 0, 0, number
        )


def test_a_group_keeps_nothing_of_a_letter_but_what_it_shows():
    triage = Triage()

    tracemalloc.start()
    try:
        for letter in letters(2_000):
            triage.add(letter)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(triage.groups()) == 2_000
    assert peak < 12 * MIB  # 1.7 GiB before


def test_forged_texts_of_any_size_are_bounded():
    triage = Triage()
    for number in range(50):
        huge = dict(headers_of(number)) | {
            "shifter-error-message": b"x" * MIB,
            "shifter-reason": b"y" * MIB,
        }
        triage.add(Delivery("t", None, None, list(huge.items()), 0, 0, number))

    kept = sum(len(text) for found in triage._found.values() for text in found.newest)
    assert kept < 50 * 10_000
    assert {len(group.message) for group in triage.groups()} == {1_000}


def test_groups_beyond_the_most_are_one():
    triage = Triage()
    for number in range(MAX_GROUPS + 50):
        triage.add(Delivery("t", None, None, headers_of(number), 0, 0, number))

    groups = triage.groups()
    assert len(groups) == MAX_GROUPS + 1
    assert groups[0].count == 50


@pytest.fixture(params=[SERVERS, EMBEDDED])
def settings(request, namespace, tmp_path):
    """A log with a dead-letter topic of 300 large letters, each of a group of its own."""
    if request.param == "servers":
        url = request.getfixturevalue("kafka").url
        state = request.getfixturevalue("redis_url")
    else:
        url = state = f"sqlite://{tmp_path / 'log.db'}"
    environ = {"SHIFTER_LOG": url, "SHIFTER_STATE": state, "SHIFTER_PARTITIONS": "1"}
    settings = load_settings(namespace, environ=environ)
    asyncio.run(fill(settings))
    return settings, {**os.environ, **environ}


async def fill(settings) -> None:
    admin, log = open_admin(settings), open_log(settings)
    try:
        await admin.apply(topic_specs(settings, ["mail"]))
        topic = f"{settings.namespace}.mail.dlt"
        for start in range(0, 300, 20):
            records = [
                Record(topic, os.urandom(LARGE), headers_of(start + n))
                for n in range(20)
            ]
            for answer in await log.append(records, timeout_s=30):
                assert type(answer).__name__ == "Appended", answer
    finally:
        await asyncio.to_thread(log.close, timeout_s=10)
        await admin.close()


PEAK = """
import os, re, sys
from shifter.cli import main
try:
    main(sys.argv[1:])
finally:
    # Of this program alone: ru_maxrss counts what forked it, too.
    told = open("/proc/self/status").read()
    open(os.environ["PEAK"], "w").write(re.search(r"VmHWM:\\s+(\\d+)", told)[1])
"""


@pytest.mark.timeout(240)
def test_listing_large_letters_takes_little_memory(settings, tmp_path):
    found, environ = settings
    peak = tmp_path / "peak"
    command = ("dlt", "list", "mail", "--json", "--limit", "1000")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *command, "--namespace", found.namespace],
        env={**environ, "PEAK": str(peak)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 300
    peak_mib = int(peak.read_text()) / 1_024
    print(f"peak of dlt list over {300 * LARGE / MIB:.0f} MiB: {peak_mib:.0f} MiB")
    assert peak_mib < 150


@pytest.mark.timeout(240)
async def test_a_page_ends_at_a_number_of_bytes(settings):
    found, _ = settings
    admin, sizes = open_admin(found), []
    try:
        batches = admin.scan(f"{found.namespace}.mail.dlt")
        sizes += [sum(len(one.value) for one in batch) async for batch in batches]
    finally:
        await admin.close()

    assert sum(sizes) == 300 * LARGE
    assert max(sizes) < 40_000_000


async def test_an_import_writes_batches_of_bounded_size(monkeypatch):
    sizes: list[int] = []

    async def note(_, records) -> None:
        sizes.append(sum(len(record.value) for record in records))

    monkeypatch.setattr("shifter.deadletter.transfer.write", note)

    clock = SimpleNamespace(epoch_ms=lambda: 0)
    journal = SimpleNamespace(record=lambda _: Record("j", b"", []))
    parts = SimpleNamespace(clock=clock, journal=journal)
    begun = RunBegun(
        run="r", at_ms=0, action="import", by="a", reason="", source="s", spans={}
    )
    run = await bring_in(
        parts, begun, (Record("", bytes(LARGE), []) for _ in range(100))
    )

    assert run.counts == {"imported": 100}
    assert sum(sizes) == 100 * LARGE
    assert max(sizes) < 10_000_000
