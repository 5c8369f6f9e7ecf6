"""Dead letters by failure: how many of a kind, since when, and how they came in."""

from __future__ import annotations

from typing import Final

import msgspec

from shifter.deadletter.dialect import FOREIGN, read_story
from shifter.ports import Delivery
from shifter.wire.dead_letter import header_name

# Fingerprints of a stranger's topic may all differ; beyond this many they are one.
MAX_GROUPS: Final = 10_000
OTHERS: Final = "others"

_BUCKETS: Final = 64
_FIRST_WIDTH_MS: Final = 1_000
_FINGERPRINT: Final = header_name("fingerprint")
_LAST_FAILED: Final = header_name("last_failed_ms")


class Group(msgspec.Struct):
    """Dead letters of one fingerprint; the field names are a published contract.

    Attributes:
        fingerprint: Of error type and stack.
        count: How many.
        error: Error type of the newest.
        message: Its message.
        reason: Why it went there, a `Reason` value; of strangers, the dialect.
        first_seen_ms: Oldest failure, epoch milliseconds.
        last_seen_ms: Newest failure, epoch milliseconds.
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


class Course:
    """Counts over time, in few buckets: their width doubles when the span does.

    >>> course = Course()
    >>> for at_ms in (0, 500, 1_000, 9_000):
    ...     course.add(at_ms)
    >>> course.counts(0, 10_000, 2)
    [3, 1]
    """

    __slots__ = ("_counts", "_width_ms")

    def __init__(self) -> None:
        self._width_ms, self._counts = _FIRST_WIDTH_MS, dict[int, int]()

    def add(self, at_ms: int) -> None:
        """Count one."""
        counts, place = self._counts, at_ms // self._width_ms
        counts[place] = counts.get(place, 0) + 1
        while len(counts) > _BUCKETS:
            self._width_ms *= 2
            wider: dict[int, int] = {}
            for old, count in counts.items():
                wider[old // 2] = wider.get(old // 2, 0) + count
            self._counts = counts = wider

    def counts(self, first_ms: int, last_ms: int, columns: int) -> list[int]:
        """How many fall into each of so many equal parts of a span."""
        found = [0] * columns
        width = max(1, last_ms - first_ms)
        for place, count in self._counts.items():
            # A bucket counts where its middle lies.
            middle = place * self._width_ms + self._width_ms // 2 - first_ms
            column = min(columns - 1, max(0, middle * columns // width))
            found[column] += count
        return found


class _Found:
    """A group while it is counted; only its newest letter is read whole."""

    __slots__ = ("count", "course", "first_ms", "last_ms", "newest")

    def __init__(self, at_ms: int, newest: Delivery) -> None:
        self.count, self.course, self.newest = 0, Course(), newest
        self.first_ms = self.last_ms = at_ms


class Triage:
    """Groups letters as they come; memory is bounded by `MAX_GROUPS`."""

    def __init__(self) -> None:
        self._found: dict[str, _Found] = {}

    def add(self, delivery: Delivery) -> None:
        """Count one letter."""
        name, at_ms = brief(delivery)
        found = self._found.get(name)
        if found is None:
            if len(self._found) >= MAX_GROUPS:
                name = OTHERS
            found = self._found.setdefault(name, _Found(at_ms, delivery))
        found.count += 1
        found.course.add(at_ms)
        if at_ms >= found.last_ms:
            found.last_ms, found.newest = at_ms, delivery
        elif at_ms < found.first_ms:
            found.first_ms = at_ms

    def groups(self) -> list[Group]:
        """All groups, the largest first."""
        groups = [_group(name, found) for name, found in self._found.items()]
        return sorted(groups, key=lambda group: (-group.count, group.fingerprint))

    def course(self, fingerprint: str) -> Course:
        """How a group's letters came in."""
        return self._found[fingerprint].course

    @property
    def span_ms(self) -> tuple[int, int]:
        """The oldest and the newest failure; zeros where there is none."""
        found = self._found.values()
        return (
            min((each.first_ms for each in found), default=0),
            max((each.last_ms for each in found), default=0),
        )


def brief(delivery: Delivery) -> tuple[str, int]:
    """Fingerprint and instant of a letter; of ours, without reading all the rest."""
    name: bytes | None = None
    at_ms: bytes | None = None
    for header, value in delivery.headers:
        if header == _FINGERPRINT:
            name = value
        elif header == _LAST_FAILED:
            at_ms = value
    if name and at_ms and at_ms.isdigit() and len(at_ms) <= 15 and name.isalnum():
        return name[:64].decode(), int(at_ms)
    story = read_story(delivery.headers, delivery.appended_ms)
    return story.fingerprint, story.last_failed_ms


def _group(name: str, found: _Found) -> Group:
    story = read_story(found.newest.headers, found.newest.appended_ms)
    return Group(
        fingerprint=name,
        count=found.count,
        error="" if story.dialect == FOREIGN else story.error_type,
        message=story.error_message,
        reason=story.reason,
        first_seen_ms=found.first_ms,
        last_seen_ms=found.last_ms,
        sample_job_id=story.job_id,
    )
