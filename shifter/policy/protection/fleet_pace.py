"""How often the processes of a fleet sync and report, so that one store carries it.

A small fleet is quick. Beyond a number of processes each syncs less often, so that the
whole fleet makes no more calls than one Redis core carries; `shifter plan` says how
many those are. A process whose own circuit opens or closes syncs at once, whatever the
size of the fleet, so that thinner syncs do not make the fleet notice an outage later.
"""

from __future__ import annotations

from typing import Final

EVERY_S: Final = 0.2
"""Seconds between two syncs of a small fleet."""

SYNCS_PER_S: Final = 5_000.0
"""Syncs of the whole fleet a second: a third of a core at 65 us each (measured)."""

PRESENCE_EVERY_S: Final = 1.0
"""Seconds between two reports of a worker in a small fleet."""

PRESENCE_PER_S: Final = 2_500.0
"""Reports of all workers a second: a tenth of a core at 40 us each (measured)."""

LOOK_EVERY_S: Final = 0.2
LOOK_PROCESS_S: Final = 1e-4
"""A store looks at all processes so often; where they are many, once in so many seconds
for each of them. ``lua/fleet_sync.lua`` has the same numbers."""

NEWS_PER_S: Final = 10_000.0
"""Processes a second that read a change: most of a core, for a second at most."""

_AT_ONCE: Final = 1_000
_KEEP_MS: Final = 2_000
_KEPT_SYNCS: Final = 10
_PRESENCE_KEEP_MS: Final = 10_000
_MOST_KEPT_MS: Final = 60_000


def sync_every_s(processes: float) -> float:
    """Seconds between two syncs of a process, in a fleet of so many. Pure."""
    return max(EVERY_S, processes / SYNCS_PER_S)


def news_spread_s(processes: float) -> float:
    """Seconds within which the processes of a fleet read a change. Pure.

    All of a large fleet at once would keep the store from answering anyone else.
    """
    return max(0.0, (processes - _AT_ONCE) / NEWS_PER_S)


def keep_ms(processes: int) -> int:
    """The store forgets a report at this age: ten syncs may fail before. Pure."""
    kept_ms = int(_KEPT_SYNCS * sync_every_s(processes) * 1_000)
    return min(_MOST_KEPT_MS, max(_KEEP_MS, kept_ms))


def presence_every_s(processes: float) -> float:
    """Seconds between two reports of a worker, in a fleet of so many. Pure."""
    return max(PRESENCE_EVERY_S, processes / PRESENCE_PER_S)


def presence_keep_ms(processes: int) -> int:
    """A worker is taken for lost at this age of its report: ten reports. Pure."""
    kept_ms = int(_KEPT_SYNCS * presence_every_s(processes) * 1_000)
    return max(_PRESENCE_KEEP_MS, kept_ms)


def look_every_s(processes: float) -> float:
    """Seconds between two looks at all processes, in a fleet of so many. Pure."""
    return max(LOOK_EVERY_S, processes * LOOK_PROCESS_S)
