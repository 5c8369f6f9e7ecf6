"""Prometheus as tests start it, and rules whose durations are divided."""

from __future__ import annotations

import time

import pytest

from stack.errors import StackError
from stack.prometheus import FiringAlert, PrometheusServer, duration_ms, scaled

CONFIG = "global: {evaluation_interval: 10s}\nrule_files: [one.yml]\n"
RULES = """
groups:
  - name: one
    rules:
      - alert: Always
        expr: vector(2) > 1
        for: 20s
        labels: {severity: page}
      - alert: Never
        expr: vector(2) > 3
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("for: 5m", "for: 5000ms"),
        ("rate(x_5m[10m]) offset 1h", "rate(x_5m[10000ms]) offset 60000ms"),
        ("x[1h30m:1m]", "x[90000ms:1000ms]"),
        ("x > 0.5 and y > 60", "x > 0.5 and y > 60"),
        ("job:rate5m > 1", "job:rate5m > 1"),
        ("scrape_interval: 30s\n", "scrape_interval: 500ms\n"),
        ("for: 10ms", "for: 1ms"),
    ],
)
def test_durations_alone_are_divided(text, wanted):
    assert scaled(text, 60) == wanted


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "1.5h", "10y"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is no duration"):
        duration_ms(text)


@pytest.fixture
def server(promtool):  # asked for only to skip where there is no Prometheus
    with PrometheusServer(CONFIG, {"one.yml": RULES}, factor=50) as server:
        yield server


@pytest.mark.prometheus
@pytest.mark.timeout(300)
def test_a_rule_fires_and_a_query_is_answered(server):
    until = time.monotonic() + 30
    while not server.firing() and time.monotonic() < until:
        time.sleep(0.05)

    assert server.firing() == {FiringAlert("Always", (("severity", "page"),))}
    assert server.query("vector(7)") == [({}, 7.0)]
    steps = server.history("vector(3)", since_s=time.time() - 1, step_ms=100)
    assert len(steps) >= 10
    assert steps == sorted(steps)
    assert {tuple(values) for _, values in steps} == {(3.0,)}
    with pytest.raises(StackError, match="parse error"):
        server.query("sum(")


@pytest.mark.prometheus
@pytest.mark.timeout(300)
def test_a_stopped_prometheus_leaves_nothing_behind(server):
    server.stop()

    assert not server.folder.exists()
    with pytest.raises(StackError, match="does not answer"):
        server.query("vector(1)")
