"""No bytes make a reader of the wire raise anything but what it says.

Random bytes find little; golden records that were damaged find more. A hundred
thousand of them are read in CI, an eighth of that elsewhere.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.model.reason import Reason
from shifter.wire.dead_letter import (
    DeadLetterInfo,
    dead_letter_headers,
    read_dead_letter,
)
from shifter.wire.depth import check_depth, check_msgpack_depth
from shifter.wire.envelope import check_bounds, decode_envelope, encode_envelope
from shifter.wire.headers import JSON, MSGPACK, Headers, read_headers, successor
from shifter.wire.payload import PayloadCodec

REASONS = (Reason.UNDECODABLE_ENVELOPE, Reason.UNDECODABLE_PAYLOAD)
DAMAGED = settings.default.max_examples * 350
NOW = 1_760_000_000_000


class Context: ...


def send_receipt(order_id: int, email: str, notes: dict | None = None) -> None: ...


CODEC = PayloadCodec.of(send_receipt, name="send_receipt", context_type=Context)
INFO = DeadLetterInfo(
    job_id=None,
    job_type=None,
    queue="mail",
    reason="undecodable_envelope",
    origin_topic="shop.mail.low",
    origin_partition=0,
    origin_offset=0,
    origin_timestamp_ms=0,
    attempts=0,
    first_failed_ms=None,
    last_failed_ms=0,
    error_type="undecodable_envelope",
    error_message="",
    error_stack="",
    fingerprint="5252bfacfa65",
    worker="w",
)


def read_as_a_worker_would(headers: Headers, value: bytes | None) -> None:
    """Everything a worker does with a record that somebody else wrote."""
    refusal = refusal_of(headers, value)
    letter = dead_letter_headers(INFO, headers)

    assert read_dead_letter(letter) == INFO
    read_dead_letter(headers)
    if isinstance(refusal, DecodeError):
        assert refusal.detail.isprintable()
        assert len(refusal.detail) <= 300
        assert refusal.reason in REASONS
    elif refusal is not None:
        assert refusal.found != 1


def refusal_of(
    headers: Headers, value: bytes | None
) -> DecodeError | UnsupportedVersionError | None:
    try:
        read = read_headers(headers)
        check_bounds(read.envelope, NOW)
        arguments = CODEC.decode(value, read.content_type)
    except (DecodeError, UnsupportedVersionError) as error:
        return error
    assert decode_envelope(encode_envelope(read.envelope)) == read.envelope
    assert read_headers(successor(read)) == read
    assert list(arguments) == ["order_id", "email", "notes"]
    return None


@given(st.binary(max_size=300))
def test_any_bytes_are_an_envelope_or_one_of_two_errors(raw):
    read_as_a_worker_would([("shifter", raw)], b"{}")


@pytest.mark.parametrize("kind", [JSON, MSGPACK])
@given(st.binary(max_size=300))
def test_any_bytes_are_a_payload_or_one_error(kind, value):
    headers: Headers = [
        ("shifter", b'{"v":1,"id":"%s","type":"t"}' % (b"0" * 32)),
        ("content-type", kind.encode()),
    ]

    read_as_a_worker_would(headers, value)


names = st.sampled_from(
    ["shifter", "content-type", "traceparent", "shifter-reason", "x"]
) | st.text(st.characters(), max_size=70)


@given(
    st.lists(st.tuples(names, st.none() | st.binary(max_size=80)), max_size=70),
    st.none() | st.binary(max_size=40),
)
def test_any_headers_are_a_job_or_one_of_two_errors(headers, value):
    read_as_a_worker_would(headers, value)


@given(st.binary(max_size=400), st.integers(0, 5))
def test_measuring_depth_raises_nothing_else(raw, limit):
    for check in (check_depth, check_msgpack_depth):
        with contextlib.suppress(DecodeError):
            check(raw, limit)


SPICE = [
    *(b"null", b"NaN", b"1e999", b"-1", b"9" * 400, b"[" * 70, b'{"a":' * 70, b"true"),
    *(b'"', b"\\", b"\\u0000", b"\\ud800", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\n"),
    *(b'"v":2,', b'"attempt":0,', b'"due_ms":253402300799999,', b'"type":"",'),
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc1", b"\x91" * 70),
]


def flip(raw: bytearray, rng: random.Random) -> None:
    if raw:
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def cut(raw: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(raw) + 1)
    del raw[start : start + rng.randrange(1, 20)]


def double(raw: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(raw) + 1)
    part = raw[start : start + rng.randrange(1, 60)]
    raw[start:start] = part


def season(raw: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(raw) + 1)
    raw[start:start] = rng.choice(SPICE)


def truncate(raw: bytearray, rng: random.Random) -> None:
    del raw[rng.randrange(len(raw) + 1) :]


DAMAGES: list[Callable[[bytearray, random.Random], None]] = [
    flip, flip, cut, double, season, season, truncate
]  # fmt: skip


def damaged(value: bytes | None, rng: random.Random) -> bytes | None:
    raw = bytearray(rng.randbytes(9) if value is None else value)
    for _ in range(rng.randrange(3)):
        rng.choice(DAMAGES)(raw, rng)
    return None if rng.random() < 0.01 else bytes(raw)


def golden() -> list[tuple[Headers, bytes | None]]:
    folder = Path(__file__).parents[2] / "schemas" / "golden"
    found = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_bytes())
        headers = [(one["name"], _content(one["value"])) for one in record["headers"]]
        found.append((headers, _content(record["value"])))
    return found


def _content(written: dict[str, str] | None) -> bytes | None:
    if written is None:
        return None
    text = written.get("text")
    return base64.b64decode(written["base64"]) if text is None else text.encode()


@pytest.mark.parametrize("seed", range(4))
def test_damaged_golden_records_are_read_or_refused(seed):
    rng = random.Random(seed)
    records = golden()

    for _ in range(DAMAGED // 4):
        headers, value = rng.choice(records)
        broken = [(name, damaged(content, rng)) for name, content in headers]
        if rng.random() < 0.1:
            broken.append(rng.choice(rng.choice(records)[0]))
        read_as_a_worker_would(broken, damaged(value, rng))
