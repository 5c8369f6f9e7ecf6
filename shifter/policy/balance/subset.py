"""Deterministic subsets: which endpoints a process connects to.

A hundred processes that each call a hundred endpoints keep ten thousand connections.
With subsets each process calls some endpoints only, and yet all endpoints get equal
shares.

The endpoints stand on a ring, in the order of hashes of their URLs. Process ``k`` of
``n`` begins at the part ``k / n`` of the ring and takes the endpoints that follow. So
the numbers of processes that call each endpoint differ by one at most. A process that
comes or goes moves the others' places by ``1 / n`` of the ring at most, and an endpoint
that comes or goes moves a subset by one endpoint.

Where the subsets of all processes would not reach each endpoint, they are larger: no
endpoint is idle.

Sources: "Site Reliability Engineering" (2016), chapter 20, deterministic subsetting;
Finagle's deterministic aperture, whose ring this is. The book shuffles the endpoints
anew for each round of processes, and an endpoint that comes or goes may then move all
of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shifter.model.endpoint import Endpoint
from shifter.policy.balance.ring import hashed


class Place(NamedTuple):
    """The place of a process among the processes that call.

    Attributes:
        number: Its number, 0-based.
        of: How many processes there are, above ``number``.
    """

    number: int
    of: int


def subset(
    endpoints: Sequence[Endpoint], size: int, place: Place | None, u: float
) -> list[Endpoint]:
    """The endpoints that one process calls.

    Args:
        endpoints: All endpoints, with URLs that differ.
        size: How many endpoints it calls, >= 1; more if some would be called by none.
        place: Its place; ``None`` if that is not known: then the place on the ring is
            random, and shares are equal on average only.
        u: A random number from [0, 1) that the process keeps.

    Returns:
        The endpoints, in the order of the list; all of them if ``size`` is not smaller.

    >>> hosts = [Endpoint(f"h{number}:1") for number in range(4)]
    >>> first, second = (subset(hosts, 2, Place(k, 2), 0.0) for k in range(2))
    >>> len(first), {one.url for one in first} & {one.url for one in second}
    (2, set())
    """
    count = len(endpoints)
    if place is None:
        begin = int(u * count)
    else:
        size = max(size, -(-count // place.of))
        begin = place.number * count // place.of
    if size >= count:
        return list(endpoints)
    ring = sorted(endpoints, key=lambda one: (hashed(one.url), one.url))
    taken = {ring[(begin + step) % count].url for step in range(size)}
    return [one for one in endpoints if one.url in taken]


def subset_by_zone(
    endpoints: Sequence[Endpoint],
    size: int | None,
    zone: str | None,
    place: Place | None,
    u: float,
) -> list[Endpoint]:
    """`subset` of each priority, and of the process's zone and of all others apart.

    A process of a zone with few endpoints so keeps all of them, and backups stay
    backups.

    Args:
        endpoints: All endpoints, with URLs that differ.
        size: As there; ``None`` for all endpoints.
        zone: The zone of the process; ``None`` if that is not known.
        place: As there.
        u: As there.
    """
    if size is None:
        return list(endpoints)
    groups: dict[tuple[int, bool], list[Endpoint]] = {}
    for one in endpoints:
        groups.setdefault((one.priority, one.zone == zone), []).append(one)
    taken = {
        one.url for group in groups.values() for one in subset(group, size, place, u)
    }
    return [one for one in endpoints if one.url in taken]
