"""When jobs arrive: a constant rate, or the instants of a recording.

A time without arrivals is part of a recording: it lowers the mean and leaves the peak
as it is. The longest one is shown, since a recorder that stood still looks the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from shifter.errors import ConfigError

PEAK_S: Final = 1.0
"""The peak is counted over one second."""
MOST_ARRIVALS: Final = 10_000_000
MOST_PER_S: Final = 1e9


class Arrivals(NamedTuple):
    """What arrives.

    Attributes:
        mean_per_s: Jobs a second, > 0.
        peak_per_s: Jobs in the busiest second.
        instants: Of each job, seconds from the first one, ascending; empty for a
            constant rate, whose jobs arrive independently of each other.
        longest_gap_s: Longest time without an arrival; 0 for a constant rate.
    """

    mean_per_s: float
    peak_per_s: float
    instants: Sequence[float] = ()
    longest_gap_s: float = 0.0


def constant(rate_per_s: float) -> Arrivals:
    """Jobs that arrive independently of each other, at a constant rate.

    Raises:
        ConfigError: The rate is not above 0, or above `MOST_PER_S`.
    """
    if not 0 < rate_per_s <= MOST_PER_S:
        raise ConfigError("--rate", rate_per_s, f"more than 0, at most {MOST_PER_S:g}")
    return Arrivals(rate_per_s, rate_per_s)


def recorded(lines: Iterable[str]) -> Arrivals:
    """The arrivals of a file: a line for each, its time in seconds first.

    What follows a comma is not read, nor are empty lines and lines that begin with a
    ``#``. A first line whose first column is no number is taken for a heading.

    Raises:
        ConfigError: A time is no number, is negative, or is before that of the line
            above; there are fewer than two times, or all are the same.
    """
    found: list[float] = []
    for number, line in enumerate(lines, start=1):
        text = line.partition(",")[0].strip()
        at_s = _instant(number, text)
        if at_s is None:
            continue
        if found and at_s < found[-1]:
            want = f"it is before the line above ({found[-1]:g}): sort the file"
            raise _wrong(number, text, want)
        if len(found) >= MOST_ARRIVALS:
            raise _wrong(number, text, f"at most {MOST_ARRIVALS} arrivals are read")
        found.append(at_s)
    if not found or found[-1] == found[0]:
        want = "a rate needs two times at least that are not the same"
        raise ConfigError("--arrivals", f"{len(found)} times", want)
    first = found[0]
    instants = [at_s - first for at_s in found]
    gaps = (after - before for before, after in pairwise(instants))
    return Arrivals(
        mean_per_s=len(instants) / instants[-1],
        peak_per_s=_busiest(instants) / PEAK_S,
        instants=instants,
        longest_gap_s=max(gaps),
    )


def _instant(number: int, text: str) -> float | None:
    """The time in a line's first column; ``None`` where the line has none."""
    if not text or text.startswith("#"):
        return None
    try:
        at_s = float(text)
    except ValueError:
        if number == 1:
            return None
        raise _wrong(number, text, "use seconds, such as 12.5") from None
    if not math.isfinite(at_s) or at_s < 0:
        raise _wrong(number, text, "a time is 0 or more seconds")
    return at_s


def _wrong(number: int, text: str, want: str) -> ConfigError:
    return ConfigError(f"--arrivals, line {number}", text, want)


def _busiest(instants: Sequence[float]) -> int:
    """Most arrivals within a second."""
    most = begin = 0
    for end, at_s in enumerate(instants):
        while at_s - instants[begin] >= PEAK_S:
            begin += 1
        most = max(most, end - begin + 1)
    return most
