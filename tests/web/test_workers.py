"""Workers on the page: what they run, and an order that one of them drain."""

from __future__ import annotations

import re

import pytest

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.fleet.drain_order import drain_cell
from shifter.fleet.shared_state import read_setting
from shifter.fleet.view import cells_of
from shifter.ops.overrides import opened_fleet
from shifter.ports import SlowestJob, WorkerReport
from tests.web.conftest import HOME

pytestmark = pytest.mark.usefixtures("lanes")
SAME = {"origin": HOME, "sec-fetch-site": "same-origin"}


@pytest.fixture
async def worker(app):
    """A live worker whose every text is hostile."""
    now = SystemClock().epoch_ms()
    report = WorkerReport(
        *("<b>/w1", "<i>h</i>", 42, now - 90_000, now, 16, {"a": 1, "b": 2}, {}),
        version="<u>0.5</u>",
        app_version="\u202e7",
        slowest=SlowestJob("../<j>", "<script>x", 61.0),
        progress_ms=now - 120_000,
    )
    presence = wiring.open_presence(app.settings)
    await presence.report(report, keep_ms=60_000)
    yield report
    await presence.close()


async def test_a_worker_is_shown_with_what_it_runs_and_drained_with_a_reason(
    opened, app, worker
):
    path = "/workers/%3Cb%3E/w1"
    async with opened() as client:
        await client.get("/api/status")
        first = (await client.get("/")).text
        page = (await client.get(path)).text
        token = re.search(r'name="csrf" value="(\w+)"', page)[1]
        fields = {"csrf": token, "reason": "a drill"}
        answer = await client.post(f"{path}/drain", data=fields, headers=SAME)

    assert f'href="{path[1:]}"' in first
    for text in (first, page):
        assert "&lt;u&gt;0.5&lt;/u&gt;, app \\u202e7" in text
        assert "&lt;script&gt;x</a> for 1m1s" in text
        assert not re.search(r"<(b|i|u|j|script>x)>", text)
        assert "2m" in text
    assert "3 of 16 are used" in page
    assert answer.status_code == 303
    async with opened_fleet(app.settings) as store:
        cells, _ = await cells_of(store, "test")
    order = read_setting(cells[drain_cell(worker.worker_id)])
    assert (order.to, order.reason) == ("drain", "a drill")


@pytest.mark.usefixtures("worker")
async def test_an_unknown_worker_is_404_with_those_that_live(opened):
    async with opened() as client:
        answer = await client.get("/workers/w9")

    assert answer.status_code == 404
    assert "live workers: &lt;b&gt;/w1" in answer.text
