"""What changed lately: circuits, quality, processes, execution windows, actions.

All of it comes from what the fleet shares, from the windows that an app declares, and
from the stream of events. So a page that has just started shows the same as one that
has run for long, but for the earlier changes of one circuit, of which the fleet keeps
the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from shifter.errors import StoreError
from shifter.model.time import EpochMs
from shifter.ops.event_scan import EventScan, ScanLimit
from shifter.ops.status import Overview, StatusSources
from shifter.policy.schedule.hours import Windows, is_open
from shifter.wire.job_event import EventKind, JobEvent, shown_text

_KEPT_MS: Final = 3_600_000
"""Earlier changes are forgotten."""
_MOST: Final = 200
"""Changes that are kept, the newest ones."""
_TOGETHER_MS: Final = 60_000
"""Processes of one version that start within the same minute are one change."""
_WINDOWS: Final = 100
"""Scopes whose windows are looked at."""
_MINUTE_MS: Final = 60_000
_EVENTS_EVERY_S: Final = 60.0
_EVENTS_LIMIT: Final = ScanLimit(records=1_000, seconds=1.0)
_OVERLAP_MS: Final = 10_000
"""The clocks of a fleet and of its log may differ by so much."""
_OVERRIDES_MS: Final = 86_400_000
"""Actions that began what may still hold are looked for so far back."""
_OPEN: Final = "circuit open "
_ACTION: Final = b'"event":"action"'


class Change(NamedTuple):
    """One change.

    Attributes:
        at_ms: When, epoch milliseconds.
        kind: ``circuit``, ``quality``, ``shed``, ``worker``, ``service``, ``window`` or
            ``action``.
        text: What, in a few words; printable and bounded.
    """

    at_ms: int
    kind: str
    text: str


class RecentChanges:
    """The changes of the last hour; bounded.

    Args:
        windows: Execution windows by their scope.
    """

    def __init__(self, windows: Mapping[str, Windows]) -> None:
        self._windows = dict(list(windows.items())[:_WINDOWS])
        self._found: dict[tuple[object, ...], Change] = {}
        self._minute = 0
        self._events_at: float | None = None
        self._events_from_ms = 0
        self._by_hand_ms: dict[str, int] = {}

    def newest(self, most: int = _MOST) -> list[Change]:
        """The changes, newest first."""
        return sorted(self._found.values(), reverse=True)[:most]

    def opened_by_hand_ms(self, dependency: str) -> int | None:
        """When an operator last opened a circuit, if that is known."""
        return self._by_hand_ms.get(shown_text(f"{_OPEN}{dependency}"))

    async def note(self, sources: StatusSources, overview: Overview) -> None:
        """Add what a state and the events since the last one show."""
        now_ms = overview.as_of_ms
        self._note_state(overview)
        self._note_processes(overview)
        self._note_windows(now_ms)
        await self._note_actions(sources, now_ms)
        kept = [
            pair
            for pair in self._found.items()
            if now_ms - _KEPT_MS <= pair[1].at_ms <= now_ms + _OVERLAP_MS
        ]
        self._found = dict(sorted(kept, key=lambda pair: pair[1].at_ms)[-_MOST:])

    def _note_state(self, overview: Overview) -> None:
        for row in overview.circuits:
            if row.since_ms is not None:
                word = "closed" if row.state == "closed" else "opened"
                text = shown_text(f"circuit of {row.dependency} {word}")
                self._add(row.since_ms, "circuit", text)
        quality, admission = overview.quality, overview.admission
        if quality is not None and quality.since_ms is not None:
            self._add(quality.since_ms, "quality", f"quality {quality.by_load}")
        if admission is not None and admission.shedding_ms is not None:
            self._add(admission.shedding_ms, "shed", "services began to shed")

    def _note_processes(self, overview: Overview) -> None:
        starts: dict[tuple[str, str, int], list[int]] = {}
        for worker in overview.workers:
            at_ms, version = worker.started_ms, worker.app_version or ""
            key = ("worker", version, at_ms // _TOGETHER_MS)
            starts.setdefault(key, []).append(at_ms)
        for service in overview.services:
            at_ms, version = service.started_ms, service.version
            key = ("service", version, at_ms // _TOGETHER_MS)
            starts.setdefault(key, []).append(at_ms)
        for key, times in starts.items():
            kind, version, _ = key
            known = self._found.get(key)
            count = max(len(times), 0 if known is None else int(known.text.split()[0]))
            of = f" of version {version}" if version else ""
            several = "s" if count > 1 else ""
            text = shown_text(f"{count} {kind}{several}{of} started")
            self._found[key] = Change(min(times), kind, text)

    def _note_windows(self, now_ms: int) -> None:
        """Look at each minute since the last look; windows open on whole minutes."""
        minute = now_ms // _MINUTE_MS
        first = max(self._minute + 1, minute - _KEPT_MS // _MINUTE_MS)
        self._minute = minute
        for scope, windows in self._windows.items():
            was_open = is_open(windows, EpochMs((first - 1) * _MINUTE_MS))
            for at in range(first, minute + 1):
                at_ms = at * _MINUTE_MS
                if (now_open := is_open(windows, EpochMs(at_ms))) != was_open:
                    word = "opened" if now_open else "closed"
                    text = shown_text(f"window of {scope} {word}")
                    self._add(at_ms, "window", text)
                was_open = now_open

    async def _note_actions(self, sources: StatusSources, now_ms: int) -> None:
        now = sources.clock.monotonic()
        if self._events_at is not None and now < self._events_at + _EVENTS_EVERY_S:
            return
        since_ms = max(self._events_from_ms, now_ms - _OVERRIDES_MS)
        scan = EventScan(sources.admin, sources.namespace, sources.clock, _EVENTS_LIMIT)
        try:
            async for _, events in scan.batches(since_ms, containing=_ACTION):
                for event in events:
                    if event.event == EventKind.ACTION and not event.id:
                        self._note_action(event)
        except StoreError as error:
            sources.warn(f"actions of operators are not shown: {error}")
            return
        self._events_at, self._events_from_ms = now, now_ms - _OVERLAP_MS

    def _note_action(self, event: JobEvent) -> None:
        action = shown_text(event.action)
        by = f" by {event.by}" if event.by else ""
        why = f": {event.reason}" if event.reason else ""
        self._add(event.at_ms, "action", shown_text(f"{action}{by}{why}"))
        opened, known = self._by_hand_ms, action in self._by_hand_ms
        if action.startswith(_OPEN) and (known or len(opened) < _MOST):
            opened[action] = max(event.at_ms, opened.get(action, 0))

    def _add(self, at_ms: int, kind: str, text: str) -> None:
        self._found[kind, text, at_ms] = Change(at_ms, kind, text)
