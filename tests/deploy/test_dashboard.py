"""The dashboard asks for metrics that exist, and shows the numbers to watch."""

from __future__ import annotations

import json
import re

import pytest

from docs_build.dashboard import ROWS
from shifter.telemetry.metric import BUILD_INFO, SPECS
from tests.deploy.rules import RUNBOOK, alerts, metrics_in, with_recorded
from tests.documents.blocks import ROOT

PANELS = [panel for panels in ROWS.values() for panel in panels]
DASHBOARD = json.loads((ROOT / "deploy/grafana/shifter.json").read_text("utf-8"))
GRAPHS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def title_of(panel: object) -> str:
    return panel.title


@pytest.mark.parametrize("panel", PANELS, ids=title_of)
def test_a_panel_uses_only_metrics_of_the_catalogue(panel):
    names = metrics_in(with_recorded(panel.query))

    assert names - {*SPECS, BUILD_INFO.name} == set()
    assert names or "up{" in panel.query


@pytest.mark.parametrize("panel", PANELS, ids=title_of)
def test_a_label_of_a_panel_is_one_of_its_metrics(panel):
    labels = set(re.findall(r"(\w+)!?=~?\"", panel.query))
    for group in re.findall(r"by \(([^)]*)\)", panel.query):
        labels |= set(re.split(r",\s*", group))
    shown = set(re.findall(r"\{\{(\w+)\}\}", panel.legend))

    known = {"job", "instance", "le"}  # Prometheus' own
    for name in metrics_in(with_recorded(panel.query)):
        known |= set(SPECS[name].labels)
    assert labels - known == set()
    assert shown <= labels | recorded_labels(panel.query)


def recorded_labels(query: str) -> set[str]:
    groups = re.findall(r"by \(([^)]*)\)", with_recorded(query))
    return {label for group in groups for label in re.split(r",\s*", group)}


@pytest.mark.prometheus
@pytest.mark.timeout(300)
def test_prometheus_reads_each_query(check, tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": panel.query}
        for number, panel in enumerate(PANELS)
    ]
    file = tmp_path / "panels.yml"
    # JSON is YAML.
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))

    checked = check("check", "rules", file)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_panel_stands_once_in_the_dashboard_and_none_covers_another():
    assert [graph["title"] for graph in GRAPHS] == [panel.title for panel in PANELS]
    assert len({panel.title for panel in PANELS}) == len(PANELS)
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} <= set(range(24))


def test_each_number_to_watch_has_a_command_a_panel_and_an_alert():
    text = (ROOT / RUNBOOK).read_text("utf-8")
    opening = text.partition("## Five numbers to watch")[2].partition("\n## ")[0]
    rows = [line for line in opening.splitlines() if line.startswith("| ")][1:]

    assert text.startswith("# Operations\n\n## Five numbers to watch\n")
    assert len(rows) == 5
    known = {alert.name for alert in alerts()}
    for row in rows:
        _, good, command, panel, linked = [
            cell.strip() for cell in row.split("|")[1:-1]
        ]
        assert good
        assert re.fullmatch(r"`shifter [^`]+`", command)
        assert panel in {panel.title for panel in PANELS}
        found = re.findall(r"\[(\w+)\]\(#(\w+)\)", linked)
        assert found
        assert {name for name, _ in found} <= known
        assert all(name.lower() == target for name, target in found)
