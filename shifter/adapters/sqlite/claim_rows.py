"""Claims as one transaction reads, changes and sweeps them.

A batch is read with one statement, decided in Python by
`shifter.policy.delivery.claim`, and written with one statement: 500 claims of
time-ordered keys cost about 7 µs each. The value is a MessagePack array in the order of
`Claim`'s fields, or the key that a job's pointer leads to: half the time to read and
write of a column for each field.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from shifter.model.time import StoreMs
from shifter.policy.delivery.claim import (
    ClaimWrite,
)
from shifter.policy.delivery.claim_state import (
    Claim,
    is_sound,
    own_end,
    waiting_claim,
)

_CHUNK: Final = 512
_MAX_VALUE: Final = 4_096
_WRITE: Final = "REPLACE INTO claim (key, until_ms, value) VALUES (?, ?, ?)"

_WAIT: Final = """
    INSERT INTO claim (key, until_ms, value) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE
    SET until_ms = excluded.until_ms, value = excluded.value
    WHERE until_ms <= ?
"""
"""Over nothing but what has faded."""


def write_waiting(
    connection: sqlite3.Connection,
    now: StoreMs,
    targets: Mapping[bytes, tuple[bytes, int]],
) -> None:
    """Write records of jobs that wait, where no row lies.

    Args:
        connection: In a transaction.
        now: What has faded by now is overwritten.
        targets: From the key of a job to the key of its claim, empty where that is
            the same, and how long to keep the record, in ms.
    """
    plain = _encode(waiting_claim(now))
    connection.executemany(
        _WAIT,
        [
            (key, now + keep_ms, _encode(target) if target else plain, now)
            for key, (target, keep_ms) in sorted(targets.items())
        ],
    )


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
        now: As given.
        claims: What lies at the keys that were loaded; to be read, changed by `keep`.
        unreadable: Values found that are no claim; they count as absent.
    """

    def __init__(self, connection: sqlite3.Connection, now: StoreMs) -> None:
        self._connection, self.now = connection, now
        self.claims: dict[bytes, Claim] = {}
        self._pointers: dict[bytes, bytes] = {}
        self._until_ms: dict[bytes, int] = {}
        self._changed: dict[bytes, tuple[bytes, int, bytes]] = {}
        # Most of a batch are alike: equal values are read and written as one.
        self._decoded: dict[bytes, Claim | bytes] = {}
        self._encoded: tuple[Claim | None, bytes] = (None, b"")
        self.unreadable = 0

    def load(self, keys: Sequence[bytes]) -> None:
        """Read rows; only what was loaded is seen."""
        for at in range(0, len(keys), _CHUNK):
            self._load(keys[at : at + _CHUNK])

    def follow(self, key: bytes) -> bytes:
        """Where the claim of a job lies: where its pointer leads, else its own key."""
        return self._pointers.get(key, key)

    def keep(self, key: bytes, kept: ClaimWrite) -> None:
        """Put a claim; a keep time of 0 leaves the time it had left."""
        claim, keep_ms = kept
        until_ms = self.now + keep_ms if keep_ms else self._until_ms[key]
        if claim is not self._encoded[0]:
            self._encoded = (claim, _encode(claim))
        self.claims[key] = claim
        self._changed[key] = (key, until_ms, self._encoded[1])

    def point(self, key: bytes, target: bytes, keep_ms: int) -> Claim | None:
        """Leave a pointer, unless a claim lies there already: returns that."""
        claim = self.claims.get(key)
        if claim is None:
            self._changed[key] = (key, self.now + keep_ms, _encode(target))
        return claim

    def end(self, key: bytes, claim: Claim, keep_ms: int) -> None:
        """Keep a keyed job's end under its own id, in place of its pointer."""
        ended = own_end(claim)
        if ended is not None and key not in self.claims:
            self.keep(key, ClaimWrite(ended, keep_ms))

    def save(self) -> None:
        """Write what has changed, once."""
        # In the order of the keys, so that neighbours meet the same page.
        self._connection.executemany(_WRITE, sorted(self._changed.values()))

    def _load(self, keys: Sequence[bytes]) -> None:
        size = 1 << (len(keys) - 1).bit_length()
        asked = [*keys, *[keys[-1]] * (size - len(keys))]
        rows = self._connection.execute(_READ[size], asked).fetchall()
        for key, until_ms, value in rows:
            # The file is not trusted: a column holds whatever type was written to it.
            if type(until_ms) is not int or type(value) is not bytes:
                self.unreadable += 1
                continue
            if until_ms <= self.now:
                continue
            found = self._decoded.get(value) or self._read(value)
            if isinstance(found, Claim):
                self.claims[key], self._until_ms[key] = found, until_ms
            elif found:
                self._pointers[key] = found

    def _read(self, value: bytes) -> Claim | bytes:
        found: Claim | bytes = b""
        if len(value) <= _MAX_VALUE:
            with contextlib.suppress(msgspec.MsgspecError, ValueError, RecursionError):
                found = _decode(value)
        if not found or (isinstance(found, Claim) and not is_sound(found)):
            # Of another program, or damaged: a new claim is made over it.
            self.unreadable += 1
            return b""
        self._decoded[value] = found
        return found


class ClaimSweep:
    """Removes claims that have expired, a slice of the primary key at a time.

    Every claim pays for a few rows of the sweep, and every report of a live worker for
    one slice, so that a file also shrinks while nothing is claimed. Every namespace of
    the file is swept. A sweep starts anew in each process; two at once share the work.
    """

    def __init__(self) -> None:
        self._after = b""

    def step(self, connection: sqlite3.Connection, now: StoreMs, *, rows: int) -> int:
        """Look at the next ``rows`` rows, >= 1; returns how many had faded.

        The step after the last row begins again with the first.
        """
        last = connection.execute(
            "SELECT key FROM claim WHERE key > ? ORDER BY key LIMIT 1 OFFSET ?",
            (self._after, rows - 1),
        ).fetchone()
        if last is None:
            swept = connection.execute(
                "DELETE FROM claim WHERE key > ? "
                "AND (until_ms <= ? OR typeof(until_ms) <> 'integer')",
                (self._after, now),
            )
            self._after = b""
        else:
            swept = connection.execute(
                "DELETE FROM claim WHERE key > ? AND key <= ? "
                "AND (until_ms <= ? OR typeof(until_ms) <> 'integer')",
                (self._after, *last, now),
            )
            (self._after,) = last
        return swept.rowcount
