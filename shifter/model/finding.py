"""One finding of a health check, with its fix."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        name: What was checked; a stable word.
        status: ``ok``, ``warn`` or ``fail``.
        detail: What was found.
        fix: What to do about it; empty when there is nothing to do.
    """

    name: str
    status: str
    detail: str
    fix: str = ""


def unverified(name: str, how: str) -> Finding:
    """A connection whose server's certificate is not verified.

    Args:
        name: Name of the finding.
        how: The options that switch the verification off.
    """
    detail = f"{how}: the server's certificate is not verified, anybody may be it"
    return Finding(name, WARN, detail, f"remove {how}, and name the authority")


def version_numbers(text: str) -> tuple[int, ...]:
    """The numbers at the beginning of a version.

    >>> version_numbers("7.2.11"), version_numbers("2.15.0rc1"), version_numbers("?")
    ((7, 2, 11), (2, 15, 0), ())
    """
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


_LOOPBACK: Final = re.compile(r"(?:localhost|127\.[0-9.]+|\[::1\]|::1)(?::[0-9]+)?\Z")


def is_loopback(address: str) -> bool:
    """Whether a host, or a host and port, is this machine."""
    return _LOOPBACK.match(address) is not None
