"""No bytes make a reader of the wire raise anything but what it says.

Damaged golden records find more than these random bytes: see ``tests/bad_inputs``.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, strategies as st

from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.model.reason import Reason
from shifter.wire.dead_letter import (
    DeadLetterInfo,
    dead_letter_headers,
    read_dead_letter,
)
from shifter.wire.envelope import check_bounds, decode_envelope, encode_envelope
from shifter.wire.headers import JSON, MSGPACK, Headers, read_headers, successor
from shifter.wire.payload import PayloadCodec
from shifter.wire.untrusted import check_depth, check_msgpack_depth

REASONS = (Reason.UNDECODABLE_ENVELOPE, Reason.UNDECODABLE_PAYLOAD)
NOW = 1_760_000_000_000


class Context: ...


def send_receipt(order_id: int, email: str, notes: dict | None = None) -> None: ...


CODEC = PayloadCodec(send_receipt, name="send_receipt", context_type=Context)
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
