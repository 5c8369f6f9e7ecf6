"""Reports of several processes about endpoints, as one row each."""

from __future__ import annotations

import msgspec
import pytest

from shifter.balance.balancer import Balancer, CallEvidence
from shifter.balance.sharing import SharedEndpoints
from shifter.cli.endpoint_table import ENDPOINTS, endpoint_cells
from shifter.fleet.endpoint_cells import EjectionCell, EndpointCell, EndpointReport
from shifter.fleet.endpoint_view import endpoint_rows
from shifter.fleet.readings import read_fleet, show_fleet
from shifter.fleet.replica import FleetReplica
from shifter.fleet.shared_state import OverrideCell, ProcessReport, setting_text
from shifter.policy.balance.mark import MarkKind
from shifter.policy.protection.dependency import Dependency
from shifter.telemetry.metric import Metrics
from shifter.testing.clock import FakeClock

URL, NOW_MS = "http://a:1", 1_000_000


def row_of(*reports, cells=None):
    processes = [ProcessReport(endpoints={"render": [one]}) for one in reports]
    [row] = endpoint_rows(cells or {}, processes, NOW_MS)
    return row


def ejected(kind, *, since_s=5, left_s=25):
    cell = EjectionCell(
        NOW_MS - since_s * 1_000, NOW_MS + left_s * 1_000, 1, "5 failures in a row"
    )
    return {EndpointCell(kind, "render", URL).name: msgspec.json.encode(cell)}


def drained():
    setting = OverrideCell("drained", "ann", "new kernel", NOW_MS + 60_000)
    return {EndpointCell(MarkKind.DRAIN, "render", URL).name: setting_text(setting)}


def test_reports_of_processes_are_summed_up():
    row = row_of(
        EndpointReport(URL, calls=30, failures=3, inflight=2, latency_us=10_000),
        EndpointReport(URL, calls=10, failures=1, inflight=1, latency_us=50_000),
        EndpointReport(URL, "starting", weight_milli=500, zone="eu-1a"),
    )
    assert (row.dependency, row.endpoint, row.state) == ("render", URL, "open")
    assert (row.calls, row.failures, row.error_rate) == (40, 4, 0.1)
    assert (row.inflight, row.latency_ms, row.weight) == (3, 20.0, 1.0)
    assert (row.processes, row.out_in, row.zone) == (3, 0, "eu-1a")
    assert (row.by, row.why, row.since_s, row.left_s) == (None, None, None, None)


@pytest.mark.parametrize("kind", [MarkKind.FLEET, MarkKind.CHECKS])
def test_what_is_out_has_its_reason_and_its_times(kind):
    row = row_of(EndpointReport(URL), cells=ejected(kind))
    assert (row.state, row.by) == ("ejected", kind.value)
    assert (row.since_s, row.left_s, row.why) == (5, 25, "5 failures in a row")


def test_an_operator_is_shown_rather_than_the_fleet():
    row = row_of(
        EndpointReport(URL, "drained", out_ms=7_000),
        cells=ejected(MarkKind.FLEET) | drained(),
    )
    assert (row.state, row.by, row.why) == ("drained", "operator", "ann: new kernel")
    assert (row.since_s, row.left_s) == (7, 60)


def test_what_one_process_of_three_found_does_not_hide_the_others():
    own = EndpointReport(URL, "ejected", "calls", out_ms=3_000, left_ms=9, why="slow")
    row = row_of(own, EndpointReport(URL), EndpointReport(URL))
    assert (row.state, row.out_in, row.by) == ("open", 1, None)
    row = row_of(own, own, EndpointReport(URL))
    assert (row.state, row.out_in, row.by, row.why) == ("ejected", 2, "process", "slow")
    assert row.since_s == 3


def test_what_is_over_or_not_ours_is_not_shown():
    over = ejected(MarkKind.FLEET, left_s=-1)
    assert endpoint_rows(over | {"endpoint/ejected/render": b"x"}, [], NOW_MS) == []


def test_texts_of_others_are_shown_printable():
    row = row_of(EndpointReport("http://\x1b[31m:1", "ejected", why="\x1b[2J"))
    assert row.endpoint.isprintable()
    assert row.why is not None
    assert row.why.isprintable()
    [cells] = endpoint_cells([row])
    assert len(cells) == len(ENDPOINTS)


def test_metrics_count_endpoints_by_state():
    clock, metrics = FakeClock(), Metrics()
    render = Dependency("render")
    replica = FleetReplica([render], clock, process="p", seed=1)
    balancer = Balancer("render", ["a:1", "b:1", "c:1"], render.balance)
    replica.endpoints.join(render, SharedEndpoints(balancer, render.balance))
    for _ in range(5):
        lease = balancer.lease(clock.monotonic(), tried=["http://b:1", "http://c:1"])
        lease.end(clock.monotonic(), CallEvidence(failed=True))

    show_fleet(metrics, read_fleet(replica))

    shown = dict(read_fleet(replica).dependencies[0].endpoints)
    assert shown == {"open": 0, "starting": 2, "paused": 0, "ejected": 1, "drained": 0}
    text = "\n".join(map(str, metrics.snapshot()))
    assert "shifter_endpoints" in text
