from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from shifter.adapters.kafka import ladder
from shifter.adapters.kafka.ladder import (
    DUE_HEADER,
    LANE_HEADER,
    DelayTarget,
    Destination,
    HopPlanner,
    route,
    waiting,
)
from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.policy.delivery.delay import TIERS_S
from shifter.ports import Delivery, Record
from shifter.wire.dead_letter import read_dead_letter
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import build_headers

NOW = 1_767_225_600_000


def delayed(remaining_ms, headers=()):
    return Record("shop.mail.low", b"{}", list(headers), b"k", NOW + remaining_ms)


@pytest.mark.parametrize(
    ("remaining_ms", "topic"),
    [
        (-1, "shop.mail.low"),
        (0, "shop.mail.low"),
        (999, "shop.mail.low"),
        (1_000, "shop.delay.1s"),
        (3_999, "shop.delay.1s"),
        (4_000, "shop.delay.4s"),
        (86_400_000, "shop.delay.16384s"),
    ],
)
def test_a_record_goes_to_the_largest_tier_that_fits(remaining_ms, topic):
    assert route("shop", delayed(remaining_ms), NOW)[0] == topic


def test_a_record_without_a_due_time_goes_to_its_lane_untouched():
    record = Record("shop.mail.low", b"{}", [("a", b"1")])

    assert route("shop", record, NOW) == (record.topic, record.headers)


@given(
    remaining_ms=st.integers(1_000, 30 * 86_400_000),
    headers=st.lists(
        st.tuples(st.sampled_from(["a", "shifter"]), st.none() | st.binary(max_size=9))
    ),
)
def test_what_leaves_the_ladder_is_what_entered_it(remaining_ms, headers):
    record = delayed(remaining_ms, headers)

    topic, written = route("shop", record, NOW)

    assert topic in {f"shop.delay.{tier_s}s" for tier_s in TIERS_S}
    assert record.headers == headers
    goal = DelayTarget(record.topic, record.due_ms)
    assert waiting(written) == (goal, headers)


@pytest.mark.parametrize(
    ("lane", "due"),
    [
        (b"shop.mail.low", None),
        (None, b"1"),
        (b"", b"1"),
        (b"shop.mail.low", b""),
        (b"shop.mail.low", b"-1"),
        (b"shop.mail.low", b"1.5"),
        (b"shop.mail.low", b"1e9"),
        (b"shop.mail.low", b"9" * 16),
        (b"shop.mail.low", "٣".encode()),
        (b"\xff", b"1"),
        (b"x" * 250, b"1"),
    ],
)
def test_malformed_headers_name_no_goal(lane, due):
    written = [("a", b"1"), (LANE_HEADER, lane), (DUE_HEADER, due)]

    assert waiting(written) == (None, [("a", b"1")])


def test_missing_headers_name_no_goal():
    assert waiting([("a", None)]) == (None, [("a", None)])


DAY_MS = 86_400_000
JOB = "0190a5c8-7f3e-7a10-9c1b-2f4e5d6c7b8a"


def ladder_headers(*, lane="shop.mail.low", due_ms=NOW):
    return [("a", b"1"), (LANE_HEADER, lane.encode()), (DUE_HEADER, b"%d" % due_ms)]


def envelope_headers(**fields):
    return build_headers(
        EnvelopeV1(v=1, id=JOB, type="f", **fields), content_type="application/json"
    )


def delivery(headers, *, tier_s=64, appended_ms=NOW, value=b"v"):
    return Delivery(
        f"shop.delay.{tier_s}s", b"key", value, headers, appended_ms, 3, 42, 1
    )


def planned(headers, now_ms=NOW, **more):
    return HopPlanner("shop").plan(delivery(headers, **more), now_ms)


class TestOnward:
    def test_it_leaves_when_its_time_in_the_tier_is_over(self):
        hop = planned(ladder_headers(due_ms=NOW + 90_000))

        assert (hop.destination, hop.ready_ms) == (Destination.ONWARD, NOW + 64_000)
        assert hop.record == Record(
            "shop.mail.low", b"v", [("a", b"1")], b"key", NOW + 90_000
        )

    def test_the_last_piece_is_waited_for_in_memory(self):
        assert planned(ladder_headers(due_ms=NOW + 64_999)).ready_ms == NOW + 64_999
        assert planned(ladder_headers(due_ms=NOW + 65_000)).ready_ms == NOW + 64_000

    def test_what_is_due_goes_at_once(self):
        assert planned(ladder_headers(due_ms=NOW - 5)).ready_ms == NOW - 5

    def test_every_hop_of_a_delay_is_followed_and_none_is_early(self):
        due_ms, now_ms, planner = NOW + 90_500, NOW, HopPlanner("shop")
        record = Record("shop.mail.low", b"v", [("a", b"1")], None, due_ms)
        hops = []
        while (there := route("shop", record, now_ms))[0] != "shop.mail.low":
            hops.append(there[0])
            read = Delivery(there[0], None, b"v", there[1], now_ms, 0, 0, 1)
            hop = planner.plan(read, now_ms)
            now_ms, record = hop.ready_ms, hop.record
            topic, headers = route("shop", record, now_ms)
            assert planner.step(hop, now_ms) == Record(topic, b"v", headers)

        assert hops == [f"shop.delay.{s}s" for s in (64, 16, 4, 4, 1, 1)]
        assert now_ms == due_ms
        assert record.headers == [("a", b"1")]

    def test_what_is_ready_a_little_late_waits_for_the_rest_in_memory(self):
        planner = HopPlanner("shop")
        hop = planner.plan(delivery(ladder_headers(due_ms=NOW + 65_000)), NOW)
        assert planner.step(hop, NOW + 64_000).topic == "shop.delay.1s"

        assert planner.step(hop, NOW + 64_001) is None

        assert hop.ready_ms == NOW + 65_000
        assert planner.step(hop, NOW + 64_999) is None
        assert planner.step(hop, NOW + 65_000).topic == "shop.mail.low"

    def test_a_clock_in_the_future_delays_by_no_more_than_the_tier(self):
        headers = ladder_headers(due_ms=NOW + DAY_MS)

        assert planned(headers, appended_ms=NOW + 3_600_000).ready_ms == NOW + 64_000
        assert planned([], appended_ms=NOW + 3_600_000).ready_ms == NOW + 64_000

    def test_a_record_of_another_program_is_routed_by_its_envelope(self):
        headers = envelope_headers(
            queue="mail", priority=Priority.HIGH, due_ms=NOW + 9_000
        )

        hop = planned(headers, tier_s=4)

        assert (hop.destination, hop.record.topic) == (
            Destination.ONWARD,
            "shop.mail.high",
        )
        assert (hop.ready_ms, hop.due_ms) == (NOW + 4_000, NOW + 9_000)
        assert hop.record.headers == headers

    def test_a_record_without_a_value_keeps_being_a_record(self):
        assert planned(ladder_headers(), value=None).record.value == b""


