"""Hints for names that are not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

_MOST: Final = 20


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """A hint for a name that is not known: the nearest one, or some of them all.

    >>> nearest("leese", ["lease", "log"], "settings")
    "did you mean 'lease'?"
    >>> nearest("port", ["lease", "log"], "settings")
    'settings: lease, log'
    >>> nearest("port", map(str, range(1_000)), "numbers")[-20:]
    '14, 115 and 980 more'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{what}: {', '.join(names[:_MOST]) or 'none'}{more}"
