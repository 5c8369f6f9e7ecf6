"""What one process says of a dependency at each sync, as the store carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from shifter.policy.dependency import Protection
from shifter.policy.evidence import Tally

_NONE: Final = (0, 0, 0, 0)
PROTECTIONS: Final = tuple(Protection)
"""In the order of `Statement.held_back`."""


class Statement(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Numbers of one process.

    Attributes:
        calls: As of `shifter.policy.evidence.Tally`.
        failures: Likewise.
        slow: Likewise.
        in_a_row: Likewise.
        held_back: Starts put off since the process began, by protection.
        would_hold_back: The same in the dark.
        limit: Calls at once that its limit allows now; 0 without a limit.
        inflight: Calls under way; counted only with a limit.
    """

    calls: int = 0
    failures: int = 0
    slow: int = 0
    in_a_row: int = 0
    held_back: tuple[int, int, int, int] = _NONE
    would_hold_back: tuple[int, int, int, int] = _NONE
    limit: int = 0
    inflight: int = 0

    @property
    def tally(self) -> Tally:
        """What counts as evidence."""
        return Tally(self.calls, self.failures, self.slow, self.in_a_row)


Statements: TypeAlias = dict[str, Statement]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Statements).decode
_SILENT: Final = Statement()


def statements_text(statements: Mapping[str, Statement]) -> bytes:
    """Those that say anything, packed; empty if none does."""
    said = {name: words for name, words in statements.items() if words != _SILENT}
    return _encode(said) if said else b""


def read_statements(text: bytes) -> Statements:
    """What a process said; nothing if it cannot be read."""
    try:
        return _decode(text) if text else {}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
