"""`dlt list` showed all unreadable records as one group, whatever was wrong with them.

Eighteen kinds of broken envelopes had one fingerprint, and all bad payloads another.
Right: a fingerprint tells the kind of damage, and nothing of what a record says goes
into it, so that a flood of different values is still a few groups.
"""

from __future__ import annotations

import json

import pytest

from shifter.deadletter.triage import Triage
from shifter.ports import Delivery, Record
from shifter.wire.headers import Headers
from tests.integration.drain_world import World

ID = "0199c9a2-8f6b-7c3e-9d41-5b2f7a6e0c11"
LANE = "shop.default.normal"


def envelope(**fields: object) -> bytes:
    return json.dumps({"v": 1, "id": ID, "type": "job", **fields}).encode()


BROKEN: dict[str, bytes | None] = {
    "null": None,
    "empty": b"",
    "truncated": envelope()[:-9],
    "trailing": envelope() + b"}",
    "malformed": b"nonsense",
    "not UTF-8": envelope(key="?").replace(b"?", b"\xff"),
    "too large": b"x" * 9_000,
    "too deep": b"[" * 100,
    "no id": b'{"v": 1, "type": "job"}',
    "no type": b'{"v": 1, "id": "%s"}' % ID.encode(),
    "id": envelope(id="x" * 36),
    "id too short": envelope(id="7"),
    "attempt": envelope(attempt=0),
    "attempt is text": envelope(attempt="1"),
    "turn": envelope(turn=0),
    "priority": envelope(priority="URGENT"),
    "level": envelope(level=400),
    "control character": envelope(key="a\0b"),
    "version": envelope(v=2),
    "due": envelope(due_ms=253_402_300_799_999),
}


async def groups_of(records: list[tuple[Headers, bytes]]) -> list[tuple[str, int]]:
    """What `dlt list` makes of the dead letters of these: message and count."""
    world = World()

    @world.app.job(name="job")
    async def handler(number: int, text: str = "") -> None: ...

    await world.open()
    written = [Record(LANE, value, headers) for headers, value in records]
    await world.lane_log.append(written, timeout_s=30)
    letters: list[Delivery] = []
    async with world.working() as drain:

        def is_drained() -> bool:
            return drain.observer._ended[LANE] == len(records)

        await world.until(is_drained)
    letters = await world.dead_letters()
    triage = Triage()
    for letter in letters:
        triage.add(letter)
    return [(group.message, group.count) for group in triage.groups()]


async def test_each_kind_of_broken_envelope_is_a_group():
    records = [([("shifter", raw)], b'{"number": 1}') for raw in BROKEN.values()]

    groups = await groups_of([*records, *records])

    assert [count for _, count in groups] == [2] * len(BROKEN)
    assert len({message for message, _ in groups}) == len(BROKEN)


BAD: dict[str, bytes] = {
    "empty": b"",
    "not UTF-8": b'{"number": 1, "text": "\xff"}',
    "type of number": b'{"number": "x"}',
    "type of text": b'{"number": 1, "text": 2}',
    "no object": b"[1]",
    "malformed": b"nonsense",
    "too deep": b"[" * 100,
}


async def test_each_kind_of_bad_payload_is_a_group():
    records = [
        ([("shifter", envelope(id=ID[:-2] + f"{n:02}"))], raw)
        for n, raw in enumerate(BAD.values())
    ]

    groups = await groups_of(records)

    assert [count for _, count in groups] == [1] * len(BAD)


@pytest.mark.parametrize(
    "made",
    [
        lambda n: ([("shifter", envelope(id=f"{n:036}"))], b""),
        lambda n: ([("shifter", b"x" * (9_000 + n))], b""),
        lambda n: ([("shifter", envelope(priority=f"P'{n}\"`"))], b""),
        lambda n: ([("shifter", envelope(key=f"{n}\0"))], b""),
        lambda n: ([("shifter", envelope(v=n + 2))], b""),
        lambda n: ([("shifter", b"{" + b" " * n + b"!")], b""),
        lambda n: ([("shifter", envelope(due_ms=253_402_300_799_999 - n))], b""),
        lambda n: ([("shifter", envelope(id=ID[:-3] + f"{n:03}", queue=f"q{n}"))], b""),
    ],
)
async def test_the_text_of_a_record_makes_no_group(made):
    groups = await groups_of([made(n) for n in range(200)])

    assert [count for _, count in groups] == [200]
