"""A rolling update, a drain of a node and a scale-in, as the manifests state them.

Real processes get the signals and the times of ``deploy/kubernetes``, while jobs come
in. Whatever ends a worker in order costs no attempt and doubles no job, and each worker
that comes or goes costs its groups one or two rebalances.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from shifter.model.lane import Priority
from tests.acceptance.fleet import ROOT, Fleet
from tests.acceptance.generations import generations
from tests.acceptance.kubelet import Cluster, Stated, stated

TARGET = "tests.acceptance.rolled_jobs:app"

pytestmark = pytest.mark.timeout(600)
kafka = pytest.mark.parametrize(
    "fleet",
    [pytest.param("servers", marks=[pytest.mark.kafka, pytest.mark.redis])],
    indirect=True,
)
embedded = pytest.mark.parametrize("fleet", ["embedded"], indirect=True)


@pytest.fixture
def told(fleet: Fleet) -> Stated:
    told = stated()
    fleet.environment |= told.settings
    return told


@contextmanager
def producing(fleet: Fleet) -> Iterator[None]:
    """Jobs come in, one after another, while the block runs."""
    stop = fleet.folder / "stop"
    producer = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.rolled_jobs", str(stop)],
        env=fleet.environment,
        cwd=ROOT,
    )
    try:
        fleet.until(lambda: len(fleet.effects("sent")) > 0)
        yield
    finally:
        stop.touch()
        assert producer.wait(120) == 0


def play(
    fleet: Fleet, told: Stated, replicas: int, happens: Callable[[Cluster], None]
) -> Cluster:
    """Start workers, let something happen to them while jobs come in, and end all."""
    fleet.run("topics", "apply", TARGET)
    cluster = Cluster(fleet, told, TARGET)
    cluster.scale(replicas)
    with producing(fleet):
        fleet.until(lambda: len(fleet.effects("ended")) > 0)
        happens(cluster)
    sent = {number for _, number, *_ in fleet.effects("sent")}
    fleet.until(
        lambda: sent <= {number for _, number, *_ in fleet.effects("ended")},
        timeout_s=180,
    )
    codes = cluster.close()

    assert set(codes) == {0}, fleet.said()
    assert not any(pod.was_killed for pod in cluster.started)
    assert_each_ran_once(fleet)
    return cluster


def assert_each_ran_once(fleet: Fleet) -> None:
    """No attempt was charged, and no job was doubled."""
    for name in ("begun", "ended"):
        lines = fleet.effects(name)
        assert {attempt for _, _, attempt, *_ in lines} == {"1"}
        doubled = {n: c for n, c in Counter(line[1] for line in lines).items() if c > 1}
        assert doubled == {}
    status = fleet.json("status", "--namespace", fleet.namespace)
    assert sum(row["count"] for row in status["dead_letters"]) == 0


def assert_no_storm(fleet: Fleet, cluster: Cluster) -> None:
    """Each worker that came, and each that went, cost a group two rebalances at most.

    With the cooperative protocol a rebalance that moves partitions is followed by one
    that gives them to their new owners.
    """
    servers = fleet.environment["SHIFTER_LOG"].removeprefix("kafka://").rstrip("/")
    found = generations(servers, f"{fleet.namespace}.workers.")

    assert len(found) == len(Priority)
    changes = 2 * len(cluster.started)
    for group, count in found.items():
        assert len(cluster.started) <= count <= 2 * changes, (group, count)


def update_and_scale_in(cluster: Cluster) -> None:
    cluster.update()
    cluster.scale(1)


@kafka
def test_a_rolling_update_and_a_scale_in_cost_no_attempt(fleet, told):
    cluster = play(fleet, told, 2, update_and_scale_in)

    assert len(cluster.started) == 4
    assert_no_storm(fleet, cluster)


@embedded
def test_a_rolling_update_on_one_file_costs_no_attempt(fleet, told):
    cluster = play(fleet, told, 1, Cluster.update)

    assert len(cluster.started) == 2


def a_long_day(cluster: Cluster) -> None:
    """Two updates, a node with half of the pods that is drained, and a scale-in."""
    cluster.update()
    cluster.drain_node(cluster.pods[:2])
    cluster.scale(6)
    cluster.update()
    cluster.scale(1)


@pytest.mark.torture
@pytest.mark.timeout(1_800)
def test_a_day_of_updates_drains_and_scalings_costs_no_attempt(fleet, told):
    cluster = play(fleet, told, 4, a_long_day)

    # 4 at first, 4 of an update, 2 of a drain, 2 more, and 6 of the other update.
    assert len(cluster.started) == 18
    if fleet.environment["SHIFTER_LOG"].startswith("kafka:"):
        assert_no_storm(fleet, cluster)


def a_node_is_drained(cluster: Cluster) -> None:
    cluster.drain_node(cluster.pods[:2])


@kafka
@pytest.mark.torture
@pytest.mark.timeout(900)
def test_a_drained_node_takes_one_worker_at_a_time(fleet, told):
    cluster = play(fleet, told, 3, a_node_is_drained)

    assert len(cluster.started) == 5
    assert_no_storm(fleet, cluster)
