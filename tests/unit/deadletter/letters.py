"""Dead letters as tests want them."""

from __future__ import annotations

from uuid import UUID

from shifter.deadletter.letter import Letter
from shifter.ports import Delivery
from shifter.wire.dead_letter import DeadLetterInfo, dead_letter_headers
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import Headers, build_headers

NOW = 1_800_000_000_000
SOURCE = "shop.mail.dlt"


def job_id(number: int) -> str:
    return str(UUID(int=number))


def info(number: int = 1, **changes) -> DeadLetterInfo:
    facts = {
        "job_id": job_id(number),
        "job_type": "send",
        "queue": "mail",
        "reason": "attempts_exhausted",
        "origin_topic": "shop.mail.low",
        "origin_partition": 2,
        "origin_offset": number,
        "origin_timestamp_ms": NOW - 9_000_000,
        "attempts": 4,
        "first_failed_ms": NOW - 8_000_000,
        "last_failed_ms": NOW - 7_200_000,
        "error_type": "smtplib.SMTPError",
        "error_message": f"no such address {number}",
        "error_stack": "jobs:7 in send",
        "fingerprint": "0123456789ab",
        "worker": "w1",
    }
    return DeadLetterInfo(**{**facts, **changes})


def envelope(number: int = 1, **changes) -> EnvelopeV1:
    facts = {"v": 1, "id": job_id(number), "type": "send", "attempt": 4, "turn": 7}
    return EnvelopeV1(**{**facts, **changes})


def headers(number: int = 1, extra: Headers | None = None, **changes) -> Headers:
    """Of a dead letter of ours; changes of the envelope."""
    original = build_headers(
        envelope(number, **changes), content_type="application/json", extra=extra or []
    )
    return dead_letter_headers(info(number), original)


def delivery(
    value: bytes | None = b'{"number": 1}',
    found: Headers | None = None,
    *,
    offset: int = 0,
    key: bytes | None = None,
    topic: str = SOURCE,
) -> Delivery:
    own = headers() if found is None else found
    return Delivery(topic, key, value, own, NOW - 1_000, 0, offset)


def letter(value: bytes | None = b'{"number": 1}', found=None, **place) -> Letter:
    return Letter(delivery(value, found, **place), NOW)
