from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, TopicPartition

from shifter.adapters.kafka.assignment import Assignment, Committer
from shifter.adapters.kafka.start_offsets import Commit, Start, where_to_start, without
from shifter.policy.delivery.ack_metadata import binding, decode, encode
from tests.unit.adapters.kafka.consumers import (
    ScriptedAnswer,
    ScriptedConsumer,
    failure,
)
from tests.unit.adapters.kafka.messages import LANE, event, message, messages

BOUND = binding("group", LANE, 0)


def assigned(*positions, full_above=100):
    """An assignment with partitions 0, 1 … of one lane."""
    assignment = Assignment(full_above)
    for index, position in enumerate(positions or (0,)):
        assignment.add((LANE, index), Start(position, is_known=True))
    return assignment


def offsets(deliveries):
    return [(d.partition, d.offset) for d in deliveries]


class TestTaking:
    def test_a_record_becomes_a_delivery(self):
        assignment = assigned()
        read = message(7, key=b"k", value=None, headers=[("a", b"1"), ("b", None)])

        [delivery], _ = assignment.take([read])

        assert (delivery.topic, delivery.partition, delivery.offset) == (LANE, 0, 7)
        assert (delivery.key, delivery.value) == (b"k", None)
        assert delivery.headers == [("a", b"1"), ("b", None)]
        assert delivery.appended_ms == 1_007
        assert {delivery.epoch} == assignment.epochs

    def test_partitions_may_come_in_any_order(self):
        assignment = assigned(0, 10)
        read = messages(0, 1) + messages(10, 12, partition=1) + messages(2)

        taken, events = assignment.take(read)

        assert offsets(taken) == [(0, 0), (0, 1), (1, 10), (1, 12), (0, 2)]
        assert events == []
        assert [p.acks.position for p in assignment.parts.values()] == [3, 13]

    def test_events_are_separated_from_records(self):
        assignment = assigned()
        end = event("_PARTITION_EOF", offset=1)

        taken, events = assignment.take([message(0), end])

        assert offsets(taken) == [(0, 0)]
        assert events == [end]

    def test_what_is_not_owned_is_left_out(self):
        assignment = assigned()

        taken, _ = assignment.take(messages(5, partition=3) + messages(0))

        assert offsets(taken) == [(0, 0)]

    def test_what_ended_under_an_earlier_owner_is_left_out(self):
        assignment = Assignment(100)
        start = Start(0, [(1, 3), (4, 5)], is_known=True)
        part = assignment.add((LANE, 0), start)

        taken, _ = assignment.take(messages(0, 1, 2, 3, 4, 5))

        assert offsets(taken) == [(0, 0), (0, 3), (0, 5)]
        assert part.acks.ahead() == [(1, 3), (4, 5)]

    def test_a_log_that_starts_again_is_another_log(self):
        """A topic deleted and made again is read from 0 without a word."""
        assignment = assigned(50)
        [old], _ = assignment.take(messages(50))
        assignment.begin([old])

        taken, _ = assignment.take(messages(51) + messages(0, 1))

        assert offsets(taken) == [(0, 51), (0, 0), (0, 1)]
        assert assignment.begin(taken) == taken[1:]
        assert assignment.begin([old]) == []
        [part] = assignment.parts.values()
        assert (part.acks.frontier, part.is_dirty) == (0, True)

    def test_a_partition_is_full_until_half_of_it_ended(self):
        assignment = assigned(full_above=10)
        [part] = assignment.parts.values()
        taken, _ = assignment.take(messages(*range(10)))
        assert not part.is_full

        assignment.take(messages(10))
        assert part.is_full

        assignment.settle(taken[:5])
        assert part.is_full
        assignment.settle(taken[5:6])
        assert not part.is_full
        assert assignment.has_shifted


