"""Hints for names that are not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """A hint for a name that is not known: the nearest one, or all of them.

    >>> nearest("leese", ["lease", "log"], "settings")
    "did you mean 'lease'?"
    >>> nearest("port", ["lease", "log"], "settings")
    'settings: lease, log'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"{what}: {', '.join(names) or 'none'}"
