"""Priorities and lanes, and the names of all topics, which only this module builds.

A lane is one queue at one priority. ``<namespace>.<queue>.<priority>`` is its topic,
``<namespace>.<queue>.dlt`` a dead-letter topic and, with ``.parking`` behind it, the
topic of dead letters that were replayed too often; ``<namespace>.delay.<seconds>s`` is
a delay tier, ``<namespace>.replays`` the journal of what was done with dead letters,
``<namespace>.events`` what happened to jobs. No part may contain a dot, so the mapping
is injective; ``_`` is refused too, since Kafka's metrics fold ``.`` and ``_`` into one.

Each of the four priorities has a hundred levels, so that shedding is smooth: level 0 is
shed first, level 399 last. Source: Google SRE book, ch. 21 (criticality); failsafe-go's
prioritizer (levels).
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from shifter.errors import ConfigError

LEVELS_PER_PRIORITY = 100
MAX_LEVEL = 399

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\Z")
# The lanes of such a queue would look like the topics of delay tiers.
_RESERVED_QUEUES = frozenset({"delay"})


class Priority(StrEnum):
    """Set by the producer, travels with the job; the value is the wire's word.

    Attributes:
        CRITICAL: Served before all others, and never below the shedding threshold.
        HIGH: A person waits for it.
        NORMAL: The default.
        LOW: May wait until there is room.
    """

    # Of the word that it equals; Enum's own is a call into Python.
    __hash__ = str.__hash__

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    NORMAL = "NORMAL"
    LOW = "LOW"

    # Kept in the member: each decision asks for them, and hashing a member is slow.
    rank: int
    """0 for ``LOW`` … 3 for ``CRITICAL``."""
    base_level: int
    """The lowest level of this priority: 0, 100, 200 or 300."""


for _rank, _priority in enumerate(reversed(Priority)):
    _priority.rank = _rank
    _priority.base_level = _rank * LEVELS_PER_PRIORITY


_PRIORITIES = {priority.value.lower(): priority for priority in Priority}


class Lane(NamedTuple):
    """One queue at one priority: the unit that is fetched, counted and shown."""

    namespace: str
    queue: str
    priority: Priority

    @property
    def name(self) -> str:
        """The lane's topic."""
        return f"{self.namespace}.{self.queue}.{self.priority.value.lower()}"


def dead_letter_topic(namespace: str, queue: str) -> str:
    """The topic that holds the dead letters of a queue."""
    return f"{namespace}.{queue}.dlt"


def parking_topic(source: str) -> str:
    """Where the dead letters of a topic go that were replayed too often."""
    return f"{source}.parking"


def journal_topic(namespace: str) -> str:
    """The topic that holds what was done with a namespace's dead letters."""
    return f"{namespace}.replays"


def events_topic(namespace: str) -> str:
    """The topic that holds what happened to the jobs of a namespace."""
    return f"{namespace}.events"


def delay_topic(namespace: str, tier_s: int) -> str:
    """The topic in which a record waits exactly ``tier_s`` seconds, > 0."""
    return f"{namespace}.delay.{tier_s}s"


def parse_lane(topic: str) -> Lane | None:
    """The lane a topic name stands for, or ``None`` when no lane can have it."""
    parts = topic.split(".")
    if len(parts) != 3:  # namespace, queue, priority
        return None
    namespace, queue, priority = parts
    if not (_NAME.match(namespace) and _NAME.match(queue) and priority in _PRIORITIES):
        return None
    if queue in _RESERVED_QUEUES:
        return None
    return Lane(namespace, queue, _PRIORITIES[priority])


def holds_jobs(namespace: str, topic: str) -> bool:
    """Whether jobs of a namespace wait in this topic: it is a lane or a delay tier.

    >>> holds_jobs("shop", "shop.mail.low"), holds_jobs("shop", "shop.delay.5s")
    (True, True)
    >>> holds_jobs("shop", "shop.mail.dlt"), holds_jobs("shop", "mill.mail.low")
    (False, False)
    """
    lane = parse_lane(topic)
    is_lane = lane is not None and lane.namespace == namespace
    return is_lane or topic.startswith(f"{namespace}.delay.")


def check_name(field: str, value: object) -> str:
    """Return ``value`` if it may be a namespace or queue.

    Raises:
        ConfigError: Not 1-64 lower-case letters, digits and inner hyphens, or a
            reserved word.
    """
    if not isinstance(value, str) or not _NAME.match(value):
        want = "use 1-64 lower-case letters, digits and inner hyphens"
        raise ConfigError(field, value, want)
    if field == "queue" and value in _RESERVED_QUEUES:
        raise ConfigError(field, value, "this name is reserved for delay topics")
    return value


def check_priority(value: object) -> Priority:
    """Return ``value`` if it is a priority.

    Raises:
        ConfigError: It is none.
    """
    if isinstance(value, Priority):
        return value
    raise ConfigError("priority", value, "use a shifter.Priority")


def check_quiet(field: str, value: object, priority: Priority | None) -> None:
    """Return if work of a priority may wait for a quiet time.

    Args:
        field: The option that asks for it, for the error.
        value: The option's value, for the error.
        priority: Priority of the work; ``None`` means work of all priorities.

    Raises:
        ConfigError: The work is not of the LOW priority alone.
    """
    if priority is not Priority.LOW:
        want = "only LOW work waits for a quiet time: use priority=Priority.LOW"
        raise ConfigError(field, value, want)
