from __future__ import annotations

import msgspec
import pytest

from shifter.wire.dead_letter import (
    DEAD_LETTER_ROOM_BYTES,
    HEADERS_DROPPED,
    DeadLetterInfo,
    dead_letter_headers,
    header_name,
    read_dead_letter,
)
from shifter.wire.failure import describe_error
from shifter.wire.headers import Headers, read_headers
from shifter.wire.payload import DEFAULT_MAX_PAYLOAD_BYTES

INFO = DeadLetterInfo(
    job_id="0199c9a2-8f6b-7c3e-9d41-5b2f7a6e0c11",
    job_type="send_receipt",
    queue="mail",
    reason="attempts_exhausted",
    origin_topic="shop.mail.low",
    origin_partition=3,
    origin_offset=1_234,
    origin_timestamp_ms=1_760_000_000_000,
    attempts=5,
    first_failed_ms=1_760_000_100_000,
    last_failed_ms=1_760_003_000_000,
    error_type="ConnectionError",
    error_message="mailer is down",
    error_stack="jobs:41 in send\nsmtplib:405 in getreply",
    fingerprint="5f0c7d1b2a94",
    worker="host-1:4242",
)
LARGEST = msgspec.structs.replace(
    INFO,
    job_type="🎉" * 300,
    queue="🎉" * 300,
    reason="🎉" * 300,
    origin_topic="🎉" * 300,
    error_type="🎉" * 300,
    error_message="🎉" * 3_000,
    error_stack="\n".join(["🎉" * 299] * 1_000),
    fingerprint="🎉" * 300,
    worker="🎉" * 300,
    origin_offset=2**63,
    origin_partition=2**31,
    attempts=10**30,
)
ENVELOPE = b'{"v":1,"id":"0199c9a2-8f6b-7c3e-9d41-5b2f7a6e0c11","type":"t"}'


def changed(**fields: object) -> DeadLetterInfo:
    return msgspec.structs.replace(INFO, **fields)


def size_of(headers: Headers) -> int:
    return sum(len(name.encode()) + len(value or b"") + 8 for name, value in headers)


def test_what_is_written_is_read_back():
    assert read_dead_letter(dead_letter_headers(INFO, [])) == INFO


def test_headers_are_text_named_after_their_field():
    headers = dict(dead_letter_headers(INFO, []))

    assert headers["shifter-origin-topic"] == b"shop.mail.low"
    assert headers["shifter-origin-offset"] == b"1234"
    assert headers["shifter-first-failed-ms"] == b"1760000100000"
    assert set(headers) == {header_name(f) for f in DeadLetterInfo.__struct_fields__}


def test_what_is_not_known_is_not_written():
    unknown = changed(job_id=None, job_type=None, first_failed_ms=None)

    headers = dead_letter_headers(unknown, [])

    assert read_dead_letter(headers) == unknown
    assert len(headers) == 13


def test_original_headers_come_first_and_stay_as_they_were():
    original: Headers = [
        ("shifter", b'{"v":1,"id":'),
        ("x", None),
        ("x", b"\xff\x00"),
        ("a\r\nb", b""),
        ("shifter-lane", b"?"),
    ]

    headers = dead_letter_headers(INFO, original)

    assert headers[:5] == original


def test_an_earlier_dead_letters_headers_are_replaced():
    earlier = dead_letter_headers(changed(queue="old", attempts=1), [("x", b"1")])
    forged: Headers = [(HEADERS_DROPPED, b"7"), ("shifter-worker", None)]

    headers = dead_letter_headers(INFO, [*earlier, *forged])

    assert headers == dead_letter_headers(INFO, [("x", b"1")])


def test_a_replayed_dead_letter_speaks_only_as_its_job():
    headers = dead_letter_headers(INFO, [("shifter", ENVELOPE), ("x", b"1")])

    read = read_headers(headers)

    assert (read.envelope.type, read.extra) == ("t", [("x", b"1")])


