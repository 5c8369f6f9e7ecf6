"""The published alerts are valid, do what their tests say, and have a runbook."""

from __future__ import annotations

import re
import shutil

import pytest

from docs_build.dashboard import ROWS
from shifter.telemetry.metric import BUILD_INFO, SPECS
from stack.prometheus import duration_ms
from tests.deploy.rules import (
    CONFIG,
    FOLDER,
    RULE_TESTS,
    RULES,
    RUNBOOK,
    alerts,
    anchor,
    metrics_in,
    recorded,
    with_recorded,
)
from tests.documents.blocks import ROOT

ALERTS = alerts()
RECORDED = recorded()
SECTIONS = dict(
    re.findall(
        r"^### (Shifter\w+)\n(.*?)(?=^##|\Z)",
        (ROOT / RUNBOOK).read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)
STEPS = ("What it means", "First look", "Command", "Wake someone")


def name_of(value: object) -> str:
    return getattr(value, "name", str(value))


@pytest.mark.prometheus
@pytest.mark.timeout(300)
def test_promtool_accepts_rules_and_configuration(check):
    for arguments in (("rules", RULES), ("config", CONFIG)):
        checked = check("check", *arguments)

        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert f"{len(ALERTS) + len(RECORDED)} rules found" in checked.stdout


@pytest.mark.prometheus
@pytest.mark.timeout(300)
def test_each_alert_fires_and_ends_in_its_test(check):
    tested = check("test", "rules", RULE_TESTS)

    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.prometheus
@pytest.mark.timeout(300)
def test_alerts_that_never_fire_fail_their_tests(check, tmp_path):
    shutil.copytree(FOLDER, tmp_path / "rules")
    rules = tmp_path / "rules" / RULES.name
    rules.write_text(re.sub(r"- alert: \w+", "- alert: Other", rules.read_text()))

    tested = check("test", "rules", tmp_path / "rules" / "tests" / RULE_TESTS.name)

    assert tested.returncode != 0
    missed = set(
        re.findall(r"exp:.*?alertname=\"(\w+)\"", tested.stdout + tested.stderr)
    )
    assert missed == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=name_of)
def test_an_alert_is_seen_before_it_fires_and_after_it_ended(alert):
    """Each question names all alerts, so that one without it says that it is off."""
    seen = [
        [alert.name in question for question in questions(test)]
        for test in RULE_TESTS.read_text("utf-8").split("\n  - name: ")[1:]
    ]

    assert any(
        not asked[0] and any(asked) and not asked[-1]
        for asked in seen
        if len(asked) > 2
    )


def questions(test: str) -> list[str]:
    """What a test asks of all alerts and expects of them, in order."""
    return [
        part
        for part in test.partition("    alert_rule_test:")[0].split("      - expr: ")[
            1:
        ]
        if re.match(r"ALERTS(?:\{alertstate=\"firing\"\})?\n", part)
    ]


@pytest.mark.parametrize("alert", ALERTS, ids=name_of)
def test_an_alert_uses_only_metrics_of_the_catalogue(alert):
    names = metrics_in(with_recorded(alert.text))

    assert names - {*SPECS, BUILD_INFO.name} == set()
    assert names or "up{" in alert.text


@pytest.mark.parametrize("alert", ALERTS, ids=name_of)
def test_a_label_that_an_alert_selects_or_shows_is_one_of_its_metrics(alert):
    labels = set(re.findall(r"(\w+)=~?\"", alert.text))
    for group in re.findall(r"by \(([^)]*)\)", with_recorded(alert.text)):
        labels |= set(re.split(r",\s*", group))
    labels |= set(re.findall(r"\$labels\.(\w+)", alert.text))

    known = {"job", "instance"}  # Prometheus' own
    for name in metrics_in(with_recorded(alert.text)):
        known |= set(SPECS[name].labels)
    assert labels - known == set()


@pytest.mark.parametrize("alert", ALERTS, ids=name_of)
def test_an_alert_links_to_its_section(alert):
    assert alert.field("runbook_url") == f"{RUNBOOK}#{anchor(alert.name)}"
    assert alert.name in SECTIONS


@pytest.mark.parametrize("alert", ALERTS, ids=name_of)
def test_an_alert_fires_no_later_than_it_states(alert):
    """`for`, a scrape and an evaluation are the least."""
    held = re.findall(r"^ +for: (\w+)$", alert.text, re.MULTILINE)
    least_ms = sum(map(duration_ms, held)) + 2 * duration_ms("30s")

    assert duration_ms(alert.field("fires_within")) >= least_ms
    assert duration_ms(alert.field("resolves_within")) >= 2 * duration_ms("30s")


def test_jobs_of_the_configuration_are_those_of_alerts_and_panels():
    scraped = set(re.findall(r"job_name: (\S+)", CONFIG.read_text("utf-8")))
    asked = re.findall(r'job="([^"]+)"', "".join(alert.text for alert in ALERTS))
    shown = [
        pattern
        for panels in ROWS.values()
        for panel in panels
        for pattern in re.findall(r'job=~"([^"]+)"', panel.query)
    ]

    assert set(asked) <= scraped
    assert shown
    assert all(re.fullmatch(pattern, job) for pattern in shown for job in scraped)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_belongs_to_an_alert_and_has_its_steps(name):
    section = SECTIONS[name]

    assert name in {alert.name for alert in ALERTS}
    assert re.findall(r"^- \*\*([^*]+):\*\*", section, re.MULTILINE) == list(STEPS)
    assert re.search(r"\*\*Command:\*\*.*`[^`]+`", section)


def test_sections_are_in_the_order_of_the_rules():
    assert list(SECTIONS) == [alert.name for alert in ALERTS]


def test_the_table_of_alerts_has_the_severity_and_times_of_the_rules():
    rows = re.findall(
        r"^\| \[(\w+)\]\(#(\w+)\) \| (\w+) \| (\w+) \| (\w+) \|$",
        (ROOT / RUNBOOK).read_text("utf-8"),
        re.MULTILINE,
    )

    assert rows == [
        (
            alert.name,
            anchor(alert.name),
            alert.field("severity"),
            alert.field("fires_within"),
            alert.field("resolves_within"),
        )
        for alert in ALERTS
    ]
