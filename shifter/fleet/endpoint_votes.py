"""The votes of processes against an endpoint, by their calls or their health checks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from shifter.fleet.endpoint_cells import EndpointReport
from shifter.policy.balance.mark import MarkKind
from shifter.policy.protection.circuit.evidence import Vote

_NO_VOTE: Final = Vote(0, suspects=False)
KINDS: Final = {MarkKind.FLEET: "calls", MarkKind.CHECKS: "checks"}
"""The word of a vote, by the kind of mark that a quorum of them sets."""


def questioned(
    own: Mapping[str, EndpointReport],
    others: Mapping[str, Mapping[str, EndpointReport]],
) -> list[str]:
    """The endpoints of this process that some process has a vote against.

    Args:
        own: The report of this process, by URL.
        others: Those of the others, by process and URL.
    """
    voted = {row.url for row in own.values() if row.vote}
    for rows in others.values():
        voted |= {row.url for row in rows.values() if row.vote}
    return sorted(voted & own.keys())


def votes_of(rows: Sequence[EndpointReport | None], word: str) -> list[Vote]:
    """The votes against one endpoint.

    Args:
        rows: The reports of all processes; ``None`` of one that does not know it.
        word: What the votes go by, of `KINDS`.
    """
    votes = [_vote(row, word) for row in rows]
    if word == "checks":
        # Those that do not check have no part in it; but one alone is not enough where
        # there are others.
        votes = [vote for vote in votes if vote.calls]
        votes += [_NO_VOTE] * (len(rows) > 1)
    return votes


def _vote(row: EndpointReport | None, word: str) -> Vote:
    if row is None:
        return _NO_VOTE
    if word == "checks":
        return Vote(min(1, row.checks), suspects=row.vote == "checks")
    return Vote(row.calls, suspects=row.vote == "calls")


def rank(process: str, url: str) -> bytes:
    """Orders processes, in another way for each endpoint and the same everywhere."""
    text = f"{process} {url}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).digest()