@pytest.mark.parametrize("field", ["queue", "error_type", "error_message", "worker"])
def test_texts_are_made_printable(field):
    found = read_dead_letter(
        dead_letter_headers(changed(**{field: "a\x1b[m\n\u202e\ud800"}), [])
    )

    assert getattr(found, field) == r"a\x1b[m\n\u202e\ud800"


def test_a_stack_keeps_its_lines_and_nothing_else_that_is_not_printable():
    stack = "\n".join(["a\x1b[2J", "x" * 500, *["l"] * 100])

    found = read_dead_letter(dead_letter_headers(changed(error_stack=stack), []))

    lines = found.error_stack.split("\n")
    assert (lines[0], len(lines[1]), len(lines)) == (r"a\x1b[2J", 300, 60)


@pytest.mark.parametrize("given", [-1, -(2**63)])
def test_instants_and_positions_the_log_does_not_know_are_zero(given):
    found = read_dead_letter(
        dead_letter_headers(changed(origin_timestamp_ms=given, origin_offset=given), [])
    )

    assert (found.origin_timestamp_ms, found.origin_offset) == (0, 0)


def test_instants_end_with_the_year_9999():
    forged = changed(origin_timestamp_ms=2**63 - 1)

    found = read_dead_letter(dead_letter_headers(forged, []))

    assert found.origin_timestamp_ms == 253_402_300_799_999


def test_a_decodable_records_headers_are_kept_whole_whatever_is_said():
    users: Headers = [(f"{number:064}", b"x" * 200) for number in range(61)]
    original: Headers = [
        ("shifter", b" " * 8_100 + ENVELOPE),
        ("content-type", b"x" * 200),
        ("traceparent", b"x" * 4_000),
        *users,
    ]
    read_headers(original)

    headers = dead_letter_headers(LARGEST, original)

    assert headers[: len(original)] == original
    assert size_of(headers) <= DEAD_LETTER_ROOM_BYTES
    assert read_dead_letter(headers) is not None


def test_a_dead_letter_of_the_largest_payload_fits_into_a_megabyte():
    headers = dead_letter_headers(LARGEST, [("x", b"x" * 2_000_000)])

    assert DEFAULT_MAX_PAYLOAD_BYTES + size_of(headers) + 100 < 1_000_000


def test_diagnostics_are_cut_before_anything_of_the_record():
    info = changed(error_message="m" * 1_000, error_stack="s" * 300)
    rest = size_of(dead_letter_headers(changed(error_message="", error_stack=""), []))
    original: Headers = [("x", b"x" * 9_000)]
    room = rest + size_of(original)

    def lengths(spare: int) -> tuple[int, int]:
        headers = dead_letter_headers(info, original, room_bytes=room + spare)
        assert headers[0] == original[0]
        found = dict(headers)
        return len(found["shifter-error-message"]), len(found["shifter-error-stack"])

    assert lengths(1_300) == (1_000, 300)
    assert lengths(1_200) == (1_000, 200)
    assert lengths(10) == (10, 0)
    assert lengths(0) == (0, 0)


def test_a_cut_never_leaves_half_a_character():
    info = changed(error_message="é" * 100, error_stack="")
    rest = size_of(dead_letter_headers(changed(error_message="", error_stack=""), []))

    headers = dead_letter_headers(info, [], room_bytes=rest + 33)

    assert dict(headers)["shifter-error-message"].decode() == "é" * 16


def test_headers_that_find_no_room_are_counted_and_the_others_kept():
    small: Headers = [("a", b"1"), ("b", b"2")]
    original = [small[0], ("huge", b"x" * 60_000), small[1], ("more", b"x" * 60_000)]

    headers = dead_letter_headers(INFO, original)

    assert headers[:2] == small
    assert headers[-1] == (HEADERS_DROPPED, b"2")
    found = read_dead_letter(headers)
    assert (found.error_message, found.error_stack) == ("", "")
    assert found.reason == INFO.reason
    assert size_of(headers) <= DEAD_LETTER_ROOM_BYTES


