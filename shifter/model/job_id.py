"""A job's id: a UUID, kept in one spelling.

Claims, pointers and dead letters are found by the text of an id. An id may be given in
any spelling of RFC 9562; it is kept in lower case with hyphens, so that a cancel finds
the job whose submission spelled it otherwise.
"""

from __future__ import annotations

import re
from typing import Final

from shifter.errors import ConfigError

_UUID: Final = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}"
_SPELLINGS: Final = re.compile(
    rf"(?:urn:uuid:)?({_UUID})|\{{({_UUID})\}}", re.IGNORECASE | re.ASCII
)


def canonical_id(value: object) -> str | None:
    """An id in lower case with hyphens; ``None`` for what is no UUID.

    Args:
        value: A UUID as text (upper case, without hyphens, in braces, as a URN), or an
            object whose text is one, such as `uuid.UUID`.

    >>> canonical_id("{0192F3C4-AAAA-7000-8000-000000000000}")
    '0192f3c4-aaaa-7000-8000-000000000000'
    >>> canonical_id("0192f3c4aaaa70008000000000000000")
    '0192f3c4-aaaa-7000-8000-000000000000'
    >>> canonical_id("0192f3c4"), canonical_id(None)
    (None, None)
    """
    match = _SPELLINGS.fullmatch(str(value))
    if match is None:
        return None
    digits = (match[1] or match[2]).replace("-", "").lower()
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return "-".join(parts)


def made_ms(job_id: str) -> int | None:
    """When an id was made, epoch milliseconds; ``None`` for one that does not say.

    Args:
        job_id: In the canonical spelling. A UUID of version 7 begins with its time.

    >>> made_ms("0192f3c4-aaaa-7000-8000-000000000000")
    1730666605226
    >>> made_ms("0192f3c4-aaaa-4000-8000-000000000000"), made_ms("")
    (None, None)
    """
    if job_id[14:15] != "7":
        return None
    return int(job_id[:8] + job_id[9:13], 16)


def gap_name(job_id: str) -> str:
    """The name of the minute in which a job was accepted whose state was lost.

    It is kept in a claim store beside the jobs, and is no job's id.

    >>> gap_name("0192f3c4-aaaa-7000-8000-000000000000")
    'gap-28844443'
    >>> gap_name("0192f3c4-aaaa-4000-8000-000000000000")
    'gap'
    """
    made = made_ms(job_id)
    return "gap" if made is None else f"gap-{made // 60_000}"


def check_job_id(field: str, value: object) -> str:
    """An id in lower case with hyphens; spellings as of `canonical_id`.

    Args:
        field: Name for the error.
        value: As it was given.

    Raises:
        ConfigError: It is no UUID.
    """
    job_id = canonical_id(value)
    if job_id is None:
        raise ConfigError(field, value, "use a UUID")
    return job_id
