"""Debian's Prometheus watches a real fleet: five faults, each with its alert alone.

The rules and the configuration are the published ones, with all durations divided by
`FACTOR`: a minute of theirs is a second here. What the fleet itself takes (a timeout, a
server that starts) is not shorter, and comes on top: `GRACE_S`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from docs_build.dashboard import ROWS
from stack.kafka import KafkaCluster
from stack.process import free_port
from stack.prometheus import PrometheusServer, duration_ms, scaled
from stack.redis import RedisServer
from tests.acceptance.fleet import ROOT, Fleet
from tests.acceptance.services import Service
from tests.deploy.rules import CONFIG, RULES, RUNBOOK, alerts

TARGET = "tests.acceptance.alert_jobs:app"
SERVICE = "tests.acceptance.alert_jobs:service"
FACTOR = 60
GRACE_S = 60
"""Timeouts of clients, restarts of servers and programs, on a machine that is busy."""
LATE_S = 10
"""By how much a busy machine may delay scrapes and evaluations."""

PANELS = {panel.title: panel.query for panels in ROWS.values() for panel in panels}
ALERTS = {alert.name: alert for alert in alerts()}
PUBLISHED = re.findall(
    r"^\| ([\w ]+) \| \[(\w+)\]\(#\w+\) \| ([\w ]+) \|$",
    (ROOT / RUNBOOK).read_text("utf-8"),
    re.MULTILINE,
)
"""The faults of `docs/operations.md`, each with its alert and its panel."""


def stated_s(alert: str, field: str) -> float:
    """Within how many seconds an alert fires or ends here, by what it states."""
    return duration_ms(ALERTS[alert].field(field)) / 1_000 / FACTOR


class Fault(NamedTuple):
    """Something that breaks.

    Attributes:
        name: What it is.
        alert: The alert that fires, and no other does.
        panel: A panel that shows it.
        shows: Whether the values of the panel are those of the fault.
        start: Breaks it.
        end: Heals it.
    """

    name: str
    alert: str
    panel: str
    shows: Callable[[list[float]], bool]
    start: Callable[[], object]
    end: Callable[[], object]


class Watched:
    """A fleet, its servers, and the Prometheus that scrapes it."""

    def __init__(self, fleet: Fleet, kafka: KafkaCluster, redis: RedisServer) -> None:
        self.fleet, self.kafka, self.redis = fleet, kafka, redis
        self.health = free_port()
        self.work()
        where = "--host", "127.0.0.1", "--port", "0"
        service = Service(fleet, "-m", "uvicorn", SERVICE, "--no-access-log", *where)
        config = CONFIG.read_text("utf-8")
        for published, port in ((9000, self.health), (8000, service.port)):
            assert f"127.0.0.1:{published}" in config
            config = config.replace(f"127.0.0.1:{published}", f"127.0.0.1:{port}")
        rules = {RULES.name: RULES.read_text("utf-8")}
        self.prometheus = PrometheusServer(config, rules, factor=FACTOR)

    def work(self) -> None:
        """Start the workers."""
        health = "--health", f"127.0.0.1:{self.health}"
        more = "--processes", "2", "--wait", "60s"
        self.worker = self.fleet.work(*more, *health, target=TARGET)

    def kill_workers(self) -> None:
        """End all of them, as a crash of their machine would."""
        children = self.fleet.children(self.worker)
        self.worker.kill()
        self.worker.wait()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def switch(self, fault: str) -> tuple[Callable[[], object], Callable[[], object]]:
        """Start and end of a fault of the jobs: it is on while a file is there."""
        file = self.fleet.effects_file.with_name(fault)
        return file.touch, file.unlink

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {alert.name for alert in self.prometheus.firing()}

    def panel(self, title: str) -> list[float]:
        """What a panel shows now."""
        found = self.prometheus.query(scaled(PANELS[title], FACTOR))
        return [value for _, value in found]

    def seen_s(self, fault: Fault, since_s: float) -> float:
        """Seconds from the first sample that shows a fault to that of its alert."""

        def first(query: str, holds: Callable[[list[float]], bool]) -> float:
            steps = self.prometheus.history(query, since_s=since_s, step_ms=100)
            return min(at for at, values in steps if holds(values))

        firing = f'ALERTS{{alertname="{fault.alert}", alertstate="firing"}}'
        caused_at = first(scaled(PANELS[fault.panel], FACTOR), fault.shows)
        return first(firing, bool) - caused_at

    def empty(self) -> list[str]:
        """Titles of the panels that show nothing now."""
        return [title for title in PANELS if not self.panel(title)]

    def until(self, what: str, check: Callable[[], bool], limit: float) -> float:
        """Wait until something holds; how long it took, in seconds."""
        began = time.monotonic()
        try:
            self.fleet.until(check, timeout_s=limit)
        except AssertionError as error:
            now = f"firing: {self.firing()}, empty: {self.empty()}"
            raise AssertionError(f"not so: {what}; {now}") from error
        return time.monotonic() - began

    def faults(self) -> list[Fault]:
        """All of them, in the order in which they are played."""
        return [
            Fault(
                "poison jobs",
                "ShifterDeadLettersGrowing",
                "New dead letters",
                is_any,
                *self.switch("poison"),
            ),
            Fault(
                "a broken dependency",
                "ShifterCircuitOpen",
                "Circuits that are not closed",
                is_any,
                *self.switch("bank-is-closed"),
            ),
            Fault(
                "no Redis",
                "ShifterClaimsFailing",
                "Errors of the state store",
                is_any,
                self.redis.kill,
                self.redis.restart,
            ),
            Fault(
                "no Kafka",
                "ShifterSpoolFilling",
                "Age of the spool",
                is_any,
                self.kafka.kill,
                self.kafka.restart,
            ),
            Fault(
                "no workers",
                "ShifterWorkersDown",
                "Processes that answer",
                lambda values: 0 in values,
                self.kill_workers,
                self.work,
            ),
        ]


def is_any(values: list[float]) -> bool:
    return max(values, default=0) > 0


@pytest.fixture
def watched(promtool, namespace, tmp_path):
    with KafkaCluster() as kafka, RedisServer() as redis:
        kafka.warm()
        fleet = Fleet(kafka.url, redis.url, namespace, tmp_path)
        fleet.environment |= {
            "SHIFTER_ACCEPT_TIMEOUT": "2s",
            "SHIFTER_SPOOL": str(tmp_path / "spool.db"),
        }
        fleet.run("topics", "apply", TARGET)
        try:
            watched = Watched(fleet, kafka, redis)
            with watched.prometheus:
                yield watched
        finally:
            fleet.close()


def play(watched: Watched, fault: Fault) -> None:
    """Break something until its alert fires, and heal it until that has ended."""
    seen: set[str] = set()

    def is_firing() -> bool:
        seen.update(watched.firing())
        return fault.alert in seen

    def is_quiet() -> bool:
        seen.update(now := watched.firing())
        return not now

    may_fire_s = stated_s(fault.alert, "fires_within")
    may_end_s = stated_s(fault.alert, "resolves_within")
    since_s = time.time()
    fault.start()
    fired_s = watched.until(f"{fault.name} fires", is_firing, may_fire_s + GRACE_S)
    watched.until(
        f"{fault.name} is shown", lambda: fault.shows(watched.panel(fault.panel)), 20
    )
    fault.end()
    ended_s = watched.until(f"{fault.name} has ended", is_quiet, may_end_s + GRACE_S)
    late_s = watched.seen_s(fault, since_s)
    print(
        f"{fault.name}: fired {fired_s:.1f} s after its start, {late_s:.1f} s after its "
        f"cause was scraped (stated: {may_fire_s:.1f}), ended in {ended_s:.1f} s "
        f"(stated: {may_end_s:.1f})"
    )
    assert seen == {fault.alert}, fault.name
    assert late_s <= may_fire_s + LATE_S


# Alone: other tests that starve the fleet for seconds would be faults of their own.
@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.prometheus
@pytest.mark.alone
@pytest.mark.timeout(900)
def test_each_fault_fires_its_alert_and_no_other_until_it_is_healed(watched):
    watched.until("every panel has data", lambda: not watched.empty(), GRACE_S)
    watched.until("no alert fires", lambda: not watched.firing(), GRACE_S)

    faults = watched.faults()
    assert [(fault.name, fault.alert, fault.panel) for fault in faults] == PUBLISHED
    for fault in faults:
        play(watched, fault)

    watched.until("every panel has data again", lambda: not watched.empty(), GRACE_S)