class TestUndeliverable:
    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [("a", b"1")],
            [(LANE_HEADER, b"shop.mail.low")],
            [(LANE_HEADER, b"shop.mail.low"), (DUE_HEADER, b"-5")],
            [(LANE_HEADER, b"shop.mail.low"), (DUE_HEADER, None)],
            ladder_headers(lane="shop.mail"),
            ladder_headers(lane="shop.delay.1s"),
            ladder_headers(lane="shop.delay.low"),
            ladder_headers(lane="shop.mail.dlt"),
            ladder_headers(lane="other.mail.low"),
            ladder_headers(lane="__consumer_offsets"),
            envelope_headers(queue="mail", due_ms=NOW),
            envelope_headers(queue="a.b", priority=Priority.LOW, due_ms=NOW),
            [("shifter", b"\xff")],
        ],
        ids=str,
    )
    def test_without_a_lane_of_ours_it_goes_round_on_the_longest_tier(self, headers):
        hop = planned(headers)

        assert hop.destination is Destination.LADDER
        assert hop.record == Record("shop.delay.16384s", b"v", headers, b"key")
        assert hop.ready_ms == NOW + 64_000

    def test_an_absurd_due_time_makes_a_dead_letter(self):
        due_ms = NOW + 40 * DAY_MS

        hop = planned([*envelope_headers(attempt=3), *ladder_headers(due_ms=due_ms)])

        assert (hop.destination, hop.record.topic) == (
            Destination.DEAD_LETTER,
            "shop.mail.dlt",
        )
        assert hop.ready_ms == NOW + 64_000
        info = read_dead_letter(hop.record.headers)
        assert info.reason == Reason.UNDECODABLE_ENVELOPE
        assert (info.job_id, info.attempts) == (JOB, 2)
        assert (info.origin_topic, info.origin_offset) == ("shop.delay.64s", 42)
        assert str(due_ms) in info.error_message

    def test_a_far_due_time_within_bounds_is_followed(self):
        hop = planned(ladder_headers(due_ms=NOW + 30 * DAY_MS), tier_s=16_384)

        assert (hop.destination, hop.ready_ms) == (Destination.ONWARD, NOW + 16_384_000)

    def test_many_lane_names_do_not_fill_the_memory(self):
        planner = HopPlanner("shop")
        for n in range(2_500):
            planner.plan(delivery(ladder_headers(lane=f"shop.q{n}.low")), NOW)

        assert ladder._lane.cache_info().currsize <= 1_000


class TestReroute:
    def rerouted(self, now_ms, **more):
        planner = HopPlanner("shop")
        headers = [*envelope_headers(), *ladder_headers(**more)]
        hop = planner.plan(delivery(headers), NOW)
        planner.reroute(hop, "no such topic", now_ms)
        return planner, hop

    def test_a_lane_that_is_not_there_is_waited_for(self):
        _, hop = self.rerouted(NOW + 5_000)

        assert (hop.destination, hop.ready_ms) == (Destination.LADDER, NOW + 5_000)
        assert hop.record.topic == "shop.delay.64s"
        assert hop.record.headers == hop.delivery.headers

    def test_a_lane_that_stays_away_makes_a_dead_letter(self):
        _, hop = self.rerouted(NOW + 600_000)

        assert (hop.destination, hop.record.topic) == (
            Destination.DEAD_LETTER,
            "shop.mail.dlt",
        )
        info = read_dead_letter(hop.record.headers)
        assert (info.reason, info.error_message) == ("refused_by_log", "no such topic")

    def test_a_dead_letter_that_is_refused_goes_round_on_the_longest_tier(self):
        planner, hop = self.rerouted(NOW + 600_000)

        planner.reroute(hop, "no such topic either", NOW + 600_001)

        assert (hop.destination, hop.record.topic) == (
            Destination.LADDER,
            "shop.delay.16384s",
        )
        assert hop.record.headers == hop.delivery.headers
        assert hop.ready_ms == NOW + 600_001
