from __future__ import annotations

import pytest
from confluent_kafka import TopicPartition

from shifter.adapters.kafka.assignment import Assignment, Committer
from shifter.adapters.kafka.rebalance import Rebalancer
from shifter.adapters.kafka.start_offsets import StartPlan
from shifter.errors import StoreRefusedError
from shifter.policy.delivery.ack_metadata import binding, encode
from shifter.ports import LostRange
from tests.unit.adapters.kafka.consumers import (
    ListeningOutlet,
    ScriptedConsumer,
    ScriptedRequests,
    StepClock,
    failure,
)
from tests.unit.adapters.kafka.messages import LANE, event, messages

UNREAD = [("assign", [(LANE, 0, 0)]), ("pause", [(LANE, 0)])]
"""What the client is asked where the start of its partition is not known."""


class Bench:
    """A member that subscribed; the script decides what becomes of it."""

    def __init__(self, **script):
        self.clock, self.outlet = StepClock(), ListeningOutlet()
        self.requests = ScriptedRequests(self.clock)
        self.assignment = Assignment(100)
        self.consumer = ScriptedConsumer(**script)
        committer = Committer("group", self.assignment, lambda _: None)
        self.ids = {}
        self.rebalancer = Rebalancer(
            StartPlan("group", lambda topics: self.ids),
            self.assignment,
            committer,
            self.requests,
            self.outlet,
            self.clock,
        )
        self.rebalancer.subscribe(self.consumer, [LANE])

    def assign(self, *indexes):
        self.consumer.on_assign(self.consumer, _partitions(indexes))
        return self

    def revoke(self, *indexes):
        self.consumer.said.clear()
        self.consumer.on_revoke(self.consumer, _partitions(indexes))

    def begun(self, *offsets):
        taken, _ = self.assignment.take(messages(*offsets))
        return self.assignment.begin(taken)


def _partitions(indexes):
    return [TopicPartition(LANE, index) for index in indexes]


def owner(*, low=0, high=100, committed=10, text=""):
    """A bench with one partition."""
    return Bench(commits={(LANE, 0): (committed, text)}, kept={(LANE, 0): (low, high)})


class TestAssign:
    def test_every_partition_is_read_from_where_the_group_is(self):
        bench = Bench(
            commits={(LANE, 0): (10, "")},
            kept={(LANE, 0): (0, 100), (LANE, 1): (7, 9)},
        )

        bench.assign(0, 1)

        assert bench.consumer.said == [
            ("assign", [(LANE, 0, 10), (LANE, 1, 7)]),
            ("resume", [(LANE, 0), (LANE, 1)]),
        ]
        assert bench.rebalancer.is_joined

    def test_an_empty_share_is_a_share(self):
        bench = Bench().assign()

        assert bench.rebalancer.is_joined
        assert bench.consumer.said == [("assign", [])]

    def test_what_was_lost_and_what_ended_ahead_are_distinguished(self):
        bound = binding("group", LANE, 0)
        text = encode([(12, 15), (25, 30)], binding=bound, position=10)
        bench = owner(low=20, text=text).assign(0)

        assert bench.outlet.losses == [
            LostRange(LANE, 0, 10, 12),
            LostRange(LANE, 0, 15, 20),
        ]
        taken, _ = bench.assignment.take(messages(*range(20, 32)))
        assert [d.offset for d in taken] == [*range(20, 25), 30, 31]

    def test_a_topic_that_was_made_again_is_read_from_its_beginning(self):
        bench = owner(committed=500).assign(0)

        assert bench.consumer.said[0] == ("assign", [(LANE, 0, 0)])
        assert bench.outlet.events[0][0] == "made_again"

    def test_a_broker_that_does_not_say_is_asked_again(self):
        bench = owner()
        bench.consumer.failures = [failure("_TRANSPORT"), failure("_TIMED_OUT")]

        bench.assign(0)

        assert bench.consumer.said[0] == ("assign", [(LANE, 0, 10)])
        assert bench.outlet.refusals == []

    def test_a_broker_that_keeps_refusing_is_reported_after_a_while(self):
        bench = owner()
        bench.consumer.failures = [failure("GROUP_AUTHORIZATION_FAILED")] * 100

        bench.assign(0)

        [error] = bench.outlet.refusals
        assert isinstance(error, StoreRefusedError)
        assert 5 < bench.clock.now - 100 < 6
        assert bench.consumer.said == UNREAD

    def test_leaving_ends_the_asking(self):
        bench = owner()
        bench.consumer.failures = [failure("_TRANSPORT")] * 100
        bench.requests.meanwhile = [lambda: None, bench.requests.leave]

        bench.assign(0)

        assert bench.consumer.said == UNREAD


