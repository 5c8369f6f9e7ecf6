"""How urgent a caller may say that its request is: one rule for every way in."""

from __future__ import annotations

from shifter.model.priority import Priority


def heeded(
    own: Priority, asked: Priority | None, *, highest: Priority | None
) -> tuple[Priority, bool]:
    """The priority of a request, and whether what its caller asked for was cut.

    A caller may always make its request less urgent. It may make it more urgent only
    where callers are trusted.

    Args:
        own: What the service gives such requests.
        asked: What the caller says; ``None`` where it says nothing.
        highest: How urgent a trusted caller may make it; ``None`` where callers are not
            trusted.

    >>> heeded(Priority.NORMAL, Priority.CRITICAL, highest=None)[0].value
    'NORMAL'
    >>> heeded(Priority.NORMAL, Priority.CRITICAL, highest=Priority.HIGH)[0].value
    'HIGH'
    """
    if asked is None:
        return own, False
    most = own if highest is None or highest.rank < own.rank else highest
    if asked.rank <= most.rank:
        return asked, False
    return most, True