def test_what_fits_exactly_is_kept_and_one_byte_less_leaves_it_out():
    bare = size_of(dead_letter_headers(changed(error_message="", error_stack=""), []))
    told = size_of([(HEADERS_DROPPED, b"9" * 18)])
    one: Headers = [("x", b"x" * 9_000)]
    room = bare + size_of(one)

    def kept(original: Headers, room_bytes: int) -> int:
        headers = dead_letter_headers(INFO, original, room_bytes=room_bytes)
        return len([header for header in headers if header == one[0]])

    assert (kept(one, room), kept(one, room - 1)) == (1, 0)
    assert (kept(one * 2, room + told), kept(one * 2, room + told - 1)) == (1, 0)


@pytest.mark.parametrize("count", [10_000, 100_000])
def test_ten_thousand_headers_fit_as_well(count):
    original: Headers = [(f"x{number}", b"y") for number in range(count)]

    headers = dead_letter_headers(INFO, original)

    assert size_of(headers) <= DEAD_LETTER_ROOM_BYTES
    kept = len(headers) - 17
    assert headers[-1] == (HEADERS_DROPPED, b"%d" % (count - kept))


REQUIRED = [
    field
    for field in DeadLetterInfo.__struct_fields__
    if field not in ("job_id", "job_type", "first_failed_ms")
]


@pytest.mark.parametrize("field", REQUIRED)
def test_what_lacks_a_field_is_not_a_dead_letter_of_ours(field):
    headers = dead_letter_headers(INFO, [("shifter", ENVELOPE)])

    missing = [header for header in headers if header[0] != header_name(field)]
    null = [*missing, (header_name(field), None)]

    assert read_dead_letter(missing) is None
    assert read_dead_letter(null) is None


@pytest.mark.parametrize("field", ["origin_offset", "attempts", "first_failed_ms"])
@pytest.mark.parametrize(
    "bad",
    [b"", b"-1", b"1.0", b"x", b"9" * 19, b"1" * 100_000, b" 1", "\u0661".encode()],
)
def test_a_number_that_is_none_makes_it_no_dead_letter_of_ours(field, bad):
    headers = [*dead_letter_headers(INFO, []), (header_name(field), bad)]

    assert read_dead_letter(headers) is None


def test_the_last_of_a_repeated_header_counts():
    forged: Headers = [("shifter-reason", b"forged")]

    assert read_dead_letter(forged + dead_letter_headers(INFO, [])) == INFO


def test_what_is_read_is_bounded_and_printable_from_any_writer():
    hostile: Headers = [
        (header_name(field), b"\xff\x1b[2J\n" + b"x" * 1_000_000)
        for field in ("queue", "error_message", "error_stack", "worker", "job_id")
    ]

    found = read_dead_letter([*dead_letter_headers(INFO, []), *hostile])

    assert found.queue.startswith("\ufffd\\x1b[2J\\n")
    assert (len(found.queue), len(found.job_id), len(found.worker)) == (64, 36, 255)
    assert len(found.error_message) == 1_000
    assert all(line.isprintable() for line in found.error_stack.split("\n"))
    assert len(found.error_stack.encode()) <= 8_192


@pytest.mark.parametrize("headers", [[], [("shifter", ENVELOPE)], [("x", None)]])
def test_other_records_are_not_dead_letters(headers):
    assert read_dead_letter(headers) is None


def test_facts_of_an_error_travel_as_they_are():
    facts = describe_error(ValueError("bad\nthing"))
    info = changed(
        error_type=facts.type,
        error_message=facts.message,
        error_stack=facts.stack,
        fingerprint=facts.fingerprint,
    )

    assert read_dead_letter(dead_letter_headers(info, [])) == info
