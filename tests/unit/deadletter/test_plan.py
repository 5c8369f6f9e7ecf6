from __future__ import annotations

import pytest

from shifter.deadletter.letter import replays_of
from shifter.deadletter.plan import (
    ANY_ORIGIN,
    Park,
    ReplayPolicy,
    ReplayRoutes,
    Send,
    Skip,
    SkipReason,
    decide,
)
from shifter.wire.headers import read_headers
from tests.unit.deadletter.letters import (
    NOW,
    SOURCE,
    headers,
    job_id,
    letter,
)
from tests.unit.deadletter.test_dialect import CONNECT, KARAFKA, SHARE, SPRING, STREAMS

LANES = frozenset({"shop.mail.low", "shop.mail.high"})
ROAD = ReplayRoutes(run="run-1", namespace="shop", source=SOURCE, lanes=LANES)


def fate(found=None, *, road=ROAD, value=b'{"number": 1}', **policy):
    each = letter(value, found, key=b"k-1", offset=9)
    return decide(each, ReplayPolicy(**policy), road, now_ms=NOW)


def envelope_of(sent):
    assert isinstance(sent, Send), sent
    return read_headers(sent.record.headers).envelope


def test_a_replay_is_a_new_incarnation_that_keeps_what_it_was():
    own = [("x-tenant", b"acme"), ("x-none", None)]
    sent = fate(headers(extra=own, key="k-1", queue="mail", priority="LOW"))

    after = envelope_of(sent)
    assert (sent.record.topic, sent.record.key) == ("shop.mail.low", b"k-1")
    assert sent.record.value == b'{"number": 1}'
    assert read_headers(sent.record.headers).extra == own
    assert (after.replay_of, after.replays, after.key) == (job_id(1), 1, "k-1")
    assert after.id == sent.replay_id != job_id(1)
    assert (after.attempt, after.turn, after.due_ms) == (4, 1, None)
    assert after.idempotency_key == job_id(1)


def test_the_users_idempotency_key_and_the_count_of_replays_stay():
    after = envelope_of(fate(headers(idempotency_key="receipt-7", replays=2)))

    assert (after.idempotency_key, after.replays) == ("receipt-7", 3)


def test_attempts_begin_anew_only_when_asked():
    assert envelope_of(fate()).attempt == 4
    assert envelope_of(fate(reset_attempts=True)).attempt == 1


def test_one_record_has_one_id_in_a_run_and_another_one_in_the_next():
    other = ReplayRoutes(run="run-2", namespace="shop", source=SOURCE, lanes=LANES)

    assert fate().replay_id == fate().replay_id
    assert fate().replay_id != fate(road=other).replay_id
    assert fate(headers(1)).replay_id != fate(headers(2)).replay_id


@pytest.mark.parametrize(
    ("found", "policy", "reason"),
    [
        (headers(deadline_ms=NOW), {}, SkipReason.EXPIRED),
        ([], {}, SkipReason.NO_ORIGIN),
        (SPRING, {}, SkipReason.UNDECLARED_ORIGIN),
        (SPRING, {"targets": {"other": "x"}}, SkipReason.UNDECLARED_ORIGIN),
        (
            [("a", b"1")],
            {"targets": {ANY_ORIGIN: "shop.mail.low"}},
            SkipReason.NOT_A_JOB,
        ),
    ],
)
def test_what_cannot_go_back_stays_with_a_reason(found, policy, reason):
    assert fate(found, **policy) == Skip(reason)


def test_a_record_without_a_value_stays():
    assert fate(SHARE, value=None, targets={"orders": "orders"}) == Skip(
        SkipReason.NO_PAYLOAD
    )


@pytest.mark.parametrize(
    "forged", ["other.mail.low", "shop.mail.dlt", "__consumer_offsets", "shop.x.low"]
)
def test_a_forged_origin_is_refused(forged):
    found = [
        (name, forged.encode() if name == "shifter-origin-topic" else value)
        for name, value in headers()
    ]

    assert fate(found) == Skip(SkipReason.UNDECLARED_ORIGIN)


def test_an_expired_job_goes_back_with_a_new_deadline():
    sent = fate(headers(deadline_ms=NOW - 1), deadline_ms=60_000)

    assert envelope_of(sent).deadline_ms == NOW + 60_000


def test_another_lane_is_written_into_the_envelope():
    found = headers(queue="mail", priority="LOW")

    after = envelope_of(fate(found, targets={ANY_ORIGIN: "shop.mail.high"}))

    assert (after.queue, after.priority.value) == ("mail", "HIGH")


@pytest.mark.parametrize("dialect", [SPRING, CONNECT, STREAMS, SHARE, KARAFKA])
def test_others_letters_go_back_as_they_were_to_a_declared_origin(dialect):
    found = [("tenant", b"acme"), *dialect]

    sent = fate(found, targets={"orders": "orders"})

    assert isinstance(sent, Send)
    assert (sent.record.topic, sent.record.key) == ("orders", b"k-1")
    assert sent.record.headers[0] == ("tenant", b"acme")
    assert [name for name, _ in sent.record.headers[1:]] == [
        *("shifter-replays", "shifter-replay-id"),
    ]
    assert replays_of(sent.record.headers) == 1


def test_a_letter_replayed_too_often_is_parked_as_it_is():
    ours, theirs = headers(replays=3), [*SPRING, ("shifter-replays", b"3")]

    for found in (ours, theirs):
        parked = fate(found, targets={"orders": "orders"})
        assert isinstance(parked, Park)
        assert parked.record.topic == f"{SOURCE}.parking"
        assert parked.record.headers[:-1] == found
    assert isinstance(fate(headers(replays=3), max_replays=4), Send)
    assert isinstance(fate(headers(replays=2)), Send)