class TestOwning:
    def test_what_was_taken_away_cannot_begin(self):
        assignment = assigned(0, 0)
        taken, _ = assignment.take(messages(0) + messages(0, partition=1))

        assignment.withdraw(assignment.of([(LANE, 1)]))

        assert assignment.begin(taken) == taken[:1]

    def test_what_began_before_it_was_withdrawn_still_settles(self):
        assignment = assigned()
        [part] = assignment.parts.values()
        taken, _ = assignment.take(messages(0, 1))
        assignment.begin(taken)
        assignment.withdraw([part])

        assignment.settle(taken)

        assert part.acks.frontier == 2
        assert part.started == set()

    def test_what_settles_after_it_was_dropped_is_ignored(self):
        assignment = assigned()
        [old] = assignment.parts.values()
        taken, _ = assignment.take(messages(0, 1))
        assignment.drop([old])
        new = assignment.add((LANE, 0), Start(0))
        assignment.take(messages(0, 1))

        assignment.settle(taken)

        assert new.acks.frontier == 0
        assert new.acks.open_count == 2

    def test_an_epoch_is_never_used_again(self):
        assignment = assigned()
        [first] = assignment.epochs
        assignment.drop(assignment.of([(LANE, 0)]))
        assert assignment.epochs == frozenset()

        assignment.add((LANE, 0), Start(0))

        assert first not in assignment.epochs

    def test_beginning_twice_counts_once(self):
        assignment = assigned()
        [part] = assignment.parts.values()
        taken, _ = assignment.take(messages(0))
        assignment.begin(taken)

        assert assignment.begin(taken) == taken

        assignment.settle(taken)
        assert part.started == set()

    def test_places_not_owned_are_left_out(self):
        assert assigned().of([(LANE, 9)]) == []


class TestIdle:
    def test_it_needs_the_end_and_nothing_open(self):
        assignment = assigned()
        [part] = assignment.parts.values()
        assert not assignment.is_idle()
        taken, _ = assignment.take(messages(0))

        part.at_end = True
        assert not assignment.is_idle()
        assignment.settle(taken)
        assert assignment.is_idle()

    def test_a_new_record_ends_it(self):
        assignment = assigned()
        [part] = assignment.parts.values()
        part.at_end = True

        taken, _ = assignment.take(messages(0))
        assignment.settle(taken)

        assert not assignment.is_idle()

    def test_owning_nothing_is_idle(self):
        assert Assignment(10).is_idle()


class TestStart:
    def text(self, *ranges, position=10):
        return encode(list(ranges), binding=BOUND, position=position)

    def test_without_a_commit_it_is_the_lowest_record_and_all_before_is_lost(self):
        assert where_to_start(Commit(-1001), (0, 9), BOUND) == Start(0)
        assert where_to_start(Commit(-1001), (3, 9), BOUND) == Start(3, lost=[(0, 3)])

    @pytest.mark.parametrize("committed", [3, 5, 9])
    def test_a_commit_within_the_log_is_followed(self, committed):
        assert where_to_start(Commit(committed, ""), (3, 9), BOUND) == Start(
            committed, [], is_known=True
        )

    def test_what_ended_ahead_is_known(self):
        start = where_to_start(Commit(10, self.text((12, 14))), (3, 20), BOUND)

        assert start == Start(10, [(12, 14)], is_known=True)

    def test_a_text_beyond_the_end_of_the_log_is_ignored(self):
        start = where_to_start(Commit(10, self.text((12, 24))), (3, 20), BOUND)

        assert start == Start(10, [], is_known=True)

    def test_what_retention_took_unread_is_lost(self):
        commit = Commit(10, self.text((12, 14), (18, 30)))

        start = where_to_start(commit, (25, 40), BOUND)

        assert start == Start(25, [(25, 30)], [(10, 12), (14, 18)])

    def test_a_commit_beyond_the_end_is_of_another_log(self):
        assert where_to_start(Commit(10), (0, 9), BOUND) == Start(0, is_foreign=True)

    def test_a_commit_of_another_topic_is_ignored(self):
        commit = Commit(10, self.text((12, 14)) + "#old")

        assert where_to_start(commit, (0, 20), BOUND, "new") == Start(
            0, is_foreign=True, topic_id="new"
        )
        assert where_to_start(commit, (0, 20), BOUND, "old") == Start(
            10, [(12, 14)], is_known=True, topic_id="old"
        )

    def test_a_commit_of_an_earlier_release_is_followed_and_made_again(self):
        commit = Commit(10, self.text((12, 14)))

        assert where_to_start(commit, (0, 20), BOUND, "new") == Start(
            10, [(12, 14)], topic_id="new"
        )

    def test_a_group_without_a_usable_commit_gets_one(self):
        assignment = Assignment(10)

        new = assignment.add((LANE, 0), Start(3))
        known = assignment.add((LANE, 1), Start(3, is_known=True))

        assert new.is_dirty
        assert not known.is_dirty

    @pytest.mark.parametrize(
        ("done", "left"),
        [
            ([], [(10, 20)]),
            ([(0, 10), (20, 30)], [(10, 20)]),
            ([(0, 30)], []),
            ([(10, 20)], []),
            ([(12, 13), (13, 14)], [(10, 12), (14, 20)]),
            ([(15, 30)], [(10, 15)]),
        ],
    )
    def test_a_span_without_ranges(self, done, left):
        assert without((10, 20), done) == left


