"""HTTP fields the relay writes and reads."""

from __future__ import annotations

import email.utils
import re
import urllib.parse

from workers.http_courier import Reply

_LONGEST_S = 3_600.0
_SHORTEST_S = 1.0
_SECONDS = re.compile(r"[0-9]{1,10}\Z")


def quoted(key: str) -> str:
    r"""A key as a structured-field string, which holds printable ASCII only.

    A key with other characters is percent-encoded as a whole first.

    Source: RFC 9651, section 3.3.3; draft-ietf-httpapi-idempotency-key-header-06.

    >>> quoted('order "7"'), quoted("größe")
    ('"order \\"7\\""', '"gr%C3%B6%C3%9Fe"')
    """
    text = key if key.isascii() and key.isprintable() else urllib.parse.quote(key)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def retry_after_s(reply: Reply, now_s: float) -> float | None:
    """Seconds the target asks to wait, within 1 s and 1 h; ``None`` if it does not.

    An HTTP-date counts from the target's own ``Date``, so that a clock that is off
    shortens or lengthens nothing; without one it counts from ``now_s``.

    Source: RFC 9110, section 10.2.3.
    """
    if reply.retry_after is None:
        return None
    asked = reply.retry_after.strip()
    if _SECONDS.match(asked):
        wait_s = float(asked)
    else:
        until_s = _epoch_s(asked)
        if until_s is None:
            return None
        said_s = None if reply.date is None else _epoch_s(reply.date)
        wait_s = until_s - (now_s if said_s is None else said_s)
    return min(max(wait_s, _SHORTEST_S), _LONGEST_S)


def _epoch_s(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
