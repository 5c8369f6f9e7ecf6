from __future__ import annotations

import pytest

from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.wire.envelope import EnvelopeV1, encode_envelope
from shifter.wire.headers import (
    Headers,
    ReadHeaders,
    build_headers,
    read_headers,
    successor,
)

ENVELOPE = EnvelopeV1(v=1, id="0199c9a2-8f6b-7c3e-9d41-5b2f7a6e0c11", type="mail")
RAW = encode_envelope(ENVELOPE)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def refused(headers: Headers) -> str:
    with pytest.raises(DecodeError) as caught:
        read_headers(headers)
    assert caught.value.reason == Reason.UNDECODABLE_ENVELOPE
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) <= 300
    return caught.value.detail


def test_what_is_built_is_read_back():
    extra: Headers = [("x-tenant", b"acme"), ("x-tenant", None), ("X-Raw", b"\xff\0")]

    headers = build_headers(
        ENVELOPE, content_type="application/json", traceparent=TRACE, extra=extra
    )

    assert read_headers(headers) == ReadHeaders(
        ENVELOPE, "application/json", TRACE, extra
    )


def test_only_what_is_said_is_written():
    headers = build_headers(ENVELOPE, content_type="application/msgpack")

    assert headers == [("shifter", RAW), ("content-type", b"application/msgpack")]


def test_a_lone_envelope_is_a_json_job():
    assert read_headers([("shifter", RAW)]) == ReadHeaders(
        ENVELOPE, "application/json", None, []
    )


@pytest.mark.parametrize("name", ["shifter", "content-type", "traceparent"])
@pytest.mark.parametrize("order", [1, -1])
def test_reserved_names_cannot_be_injected_when_writing(name, order):
    extra = [(name, b"forged"), ("shifter-attempts", b"9"), ("x", b"1")][::order]

    headers = build_headers(
        ENVELOPE, content_type="application/json", traceparent=TRACE, extra=extra
    )

    assert headers == [
        ("shifter", RAW),
        ("content-type", b"application/json"),
        ("traceparent", TRACE.encode()),
        ("x", b"1"),
    ]


@pytest.mark.parametrize(
    "name", ["shifter-attempts", "shifter-", "shifterx", "Shifter", "\u017fhifter"]
)
def test_no_user_header_has_a_name_of_this_package(name):
    read = read_headers([(name, b"9"), ("shifter", RAW), ("x-shifter", b"1")])

    assert read.extra == [("x-shifter", b"1")]


@pytest.mark.parametrize("second", [b"", RAW, None])
@pytest.mark.parametrize("order", [1, -1])
def test_an_envelope_stands_there_once(second, order):
    assert "'shifter'" in refused([("shifter", RAW), ("shifter", second)][::order])


@pytest.mark.parametrize("name", ["content-type", "traceparent"])
@pytest.mark.parametrize("second", [b"", RAW, None])
def test_of_our_other_names_the_first_value_counts(name, second):
    usual: Headers = [
        ("shifter", RAW),
        ("content-type", b"application/msgpack"),
        ("traceparent", TRACE.encode()),
    ]

    read = read_headers([*usual, (name, second)])

    assert read == ReadHeaders(ENVELOPE, "application/msgpack", TRACE, [])


def test_the_first_trace_that_is_one_counts():
    given = [b"oops", None, TRACE.encode(), TRACE.replace("00-0", "00-1").encode()]

    read = read_headers([("shifter", RAW), *(("traceparent", one) for one in given)])

    assert read.traceparent == TRACE


def test_a_record_without_an_envelope_is_named_as_such():
    assert refused([("x-tenant", b"acme")]) == "no header 'shifter'"
    assert refused([]) == "no header 'shifter'"


def test_another_version_is_distinguished_from_a_bad_envelope():
    with pytest.raises(UnsupportedVersionError):
        read_headers([("shifter", b'{"v":7}')])


def test_as_many_headers_are_kept_as_a_record_of_ours_may_have():
    fill: Headers = [(f"x-{number}", b"") for number in range(9_999)]

    read = read_headers([*fill, ("traceparent", TRACE.encode()), ("shifter", RAW)])

    assert read.extra == fill[:61]
    assert read.dropped == 9_938
    assert len(successor(read)) == 64


