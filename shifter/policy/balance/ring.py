"""A ring of hashes: equal keys lead to the same endpoint.

Each endpoint has a hundred points on the ring for each unit of its weight. A key leads
to the next point behind its own hash. An endpoint that leaves moves only its own keys.

Source: Karger et al., "Consistent Hashing and Random Trees" (1997).
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

_POINTS: Final = 100
"""Points for a weight of 1: shares differ by a tenth between equal endpoints."""

_MOST_POINTS: Final = 1_000
"""Of one endpoint; weights are scaled down to it."""


class HashRing:
    """Points of endpoints on a ring of 64-bit hashes. Never changes.

    Args:
        endpoints: URLs and weights.
    """

    def __init__(self, endpoints: Iterable[tuple[str, float]]) -> None:
        weighed = list(endpoints)
        heaviest = max((weight for _, weight in weighed), default=1.0)
        scale = min(_POINTS, _MOST_POINTS / heaviest)
        points = sorted(
            (hashed(f"{url} {number}"), url)
            for url, weight in weighed
            for number in range(max(1, round(scale * weight)))
        )
        self._hashes = [point for point, _ in points]
        self._urls = [url for _, url in points]
        self._count = len(weighed)

    def walk(self, key: str) -> Iterator[str]:
        """URLs in the order in which a key leads to them, each once."""
        begin = bisect.bisect(self._hashes, hashed(key))
        seen: set[str] = set()
        for step in range(len(self._urls)):
            url = self._urls[(begin + step) % len(self._urls)]
            if url not in seen:
                seen.add(url)
                yield url
                if len(seen) == self._count:
                    return


def hashed(text: str) -> int:
    """A hash of 64 bits that is the same in every process.

    >>> hashed("order-7") == hashed("order-7"), hashed("") < 2**64
    (True, True)
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest())
