"""Advice for a person: findings of a health check, and hints for misspelt names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"
_LISTED: Final = 20
"""Names that a hint lists."""

_LOOPBACK: Final = re.compile(r"(?:localhost|127\.[0-9.]+|\[::1\]|::1)(?::[0-9]+)?\Z")


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        name: Name of the check; it is stable.
        status: ``ok``, ``warn`` or ``fail``.
        detail: What the check found.
        fix: What to do about it; empty if there is nothing to do.
    """

    name: str
    status: str
    detail: str
    fix: str = ""


def unverified(name: str, how: str) -> Finding:
    """The finding for a connection whose server's certificate is not verified.

    Args:
        name: Name of the finding.
        how: The options that switch the verification off.
    """
    detail = f"{how}: the server's certificate is not verified, any host may answer"
    return Finding(name, WARN, detail, f"remove {how}, and name the authority")


def version_numbers(text: str) -> tuple[int, ...]:
    """The numbers at the beginning of a version.

    >>> version_numbers("7.2.11"), version_numbers("2.15.0rc1"), version_numbers("?")
    ((7, 2, 11), (2, 15, 0), ())
    """
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def is_loopback(address: str) -> bool:
    """Whether a host, or a host and port, is this machine."""
    return _LOOPBACK.match(address) is not None


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """A hint for a name that does not exist: the nearest one, or the first twenty.

    Args:
        name: The wrong name.
        known: All names.
        what: What the names stand for, in the plural.

    >>> nearest("leese", ["lease", "log"], "settings")
    "did you mean 'lease'?"
    >>> nearest("port", ["lease", "log"], "settings")
    'settings: lease, log'
    >>> nearest("port", map(str, range(1_000)), "numbers")[-20:]
    '14, 115 and 980 more'
    """
    import difflib  # noqa: PLC0415  # only a wrong name needs it

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return listed(names, what)


def listed(known: Iterable[str], what: str) -> str:
    """The first twenty names that exist; arguments as of `nearest`.

    >>> listed(["log", "lease"], "settings"), listed([], "settings")
    ('settings: lease, log', 'settings: none')
    """
    names = sorted(known)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{what}: {', '.join(names[:_LISTED]) or 'none'}{more}"
