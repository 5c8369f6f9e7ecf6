"""Events of jobs on the wire: what any bytes are read as, and the published schema."""

from __future__ import annotations

import contextlib

import jsonschema
import msgspec
import pytest
from hypothesis import given, strategies as st

from shifter.errors import DecodeError
from shifter.wire.job_event import (
    MAX_BATCH_BYTES,
    MAX_READ_BYTES,
    JobEvent,
    decode_events,
    encode_events,
    shown_text,
)
from shifter.wire.schemas import job_events_schema

ID = "0199c9a2-8f6b-7c3e-9d41-5b2f7a6e0c11"


def event(**facts) -> JobEvent:
    return JobEvent(at_ms=1_760_000_000_000, event="failed", id=ID, **facts)


def test_events_are_read_as_they_were_written():
    wanted = [event(attempt=2, waits={"queue": 5}, error="ValueError"), event()]

    [(value, count)] = encode_events("host-1", wanted)

    found = decode_events(value)
    assert (found.process, found.events, count) == ("host-1", wanted, 2)


def test_a_batch_is_cut_so_that_no_record_is_too_large():
    wanted = [event(message="x" * 400, attempt=n) for n in range(2_000)]

    parts = list(encode_events("host-1", wanted))

    assert len(parts) > 1
    assert all(len(value) <= MAX_BATCH_BYTES for value, _ in parts)
    assert sum(count for _, count in parts) == 2_000
    found = [one for value, _ in parts for one in decode_events(value).events]
    assert found == wanted


def test_a_field_of_a_later_version_is_ignored_and_another_version_is_refused():
    raw = {"v": 1, "process": "p", "new": 1, "events": [{"at_ms": 1, "event": "x"}]}

    found = decode_events(msgspec.json.encode(raw))

    assert [one.event for one in found.events] == ["x"]
    with pytest.raises(DecodeError):
        decode_events(msgspec.json.encode({**raw, "v": 2}))


@given(st.binary(max_size=200))
def test_any_bytes_are_events_or_a_decode_error(raw):
    with contextlib.suppress(DecodeError):
        decode_events(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b'{"v":1,"process":"p","events":[' + b'{"at_ms":-1,"event":"x"}]}',
        b" " * (MAX_READ_BYTES + 1),
        b'{"v":1,"process":"\xff","events":[]}',
    ],
    ids=["deep", "before 1970", "large", "no text"],
)
def test_hostile_bytes_are_a_decode_error(raw):
    with pytest.raises(DecodeError):
        decode_events(raw)


def test_a_text_is_shown_printable_and_bounded():
    shown = shown_text("\x1b[31mred\u202e" + "x" * 1_000_000)

    assert shown.startswith(r"\x1b[31mred\u202e")
    assert len(shown) == 500
    assert shown.isprintable()


def test_what_is_written_fits_the_published_schema():
    full = event(
        **{name: "x" for name in JobEvent.__struct_fields__ if name in TEXTS},
        attempt=1,
        created_ms=1,
        started_ms=2,
        ran_ms=3,
        until_ms=4,
        waits={"queue": 1},
    )
    [(value, _)] = encode_events("p", [full, event()])

    jsonschema.validate(msgspec.json.decode(value), job_events_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"v": 1, "process": "p"}, job_events_schema())


TEXTS = frozenset(
    field.name
    for field in msgspec.structs.fields(JobEvent)
    if field.type is str and field.name not in ("event", "id")
)
