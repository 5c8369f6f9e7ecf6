from __future__ import annotations

import json
import uuid

import msgspec
import pytest

from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.wire.envelope import (
    MAX_ENVELOPE_BYTES,
    EnvelopeV1,
    by_our_clock,
    check_bounds,
    decode_envelope,
    encode_envelope,
)

ID = "0199c9a2-8f6b-7c3e-9d41-5b2f7a6e0c11"
NOW = 1_760_000_000_000
DAY_MS = 86_400_000


def written(**fields: object) -> bytes:
    return json.dumps({"v": 1, "id": ID, "type": "mail", **fields}).encode()


def refused(raw: bytes) -> str:
    with pytest.raises(DecodeError) as caught:
        decode_envelope(raw)
    assert caught.value.reason == Reason.UNDECODABLE_ENVELOPE
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) <= 300
    return caught.value.detail


def test_three_fields_written_by_hand_are_enough():
    envelope = decode_envelope(b'{"type":"mail","v":1,"id":"%s"}' % ID.encode())

    assert envelope == EnvelopeV1(v=1, id=ID, type="mail")
    assert (envelope.attempt, envelope.turn, envelope.priority) == (1, 1, None)


def test_defaults_are_not_written_but_the_version_is():
    raw = encode_envelope(EnvelopeV1(v=1, id=ID, type="mail", attempt=1, turn=2))

    assert raw == b'{"v":1,"id":"%s","type":"mail","turn":2}' % ID.encode()


def test_the_largest_envelope_that_may_be_made_can_be_read():
    key = '"\U0001f389' * 127
    largest = EnvelopeV1(
        v=1,
        id=ID,
        type='"' * 100 + "🎉" * 100,
        queue="q" * 64,
        priority=Priority.CRITICAL,
        level=399,
        key=key,
        idempotency_key=key,
        origin=key,
        replay_of=ID,
        first_failed_ms=253_402_300_799_999,
    )

    raw = encode_envelope(largest)

    assert decode_envelope(raw) == largest
    assert len(raw) < MAX_ENVELOPE_BYTES / 2


@pytest.mark.parametrize(
    "form", [str, lambda u: str(u).upper(), lambda u: u.hex, lambda u: u.hex.upper()]
)
@pytest.mark.parametrize("version", [1, 4])
def test_any_uuid_is_accepted_and_kept_in_one_form(form, version):
    given = uuid.uuid1() if version == 1 else uuid.uuid4()

    envelope = decode_envelope(written(id=form(given), replay_of=form(given)))

    assert (envelope.id, envelope.replay_of) == (str(given), str(given))


@pytest.mark.parametrize(
    "given",
    [
        *(
            "",
            "7",
            "x" * 10_000,
            ID + "\n",
            ID.replace("-", "") + "\n",
            ID[:-1] + "\n",
            "{" + ID[:-2] + "}",
        ),
        *(ID.replace("-", "", 1), ID.replace("-", "_"), "g" + ID[1:], ID[:-1] + "٣"),
        *("../" * 12, "\x00" * 36, "🎉" * 36, ID[:35] + "\u202e", ID.replace("-", "0")),
    ],
)
def test_what_is_no_uuid_is_no_id(given):
    refused(written(id=given))
    refused(written(replay_of=given))


@pytest.mark.parametrize("field", ["type", "queue", "key", "idempotency_key", "origin"])
@pytest.mark.parametrize(
    "bad", ["a\x00", "a\n", "\x7f", "\x1b[2J", "\u202eexe", "\u2028", "\u200b"]
)
def test_texts_hold_printable_characters_only(field, bad):
    as_escape = written(**{field: bad})
    as_utf8 = json.dumps(json.loads(as_escape), ensure_ascii=False).encode()

    assert refused(as_escape)
    assert refused(as_utf8)


@pytest.mark.parametrize("good", ["a b", "Grüße", "数", "🎉", '"', "\\", "../x"])
def test_texts_may_be_of_any_language(good):
    envelope = decode_envelope(written(type=good, key=good))

    assert (envelope.type, envelope.key) == (good, good)


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [
        ("level", 0, 399),
        ("attempt", 1, 1_000),
        ("turn", 1, 100_000),
        ("timeout_ms", 1, 366 * DAY_MS),
        *((f"{name}_ms", 0, 253_402_300_799_999) for name in ("created", "due")),
        *((f"{name}_ms", 0, 253_402_300_799_999) for name in ("deadline",)),
        ("first_failed_ms", 0, 253_402_300_799_999),
    ],
)
def test_numbers_are_bounded_on_both_sides(field, least, most):
    for inside in (least, most):
        assert getattr(decode_envelope(written(**{field: inside})), field) == inside

    for outside in (least - 1, most + 1, 2**63, 2**64, -(2**63), 10**400):
        refused(written(**{field: outside}))


