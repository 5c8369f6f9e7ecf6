"""All tables of a file, how they are made, and the names that their keys hold.

One file serves as log, as shared state and as spool, in any combination: an unused
table costs a page.
"""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Final

from shifter.adapters.sqlite.file import APPLICATION_ID
from shifter.errors import ConfigError
from shifter.model.lane import check_name

VERSION: Final = 1
"""What ``user_version`` of a file says."""

# A lane is a part of a topic: records without a key in part 0, for anybody; keyed ones
# in parts that one member at a time drains. A job's id is its lane's, shifted, plus its
# place, so that each lane is one run of the b-tree: `next` is where the next record
# goes, `cur` where the next fetch begins, `live` how many are not settled.
_LOG_DDL: Final = (
    """CREATE TABLE topic (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
        partitions INTEGER NOT NULL, retention_ms INTEGER NOT NULL,
        max_record_bytes INTEGER NOT NULL, delayed INTEGER NOT NULL DEFAULT 0
    )""",
    """CREATE TABLE lane (
        id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, part INTEGER NOT NULL,
        next INTEGER NOT NULL DEFAULT 0, cur INTEGER NOT NULL DEFAULT 0,
        live INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, part)
    )""",
    "CREATE TABLE job (id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB)",
    # One row a fetched batch; `first` included, `last` excluded.
    """CREATE TABLE lease (
        id INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL,
        first INTEGER NOT NULL, last INTEGER NOT NULL,
        member INTEGER NOT NULL, left INTEGER NOT NULL
    )""",
    """CREATE TABLE member (
        id INTEGER PRIMARY KEY AUTOINCREMENT, until_ms INTEGER NOT NULL,
        topics TEXT NOT NULL, socket TEXT NOT NULL, waiting INTEGER NOT NULL
    )""",
    # id: due time in milliseconds, shifted, plus a number.
    """CREATE TABLE delayed (
        id INTEGER PRIMARY KEY, topic INTEGER NOT NULL,
        crc INTEGER NOT NULL, body BLOB
    )""",
    """CREATE TABLE damaged (
        id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL,
        noted_ms INTEGER NOT NULL, body BLOB
    )""",
)
_SPOOL_DDL: Final = (
    """CREATE TABLE spool (
        id INTEGER PRIMARY KEY AUTOINCREMENT, crc INTEGER NOT NULL,
        spooled_ms INTEGER NOT NULL, body BLOB
    )""",
    """CREATE TABLE refused (
        id INTEGER PRIMARY KEY, spooled_ms INTEGER NOT NULL,
        detail TEXT NOT NULL, body BLOB
    )""",
    """CREATE TABLE spool_count (
        id INTEGER PRIMARY KEY CHECK (id = 1), waiting INTEGER NOT NULL
    )""",
    "INSERT INTO spool_count VALUES (1, 0)",
)

# Keys begin with the namespace, since namespaces may share a file. Claims have no index
# on `until_ms`: keys of jobs grow with time and lie side by side, and a second index
# would cost five times the write (19,000 claims a second instead of 113,000). What has
# expired is removed in slices of the primary key instead (`claim_rows.ClaimSweep`).
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


def check_version(found: int, path: Path) -> None:
    """Return if this program knows a file's version, before it touches the file.

    Raises:
        ConfigError: The file is of a newer version.
    """
    if found > VERSION:
        want = f"its version is {found}, this program knows {VERSION}; upgrade shifter"
        raise ConfigError("sqlite file", str(path), want)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a file to this version; call it inside a write transaction."""
    for statement in (*_LOG_DDL, *_SPOOL_DDL, *CLAIMS_DDL):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


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
