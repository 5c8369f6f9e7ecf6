"""The history of jobs, read from the topic of events.

Texts of events are untrusted: they are made printable and bounded here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from shifter.model.claim import JobState
from shifter.ops.event_scan import (
    ScanExtent,
)
from shifter.wire.job_event import (
    MAX_NAME_CHARS,
    EventKind,
    JobEvent,
    WaitCause,
    shown_text,
)
from shifter.wire.untrusted import printable

_STORY_MOST: Final = 1_000
"""Entries of one history; a job that is handed over 100,000 times has its last ones."""

Entry: TypeAlias = dict[str, Any]
"""One thing that happened: ``at_ms``, ``event``, and the fields that it has."""


class JobHistory(NamedTuple):
    """What is known of one job.

    Attributes:
        job_id: Its id.
        story: What happened, in order; see `Entry`.
        extent: How much of the topic was read.
        is_waiting: Whether its record is in a lane, so that it waits or runs.
    """

    job_id: str
    story: list[Entry]
    extent: ScanExtent
    is_waiting: bool = False

    @property
    def state(self) -> JobState | None:
        """What the job came to, as far as the events tell; ``None`` without any."""
        for entry in reversed(self.story):
            state = _STATES.get(entry["event"])
            if state is not None:
                return state
        return None

    @property
    def attempt(self) -> int:
        """The highest attempt that was started; 0 if none is known."""
        return max((entry.get("attempt", 0) for entry in self.story), default=0)


_STATES: Final[Mapping[str, JobState]] = {
    EventKind.SUBMITTED: JobState.WAITING,
    EventKind.WAITING: JobState.WAITING,
    EventKind.STARTED: JobState.RUNNING,
    EventKind.FAILED: JobState.WAITING,
    EventKind.RETRYING: JobState.WAITING,
    EventKind.DEAD_LETTERED: JobState.DEAD,
    EventKind.DISCARDED: JobState.DISCARDED,
    EventKind.EXPIRED: JobState.EXPIRED,
    EventKind.CANCELLED: JobState.CANCELLED,
    EventKind.DONE: JobState.DONE,
}
_RANKS: Final = {kind.value: rank for rank, kind in enumerate(EventKind)}
"""Of events of one instant: the order in which the kinds are declared."""

_FAILURE: Final = ("error", "message", "fingerprint")
_JOB: Final = ("job", "queue", "priority")
_CAUSES: Final = ("cause", "answer", "reason", "detail")
_TEXTS: Final = (*_CAUSES, "run", "by", "action", "replay_of")


def story_of(job_id: str, found: Iterable[tuple[str, JobEvent]]) -> list[Entry]:
    """What happened to a job, in order, by events and the processes that wrote them."""
    entries: list[Entry] = []
    created: JobEvent | None = None
    replays: dict[str, JobEvent] = {}
    for process, event in found:
        if event.id != job_id:
            # Of a replay of this job; the run's own event has the most to tell.
            if event.id not in replays or event.event == EventKind.REPLAYED:
                replays[event.id] = event
            continue
        entries += entries_of(event, process)
        if created is None or event.created_ms < created.created_ms:
            created = event
    if created is not None and created.created_ms and not _has_submitted(entries):
        entries.append(_submitted(created))
    entries += [_replayed(event) for event in replays.values()]
    entries.sort(key=lambda entry: (entry["at_ms"], _RANKS.get(entry["event"], 0)))
    _add_retry_waits(entries)
    return entries[-_STORY_MOST:]


def _add_retry_waits(entries: Iterable[Entry]) -> None:
    """Tell of each attempt after a failure how long it was put off."""
    retrying: Entry | None = None
    for entry in entries:
        if entry["event"] == EventKind.RETRYING:
            retrying = entry
        elif entry["event"] == EventKind.STARTED and retrying is not None:
            waited_ms = min(entry["at_ms"], retrying["until_ms"]) - retrying["at_ms"]
            if waited_ms > 0:
                entry["waits_ms"] = {
                    WaitCause.RETRY.value: waited_ms,
                    **entry.get("waits_ms", {}),
                }
            retrying = None


def _has_submitted(entries: Iterable[Entry]) -> bool:
    return any(entry["event"] == EventKind.SUBMITTED for entry in entries)


def _replayed(event: JobEvent) -> Entry:
    """The replay of a job, as an event of the job that replays it tells of it."""
    at_ms = event.at_ms
    if event.event != EventKind.REPLAYED and event.created_ms:
        at_ms = event.started_ms or event.at_ms
    entry: Entry = {"at_ms": at_ms, "event": EventKind.REPLAYED.value}
    return entry | {"as": shown_text(event.id)} | _texts(event, "run", "by")


def _submitted(event: JobEvent) -> Entry:
    """The acceptance of a job, as its later events tell of it."""
    entry: Entry = {"at_ms": event.created_ms, "event": EventKind.SUBMITTED.value}
    entry |= _texts(event, *_JOB)
    if event.replay_of:
        entry["replay_of"] = shown_text(event.replay_of)
    return entry


def entries_of(event: JobEvent, process: str) -> list[Entry]:
    """One event as what happened when: the start, the failure, and what followed.

    Args:
        event: As it was read; its texts are made printable and bounded here.
        process: The process that wrote it.
    """
    name = shown_text(event.event)
    about: Entry = {"attempt": event.attempt} if event.attempt else {}
    writer = {"process": printable(process, MAX_NAME_CHARS)}
    entries: list[Entry] = []
    ran: Entry = {}
    if event.started_ms:
        ran = {"ran_ms": event.ran_ms}
        entries.append(_started(event) | about | writer)
    failed = name == EventKind.FAILED
    if failed or (event.error and event.started_ms):
        entry = {"at_ms": event.at_ms, "event": EventKind.FAILED.value, **about, **ran}
        entries.append(entry | _texts(event, *_FAILURE) | writer)
    if not failed:
        # What a failed attempt has told is not told again.
        names: tuple[str, ...] = _TEXTS if entries[1:] else (*_TEXTS, *_FAILURE)
        if event.event in (EventKind.SUBMITTED, EventKind.DECIDED):
            names += _JOB
        entry = {"at_ms": event.at_ms, "event": name, **about}
        entry |= {} if entries[1:] else ran
        entries.append(entry | _texts(event, *names) | _until(event) | writer)
    elif event.until_ms:
        retrying = {"at_ms": event.at_ms, "event": EventKind.RETRYING.value}
        entries.append(retrying | {"cause": WaitCause.RETRY.value} | _until(event))
    return entries


def _started(event: JobEvent) -> Entry:
    entry: Entry = {"at_ms": event.started_ms, "event": EventKind.STARTED.value}
    if event.waits:
        entry["waits_ms"] = {shown_text(k): v for k, v in event.waits.items()}
    return entry


def _until(event: JobEvent) -> Entry:
    return {"until_ms": event.until_ms} if event.until_ms else {}


def _texts(event: JobEvent, *names: str) -> Entry:
    """The fields that an event has, printable and bounded."""
    found = {name: getattr(event, name) for name in names}
    return {name: shown_text(text) for name, text in found.items() if text}


class JobFilter(NamedTuple):
    """Which jobs to list.

    Attributes:
        queue: Only jobs of this queue; ``None`` for any.
        state: Only jobs that came to this state; ``None`` for any.
        error: Only jobs whose error has this text in its class or message, or has this
            fingerprint; ``None`` for any.
        since_ms: Only jobs with an event in the last so many milliseconds.
        limit: Most jobs that are listed, > 0.
        after: Only jobs that come after this place in the list; see `ListedJob.place`.
            ``None`` from the first one on.
    """

    queue: str | None = None
    state: JobState | None = None
    error: str | None = None
    since_ms: int = 3_600_000
    limit: int = 100
    after: tuple[int, str] | None = None


@dataclass(slots=True)
class ListedJob:
    """One job of a list, as its events tell of it; texts are printable and bounded.

    Attributes:
        job_id: Its id.
        job: Name of its type.
        queue: Queue of its lane.
        priority: Priority of its lane.
        state: What it came to, a value of `shifter.model.claim.JobState`.
        attempt: The highest attempt that is recorded; 0 if none is.
        error: Class of the last error; empty without one.
        message: Its message.
        fingerprint: Groups failures of one kind.
        at_ms: When the last event happened, epoch milliseconds: of a job that runs,
            when the attempt began; of one that waits, when it came to its lane.
        worker: The worker that runs it; empty for jobs that do not run now.
        due_ms: When a delayed job may start; 0 for others.
    """

    job_id: str
    job: str = ""
    queue: str = ""
    priority: str = ""
    state: str = JobState.WAITING.value
    attempt: int = 0
    error: str = ""
    message: str = ""
    fingerprint: str = ""
    at_ms: int = 0
    worker: str = ""
    due_ms: int = 0

    def place(self) -> tuple[int, str]:
        """Where it stands in a list, which goes from the highest place down."""
        return self.at_ms, self.job_id

    def note(self, event: JobEvent) -> None:
        """Add an event; events come in any order."""
        self.attempt = max(self.attempt, event.attempt)
        is_newest = event.at_ms >= self.at_ms
        for name in ("job", "queue", "priority"):
            if text := getattr(event, name):
                setattr(self, name, shown_text(text))
        if event.error and (is_newest or not self.error):
            for name in ("error", "message", "fingerprint"):
                setattr(self, name, shown_text(getattr(event, name)))
        if is_newest:
            self.at_ms = event.at_ms
            state = _STATES.get(event.event)
            self.state = self.state if state is None else state.value

    def fits(self, wanted: JobFilter) -> bool:
        """Whether a filter selects it."""
        if wanted.after is not None and self.place() >= wanted.after:
            return False
        if wanted.queue is not None and wanted.queue != self.queue:
            return False
        if wanted.state is not None and wanted.state.value != self.state:
            return False
        if wanted.error is None:
            return True
        text = wanted.error.lower()
        return text in f"{self.error}\n{self.message}\n{self.fingerprint}".lower()


class JobList(NamedTuple):
    """Jobs that a filter selects.

    Attributes:
        jobs: Newest first.
        is_cut: Whether there are more than the filter's limit.
        extent: How much of the topic was read.
        left_out: Records that wait in lanes and were not looked at.
    """

    jobs: list[ListedJob]
    is_cut: bool
    extent: ScanExtent
    left_out: int = 0