@pytest.mark.parametrize("field", ["level", "attempt", "turn", "timeout_ms", "due_ms"])
@pytest.mark.parametrize("bad", ["1", 1.0, 1.5, True, [1], {"a": 1}])
def test_a_number_is_a_whole_number_and_nothing_else(field, bad):
    refused(written(**{field: bad}))


@pytest.mark.parametrize(
    ("field", "most"), [("type", 200), ("queue", 64), ("key", 255), ("origin", 255)]
)
def test_texts_are_bounded_on_both_sides(field, most):
    assert getattr(decode_envelope(written(**{field: "x" * most})), field) == "x" * most

    refused(written(**{field: "x" * (most + 1)}))
    refused(written(**{field: ""}))


@pytest.mark.parametrize("missing", ["v", "id", "type"])
def test_a_missing_field_is_named(missing):
    fields = {"v": 1, "id": ID, "type": "mail"}
    del fields[missing]

    assert f"`{missing}`" in refused(json.dumps(fields).encode())


@pytest.mark.parametrize("version", [0, 2, 2**31, 2**53])
@pytest.mark.parametrize("rest", [{}, {"id": ID, "type": "mail"}, {"type": ["new"]}])
def test_another_version_is_named_whatever_else_it_holds(version, rest):
    with pytest.raises(UnsupportedVersionError) as caught:
        decode_envelope(json.dumps({"v": version, **rest}).encode())

    assert (caught.value.found, caught.value.supported) == (version, 1)


@pytest.mark.parametrize("version", [-1, 2**53 + 1, 10**300, "1", 1.0, True, None, []])
def test_what_is_no_version_at_all_is_undecodable(version):
    refused(written(v=version))


def test_unknown_fields_are_ignored_however_they_look():
    raw = written(**{"colour": {"of": [None, {"money": 1e9}]}, "ID": "x", "": 0})

    assert decode_envelope(raw) == EnvelopeV1(v=1, id=ID, type="mail")


def test_the_size_limit_is_the_largest_size_allowed():
    room = MAX_ENVELOPE_BYTES - len(written(pad=""))

    assert decode_envelope(written(pad="x" * room)).id == ID
    assert "8193 bytes" in refused(written(pad="x" * (room + 1)))


@pytest.mark.parametrize("depth", [64, 65, 1_000, 4_000])
def test_depth_is_limited_in_unknown_fields_as_well(depth):
    raw = written()[:-1] + b',"pad":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    if depth == 64:
        assert decode_envelope(raw).id == ID
    else:
        assert "nested deeper" in refused(raw)


@pytest.mark.parametrize("late_ms", [0, 1, 10 * 365 * DAY_MS])
def test_a_due_time_in_the_past_is_as_good_as_none(late_ms):
    check_bounds(EnvelopeV1(v=1, id=ID, type="mail", due_ms=NOW - late_ms), NOW)


def test_a_deadline_before_the_due_time_is_the_workers_to_judge():
    check_bounds(
        EnvelopeV1(v=1, id=ID, type="mail", due_ms=NOW + 2, deadline_ms=NOW - 1), NOW
    )


@pytest.mark.parametrize(
    ("field", "most_ms"), [("due_ms", 31 * DAY_MS), ("deadline_ms", 367 * DAY_MS)]
)
def test_no_instant_lies_further_ahead_than_a_job_may_wait(field, most_ms):
    envelope = EnvelopeV1(v=1, id=ID, type="mail")
    check_bounds(msgspec.structs.replace(envelope, **{field: NOW + most_ms}), NOW)

    forged = msgspec.structs.replace(envelope, **{field: NOW + most_ms + 1})
    with pytest.raises(DecodeError, match=field) as caught:
        check_bounds(forged, NOW)
    assert caught.value.reason == Reason.UNDECODABLE_ENVELOPE


@pytest.mark.parametrize("ahead_ms", [-DAY_MS, 0, 60_000])
def test_a_producer_whose_clock_is_about_right_is_believed(ahead_ms):
    envelope = EnvelopeV1(
        v=1, id=ID, type="mail", created_ms=NOW + ahead_ms, deadline_ms=NOW + 5
    )

    assert by_our_clock(envelope, NOW) is envelope


@pytest.mark.parametrize("ahead_ms", [60_001, 3_600_000, DAY_MS])
def test_of_a_clock_that_is_ahead_only_the_duration_counts(ahead_ms):
    created_ms = NOW + ahead_ms
    envelope = EnvelopeV1(
        v=1, id=ID, type="mail", created_ms=created_ms, deadline_ms=created_ms + 5_000
    )

    found = by_our_clock(envelope, NOW)

    assert (found.created_ms, found.deadline_ms) == (NOW, NOW + 5_000)
    assert by_our_clock(found, NOW + 1_000).deadline_ms == NOW + 5_000


def test_without_a_deadline_a_clock_ahead_gives_none():
    envelope = EnvelopeV1(v=1, id=ID, type="mail", created_ms=NOW + DAY_MS)

    assert by_our_clock(envelope, NOW).deadline_ms is None