class Bench:
    """Two partitions with ten records each, the first five of partition 0 ended."""

    def __init__(self):
        self.assignment, self.failed = Assignment(100), []
        self.committer = Committer("group", self.assignment, self.failed.append)
        self.consumer = ScriptedConsumer()
        for index in range(2):
            self.assignment.add((LANE, index), Start(0, is_known=True))
        taken, _ = self.assignment.take(
            messages(*range(10)) + messages(*range(10), partition=1)
        )
        self.first, self.second = taken[:10], taken[10:]
        self.assignment.settle(self.first[:5])

    @property
    def parts(self):
        return list(self.assignment.parts.values())

    def send(self):
        self.committer.send(self.consumer, self.parts)
        return self.consumer.said

    def send_and_wait(self):
        self.committer.send_and_wait(self.consumer, self.parts)
        return self.consumer.said


@pytest.fixture
def bench():
    return Bench()


def test_only_what_changed_is_committed(bench):
    assert bench.send() == [("send", [(LANE, 0, 5, "")])]
    assert len(bench.send()) == 1

    bench.assignment.settle(bench.second[:1])

    assert bench.send()[1:] == [("send", [(LANE, 1, 1, "")])]


def test_settling_what_changes_nothing_is_not_committed(bench):
    bench.send()

    bench.assignment.settle(bench.first[:5])

    assert len(bench.send()) == 1


def test_what_ended_ahead_is_written_beside_it(bench):
    bench.assignment.settle(bench.first[7:9])

    [(_, [(_, _, position, text)])] = bench.send()

    bound = binding("group", LANE, 0)
    found = decode(text, binding=bound, position=position, high=10)
    assert (position, found) == (5, [(7, 9)])


def test_a_commit_that_failed_later_is_repeated(bench):
    bench.send()
    error = KafkaError(KafkaError.ILLEGAL_GENERATION)

    bench.committer.reported(error, [TopicPartition(LANE, 0, 5)])

    assert bench.send()[1:] == [("send", [(LANE, 0, 5, "")])]
    assert "ILLEGAL_GENERATION" in bench.failed[0]


def test_a_commit_that_failed_at_once_is_repeated_with_the_next(bench):
    bench.consumer.failures = [failure("_STATE")]
    bench.send()

    assert bench.send() == [("send", [(LANE, 0, 5, "")])] * 2
    assert len(bench.failed) == 1


@pytest.mark.parametrize(
    "name", ["ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS", "UNKNOWN_MEMBER_ID"]
)
def test_an_awaited_commit_that_is_refused_is_counted_and_not_raised(bench, name):
    bench.consumer.failures = [failure(name)]

    assert len(bench.send_and_wait()) == 1

    assert name in bench.failed[0]


def test_one_partition_of_an_awaited_commit_may_fail(bench):
    bench.assignment.settle(bench.second)
    bench.consumer.errors[LANE, 1] = KafkaError(KafkaError.REBALANCE_IN_PROGRESS)

    bench.send_and_wait()

    assert [part.is_dirty for part in bench.parts] == [False, True]


def test_a_text_that_is_refused_is_left_out_at_once_where_it_is_awaited(bench):
    bench.assignment.settle(bench.first[7:9])
    bench.consumer.failures = [failure("OFFSET_METADATA_TOO_LARGE")]

    first, second = bench.send_and_wait()

    assert first[1][0][2:] != (5, "")
    assert second == ("commit", [(LANE, 0, 5, "")])


def test_a_text_that_was_refused_is_left_out_from_then_on(bench):
    bench.assignment.settle(bench.first[7:9])
    bench.send()
    error = KafkaError(KafkaError.OFFSET_METADATA_TOO_LARGE)
    bench.committer.reported(None, [ScriptedAnswer(TopicPartition(LANE, 0), error)])
    assert bench.send()[1:] == [("send", [(LANE, 0, 5, "")])]

    bench.assignment.settle(bench.first[5:6])

    assert bench.send()[2:] == [("send", [(LANE, 0, 6, "")])]


def test_what_is_no_longer_owned_is_of_no_concern(bench):
    bench.send()
    bench.assignment.drop(bench.parts[:1])

    bench.committer.reported(
        KafkaError(KafkaError.UNKNOWN_MEMBER_ID), [TopicPartition(LANE, 0, 5)]
    )

    assert len(bench.send()) == 1
