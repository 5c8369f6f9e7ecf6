"""The page of all metrics, made of their declarations."""

from __future__ import annotations

from collections.abc import Iterable

from shifter.telemetry.labels import LABELS
from shifter.telemetry.metric import (
    BUILD_INFO,
    FLEET_SPECS,
    SCRAPE,
    SERVICE_SPECS,
    SPECS,
    WORKER_SPECS,
)
from shifter.telemetry.series import MAX_SERIES, Spec

_HEAD = f"""\
# Metrics

All metrics, made of their declarations (`make reference`). Workers serve theirs with \
`shifter work --health HOST:PORT` at `/metrics`, one page for all processes of the \
command; a service serves those of its process with \
[`shifter.telemetry.asgi_metrics`](../how-to/services.md#metrics-of-a-service). The \
format is Prometheus' text. A name changes only with an entry in the changelog.

Counters and histograms of the processes of a page are summed. The lanes are those of the \
whole namespace: one `shifter work --health` of the fleet has their series at a time, the \
one that holds a lease in the state store.

A metric keeps {MAX_SERIES:,} combinations of label values; further ones are counted as \
`other`.
"""


def page() -> str:
    """The page's text."""
    both = SERVICE_SPECS.keys() & WORKER_SPECS.keys()
    shared = [BUILD_INFO, SCRAPE, *(SPECS[name] for name in both)]
    parts = {
        "Workers and services": sorted(shared),
        "Workers": [SPECS[name] for name in sorted(WORKER_SPECS.keys() - both)],
        "Lanes and supervisors": [SPECS[name] for name in sorted(FLEET_SPECS)],
        "Services": [SPECS[name] for name in sorted(SERVICE_SPECS.keys() - both)],
    }
    tables = [f"## {title}\n\n{_table(specs)}" for title, specs in parts.items()]
    labels = [f"| `{name}` | {LABELS[name]} |" for name in sorted(LABELS)]
    labels_table = "\n".join(["| label | values |", "|---|---|", *labels])
    return "\n".join([_HEAD, *tables, f"## Labels\n\n{labels_table}\n"])


def _table(specs: Iterable[Spec]) -> str:
    rows = ["| name | type | unit | labels | meaning |", "|---|---|---|---|---|"]
    for spec in specs:
        labels = ", ".join(f"`{label}`" for label in spec.labels)
        rows.append(
            f"| `{spec.name}` | {spec.kind} | {spec.unit} | {labels} | {spec.help} |"
        )
    return "\n".join(rows) + "\n"
