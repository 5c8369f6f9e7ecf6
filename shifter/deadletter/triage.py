"""Groups dead letters by failure: number, first and last instant, course over time."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from shifter.deadletter.dialect import FOREIGN, read_facts
from shifter.ports import Delivery
from shifter.wire.dead_letter import header_name, read_text
from shifter.wire.failure import MAX_MESSAGE_CHARS

MAX_GROUPS: Final = 10_000
"""Groups that are kept apart; all fingerprints of a foreign topic may differ."""

OTHERS: Final = "others"
"""Group of the letters of all further fingerprints."""

_BUCKETS: Final = 64
_FIRST_WIDTH_MS: Final = 1_000
_FINGERPRINT: Final = header_name("fingerprint")
_LAST_FAILED: Final = header_name("last_failed_ms")
_JOB_ID: Final = header_name("job_id")
_SHOWN: Final = tuple(map(header_name, ("error_type", "error_message", "reason")))
_MOST_BYTES: Final = 4 * MAX_MESSAGE_CHARS
"""Largest text that a group keeps; shifter writes none that is larger."""


class FailureGroup(msgspec.Struct):
    """Dead letters of one fingerprint; the field names are a published contract.

    Attributes:
        fingerprint: Fingerprint of error type and stack.
        count: Number of dead letters.
        error: Error type of the newest.
        message: Error message of the newest.
        reason: Why the newest was parked: a `Reason` value; of other systems, the
            dialect.
        first_seen_ms: Instant of the oldest failure, epoch milliseconds.
        last_seen_ms: Instant of the newest failure, epoch milliseconds.
        sample_job_id: Job id of the newest; ``None`` if it had none.
    """

    fingerprint: str
    count: int
    error: str
    message: str
    reason: str
    first_seen_ms: int
    last_seen_ms: int
    sample_job_id: str | None


class CountsOverTime:
    """Counts over time, in at most 64 buckets; their width doubles as time passes.

    >>> course = CountsOverTime()
    >>> for at_ms in (0, 500, 1_000, 9_000):
    ...     course.add(at_ms)
    >>> course.counts(0, 10_000, 2)
    [3, 1]
    """

    __slots__ = ("_counts", "_width_ms")

    def __init__(self) -> None:
        self._width_ms, self._counts = _FIRST_WIDTH_MS, dict[int, int]()

    def add(self, at_ms: int) -> None:
        """Count one dead letter."""
        counts, place = self._counts, at_ms // self._width_ms
        counts[place] = counts.get(place, 0) + 1
        while len(counts) > _BUCKETS:
            self._width_ms *= 2
            wider: dict[int, int] = {}
            for old, count in counts.items():
                wider[old // 2] = wider.get(old // 2, 0) + count
            self._counts = counts = wider

    def counts(self, first_ms: int, last_ms: int, columns: int) -> list[int]:
        """Counts in equal parts of a span of time.

        Args:
            first_ms: Beginning of the span.
            last_ms: End of the span.
            columns: Number of parts, >= 1.
        """
        found = [0] * columns
        width = max(1, last_ms - first_ms)
        for place, count in self._counts.items():
            # A bucket counts in the column that its middle is in.
            middle = place * self._width_ms + self._width_ms // 2 - first_ms
            column = min(columns - 1, max(0, middle * columns // width))
            found[column] += count
        return found


class NewestLetter(NamedTuple):
    """What a group shows of its newest letter, as it is written in its headers.

    Attributes:
        error: Error type; empty for an unknown system.
        message: Error message; empty for an unknown system.
        reason: Why it was parked; of other systems, the dialect.
        job_id: Id of the job; empty if there is none.
    """

    error: bytes
    message: bytes
    reason: bytes
    job_id: bytes


class _Found:
    """A group while it is counted; it keeps only a few texts of its newest letter."""

    __slots__ = ("count", "course", "first_ms", "last_ms", "newest")

    def __init__(self, at_ms: int, newest: NewestLetter) -> None:
        self.count, self.course, self.newest = 0, CountsOverTime(), newest
        self.first_ms = self.last_ms = at_ms


class Triage:
    """Groups letters as they come; memory is bounded by `MAX_GROUPS`."""

    def __init__(self) -> None:
        self._found: dict[str, _Found] = {}

    def add(self, delivery: Delivery) -> None:
        """Count one letter."""
        name, at_ms, newest = _look(delivery)
        found = self._found.get(name)
        if found is None:
            if len(self._found) >= MAX_GROUPS:
                name = OTHERS
            found = self._found.setdefault(name, _Found(at_ms, newest))
        found.count += 1
        found.course.add(at_ms)
        if at_ms >= found.last_ms:
            found.last_ms, found.newest = at_ms, newest
        elif at_ms < found.first_ms:
            found.first_ms = at_ms

    def groups(self) -> list[FailureGroup]:
        """All groups, the largest first."""
        groups = [_group(name, found) for name, found in self._found.items()]
        return sorted(groups, key=lambda group: (-group.count, group.fingerprint))

    def course(self, fingerprint: str) -> CountsOverTime:
        """The counts over time of one group."""
        return self._found[fingerprint].course

    @property
    def span_ms(self) -> tuple[int, int]:
        """Instants of the oldest and the newest failure; zeros without any."""
        found = self._found.values()
        return (
            min((each.first_ms for each in found), default=0),
            max((each.last_ms for each in found), default=0),
        )


def brief(delivery: Delivery) -> tuple[str, int]:
    """Fingerprint and instant of a letter; a letter of shifter is not read further."""
    return _look(delivery)[:2]


def _look(delivery: Delivery) -> tuple[str, int, NewestLetter]:
    # Five headers are enough for a letter of shifter. Reading all of them, for each of
    # a million letters, would take most of the time.
    found = dict(delivery.headers)
    name, at_ms = found.get(_FINGERPRINT), found.get(_LAST_FAILED)
    if name and at_ms and at_ms.isdigit() and len(at_ms) <= 15 and name.isalnum():
        error, message, reason = map(found.get, _SHOWN)
        if error is not None and message is not None and reason is not None:
            job_id = found.get(_JOB_ID) or b""
            newest = NewestLetter(error, message, reason, job_id)
            if sum(map(len, newest)) > _MOST_BYTES:
                newest = NewestLetter(*[text[:_MOST_BYTES] for text in newest])
            return name[:64].decode(), int(at_ms), newest
    story = read_facts(delivery.headers, delivery.appended_ms)
    error_type = "" if story.dialect == FOREIGN else story.error_type
    texts = (error_type, story.error_message, story.reason, story.job_id or "")
    newest = NewestLetter(*[text.encode() for text in texts])
    return story.fingerprint, story.last_failed_ms, newest


def _group(name: str, found: _Found) -> FailureGroup:
    newest = found.newest
    return FailureGroup(
        fingerprint=name,
        count=found.count,
        error=read_text("error_type", newest.error),
        message=read_text("error_message", newest.message),
        reason=read_text("reason", newest.reason),
        first_seen_ms=found.first_ms,
        last_seen_ms=found.last_ms,
        sample_job_id=read_text("job_id", newest.job_id) or None,
    )
