"""A record that is appended to the log, and the answer to that."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import msgspec

from shifter.wire.headers import Headers

ANY_PARTITION: Final = -1
"""Of a record whose partition the log chooses."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record to be appended.

    Attributes:
        topic: A lane's or a dead-letter topic's name (`shifter.model.lane`).
        value: The user's payload; the log does not interpret it.
        headers: The envelope's headers, ready to send.
        key: Ordering key; records of one key and topic keep their order.
        due_ms: The log delivers it at this instant or later; ``None``: at once.
        partition: The partition that takes it, without a due time; `ANY_PARTITION`
            where the log chooses, by the key if there is one. A log without such a
            partition chooses too.
    """

    topic: str
    value: bytes
    headers: Headers
    key: bytes | None = None
    due_ms: int | None = None
    partition: int = ANY_PARTITION


class Appended(NamedTuple):
    """The record is durable.

    Attributes:
        is_spooled: Whether the record is in the spool of this machine, to be forwarded.
    """

    is_spooled: bool = False


APPENDED: Final = Appended()
"""The usual answer. Logs give this very one, which is the fastest to compare."""


class Refused(NamedTuple):
    """The record is certainly not in the log.

    Attributes:
        reason: A `shifter.model.reason.Reason` value.
        detail: The client's message, without secrets.
    """

    reason: str
    detail: str


class Unknown(NamedTuple):
    """The record may or may not be in the log.

    Attributes:
        detail: What is known about the reason.
    """

    detail: str


AppendAnswer: TypeAlias = Appended | Refused | Unknown
"""The answer for one appended record."""
