"""A consumer that plays back a script and writes down what was asked of it."""

from __future__ import annotations

from types import SimpleNamespace

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from shifter.adapters.kafka.loop_bridge import Requests


def failure(name):
    return KafkaException(KafkaError(getattr(KafkaError, name)))


def places(partitions):
    return [(at.topic, at.partition) for at in partitions]


class ScriptedConsumer:
    """``commits`` maps places to (offset, text), ``kept`` to (low, high).

    ``failures`` are raised, one a call, by whatever asks the broker next; ``outdated``
    by all that ask until the client has looked at its cluster again.
    """

    def __init__(self, *, commits=None, kept=None, failures=()):
        self.commits, self.kept = commits or {}, kept or {}
        self.failures, self.outdated = list(failures), None
        self.errors = {}
        self.said = []

    def _fail(self):
        if self.outdated is not None:
            raise self.outdated
        if self.failures:
            raise self.failures.pop(0)

    def list_topics(self, timeout):
        self.outdated = None
        topics = {}
        for topic, index in self.kept:
            topics.setdefault(topic, set()).add(index)
        return SimpleNamespace(
            topics={t: SimpleNamespace(partitions=p) for t, p in topics.items()}
        )

    def committed(self, partitions, timeout):
        self._fail()
        return [
            TopicPartition(*at, *self.commits.get(at, (-1001,)))
            for at in places(partitions)
        ]

    def get_watermark_offsets(self, partition, timeout, cached):
        assert not cached
        self._fail()
        return self.kept[partition.topic, partition.partition]

    def subscribe(self, topics, on_assign, on_revoke, on_lost):
        self.on_assign, self.on_revoke, self.on_lost = on_assign, on_revoke, on_lost

    def incremental_assign(self, partitions):
        asked = [(at.topic, at.partition, at.offset) for at in partitions]
        self.said.append(("assign", asked))

    def incremental_unassign(self, partitions):
        self.said.append(("unassign", places(partitions)))

    def pause(self, partitions):
        self.said.append(("pause", places(partitions)))

    def resume(self, partitions):
        self.said.append(("resume", places(partitions)))

    def commit(self, offsets, asynchronous):
        asked = [(at.topic, at.partition, at.offset, at.metadata) for at in offsets]
        self.said.append(("send" if asynchronous else "commit", asked))
        self._fail()
        if asynchronous:
            return None
        answers = [TopicPartition(*one) for one in asked]
        return [
            ScriptedAnswer(at, self.errors.get((at.topic, at.partition)))
            for at in answers
        ]


class ScriptedAnswer:
    """A partition of a commit's answer; the client's own cannot be given an error."""

    def __init__(self, at, error):
        self.topic, self.partition, self.offset = at.topic, at.partition, at.offset
        self.error = error


class ScriptedRequests(Requests):
    """Waiting takes no time but the clock's; each wait does the next of ``meanwhile``."""

    def __init__(self, clock):
        super().__init__()
        self.clock, self.meanwhile = clock, []

    def wait(self, seconds):
        if self.meanwhile:
            self.meanwhile.pop(0)()
        else:
            self.clock.now += seconds


class StepClock:
    """Stands still unless it is moved."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def epoch_ms(self):
        return int(self.now * 1_000)


class ListeningOutlet:
    """Remembers all it hears."""

    def __init__(self):
        self.losses, self.refusals, self.events = [], [], []

    def lost(self, found):
        self.losses.append(found)

    def refused(self, error):
        self.refusals.append(error)

    def observe(self, what, **facts):
        self.events.append((what, facts))
