from __future__ import annotations

import pytest

from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.model.priority import Priority
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
    "name", ["shifter-attempts", "shifter-", "shifterx", "Shifter", "SHIFTER-due"]
)
def test_nobody_speaks_in_our_name(name):
    read = read_headers([(name, b"9"), ("shifter", RAW), ("x-shifter", b"1")])

    assert read.extra == [("x-shifter", b"1")]


@pytest.mark.parametrize("name", ["shifter", "content-type", "traceparent"])
@pytest.mark.parametrize("second", [b"", RAW, None])
def test_a_reserved_header_stands_there_once(name, second):
    usual: Headers = [
        ("shifter", RAW),
        ("content-type", b"application/json"),
        ("traceparent", TRACE.encode()),
    ]

    assert repr(name) in refused([*usual, (name, second)])


@pytest.mark.parametrize("name", ["shifter", "content-type", "traceparent"])
def test_a_reserved_header_is_not_null(name):
    others = [h for h in [("shifter", RAW)] if h[0] != name]

    assert repr(name) in refused([(name, None), *others])


def test_a_record_without_an_envelope_is_named_as_such():
    assert refused([("x-tenant", b"acme")]) == "no header 'shifter'"
    assert refused([]) == "no header 'shifter'"


def test_another_version_is_told_from_a_bad_envelope():
    with pytest.raises(UnsupportedVersionError):
        read_headers([("shifter", b'{"v":7}')])


def test_as_many_headers_as_allowed_and_not_one_more():
    usual: Headers = [("shifter", RAW)]
    fill: Headers = [(f"x-{number}", b"") for number in range(63)]

    assert len(read_headers(usual + fill).extra) == 63
    assert "65 headers" in refused([*usual, *fill, ("x", b"")])
    refused(usual + fill * 160)


def test_names_and_values_as_large_as_allowed_and_not_larger():
    fits: Headers = [("n" * 64, b"v" * 4_096), ("shifter", RAW)]

    assert read_headers(fits).extra == fits[:1]
    assert "4097 bytes" in refused([("shifter", RAW), ("x", b"v" * 4_097)])
    assert "1-64 printable" in refused([("shifter", RAW), ("n" * 65, b"")])
    assert "1-64 printable" in refused([("shifter", RAW), ("n" * 40_000, b"")])
    assert "1-64 printable" in refused([("shifter", RAW), ("shifter" * 10, b"")])


def test_all_user_headers_together_are_bounded():
    four: Headers = [(f"{number:08}", b"v" * 4_088) for number in range(4)]

    assert read_headers([("shifter", RAW), *four]).extra == four
    assert "16385 bytes" in refused([("shifter", RAW), *four, ("x", b"")])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a\r\nb",
        "\x00",
        "naïve",
        "\u202ex",
        "x\x7f",
        "\ud800",
        "\u017fhifter",
    ],
)
def test_a_name_is_printable_ascii(name):
    assert "1-64 printable" in refused([("shifter", RAW), (name, b"1")])


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
    "given", [b"\xff", "ü".encode(), b"a\nb", b"\x1b[m", b"x" * 201]
)
def test_a_content_type_is_short_printable_ascii(given):
    assert "content-type" in refused([("shifter", RAW), ("content-type", given)])


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
    assert again[1:] == ("application/msgpack", TRACE, [("x-tenant", b"acme")])
    assert len(headers) == 4
