"""What a fleet shares of its cron jobs: pauses, asked runs, the last firing of each.

Each is a cell of its own. Operators set the first two; the processes that fire read
them, remove a run that they have written, and note the last firing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from shifter.fleet.shared_state import OverrideCell, read_cell, read_setting
from shifter.model.fleet import Proposal
from shifter.model.job import canonical_id
from shifter.model.time import EpochMs
from shifter.wire.untrusted import InstantMs, ShortText

PAUSE_CELLS: Final = "hand/cron/"
"""Pauses, by job; `pause_cell`."""
RUN_CELLS: Final = "cron/run/"
"""Runs that an operator asked for, by job; `run_cell`."""
LAST_CELLS: Final = "cron/last/"
"""Last firings, by job; `last_cell`."""

_AHEAD_MS: Final = 60_000
"""How far a firing may lie ahead of the store's clock: clocks of processes differ."""
_REMEMBERED: Final = 64
"""Runs that a process has written and does not write again."""


def pause_cell(name: str) -> str:
    """The cell of a pause of a cron job."""
    return PAUSE_CELLS + name


def run_cell(name: str) -> str:
    """The cell of an asked run of a cron job."""
    return RUN_CELLS + name


def last_cell(name: str) -> str:
    """The cell of the last firing of a cron job."""
    return LAST_CELLS + name


class CronRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run of a cron job that an operator asked for.

    Attributes:
        job_id: Id of the job to be written: every process that writes it writes the
            same one.
        owner: Who asked for it.
        reason: Why.
        until_ms: Until when it may be written, excluded, by the store's clock.
    """

    job_id: ShortText
    owner: str
    reason: str
    until_ms: InstantMs


class CronFiring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last firing of a cron job.

    Attributes:
        at_ms: When it was due, or was asked for, by the store's clock.
        job_id: Id of the job that was written.
        owner: Who asked for it; empty where the clock fired it.
    """

    at_ms: InstantMs
    job_id: ShortText
    owner: str = ""


encode_cron: Final[Callable[[CronRun | CronFiring], bytes]] = (
    msgspec.json.Encoder().encode
)
"""The bytes of a cell."""


def read_run(text: bytes, now_ms: int) -> CronRun | None:
    """Decode a run that may be written now; ``None`` for anything else."""
    run = read_cell(text, CronRun)
    if run is None or run.until_ms <= now_ms or canonical_id(run.job_id) != run.job_id:
        return None
    return run


def read_firing(text: bytes, now_ms: int) -> CronFiring | None:
    """Decode a last firing; ``None`` for what no process writes."""
    firing = read_cell(text, CronFiring)
    is_one = firing is not None and firing.at_ms <= now_ms + _AHEAD_MS
    return firing if is_one else None


def read_pause(text: bytes, now_ms: int) -> OverrideCell | None:
    """Decode a pause that lasts; ``None`` for anything else."""
    pause = read_setting(text)
    is_one = pause is not None and pause.to == "pause" and pause.until_ms > now_ms
    return pause if is_one else None


class CronState:
    """One process's part in the cron jobs of a fleet; a `CellOwner`.

    Belongs to the event loop that syncs and fires.

    Args:
        asked: Called when a run was asked for.
    """

    def __init__(self, asked: Callable[[], None] = lambda: None) -> None:
        self.asked = asked
        self._pauses: dict[str, OverrideCell] = {}
        self._runs: dict[str, CronRun] = {}
        self._cells: dict[str, bytes] = {}
        self._fired: dict[str, CronFiring] = {}
        self._written: deque[str] = deque(maxlen=_REMEMBERED)

    def is_paused(self, name: str, at_ms: EpochMs) -> bool:
        """Whether a firing at an instant is skipped."""
        pause = self._pauses.get(name)
        return pause is not None and at_ms < pause.until_ms

    def take_runs(self) -> dict[str, CronRun]:
        """The runs to be written now, by job; each is returned once."""
        runs, self._runs = self._runs, {}
        return runs

    def wrote(self, run: CronRun) -> None:
        """Note that a run's job is in the log, so that the fleet can forget the run."""
        self._written.append(run.job_id)

    def fired(self, name: str, firing: CronFiring) -> None:
        """Note a firing, to be shared with the fleet."""
        self._fired[name] = firing

    def propose(self) -> Iterable[Proposal]:
        """Remove runs that are written, and share firings that are newer."""
        for cell, text in self._cells.items():
            run = read_cell(text, CronRun) if cell.startswith(RUN_CELLS) else None
            if run is not None and run.job_id in self._written:
                yield Proposal(cell, text, b"")
        for name, firing in self._fired.items():
            cell = last_cell(name)
            yield Proposal(cell, self._cells.get(cell, b""), encode_cron(firing))

    def learn(self, cells: Mapping[str, bytes], now_ms: int) -> None:
        """Read pauses, runs and firings; ``now_ms`` is the store's clock."""
        self._cells = {
            cell: text
            for cell, text in cells.items()
            if cell.startswith((PAUSE_CELLS, RUN_CELLS, LAST_CELLS))
        }
        self._pauses, self._runs = {}, {}
        for cell, text in self._cells.items():
            if cell.startswith(PAUSE_CELLS):
                if (pause := read_pause(text, now_ms)) is not None:
                    self._pauses[cell.removeprefix(PAUSE_CELLS)] = pause
            elif cell.startswith(RUN_CELLS):
                run = read_run(text, now_ms)
                if run is not None and run.job_id not in self._written:
                    self._runs[cell.removeprefix(RUN_CELLS)] = run
            else:
                self._learn_firing(cell.removeprefix(LAST_CELLS), text, now_ms)
        if self._runs:
            self.asked()

    def _learn_firing(self, name: str, text: bytes, now_ms: int) -> None:
        firing, own = read_firing(text, now_ms), self._fired.get(name)
        if firing is not None and own is not None and firing.at_ms >= own.at_ms:
            del self._fired[name]
