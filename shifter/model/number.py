"""Numbers that a shared store holds: one grammar and one set of bounds.

A client with write access to the store can write any value. Each number is therefore
read once, by the rules of this module; `lua/number.lua` mirrors them for the scripts of
Redis. A text that breaks a rule is not a number of ours: it is counted and skipped.
"""

from __future__ import annotations

import re
from typing import Final

MAX_COUNT: Final = 2**53 - 2
"""The largest whole number; Lua counts in doubles, and one more is still exact."""

MAX_INSTANT_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999: the horizon of every instant."""

MAX_LOAD: Final = 1_000_000.0
"""The largest load of a process; 1 is all there is room for."""

MAX_RATE: Final = 1e9
"""The largest number of jobs a second that a worker may report."""

_WHOLE: Final = re.compile(r"(?:0|[1-9][0-9]{0,15})\Z")
_LOAD: Final = re.compile(r"[0-9]+\.?[0-9]*(?:e[+-]?[0-9]+)?\Z")
_LOAD_CHARS: Final = 24


def read_whole(text: str, most: int = MAX_COUNT) -> int | None:
    """A whole number from 0 to ``most``; ``None`` for any other text.

    Digits only: no sign, no blank, no leading zero, no other base. Pure.

    >>> read_whole("42"), read_whole("0x10"), read_whole("-1"), read_whole("007")
    (42, None, None, None)
    """
    if _WHOLE.match(text) is None:
        return None
    number = int(text)
    return number if number <= most else None


def read_load(text: str) -> float | None:
    """A load from 0 to `MAX_LOAD`, as ``repr`` of a float writes it; else ``None``.

    >>> read_load("0.5"), read_load("1e-09"), read_load("inf"), read_load("0x10")
    (0.5, 1e-09, None, None)
    """
    if len(text) > _LOAD_CHARS or _LOAD.match(text) is None:
        return None
    load = float(text)
    return load if load <= MAX_LOAD else None