def test_names_and_values_as_large_as_allowed_are_kept_and_larger_ones_dropped():
    fits: Headers = [("n" * 64, b"v" * 4_096), ("ü" * 32, b"")]
    larger: Headers = [
        *(("x", b"v" * 4_097), ("n" * 65, b""), ("n" * 40_000, b"")),
        *(("ü" * 33, b""), ("shifter" * 10, b""), ("shifter", RAW)),
    ]

    read = read_headers([*fits, *larger])

    assert (read.extra, read.dropped) == (fits, 4)


def test_user_headers_are_kept_in_order_while_there_is_room():
    four: Headers = [(f"{number:08}", b"v" * 4_088) for number in range(4)]
    two: Headers = [(f"{number:08}", b"v" * 4_088) for number in range(2)]

    full = read_headers([("shifter", RAW), *four, ("x", b"")])
    some = read_headers(
        [("shifter", RAW), *two, ("x", b"v" * 4_097), *two[:1], ("y", b"")]
    )

    assert (full.extra, full.dropped) == (four, 1)
    assert (some.extra, some.dropped) == ([*two, *two[:1], ("y", b"")], 1)


@pytest.mark.parametrize("name", ["", "a\r\nb", "\x00", "\u202ex", "x\x7f", "\ud800"])
def test_a_name_that_cannot_be_printed_is_dropped(name):
    read = read_headers([("shifter", RAW), (name, b"1"), ("x", b"2")])

    assert (read.extra, read.dropped) == ([("x", b"2")], 1)


@pytest.mark.parametrize("name", ["a b", "naïve", "größe", "Traceparent"])
def test_a_name_that_can_be_printed_is_kept(name):
    assert read_headers([("shifter", RAW), (name, b"1")]).extra == [(name, b"1")]


@pytest.mark.parametrize("name", ["tracestate", "baggage"])
def test_what_travels_beside_a_trace_is_kept_once(name):
    again = [(name, b"a=1"), ("x", b""), (name, b"a=1"), ("x", b""), (name, None)]

    read = read_headers([("shifter", RAW), *again])

    assert (read.extra, read.dropped) == ([(name, b"a=1"), ("x", b""), ("x", b"")], 0)


def test_values_of_users_may_be_anything():
    extra: Headers = [("a", b"\r\n\x00\xff"), ("b", None), ("c", b"")]

    assert read_headers([("shifter", RAW), *extra]).extra == extra


@pytest.mark.parametrize(
    "given", ["application/json; charset=utf-8", "text/plain", "", "x" * 200]
)
def test_a_content_type_is_kept_as_it_was_written(given):
    read = read_headers([("shifter", RAW), ("content-type", given.encode())])

    assert read.content_type == given


@pytest.mark.parametrize(
    "given", [b"\xff", "ü".encode(), b"a\nb", b"\x1b[m", b"x" * 201, b"\xff" * 40_000]
)
def test_what_is_no_content_type_is_printable_and_short_and_stays_so(given):
    read = read_headers([("shifter", RAW), ("content-type", given)])

    assert read.content_type.isprintable()
    assert len(read.content_type) <= 200
    assert read_headers(successor(read)) == read


@pytest.mark.parametrize(
    "given",
    [
        *("", "00", TRACE + "x", TRACE[:-1], TRACE.upper(), TRACE.replace("-", "_")),
        *(TRACE[:-3] + "\r\nx", " " + TRACE[1:], TRACE[:-1] + "g", TRACE[:-1] + "\n"),
    ],
)
def test_a_malformed_trace_is_dropped_and_never_stops_a_job(given):
    read = read_headers([("shifter", RAW), ("traceparent", given.encode())])

    assert read.traceparent is None


def test_a_successor_keeps_what_is_the_users_and_rebuilds_what_is_ours():
    read = read_headers(
        [
            ("shifter-error-type", b"forged"),
            ("x-tenant", b"acme"),
            ("traceparent", TRACE.encode()),
            ("content-type", b"application/msgpack"),
            ("shifter", RAW),
        ]
    )

    headers = successor(read, attempt=2, turn=3, priority=Priority.LOW, due_ms=5)

    again = read_headers(headers)
    assert again.envelope == EnvelopeV1(
        v=1,
        id=ENVELOPE.id,
        type="mail",
        attempt=2,
        turn=3,
        priority=Priority.LOW,
        due_ms=5,
    )
    assert again[1:] == ("application/msgpack", TRACE, [("x-tenant", b"acme")], 0)
    assert len(headers) == 4
