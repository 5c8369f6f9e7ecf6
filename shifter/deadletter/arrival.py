"""Which replays lie in their topics already: what a resumed run has to know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shifter.deadletter.incarnation import REPLAY_ID_HEADER, read_job
from shifter.ports import LogAdmin
from shifter.wire.envelope import ENVELOPE_HEADER
from shifter.wire.headers import Headers

_MARGIN_MS: Final = 60_000
"""How far the clocks of this machine and of the log's may be apart."""

_MARK: Final = b'"replay_of"'


async def arrived(
    admin: LogAdmin, topics: Iterable[str], since_ms: int
) -> frozenset[str]:
    """Ids of the replays that topics took since an instant.

    Args:
        admin: Of the log.
        topics: Where a run may have sent.
        since_ms: Its last step: what was sent before is known.
    """
    found: set[str] = set()
    for topic in sorted(topics):
        spans = await admin.spans(topic, since_ms=since_ms - _MARGIN_MS)
        async for batch in admin.scan(topic, spans):
            for delivery in batch:
                replay = _replay_id(delivery.headers)
                if replay is not None:
                    found.add(replay)
    return frozenset(found)


def _replay_id(headers: Headers) -> str | None:
    of_envelope: str | None = None
    for name, value in headers:
        if value is None:
            continue
        if name == REPLAY_ID_HEADER:
            # Of a parked letter, which may hold the envelope of an earlier replay.
            return value.decode("ascii", "replace")
        if name == ENVELOPE_HEADER and _MARK in value:
            read = read_job(headers)
            of_envelope = None if read is None else read.envelope.id
    return of_envelope
