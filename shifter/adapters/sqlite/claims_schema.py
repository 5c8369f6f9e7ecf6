"""The tables of the fleet's shared state: claims, and reports of live workers.

Keys begin with the namespace, since namespaces may share a file. Claims have no index
on ``until_ms``: keys of jobs grow with time and lie side by side, while a second index
would cost five times the write (19,000 claims a second instead of 113,000). What has
faded is swept in slices of the primary key instead.
"""

from __future__ import annotations

import hashlib
from typing import Final

from shifter.model.lane import check_name

CLAIMS_DDL: Final = (
    """CREATE TABLE claim (
        key BLOB NOT NULL PRIMARY KEY,
        until_ms INTEGER NOT NULL,
        value BLOB NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE presence (
        key BLOB NOT NULL PRIMARY KEY,
        until_ms INTEGER NOT NULL,
        report BLOB NOT NULL
    ) WITHOUT ROWID""",
)

_MAX_NAME: Final = 128
_DIGEST_MARK: Final = "#"


def key_prefix(namespace: str) -> bytes:
    """What every key of a namespace begins with; no other namespace's does.

    Raises:
        ConfigError: It is no name.
    """
    return check_name("namespace", namespace).encode() + b"\0"


def bounded(text: str) -> str:
    """``text`` if it is short and printable, else its digest; no two become one.

    What users or records name can then neither fill the file nor fail to be written.

    >>> bounded("0192f3c4-aaaa-7000-8000-000000000000")
    '0192f3c4-aaaa-7000-8000-000000000000'
    >>> bounded("#1")[:9]
    '#0b0fa0b2'
    """
    if (
        len(text) <= _MAX_NAME
        and text.isprintable()
        and not text.startswith(_DIGEST_MARK)
    ):
        return text
    raw = text.encode(errors="surrogatepass")
    return _DIGEST_MARK + hashlib.sha256(raw).hexdigest()
