"""Claims as rows: how one transaction reads, changes and sweeps them.

A batch is read with one statement, decided in Python by
`shifter.policy.delivery.claim`, and written with one statement: 500 claims of
time-ordered keys cost about 7 µs each. The value is a MessagePack array in the order of
`Claim`'s fields, or the key that a job's pointer leads to: half the time to read and
write of a column for each field.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from shifter.model.claim import WaitingJobs
from shifter.model.lane import check_name
from shifter.model.time import StoreMs
from shifter.policy.delivery.claim import ClaimWrite
from shifter.policy.delivery.claim_state import Claim, is_sound, waiting_claim
from shifter.wire.untrusted import bounded

_CHUNK: Final = 512
# A sound claim has three names of at most 512 bytes each, and numbers.
_MAX_VALUE: Final = 4_096
_NOTE: Final = b"\0note\0"
"""No claim's key has it: identities are printable."""
_READ_NOTE: Final = "SELECT value FROM claim WHERE key = ? AND until_ms > ?"
_WRITE: Final = "REPLACE INTO claim (key, until_ms, value) VALUES (?, ?, ?)"

_WAIT: Final = """
    INSERT INTO claim (key, until_ms, value) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE
    SET until_ms = excluded.until_ms, value = excluded.value
    WHERE until_ms <= ?
"""
"""Over nothing but what has faded."""


def key_prefix(namespace: str) -> bytes:
    """What every key of a namespace begins with; no other namespace's does.

    Raises:
        ConfigError: It is no name.
    """
    return check_name("namespace", namespace).encode() + b"\0"


def _read_sql(n: int) -> str:
    # Only powers of two occur, so that the connection keeps them all prepared.
    wanted = ", ".join("?" * n)
    return f"SELECT key, until_ms, value FROM claim WHERE key IN ({wanted})"  # noqa: S608  # marks only


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Claim | bytes).decode
_READ: Final = {1 << i: _read_sql(1 << i) for i in range(_CHUNK.bit_length())}


class ClaimRows:
    """`shifter.policy.delivery.claim_batch.ClaimRows` of a file, written by `save`.

    Args:
        connection: In a transaction, if anything is to be saved.
        now: What has expired by now is absent.
        prefix: Of every key, from `key_prefix`.

    Attributes:
        now: As given.
        claims: What lies at the keys that were loaded; to be read only.
        unreadable: Values found that are no claim; they count as absent.
    """

    def __init__(
        self, connection: sqlite3.Connection, now: StoreMs, prefix: bytes = b""
    ) -> None:
        self._connection, self.now, self._prefix = connection, now, prefix
        self.claims: dict[bytes, Claim] = {}
        self._pointers: dict[bytes, bytes] = {}
        self._until_ms: dict[bytes, int] = {}
        self._changed: dict[bytes, tuple[bytes, int, bytes]] = {}
        # Most of a batch are alike: equal values are read and written as one.
        self._decoded: dict[bytes, Claim | bytes] = {}
        self._encoded: tuple[Claim | None, bytes] = (None, b"")
        self.unreadable = 0

    def name(self, text: str) -> str:
        """An identity or a job's id as the file keeps it."""
        return bounded(text)

    def key(self, name: str) -> bytes:
        """Where the row of such a name lies."""
        return self._prefix + name.encode()

    def load(self, keys: Sequence[bytes]) -> None:
        """Read rows; only what was loaded is seen."""
        for at in range(0, len(keys), _CHUNK):
            self._load(keys[at : at + _CHUNK])

    def get(self, key: bytes) -> Claim | None:
        """The claim that lies at a key."""
        return self.claims.get(key)

    def follow(self, key: bytes) -> bytes:
        """Where the claim of a job lies: where its pointer leads, else its own key."""
        return self._pointers.get(key, key)

    def keep(self, key: bytes, kept: ClaimWrite) -> None:
        """Put a claim; a keep time of 0 leaves the time that it had left."""
        claim, keep_ms = kept
        until_ms = self.now + keep_ms if keep_ms else self._until_ms[key]
        if claim is not self._encoded[0]:
            self._encoded = (claim, _encode(claim))
        self.claims[key] = claim
        self._changed[key] = (key, until_ms, self._encoded[1])

    def point(self, key: bytes, target: bytes, keep_ms: int) -> None:
        """Put a pointer."""
        self._changed[key] = (key, self.now + keep_ms, _encode(target))

    def wait(self, jobs: Sequence[WaitingJobs]) -> None:
        """Write at once that jobs wait, where no row lies."""
        targets: dict[bytes, tuple[bytes, int]] = {}
        plain = _encode(waiting_claim(self.now))
        for job_ids, keep_ms, identity in jobs:
            value, until_ms = plain, self.now + keep_ms
            if identity is not None:
                value = _encode(self.key(bounded(identity)))
            for job_id in job_ids:
                targets[self.key(bounded(job_id))] = (value, until_ms)
        self._connection.executemany(
            _WAIT,
            [
                (key, until_ms, value, self.now)
                for key, (value, until_ms) in sorted(targets.items())
            ],
        )

    def note(self, name: str, word: str, keep_ms: int) -> str:
        """Write a word at once, unless one is kept under the name; returns what is."""
        key = self._prefix + _NOTE + bounded(name).encode()
        row = self._connection.execute(_READ_NOTE, (key, self.now)).fetchone()
        if row is not None and type(row[0]) is bytes:
            return str(row[0], "ascii", "replace")
        kept = (key, self.now + keep_ms, word.encode("ascii"))
        self._connection.execute(_WRITE, kept)
        return word

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
        """Look at the next rows, and delete those that have expired.

        The step after the last row begins again with the first.

        Args:
            connection: In a transaction.
            now: The store's clock.
            rows: How many rows to look at, >= 1.

        Returns:
            How many rows had expired.
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
