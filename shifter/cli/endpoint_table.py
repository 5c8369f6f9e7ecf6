"""Endpoints as rows of text, for `shifter status` and `shifter dependency`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shifter.fleet.endpoint_view import EndpointRow
from shifter.ops.texts import age_text

ENDPOINTS: Final = (
    *("dependency", "endpoint", "state", "weight", "zone", "inflight", "latency"),
    *("calls", "errors", "out for", "left", "by", "why"),
)


def endpoint_cells(rows: Sequence[EndpointRow]) -> list[tuple[object, ...]]:
    """Endpoints as rows of text, in the order of the headings."""
    return [
        (
            row.dependency,
            row.endpoint,
            row.state,
            f"{row.weight:g}",
            row.zone,
            row.inflight,
            None if row.latency_ms is None else f"{row.latency_ms:.1f}ms",
            row.calls,
            None if row.error_rate is None else f"{row.error_rate:.1%}",
            age_text(row.since_s),
            age_text(row.left_s),
            row.by,
            row.why,
        )
        for row in rows
    ]
