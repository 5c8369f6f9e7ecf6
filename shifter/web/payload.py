"""Payloads on the page: as the hook of the app lets them be seen, and bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from shifter.wire.untrusted import encode_line

_CHARS: Final = 20_000
"""Characters of a payload that are shown; it may have a million."""


def payload_text(
    redact: Callable[[str, Any], Any] | None,
    job: str | None,
    payload: Any,
    *,
    most: int = _CHARS,
) -> str:
    """A payload as text, as the hook of the app lets it be seen.

    Args:
        redact: The hook; see `shifter.web.asgi`.
        job: The job type's name, if it is known.
        payload: JSON values, or hex.
        most: The most characters.
    """
    if redact is not None:
        try:
            payload = redact(job or "", payload)
        except Exception:  # noqa: BLE001  # the hook of the user: fail safe
            return "(hidden: the app's redact function failed)"
    text = msgspec.json.format(encode_line(payload), indent=2).decode()
    if len(text) > most:
        more = len(text) - most
        return f"{text[:most]}\n… {more} more characters are not shown"
    return text
