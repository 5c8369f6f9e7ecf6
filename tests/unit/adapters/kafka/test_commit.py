from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, TopicPartition

from shifter.adapters.kafka.assignment import Assignment
from shifter.adapters.kafka.commit import Committer
from shifter.adapters.kafka.start_offsets import Start
from shifter.policy.delivery.ack_map import binding, decode
from tests.unit.adapters.kafka.consumers import (
    ScriptedAnswer,
    ScriptedConsumer,
    failure,
)
from tests.unit.adapters.kafka.messages import LANE, messages


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
