"""The history, sorted by what checkers ask: jobs, runs, faults, what was left."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Final, NamedTuple

from shifter.model.reason import Reason
from tests.torture.harness.event import Event
from tests.torture.harness.scenario import GRACEFUL, LEASE_S, OF_SERVICE, Scenario

TERMINAL: Final = frozenset({"done", "dead", "expired", "cancelled", "discarded"})
_AFTERMATH_S: Final = LEASE_S + 5.0
"""How long what was broken for everybody may be felt: a lease, and asking again."""
_BEFORE_S: Final = 0.1
_BY_LAST_LABEL: Final = frozenset(
    {"shifter_claims_total", "shifter_jobs_total", "shifter_retries_total"}
)
_DEADLY: Final = frozenset({"kill", "memory", "machine lost"}) | OF_SERVICE


class Run:
    """One run of a handler, from its first line on.

    Attributes:
        start: What the witness was told first.
        effect: What the witness was told of the effect, if it came to that.
        finish: The handler's own last word, if it came to that.
    """

    __slots__ = ("effect", "finish", "start")

    def __init__(self, start: Event) -> None:
        self.start = start
        self.effect: Event | None = None
        self.finish: Event | None = None

    @property
    def pid(self) -> int:
        """The worker."""
        return self.start.pids[0]

    @property
    def last_t(self) -> float:
        """When it was last seen alive."""
        seen = [self.start, self.effect, self.finish]
        return max(event.t for event in seen if event is not None)


class Window(NamedTuple):
    """From when to when something was broken, monotonic; for one worker or all."""

    since: float
    until: float
    kind: str


class Evidence:
    """What is known of a run.

    Args:
        events: Of all processes, by time.
        scenario: What was played.
        log: On which log.
    """

    def __init__(self, events: Sequence[Event], scenario: Scenario, log: str) -> None:
        self.events, self.scenario, self.log = events, scenario, log
        self.by: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            self.by[event.f].append(event)

    @cached_property
    def invoked(self) -> dict[str, Event]:
        """First question of each job."""
        asked = [event for event in self.by["accept"] if event.outcome == "invoke"]
        return {event.job: event for event in reversed(asked)}

    @cached_property
    def answers(self) -> dict[str, Event]:
        """Answer of each job."""
        return {e.job: e for e in self.by["accept"] if e.outcome != "invoke"}

    @cached_property
    def accepted(self) -> dict[str, Event]:
        """Answers that promised to run the job."""
        return {job: e for job, e in self.answers.items() if e.outcome == "ok"}

    @cached_property
    def spooled(self) -> list[str]:
        """Jobs that the service kept because the log did not take them."""
        kept = Reason.SPOOLED.value
        return [job for job, answer in self.accepted.items() if answer.reason == kept]

    @cached_property
    def runs(self) -> dict[str, list[Run]]:
        """Runs of each job, by their start."""
        found: dict[str, list[Run]] = defaultdict(list)
        # An attempt that goes on beside its retry is told apart from it.
        open_runs: dict[tuple[str, int, int], Run] = {}
        for event in self.events:
            pid = event.pids[0] if event.pids else event.pid
            name = (event.job, pid, event.attempt)
            if event.f == "start":
                run = open_runs[name] = Run(event)
                found[event.job].append(run)
            elif event.f == "effect" and name in open_runs:
                open_runs[name].effect = event
            elif event.f == "finish" and name in open_runs:
                open_runs[name].finish = event
        return dict(found)

    @cached_property
    def applied(self) -> dict[str, list[Event]]:
        """Effects the witness took, by identity."""
        found: dict[str, list[Event]] = defaultdict(list)
        for event in self.by["effect"]:
            if event.outcome == "ok":
                found[event.identity].append(event)
        return dict(found)

    def identity(self, job: str) -> str:
        """What effects of a job are counted by."""
        asked = self.invoked[job]
        return asked.identity or f"{asked.kind}:{job}"

    def effect_of(self, job: str) -> Event | None:
        """The effect that was taken for a job, its own or its twin's."""
        taken = self.applied.get(self.identity(job))
        return taken[0] if taken else None

    @cached_property
    def letters(self) -> dict[str, list[Event]]:
        """Dead letters by job; of undecodable records by digest."""
        found: dict[str, list[Event]] = defaultdict(list)
        for event in self.by["letter"]:
            found[event.job or event.digest].append(event)
        return dict(found)

    @cached_property
    def dead_identities(self) -> set[str]:
        """Identities of which some job left a dead letter."""
        return {self.identity(job) for job in self.letters if job in self.invoked}

    @cached_property
    def statuses(self) -> dict[str, Event]:
        """Last known state of each job."""
        return {event.job: event for event in self.by["status"]}

    @cached_property
    def cancels(self) -> dict[str, Event]:
        """Answers to cancels, by job."""
        return {event.job: event for event in self.by["cancel"]}

    def state(self, job: str) -> str | None:
        """The terminal state of a job, or ``None``.

        The claim store's word where it has one; a store that forgets is helped out by
        letters and effects, and by time where that alone ends a job.
        """
        told = self.statuses.get(job)
        if told is not None and told.reason in TERMINAL:
            return told.reason
        if job in self.letters:
            return "dead"
        if self.effect_of(job) is not None:
            return "done"
        asked = self.invoked[job]
        if self.scenario.forgets and (asked.deadline_ms or job in self.cancels):
            return "expired"
        return None

    @cached_property
    def faults(self) -> list[Event]:
        """What broke something, by time."""
        return [e for e in self.by["fault"] if e.kind not in GRACEFUL]

    @cached_property
    def windows(self) -> dict[int, list[Window]]:
        """When each worker was broken; under 0 when everybody was."""
        found: dict[int, list[Window]] = defaultdict(list)
        heals: dict[tuple[str, tuple[int, ...]], list[float]] = defaultdict(list)
        for heal in self.by["heal"]:
            heals[heal.kind, tuple(heal.pids)].append(heal.t)
        for fault in self.faults:
            healed = heals[fault.kind, tuple(fault.pids)]
            is_deadly = fault.kind in _DEADLY or fault.proc != "nemesis"
            ends = [] if is_deadly else [t for t in healed if t >= fault.t]
            until = ends[0] + _AFTERMATH_S if ends else float("inf")
            for pid in fault.pids or [0]:
                window = Window(fault.t - _BEFORE_S, until, fault.kind)
                found[pid].append(window)
        return dict(found)

    def was_broken(self, pid: int, since: float, until: float) -> str:
        """What hit a worker, or everybody, between two instants; empty for nothing."""
        for window in (*self.windows.get(pid, ()), *self.windows.get(0, ())):
            if window.since <= until and window.until >= since:
                return window.kind
        return ""

    def broke_later(self, pid: int, since: float) -> bool:
        """Whether this one worker was hit at any time from an instant on."""
        return any(window.until >= since for window in self.windows.get(pid, ()))

    def was_stopped(self, pid: int) -> bool:
        """Whether a worker stood still for a while: it may have come back a zombie."""
        return any(window.kind == "stop" for window in self.windows.get(pid, ()))

    @cached_property
    def deaths(self) -> int:
        """Workers that were killed, or died of a job or at a failpoint."""
        return sum(bool(e.pids) and e.kind != "stop" for e in self.faults)

    @cached_property
    def workers_were_broken(self) -> bool:
        """Whether one was killed, died, or stood still."""
        return any(e.pids and e.kind not in OF_SERVICE for e in self.faults)

    @cached_property
    def counted(self) -> Counter[tuple[str, str]]:
        """The sum of what workers last said of each metric, some by the last label."""
        found: Counter[tuple[str, str]] = Counter()
        for event in self.by["metrics"]:
            for series, value in event.facts.items():
                name, *labels = series.split("/")
                outcome = labels[-1] if name in _BY_LAST_LABEL else ""
                found[name, outcome] += int(value)
        return found

    @cached_property
    def asked(self) -> int:
        """Workers that were asked to leave."""
        return sum(e.kind in ("restart", "leave") for e in self.by["fault"])

    def broken_since(self, t: float) -> int:
        """How many workers were killed, or stood still, after an instant."""
        return sum(bool(fault.pids) and fault.t >= t for fault in self.faults)

    @cached_property
    def span(self) -> tuple[float, float]:
        """From the first fault to the last heal."""
        marks = [e.t for e in self.by["fault"] + self.by["heal"]]
        if not marks:
            marks = [e.t for e in self.by["phase"]]
        return min(marks), max(marks)

    @cached_property
    def records(self) -> dict[str, list[Event]]:
        """Records of each job that the log still holds, letters too."""
        found: dict[str, list[Event]] = defaultdict(list)
        for event in self.by["record"] + self.by["letter"]:
            if event.job:
                found[event.job].append(event)
        return dict(found)

    @cached_property
    def counts(self) -> Counter[str]:
        """Jobs by terminal state; ``lost`` for none."""
        return Counter(self.state(job) or "lost" for job in self.accepted)

    def around(self, job: str, most: int = 24) -> list[Event]:
        """All that happened to a job, and to the workers that ran it."""
        pids = {run.pid for run in self.runs.get(job, ())}
        identity = self.identity(job) if job in self.invoked else ""
        mine = [
            event
            for event in self.events
            if event.job == job
            or (identity and event.identity == identity)
            or (event.f in ("fault", "heal") and pids & set(event.pids))
        ]
        return mine[:most]


def committed_at(commits: Sequence[Event], offset: int) -> Event | None:
    """The first commit that says a record at this offset has ended."""
    offsets = [commit.offset for commit in commits]
    place = bisect_right(offsets, offset)
    return commits[place] if place < len(commits) else None
