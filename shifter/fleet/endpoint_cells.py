"""What processes exchange about endpoints, as bytes: reports, and cells of the fleet.

A process reports what it sees of each endpoint. A cell holds what the fleet agreed on:
an endpoint that is ejected, or one that an operator drained. Every cell has an end. As
with all shared state, values that cannot be read, or that are out of bounds, are
ignored.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from shifter.model.fleet import MAX_CELL_BYTES
from shifter.policy.balance.mark import MarkKind
from shifter.wire.untrusted import Count, InstantMs

MOST_CHARS: Final = 400
"""Longest URL of an endpoint that is shared: a cell's name has 1024 bytes at most."""

MOST_ENDPOINTS: Final = 128
"""Endpoints of a dependency in one report: 128 of them take about 12 kB."""

_PREFIX: Final = {
    MarkKind.DRAIN: "hand/endpoint/",
    MarkKind.FLEET: "endpoint/ejected/",
    MarkKind.CHECKS: "endpoint/unhealthy/",
}

_Url = Annotated[str, Meta(min_length=1, max_length=MOST_CHARS)]
_Text = Annotated[str, Meta(max_length=200)]

T = TypeVar("T")


class EndpointReport(NamedTuple):
    """What one process sees of one endpoint.

    Attributes:
        url: The endpoint's.
        state: Whether it gets calls: ``open``, ``starting`` (in its slow start),
            ``paused`` (it asked for that), ``ejected`` or ``drained``.
        vote: What speaks for an ejection in the whole fleet: the process's own calls,
            its own health checks, or nothing.
        checks: Its own health checks of late that count, in a row.
        calls: Calls that ended in this interval and the last one.
        failures: Those that failed.
        inflight: Calls under way.
        latency_us: Average of its latency, microseconds.
        weight_milli: Its weight now, thousandths.
        zone: Where it is; empty if that is not known.
        out_ms: For how long it has been out; 0 if it is not.
        left_ms: How long it stays out; 0 if that is not known.
        why: Why it is out, or was out last.
        cooldown_ms: Length of a first ejection for the kind of its failures; 0 for the
            usual one.
    """

    url: _Url
    state: Literal["open", "starting", "paused", "ejected", "drained"] = "open"
    vote: Literal["", "calls", "checks"] = ""
    checks: Count = 0
    calls: Count = 0
    failures: Count = 0
    inflight: Count = 0
    latency_us: Count = 0
    weight_milli: Count = 1_000
    zone: _Text = ""
    out_ms: Count = 0
    left_ms: Count = 0
    why: _Text = ""
    cooldown_ms: Count = 0


EndpointReports = Annotated[list[EndpointReport], Meta(max_length=MOST_ENDPOINTS)]


class EjectionCell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An endpoint that the fleet ejected.

    Attributes:
        since_ms: When it was ejected, by the store's clock.
        until_ms: When that ends, excluded.
        times: How often it was ejected.
        why: The reason.
    """

    since_ms: InstantMs
    until_ms: InstantMs
    times: Annotated[int, Meta(ge=1, le=1_000)]
    why: _Text


class EndpointCell(NamedTuple):
    """What a cell is about.

    Attributes:
        kind: Why the endpoint gets no calls.
        dependency: The dependency.
        url: The endpoint.
    """

    kind: MarkKind
    dependency: str
    url: str

    @property
    def name(self) -> str:
        """The name of the cell."""
        return f"{_PREFIX[self.kind]}{self.dependency}/{self.url}"


def endpoint_of(cell: str) -> EndpointCell | None:
    """The endpoint that a cell is about; ``None`` for other cells.

    >>> endpoint_of("endpoint/ejected/render/http://a:1").url
    'http://a:1'
    >>> endpoint_of("circuit/render") is None
    True
    """
    for kind, prefix in _PREFIX.items():
        if cell.startswith(prefix):
            dependency, _, url = cell.removeprefix(prefix).partition("/")
            return EndpointCell(kind, dependency, url) if url else None
    return None


def read_ejection(text: bytes) -> EjectionCell | None:
    """Decode an ejection; ``None`` if it cannot be read."""
    return decoded(text, EjectionCell)


def decoded(text: bytes, kind: type[T]) -> T | None:
    """Decode a cell; ``None`` if it is empty or cannot be read."""
    if not text or len(text) > MAX_CELL_BYTES:
        return None
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
