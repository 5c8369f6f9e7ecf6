"""Claims as one transaction sees and changes them.

A batch is read with one statement, decided in Python by `shifter.policy.claim`, and
written with one statement: 500 claims of time-ordered keys cost about 7 µs each. The
value is a MessagePack array in the order of `Claim`'s fields, or the key that a job's
pointer leads to: half the time to read and write of a column for each field.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

import msgspec

from shifter.model.time import StoreMs
from shifter.policy.claim import Claim, Kept

_CHUNK: Final = 512
_WRITE: Final = "REPLACE INTO claim (key, until_ms, value) VALUES (?, ?, ?)"


def _read_sql(n: int) -> str:
    # Only powers of two occur, so that the connection keeps them all prepared.
    wanted = ", ".join("?" * n)
    return f"SELECT key, until_ms, value FROM claim WHERE key IN ({wanted})"  # noqa: S608  # marks only


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Claim | bytes).decode
_READ: Final = {1 << i: _read_sql(1 << i) for i in range(_CHUNK.bit_length())}


class ClaimRows:
    """The rows of a batch: `load` first, `save` last; in between they change here.

    Args:
        connection: In a transaction, if anything is to be saved.
        now: What has faded by now is absent.

    Attributes:
        unreadable: Values found that are no claim; they count as absent.
    """

    def __init__(self, connection: sqlite3.Connection, now: StoreMs) -> None:
        self._connection, self._now = connection, now
        self._found: dict[bytes, tuple[int, Claim | bytes]] = {}
        self._changed: set[bytes] = set()
        self.unreadable = 0

    def load(self, keys: Iterable[bytes]) -> None:
        """Read rows, once each; only what was loaded is seen."""
        wanted = list(keys)
        for at in range(0, len(wanted), _CHUNK):
            self._load(wanted[at : at + _CHUNK])

    def claim(self, key: bytes) -> Claim | None:
        """The claim at a key; ``None`` for a pointer."""
        _, value = self._found.get(key, (0, b""))
        return None if isinstance(value, bytes) else value

    def follow(self, key: bytes) -> bytes:
        """Where the claim of a job lies: where its pointer leads, else its own key."""
        _, value = self._found.get(key, (0, b""))
        return value if isinstance(value, bytes) and value else key

    def keep(self, key: bytes, kept: Kept) -> None:
        """Put a claim; a keep time of 0 leaves the time it had left."""
        claim, keep_ms = kept
        until_ms = self._now + keep_ms if keep_ms else self._found[key][0]
        self._put(key, until_ms, claim)

    def point(self, key: bytes, target: bytes, keep_ms: int) -> Claim | None:
        """Leave a pointer, unless a claim lies there already: returns that."""
        claim = self.claim(key)
        if claim is None:
            self._put(key, self._now + keep_ms, target)
        return claim

    def save(self) -> None:
        """Write what has changed."""
        found = self._found
        self._connection.executemany(
            _WRITE,
            # In the order of the keys, so that neighbours meet the same page.
            [
                (key, found[key][0], _encode(found[key][1]))
                for key in sorted(self._changed)
            ],
        )
        self._changed.clear()

    def _put(self, key: bytes, until_ms: int, value: Claim | bytes) -> None:
        self._found[key] = (until_ms, value)
        self._changed.add(key)

    def _load(self, keys: list[bytes]) -> None:
        size = 1 << (len(keys) - 1).bit_length()
        asked = keys + keys[-1:] * (size - len(keys))
        rows = self._connection.execute(_READ[size], asked).fetchall()
        for key, until_ms, value in rows:
            if until_ms <= self._now:
                continue
            try:
                self._found[key] = (until_ms, _decode(value))
            except msgspec.DecodeError:
                # Of another program, or damaged: a new claim is made over it.
                self.unreadable += 1
