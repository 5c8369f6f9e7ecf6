"""The Grafana dashboard: its rows are the questions of an operator, its panels PromQL.

Rates look back over five minutes: ten scrapes of the published configuration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

_COLUMNS: Final = 24  # of Grafana's grid
_HEIGHT: Final = 7
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


class Panel(NamedTuple):
    """A graph.

    Attributes:
        title: Of the panel; ``docs/operations.md`` names it so.
        unit: Grafana's name of the unit.
        query: PromQL.
        legend: Name of a series, made of its labels.
    """

    title: str
    unit: str
    query: str
    legend: str


def _zero(query: str) -> str:
    """A query whose metric has no series while all is well: then 0 is shown."""
    return f"{query} or vector(0)"


def _quantile(share: float, metric: str, labels: str = "") -> str:
    return (
        f"histogram_quantile({share}, sum by ({labels}le) (rate({metric}_bucket[5m])))"
    )


def _rate(labels: str, metric: str) -> str:
    return f"sum by ({labels}) (rate({metric}[5m]))"


_ENDED: Final = _rate("queue", "shifter_jobs_total")
_EXPIRED: Final = _rate("queue", 'shifter_jobs_total{outcome="expired"}')

ROWS: Final = {
    "Are users safe?": (
        Panel(
            "Answers",
            "reqps",
            _rate("answer", "shifter_decisions_total"),
            "{{answer}}",
        ),
        Panel(
            "Time to accept, 99th percentile",
            "s",
            _quantile(0.99, "shifter_append_duration_seconds"),
            "99 %",
        ),
        Panel(
            "Records not accepted",
            "reqps",
            _zero(_rate("reason", "shifter_append_failures_total")),
            "{{reason}}",
        ),
        Panel(
            "Age of the spool",
            "s",
            "max by (instance) (shifter_spool_age_seconds)",
            "{{instance}}",
        ),
    ),
    "Is deferred work safe?": (
        Panel(
            "Jobs that ended",
            "reqps",
            _rate("outcome", "shifter_jobs_total"),
            "{{outcome}}",
        ),
        Panel(
            "New dead letters",
            "reqps",
            _zero(_rate("queue, reason", "shifter_dead_letters_total")),
            "{{queue}} {{reason}}",
        ),
        Panel(
            "Share of jobs that expired",
            "percentunit",
            f"({_EXPIRED} or 0 * {_ENDED}) / {_ENDED}",
            "{{queue}}",
        ),
        Panel(
            "Errors of the state store",
            "reqps",
            _zero("sum(rate(shifter_claim_store_errors_total[5m]))"),
            "errors",
        ),
        Panel(
            "Records lost",
            "short",
            _zero("sum by (topic) (shifter_records_lost_total)"),
            "{{topic}}",
        ),
    ),
    "When will it be done?": (
        Panel(
            "Wait for the first attempt, 95th percentile",
            "s",
            _quantile(0.95, "shifter_job_wait_seconds", "queue, "),
            "{{queue}}",
        ),
        Panel(
            "Duration of attempts, 95th percentile",
            "s",
            _quantile(0.95, "shifter_job_duration_seconds", "queue, "),
            "{{queue}}",
        ),
        Panel(
            "Attempts running",
            "short",
            "sum by (queue) (shifter_inflight)",
            "{{queue}}",
        ),
        Panel(
            "Processes that answer",
            "short",
            'sum by (job) (up{job=~"shifter-.+"})',
            "{{job}}",
        ),
    ),
    "What do the jobs wait for?": (
        Panel(
            "Circuits that are not closed",
            "short",
            'sum by (dependency, state) (shifter_circuit_state{state!="closed"})',
            "{{dependency}} {{state}}",
        ),
        Panel(
            "Held back",
            "reqps",
            _zero(_rate("dependency, by", "shifter_held_back_total")),
            "{{dependency}} by {{by}}",
        ),
        Panel(
            "Retries left",
            "short",
            "sum by (dependency) (shifter_budget_left)",
            "{{dependency}}",
        ),
    ),
}
"""The panels, by the question that they answer."""


def dashboard() -> str:
    """The dashboard's JSON, for the import of Grafana 10 and later."""
    return (
        json.dumps(
            {
                "title": "shifter",
                "uid": "shifter",
                "schemaVersion": 39,
                "editable": True,
                "refresh": "30s",
                "time": {"from": "now-6h", "to": "now"},
                "templating": {
                    "list": [
                        {
                            "name": "datasource",
                            "type": "datasource",
                            "query": "prometheus",
                        }
                    ]
                },
                "panels": list(_placed()),
            },
            indent=1,
        )
        + "\n"
    )


def _placed() -> Iterator[dict[str, Any]]:
    """Rows and graphs, from the top down."""
    y = number = 0
    for question, panels in ROWS.items():
        number += 1
        yield _row(number, question, y)
        y += 1
        width = _COLUMNS // len(panels)
        for place, panel in enumerate(panels):
            number += 1
            yield _graph(number, panel, place * width, y, width)
        y += _HEIGHT


def _row(number: int, title: str, y: int) -> dict[str, Any]:
    at = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": at,
        "panels": [],
    }


def _graph(number: int, panel: Panel, x: int, y: int, width: int) -> dict[str, Any]:
    target = {
        "refId": "A",
        "datasource": _SOURCE,
        "expr": panel.query,
        "legendFormat": panel.legend,
    }
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [target],
    }
