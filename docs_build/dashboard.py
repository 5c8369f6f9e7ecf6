"""The Grafana dashboard: its rows are the questions of an operator, its panels PromQL.

Two panels show what the rules of ``deploy/prometheus`` record.

Rates look back over five minutes: ten scrapes of the published configuration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

_COLUMNS: Final = 24  # of Grafana's grid
_HEIGHT: Final = 7
_ABREAST: Final = 4
_WIDTH: Final = _COLUMNS // _ABREAST
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

_REFUSED: Final = 'sum(rate(shifter_decisions_total{answer=~"shed|error"}[5m]))'
_ANSWERED: Final = "sum(rate(shifter_decisions_total[5m]))"

ROWS: Final = {
    "Are users safe?": (
        Panel(
            "Answers",
            "reqps",
            _rate("answer", "shifter_decisions_total"),
            "{{answer}}",
        ),
        Panel(
            "Share of answers refused or failed",
            "percentunit",
            f"({_REFUSED} or vector(0)) / {_ANSWERED}",
            "refused",
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
            "Share of the time to the deadline that is used",
            "percentunit",
            "shifter:lane_deadline_used:ratio",
            "{{queue}} {{priority}}",
        ),
        Panel(
            "Dead letters to handle",
            "short",
            "max by (queue) (shifter_dead_letters_open)",
            "{{queue}}",
        ),
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
            "Jobs that are tried again",
            "reqps",
            _zero(_rate("queue, reason", "shifter_retries_total")),
            "{{queue}} {{reason}}",
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
            "Time until a lane is empty, over the time to its deadline",
            "percentunit",
            "shifter:lane_eta_of_deadline:ratio",
            "{{queue}} {{priority}}",
        ),
        Panel(
            "Time until a lane is empty",
            "s",
            "max by (queue, priority) (shifter_lane_eta_seconds)",
            "{{queue}} {{priority}}",
        ),
        Panel(
            "Jobs that are due",
            "short",
            "max by (queue, priority) (shifter_lane_due)",
            "{{queue}} {{priority}}",
        ),
        Panel(
            "Age of the oldest due job",
            "s",
            "max by (queue, priority) (shifter_lane_oldest_due_seconds)",
            "{{queue}} {{priority}}",
        ),
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
            "Share of the slots in use",
            "percentunit",
            "sum by (instance) (rate(shifter_slots_busy_seconds_total[5m]))"
            " / sum by (instance) (shifter_slots)",
            "{{instance}}",
        ),
        Panel(
            "Attempts running",
            "short",
            "sum by (queue) (shifter_inflight)",
            "{{queue}}",
        ),
        Panel(
            "Lanes that are closed by their hours",
            "short",
            "max by (queue, priority) (shifter_lane_closed)",
            "{{queue}} {{priority}}",
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
            "Calls by outcome",
            "reqps",
            _rate("dependency, outcome", "shifter_calls_total"),
            "{{dependency}} {{outcome}}",
        ),
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
    "Are the processes well?": (
        Panel(
            "Time of a claim, 99th percentile",
            "s",
            _quantile(0.99, "shifter_claim_duration_seconds"),
            "99 %",
        ),
        Panel(
            "Lag of event loops",
            "s",
            "max by (job, instance) (shifter_loop_lag_seconds)",
            "{{job}} {{instance}}",
        ),
        Panel(
            "Distance of clocks from the state store's",
            "s",
            "max by (job, instance) (shifter_clock_skew_seconds)",
            "{{job}} {{instance}}",
        ),
        Panel(
            "Worker processes that were replaced",
            "short",
            "sum by (instance) (increase(shifter_worker_restarts_total[5m]))",
            "{{instance}}",
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
        for first in range(0, len(panels), _ABREAST):
            line = panels[first : first + _ABREAST]
            for place, panel in enumerate(line):
                number += 1
                yield _graph(number, panel, place * _WIDTH, y)
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


def _graph(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
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
        "gridPos": {"x": x, "y": y, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [target],
    }
