"""What the operator has chosen with keys: order, filter, pause, scroll, help."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from shifter.ops.answers import LaneView
from shifter.ops.reading import Reading
from shifter.ops.status import LaneRow

_MOST: Final = 60
"""Characters of a filter; names of queues are shorter."""


class Order(NamedTuple):
    """An order of lanes.

    Attributes:
        name: Shown to the operator.
        key: What is compared.
        is_rising: Whether the smallest comes first.
    """

    name: str
    key: Callable[[LaneView], tuple[object, ...]]
    is_rising: bool = False


def _number(
    read: Callable[[LaneRow], float | None],
) -> Callable[[LaneView], tuple[object, ...]]:
    """Compares a number that may be unknown: such lanes come behind the others."""

    def key(lane: LaneView) -> tuple[object, ...]:
        value = read(lane.row)
        return (value is not None, value or 0.0)

    return key


def _soonest(lane: LaneView) -> tuple[object, ...]:
    deadline_s = lane.row.tightest_deadline_s
    return (deadline_s is None, deadline_s or 0.0)


ORDERS: Final = (
    Order("attention", lambda lane: lane.urgency),
    Order("name", lambda lane: (lane.row.queue,), is_rising=True),
    Order("waiting", _number(lambda row: row.waiting)),
    Order("due", _number(lambda row: row.due)),
    Order("oldest", _number(lambda row: row.oldest_age_s)),
    Order("rate", _number(lambda row: row.rate_per_s)),
    Order("eta", _number(lambda row: row.eta_s)),
    Order("deadline", _soonest, is_rising=True),
)


class Action(StrEnum):
    """What a key asks of the program besides a new picture."""

    NONE = "none"
    QUIT = "quit"
    PAUSE = "pause"


class Choices:
    """The operator's choices.

    Attributes:
        order: Index into `ORDERS`.
        is_reversed: Whether the order is turned round.
        match: Text that a name must contain, in any case.
        is_typing: Whether keys are added to ``match``.
        is_paused: Whether the picture is kept as it is.
        shows_help: Whether the keys are explained instead.
        offset: Lanes that are scrolled away at the top, >= 0.
        page: Lanes that the last picture had room for.
    """

    def __init__(self) -> None:
        self.order = self.offset = 0
        self.page = 1
        self.match = ""
        self.is_reversed = self.is_typing = self.is_paused = self.shows_help = False
        self._shown: Reading | None = None

    def shown(self, last: Reading) -> Reading:
        """The reading to draw: the last one, or while paused the one drawn before.

        A reading that was under way when the operator paused may end later.
        """
        if self._shown is None or not self.is_paused:
            self._shown = last
        return self._shown

    def press(self, key: str) -> Action:
        """Take one key."""
        if self.is_typing:
            self._type(key)
            return Action.NONE
        if self.shows_help:
            self.shows_help = False
            return Action.QUIT if key == "q" else Action.NONE
        if key == "q":
            return Action.QUIT
        if key in ("p", " "):
            self.is_paused = not self.is_paused
            return Action.PAUSE
        self._change(key)
        return Action.NONE

    def chosen(self, lanes: list[LaneView]) -> list[LaneView]:
        """The lanes that match, in order."""
        order = ORDERS[self.order]
        found = [
            lane for lane in lanes if self.matches(lane.row.queue, lane.row.priority)
        ]
        is_falling = order.is_rising == self.is_reversed
        return sorted(found, key=order.key, reverse=is_falling)

    def matches(self, *names: str) -> bool:
        """Whether a row with these names is shown."""
        return self.match.lower() in "/".join(names).lower()

    def show(self, *, rows: int, page: int) -> None:
        """Take how many lanes there are, and how many the picture has room for."""
        self.page = max(1, page)
        self.offset = max(0, min(self.offset, rows - self.page))

    def _type(self, key: str) -> None:
        if key in ("enter", "escape"):
            self.is_typing = False
            self.match = self.match if key == "enter" else ""
        elif key == "backspace":
            self.match = self.match[:-1]
        elif len(key) == 1 and len(self.match) < _MOST:
            self.match += key
        self.offset = 0

    def _change(self, key: str) -> None:
        if key in ("s", "S"):
            self.order = (self.order + (1 if key == "s" else -1)) % len(ORDERS)
            self.offset = 0
        elif key == "r":
            self.is_reversed = not self.is_reversed
            self.offset = 0
        elif key == "/":
            self.is_typing = True
        elif key == "escape":
            self.match, self.offset = "", 0
        elif key in ("?", "h"):
            self.shows_help = True
        else:
            self.offset = max(0, self.offset + self._step(key))

    def _step(self, key: str) -> int:
        steps = {
            "up": -1,
            "k": -1,
            "down": 1,
            "j": 1,
            "pageup": -self.page,
            "pagedown": self.page,
            "home": -self.offset,
            "end": _FAR,
        }
        return steps.get(key, 0)


_FAR: Final = 1_000_000
"""More lanes than a namespace has."""
