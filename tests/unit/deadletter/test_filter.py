from __future__ import annotations

import time

import pytest

from shifter.deadletter.filter import MAX_COMPARISONS, MAX_DEPTH, compile_filter
from shifter.deadletter.filter_lexer import MAX_FILTER_CHARS
from shifter.deadletter.letter import FIELDS
from shifter.errors import FilterError
from shifter.wire.dead_letter import dead_letter_headers
from tests.unit.deadletter.letters import headers, info, letter

PAYLOAD = (
    b'{"order_id": 11, "email": "ann@example.org", "vip": true, "none": null,'
    b' "lines": [{"sku": "a-1"}, {"sku": "b-2"}], "odd name": 1.5}'
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        'error == "SMTPError" and age < 6h and payload.order_id > 10',
        'error == "smtplib.SMTPError"',
        "error == 'SMTPError'",
        'error != "KeyError"',
        "age >= 2h and age <= 120m",
        'reason == "attempts_exhausted"',
        "attempts == 4 and attempts < 4.5",
        'message contains "address" and message startswith "no"',
        'message endswith "1"',
        'job in ("other", "send")',
        "not (attempts == 3 or attempts == 5)",
        "not not attempts == 4",
        'payload.lines[1].sku == "b-2"',
        'payload.lines[-1].sku == "b-2"',
        'payload["odd name"] == 1.5',
        "payload.vip == true and payload.vip != 1",
        "payload.none == null and not exists payload.none",
        "exists payload.lines and not exists payload.lines[2]",
        "payload.missing != 3",
        'not payload.email > 3 and not payload.order_id > "3"',
        'failed > "2020-01-01" and failed < "2030-01-01T00:00:00Z"',
        'header["x-tenant"] == "acme"',
        "header['none'] == null",
        'topic == "shop.mail.low" and queue == "mail" and dialect == "shifter"',
        "size > 100 and offset == 0 and partition == 0 and replays == 0",
        "key == null",
        'attempts == 3 or attempts == 4 and error == "SMTPError"',
    ],
)
def test_a_filter_that_means_this_letter(text):
    found = letter(PAYLOAD, headers(extra=[("x-tenant", b"acme")]))

    assert compile_filter(text)(found) is True


@pytest.mark.parametrize(
    "text",
    [
        'error == "Error"',
        'error == "smtplib"',
        'error != "SMTPError"',
        "age < 1h",
        "payload.order_id > 11",
        'payload.order_id == "11"',
        "payload.vip == 1",
        "payload.vip > 0",
        "payload.lines == 2",
        "exists payload.missing.deeper[3]",
        'message contains "ADDRESS"',
        "attempts in (1, 2)",
        "(attempts == 4 or attempts == 3) and attempts == 3",
        'key contains "a"',
    ],
)
def test_a_filter_that_does_not(text):
    assert compile_filter(text)(letter(PAYLOAD)) is False


@pytest.mark.parametrize(
    ("text", "at", "what", "want"),
    [
        ('eror == "x"', 0, "unknown field 'eror'", "error"),
        ("error = 1", 6, "'='", "FIELD OPERATOR VALUE"),
        ("error ==", 8, "value is missing", "text"),
        ("error", 5, "operator is missing", "=="),
        ("error == 3", 9, "another type", "text"),
        ("attempts == '3'", 12, "another type", "number"),
        ("age < 6", 6, "another type", "6h"),
        ("age < 6x", 7, "unknown unit 'x'", "ms, s, m, h, d"),
        ("age < '6h'", 6, "another type", "6h"),
        ("attempts < 6h", 11, "another type", "number"),
        ('failed > "yesterday"', 9, "no instant", "2026"),
        ("attempts > null", 9, "no order", "== or !="),
        ("attempts > 1 attempts < 3", 13, "should end", "and"),
        ("(attempts > 1", 13, "')' is missing", ")"),
        ('error == "x', 9, "does not end", '"'),
        ("attempts contains 3", 9, "needs a text", "such as"),
        ("attempts in 3", 12, "'(' is missing", "("),
        ("payload. == 3", 9, "name is missing", '["'),
        ("payload[x] == 3", 11, "", ""),
        ("and", 0, "unknown field", "fields"),
        ("error == 'x' and", 16, "field is missing", "fields: error"),
        ("\u202eerror == 'x'", 0, "\\u202e", "FIELD"),
    ],
)
def test_a_wrong_filter_shows_the_place_and_what_is_allowed(text, at, what, want):
    if what == "":  # a bare name in brackets is a name
        compile_filter(text)
        return
    with pytest.raises(FilterError) as raised:
        compile_filter(text)

    assert (raised.value.at, what in raised.value.what) == (at, True), raised.value
    assert want in raised.value.want


def test_a_filter_is_bounded_in_length_depth_and_comparisons():
    deep = "(" * (MAX_DEPTH + 1) + "attempts > 1" + ")" * (MAX_DEPTH + 1)
    many = " or ".join(["size > 1"] * (MAX_COMPARISONS + 1))
    nots = "not " * 400 + "attempts == 4"

    for text in (deep, many, "x" * (MAX_FILTER_CHARS + 1)):
        with pytest.raises(FilterError, match="use at most"):
            compile_filter(text)
    assert compile_filter(nots)(letter()) is True


@pytest.mark.parametrize(
    "text",
    [
        "(a+)+$" * 300,
        "((((" * 400,
        "'" + "a" * 1_900,
        "-" * 1_999,
        "z" * 1_999,
        "x" * 10**6,
        "(" * 10**6,
        "not " * 250_000,
        "size > 1 or " * 90_000,
    ],
    ids=lambda text: f"{text[:5]}-{len(text)}",
)
def test_no_filter_takes_long_to_refuse(text):
    began = time.thread_time()

    with pytest.raises(FilterError):
        compile_filter(text)

    assert time.thread_time() - began < 0.1


def test_a_payload_of_any_bytes_is_met_without_a_fault():
    test = compile_filter('payload.a.b[3] == 1 or payload == "x"')

    for value in (None, b"", b"\xff", b"[" * 100_000, b'{"a": {"b": [1]}}', b"NaN"):
        assert test(letter(value)) is False
    assert test(letter(b'"x"')) is True


def test_every_field_can_be_asked_of_every_letter():
    strange = [("kafka_dlt-original-topic", b"\xff"), ("shifter", b"{"), ("x", None)]
    bare = [letter(b"", []), letter(None, strange), letter()]
    bare.append(letter(found=dead_letter_headers(info(job_id=None), [])))

    for name, field in FIELDS.items():
        test = compile_filter(f"exists {name}")
        for each in bare:
            test(each)
            assert field.about
