"""What the history of a replay must hold (checker C21), and what it may cost others.

Pure functions of what was there, what came back and what ran. A fault is a line that
begins with its kind: ``lost``, ``twice``, ``unselected``, ``changed``, ``disordered``,
``ran``.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from shifter.wire.headers import Headers


class Letter(NamedTuple):
    """One dead letter before the replay.

    Attributes:
        is_selected: Whether the run's filter means it.
        key: Its ordering key.
        place: Its order among the letters of its key.
        content: `content_of` it.
    """

    is_selected: bool
    key: bytes | None
    place: int
    content: int


class Replay(NamedTuple):
    """One record that came back, in the order of its partition.

    Attributes:
        of: Job id of the letter it claims to be.
        job: Its own job id.
        key: Its ordering key.
        content: `content_of` it.
    """

    of: str
    job: str
    key: bytes | None
    content: int


class Sample(NamedTuple):
    """One job of the live traffic: when it was offered, how long until it ran."""

    at_s: float
    took_s: float


def content_of(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """A checksum of what a replay must keep: key, payload, the user's headers."""
    return zlib.crc32(repr((key, value, list(headers))).encode())


def faults(
    letters: Mapping[str, Letter], replays: Sequence[Replay], ran: Iterable[str]
) -> list[str]:
    """Everything that is wrong with a replay; nothing where it is exact.

    Args:
        letters: By job id.
        replays: Whatever the run wrote, killed or not; those of a partition in order.
        ran: Job ids of the handler's effects, of replays only.
    """
    found = []
    came = Counter(replay.of for replay in replays)
    last: dict[bytes | None, int] = {}
    for replay in replays:
        letter = letters.get(replay.of)
        if letter is None or not letter.is_selected:
            found.append(f"unselected: {replay.of}")
            continue
        if replay.content != letter.content:
            found.append(f"changed: {replay.of}")
        if letter.place < last.get(letter.key, -1):
            found.append(f"disordered: {replay.of} of key {letter.key!r}")
        last[letter.key] = letter.place
    for job, letter in letters.items():
        if letter.is_selected and came[job] != 1:
            kind = "twice" if came[job] else "lost"
            found.append(f"{kind}: {job} came back {came[job]} times")
    effects = Counter(ran)
    jobs = {replay.job for replay in replays}
    found += [f"ran: {job} {effects[job]} times" for job in jobs if effects[job] != 1]
    found += [f"ran: {job}, which nobody replayed" for job in effects.keys() - jobs]
    return found


def p99_s(samples: Iterable[Sample]) -> float:
    """What 99 in 100 did not exceed, by nearest rank.

    >>> p99_s(Sample(0, n / 100) for n in range(1, 101))
    0.99
    """
    took = sorted(sample.took_s for sample in samples)
    return took[math.ceil(0.99 * len(took)) - 1]


def between(samples: Iterable[Sample], since_s: float, until_s: float) -> list[Sample]:
    """Those that were offered at or after one instant and before another."""
    return [sample for sample in samples if since_s <= sample.at_s < until_s]
