"""Headers of a job and contexts of OpenTelemetry."""

from __future__ import annotations

import pytest
from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from shifter.telemetry import trace_context
from shifter.telemetry.trace_context import (
    baggage_headers,
    caller_trace,
    context_of,
    current_headers,
    follow,
    headers_of,
    is_sampled,
    read_trace,
)
from shifter.wire.headers import MAX_VALUE_BYTES

TRACE_ID, SPAN_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
TRACEPARENT = f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-01"
SPAN = SpanContext(
    TRACE_ID,
    SPAN_ID,
    is_remote=True,
    trace_flags=TraceFlags(1),
    trace_state=TraceState([("vendor", "1")]),
)
HEADERS = [
    ("traceparent", TRACEPARENT.encode()),
    ("tracestate", b"vendor=1"),
    ("baggage", b"tenant=acme"),
]


@pytest.fixture
def in_span():
    """A span that is current while the test runs."""
    token = attach(trace.set_span_in_context(NonRecordingSpan(SPAN), Context()))
    yield
    detach(token)


def test_headers_and_a_context_say_the_same():
    context = context_of(*read_trace([*HEADERS, ("x", b"1")]))

    span = trace.get_current_span(context).get_span_context()
    assert span == SPAN
    assert span.is_remote
    assert baggage.get_all(context) == {"tenant": "acme"}
    assert headers_of(span, context) == HEADERS


@pytest.mark.parametrize(
    "given", [None, "00-" + "0" * 32 + f"-{SPAN_ID:016x}-01", "ff" + TRACEPARENT[2:]]
)
def test_what_is_no_trace_is_no_span(given):
    span = trace.get_current_span(context_of(given)).get_span_context()

    assert not span.is_valid
    assert headers_of(span) == []


def test_a_bad_tracestate_and_a_bad_baggage_are_left_out():
    context = context_of(TRACEPARENT, [("tracestate", b"\xff="), ("baggage", b"\xff;")])

    span = trace.get_current_span(context).get_span_context()
    assert span.trace_id == TRACE_ID
    assert headers_of(span, context)[0] == HEADERS[0]


def test_baggage_that_is_too_long_loses_its_last_entries():
    context = Context()
    for number in range(100):
        context = baggage.set_baggage(f"key{number:02}", "x" * 70, context)

    ((name, value),) = baggage_headers(context)

    assert name == "baggage"
    assert MAX_VALUE_BYTES - 80 < len(value) <= MAX_VALUE_BYTES
    read = W3CBaggagePropagator().extract({name: value.decode()}, Context())
    kept = baggage.get_all(read)
    assert set(kept.values()) == {"x" * 70}
    assert list(kept) == [f"key{number:02}" for number in range(len(kept))]


def test_a_span_that_is_current_counts_before_the_headers_of_a_caller(in_span):
    assert current_headers() == HEADERS[:2]
    other = {"traceparent": TRACEPARENT.replace("b7ad", "1111")}

    assert caller_trace(other) == (None, [])


def test_the_headers_of_a_caller_count_without_a_span():
    given = {name: value.decode() for name, value in HEADERS}

    assert caller_trace({**given, "accept": "*/*"}) == (TRACEPARENT, HEADERS[1:])
    assert caller_trace({**given, "traceparent": "00-x"})[0] is None
    assert caller_trace({}) == (None, [])


def test_what_follows_no_trace_belongs_to_none(in_span):
    token = attach(Context())
    follow(TRACEPARENT)
    assert current_headers() == HEADERS[:1]
    follow(None)
    assert current_headers() == []
    detach(token)


@pytest.mark.parametrize(
    ("flags", "is_it"), [("00", False), ("01", True), ("03", True)]
)
def test_the_last_bit_of_the_flags_is_the_one_of_sampling(flags, is_it):
    assert is_sampled(TRACEPARENT[:-2] + flags) is is_it


def test_without_opentelemetry_nothing_is_read_or_followed(monkeypatch):
    monkeypatch.setattr(trace_context, "api", lambda: None)

    follow(TRACEPARENT)

    assert current_headers() == []