class TestRevoke:
    def test_what_has_begun_is_waited_for_and_committed(self):
        bench = owner().assign(0)
        begun = bench.begun(10, 11)
        bench.requests.meanwhile = [
            lambda: bench.requests.settle(begun[1:]),
            lambda: bench.requests.settle(begun[:1]),
        ]

        bench.revoke(0)

        assert bench.consumer.said == [("commit", [(LANE, 0, 12, "")])]
        assert bench.clock.now == 100
        assert bench.assignment.parts == {}

    def test_it_is_not_waited_for_longer_than_three_seconds(self):
        bench = owner().assign(0)
        begun = bench.begun(10, 11)
        bench.requests.settle(begun[:1])

        bench.revoke(0)

        assert bench.clock.now == 103
        assert bench.consumer.said == [("commit", [(LANE, 0, 11, "")])]
        assert bench.outlet.events[-1] == (
            "revoked",
            {"partitions": 1, "unfinished": 1},
        )

    def test_what_only_waits_is_not_waited_for(self):
        bench = owner().assign(0)
        taken, _ = bench.assignment.take(messages(10, 11))

        bench.revoke(0)

        assert bench.clock.now == 100
        assert bench.assignment.begin(taken) == []

    def test_nothing_more_may_begin_while_the_rest_is_waited_for(self):
        bench = owner().assign(0)
        bench.begun(10)
        late, _ = bench.assignment.take(messages(11))
        answers = []
        bench.requests.meanwhile = [
            lambda: answers.append(bench.assignment.begin(late))
        ]

        bench.revoke(0)

        assert answers == [[]]

    def test_the_others_stay(self):
        bench = Bench(kept={(LANE, 0): (0, 9), (LANE, 1): (0, 9)}).assign(0, 1)

        bench.revoke(1)

        assert list(bench.assignment.parts) == [(LANE, 0)]

    def test_a_member_that_leaves_waits_for_nothing(self):
        bench = owner().assign(0)
        bench.begun(10)
        bench.requests.leave()

        bench.revoke(0)

        assert bench.clock.now == 100

    def test_what_was_lost_to_others_is_not_committed(self):
        bench = owner().assign(0)
        bench.requests.settle(bench.begun(10, 11))
        bench.consumer.said.clear()

        bench.consumer.on_lost(bench.consumer, _partitions([0]))

        assert bench.consumer.said == []
        assert bench.assignment.parts == {}
        bench.rebalancer.settle()


class TestRestart:
    def restarted(self, bench, *, low, high, offset=-1001):
        bench.consumer.kept[LANE, 0] = (low, high)
        bench.consumer.said.clear()
        gone = event("_AUTO_OFFSET_RESET", offset=offset)
        bench.rebalancer.restart(bench.consumer, gone)
        return bench.consumer.said

    def test_what_retention_took_is_lost_and_reading_goes_on(self):
        bench = owner().assign(0)
        begun = bench.begun(10, 11)

        said = self.restarted(bench, low=60, high=90, offset=12)

        assert bench.outlet.losses == [LostRange(LANE, 0, 12, 60)]
        assert said == [
            ("unassign", [(LANE, 0)]),
            ("assign", [(LANE, 0, 60)]),
            ("resume", [(LANE, 0)]),
        ]
        bench.assignment.settle(begun)
        assert bench.assignment.parts[LANE, 0].acks.frontier == 60

    def test_a_client_that_does_not_say_where_it_was_is_where_we_are(self):
        bench = owner().assign(0)

        self.restarted(bench, low=60, high=90)

        assert bench.outlet.losses == [LostRange(LANE, 0, 10, 60)]

    def test_a_log_that_is_shorter_now_is_another_log(self):
        bench = owner().assign(0)
        begun = bench.begun(10, 11)

        said = self.restarted(bench, low=0, high=5, offset=12)

        assert said[1] == ("assign", [(LANE, 0, 0)])
        assert bench.assignment.begin(begun) == []
        assert bench.outlet.losses == []
        assert bench.outlet.events[-1][0] == "made_again"

    def test_a_place_that_is_there_after_all_is_kept(self):
        bench = owner().assign(0)

        said = self.restarted(bench, low=0, high=90, offset=10)

        assert said[1] == ("assign", [(LANE, 0, 10)])
        assert bench.outlet.losses == []

    def test_what_is_not_owned_is_left_alone(self):
        assert self.restarted(Bench(), low=0, high=9) == []

    def test_a_pause_is_given_again(self):
        bench = owner().assign(0)
        [part] = bench.assignment.parts.values()
        part.is_paused, bench.assignment.has_shifted = True, False

        self.restarted(bench, low=60, high=90, offset=10)

        assert not part.is_paused
        assert bench.assignment.has_shifted


@pytest.mark.parametrize("code", ["_TRANSPORT", "NOT_LEADER_FOR_PARTITION"])
def test_a_cluster_that_stays_away_is_said_but_not_at_once(code):
    bench = owner()
    bench.consumer.failures = [failure(code)] * 30

    bench.assign(0)

    said = [what for what, _ in bench.outlet.events]
    assert 0 < said.count("start_unknown") < 10
    assert bench.consumer.said[0] == ("assign", [(LANE, 0, 10)])


def test_a_partition_that_the_client_does_not_know_is_started_after_the_callback():
    bench = owner()
    bench.consumer.outdated = failure("_UNKNOWN_PARTITION")

    bench.assign(0)
    assert bench.consumer.said == UNREAD
    assert bench.consumer.outdated is not None, "a callback asked for metadata"
    bench.consumer.said.clear()
    bench.rebalancer.start_late(bench.consumer)
    bench.rebalancer.start_late(bench.consumer)

    assert bench.consumer.said == [
        ("unassign", [(LANE, 0)]),
        ("assign", [(LANE, 0, 10)]),
        ("resume", [(LANE, 0)]),
    ]


def test_a_partition_that_was_taken_back_is_not_started_any_more():
    bench = owner()
    bench.consumer.outdated = failure("_UNKNOWN_PARTITION")
    bench.assign(0).revoke(0)

    bench.rebalancer.start_late(bench.consumer)

    assert bench.consumer.said == []


def test_a_late_start_is_tried_again_when_the_broker_has_not_answered():
    bench = owner()
    bench.consumer.outdated = failure("_UNKNOWN_PARTITION")
    bench.assign(0)
    bench.consumer.said.clear()
    bench.consumer.failures = [failure("_TRANSPORT")]

    bench.rebalancer.start_late(bench.consumer)
    assert bench.consumer.said == []
    bench.clock.now += 5
    bench.rebalancer.start_late(bench.consumer)

    assert ("assign", [(LANE, 0, 10)]) in bench.consumer.said
