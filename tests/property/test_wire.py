"""What is written is read back: envelopes, headers, payloads, dead letters."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import jsonschema
import msgspec
import pytest
from hypothesis import assume, given, strategies as st

from shifter.errors import DecodeError, PayloadError
from shifter.model.lane import Priority
from shifter.wire.dead_letter import (
    DEAD_LETTER_ROOM_BYTES,
    TEXT_LIMITS,
    DeadLetterInfo,
    dead_letter_headers,
    read_dead_letter,
)
from shifter.wire.envelope import EnvelopeV1, decode_envelope, encode_envelope
from shifter.wire.failure import fingerprint
from shifter.wire.headers import (
    JSON,
    MSGPACK,
    Headers,
    build_headers,
    read_headers,
    successor,
)
from shifter.wire.payload import PayloadCodec
from shifter.wire.schemas import envelope_schema
from shifter.wire.untrusted import check_depth, check_msgpack_depth, printable

SCHEMA = jsonschema.Draft202012Validator(envelope_schema())


PRINTABLE = st.characters(exclude_categories=["C", "Z"]) | st.just(" ")


def texts(least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(PRINTABLE, min_size=least, max_size=most)


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


instants = st.integers(0, 253_402_300_799_999)
uuids = st.uuids().map(str)
envelopes = st.builds(
    EnvelopeV1,
    v=st.just(1),
    id=uuids,
    type=texts(1, 200),
    queue=maybe(texts(1, 64)),
    priority=maybe(st.sampled_from(Priority)),
    level=maybe(st.integers(0, 399)),
    created_ms=maybe(instants),
    deadline_ms=maybe(instants),
    timeout_ms=maybe(st.integers(1, 366 * 86_400_000)),
    due_ms=maybe(instants),
    attempt=st.integers(1, 1_000),
    turn=st.integers(1, 100_000),
    key=maybe(texts(1, 255)),
    idempotency_key=maybe(texts(1, 255)),
    origin=maybe(texts(1, 255)),
    replay_of=maybe(uuids),
    first_failed_ms=maybe(instants),
)
header_names = st.text(
    st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64
)
user_names = header_names.filter(
    lambda name: (
        not name.lower().startswith("shifter")
        and name not in ("content-type", "traceparent")
    )
)
values = maybe(st.binary(max_size=200))
traces = st.from_regex(
    r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True
)
content_types = st.sampled_from([JSON, MSGPACK, "application/json; charset=utf-8"])


@given(envelopes)
def test_an_envelope_is_read_as_it_was_written(envelope):
    raw = encode_envelope(envelope)

    assert decode_envelope(raw) == envelope
    assert len(raw) <= 8_192
    assert SCHEMA.is_valid(json.loads(raw))


@given(envelopes, st.randoms(use_true_random=False))
def test_another_writer_may_choose_order_spaces_and_escapes(envelope, random):
    fields = list(msgspec.to_builtins(envelope).items())
    random.shuffle(fields)
    spelt = json.dumps(dict(fields), indent=random.choice([None, 1]))

    assume(len(spelt) <= 8_192)
    assert decode_envelope(spelt.encode()) == envelope


@given(
    envelopes,
    content_types,
    maybe(traces),
    st.lists(st.tuples(header_names, values), max_size=30),
)
def test_reserved_names_cannot_be_injected(envelope, content_type, trace, extra):
    forged: Headers = [("shifter", b"{}"), ("Shifter-x", b""), ("traceparent", b"x")]

    headers = build_headers(
        envelope, content_type=content_type, traceparent=trace, extra=forged + extra
    )

    read = read_headers(headers)
    assert read[:3] == (envelope, content_type, trace)
    assert read.extra == [
        (n, v) for n, v in extra if not n.lower().startswith("shifter")
    ]


@given(
    envelopes,
    maybe(traces),
    st.lists(st.tuples(user_names, values), max_size=30),
    st.integers(1, 1_000),
    st.randoms(use_true_random=False),
)
def test_a_successor_differs_in_what_was_changed_alone(
    envelope, trace, extra, attempt, random
):
    headers = build_headers(envelope, content_type=JSON, traceparent=trace, extra=extra)
    ours = headers[: len(headers) - len(extra)]
    random.shuffle(ours)

    before = read_headers(headers[len(ours) :] + ours)
    after = read_headers(successor(before, attempt=attempt))

    assert after.envelope == msgspec.structs.replace(envelope, attempt=attempt)
    assert after[1:] == before[1:] == (JSON, trace, extra, 0)


@dataclass
class Line:
    sku: str
    price: Decimal


class Context: ...


def handler(
    *,
    count: int,
    share: float,
    name: str,
    flag: bool,
    blob: bytes,
    at: datetime,
    wait: timedelta,
    who: uuid.UUID,
    lines: list[Line],
    notes: dict[str, list[int | None]],
    priority: Priority,
) -> None: ...


BOTH = [
    PayloadCodec(handler, name="j", context_type=Context, content_type=kind)
    for kind in (JSON, MSGPACK)
]
arguments = st.fixed_dictionaries(
    {
        "count": st.integers(-(2**63), 2**64 - 1),
        "share": st.floats(allow_nan=False, allow_infinity=False),
        "name": st.text(),
        "flag": st.booleans(),
        "blob": st.binary(),
        "at": st.datetimes(),
        "wait": st.timedeltas(timedelta(days=-9_999), timedelta(days=9_999)),
        "who": st.uuids(),
        "lines": st.lists(
            st.builds(Line, st.text(), st.decimals(allow_nan=False)), max_size=5
        ),
        "notes": st.dictionaries(
            st.text(),
            st.lists(maybe(st.integers(-(2**63), 2**63))),
            max_size=5,
        ),
        "priority": st.sampled_from(Priority),
    }
)


@pytest.mark.parametrize("codec", BOTH, ids=["json", "msgpack"])
@given(arguments)
def test_arguments_arrive_as_they_were_given(codec, arguments):
    assert codec.decode(codec.encode((), arguments), codec.content_type) == arguments


def typed(count: int, name: str, lines: list[Line] | None = None) -> None: ...


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
)


@pytest.mark.parametrize("kind", [JSON, MSGPACK])
@given(
    st.lists(st.integers() | st.text() | anything, max_size=4),
    st.dictionaries(
        st.sampled_from(["count", "name", "lines", "cuont"]) | st.text(),
        st.integers() | st.text() | anything,
        max_size=4,
    ),
)
def test_what_a_codec_writes_a_worker_reads_and_the_rest_is_a_payload_error(
    kind, args, kwargs
):
    codec = PayloadCodec(typed, name="j", context_type=Context, content_type=kind)

    try:
        raw = codec.encode(tuple(args), kwargs)
    except PayloadError:
        return

    assert codec.decode(raw, codec.content_type)


def loose(value: object = None) -> None: ...


@pytest.mark.parametrize("kind", [JSON, MSGPACK])
@given(anything)
def test_an_untyped_argument_is_read_or_refused_alike(kind, value):
    codec = PayloadCodec(loose, name="j", context_type=Context, content_type=kind)

    try:
        raw = codec.encode((value,), {})
    except PayloadError:
        return

    assert set(codec.decode(raw, kind)) == {"value"}


documents = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('[]{}"\\\n a', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text('[]{}"\\'), inner, max_size=3)
    ),
    max_leaves=40,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(documents, st.integers(0, 12))
def test_depth_is_measured_exactly(value, limit):
    is_deep = depth_of(value) > limit
    # The measure of msgpack is asked for even where few containers let it off.
    wide = [value, *[[]] * (limit + 1)]

    assert _is_refused(check_depth, json.dumps(value).encode(), limit) == is_deep
    assert _is_refused(check_msgpack_depth, msgspec.msgpack.encode(wide), limit) == (
        depth_of(wide) > limit
    )


def _is_refused(check, raw: bytes, limit: int) -> bool:
    try:
        check(raw, limit)
    except DecodeError:
        return True
    return False


@given(st.text(st.characters()), st.integers(1, 40))
def test_a_printable_text_is_printable_bounded_and_left_alone_once_it_is(text, limit):
    shown = printable(text, limit)

    assert shown.isprintable()
    assert len(shown) <= limit
    assert printable(shown, limit) == shown
    if text.isprintable() and len(text) <= limit:
        assert shown == text


infos = st.builds(
    DeadLetterInfo,
    **{
        field: texts(0, limit)
        for field, limit in TEXT_LIMITS.items()
        if field != "error_stack"
    },
    error_stack=st.lists(texts(0, 60), max_size=20).map("\n".join),
    first_failed_ms=maybe(instants),
    origin_partition=st.integers(0, 2**31),
    origin_offset=st.integers(0, 10**18 - 1),
    origin_timestamp_ms=instants,
    attempts=st.integers(0, 1_000),
    last_failed_ms=instants,
)
any_headers = st.lists(st.tuples(st.text() | header_names, values), max_size=20)


@given(infos, any_headers)
def test_a_dead_letter_is_read_as_it_was_written_whatever_stood_beside_it(
    info, original
):
    headers = dead_letter_headers(info, original)

    assert read_dead_letter(headers) == info
    assert dead_letter_headers(info, headers) == headers


@given(
    infos,
    any_headers,
    st.integers(8_192, DEAD_LETTER_ROOM_BYTES),
    st.integers(0, 9_000),
)
def test_a_dead_letter_always_fits_and_always_has_its_reason(
    info, original, room, large
):
    large_one: Headers = [("large", b"x" * large)]

    headers = dead_letter_headers(info, original + large_one, room_bytes=room)

    size = sum(len(n.encode()) + len(v or b"") + 8 for n, v in headers)
    found = read_dead_letter(headers)
    assert size <= room
    assert (found.reason, found.origin_offset) == (info.reason, info.origin_offset)
    assert info.error_message.startswith(found.error_message)


@given(
    st.text(st.characters()),
    st.lists(st.tuples(st.text(st.characters()), st.text(st.characters()))),
    st.text(st.characters()),
)
def test_a_fingerprint_depends_on_what_it_is_given_and_on_nothing_else(
    kind, frames, other
):
    assert fingerprint(kind, frames) == fingerprint(kind, iter(frames))
    assert len(fingerprint(other, frames)) == 12
    if kind.encode("utf-8", "replace") != other.encode("utf-8", "replace"):
        assert fingerprint(kind, ()) != fingerprint(other, ())
