"""What this process may still run, of what it has fetched."""

from __future__ import annotations

from collections.abc import Sequence

from shifter.work.item import Item


def begin(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Note that these start now.

    Returns:
        Those that this process still owns, and those that were taken away.
    """
    by_feed: dict[int, list[Item]] = {}
    for item in items:
        by_feed.setdefault(id(item.feed), []).append(item)
    begun: list[Item] = []
    gone: list[Item] = []
    for mine in by_feed.values():
        owned = mine[0].feed.begin([item.delivery for item in mine])
        if len(owned) == len(mine):
            begun += mine
            continue
        kept = {id(delivery) for delivery in owned}
        for item in mine:
            (begun if id(item.delivery) in kept else gone).append(item)
    return begun, gone
