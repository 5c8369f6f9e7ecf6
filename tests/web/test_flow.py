"""The flow strip, and since when: also on a page that has just started."""

from __future__ import annotations

import asyncio
import re

import pytest

from shifter import Priority, wiring
from shifter.fleet.service_reports import AdmissionRow, FlowRow
from shifter.fleet.shared_state import circuit_cell, circuit_text
from shifter.fleet.view import question
from shifter.model.fleet import Proposal
from shifter.ops.status import LaneRow, Overview
from shifter.policy.protection.circuit.states import Open
from shifter.web.view import view_priorities

pytestmark = pytest.mark.usefixtures("lanes")


async def _shown(client, part: str) -> str:
    """The page, once the state that it is drawn from has a text."""
    async with asyncio.timeout(25):
        while True:
            await client.get("/api/status")
            text = (await client.get("/")).text
            if part in text:
                return text
            await asyncio.sleep(0.1)


def _row(text: str, priority: str) -> dict[str, str]:
    row = text.partition(f'<tr data-priority="{priority}">')[2].partition("</tr>")[0]
    return dict(re.findall(r'data-word="(\w+)">([^<]*)<', row))


async def test_what_services_answered_is_in_the_strip_and_in_the_status(opened, app):
    send = app.find_job("send")
    async with app:
        for number in range(3):
            await send.submit(number=number)
        await send.options(priority=Priority.LOW).submit(number=4)
        async with opened() as client:
            text = await _shown(client, '<tr data-priority="low">')
            text = await _shown(client, 'data-word="offered">3<')
            status = (await client.get("/api/status")).json()

    offered = {row["priority"]: row for row in status["admission"]["last_minute"]}
    assert _row(text, "low")["offered"] == "1"
    assert _row(text, "critical")["offered"] == "0"
    assert offered["LOW"]["offered"] == 1
    assert offered["LOW"]["ran"] == int(_row(text, "low")["ran"])
    assert len(status["services"]) == 1
    assert "1 service started" in text


def test_done_is_the_rate_of_the_workers_as_jobs_a_minute():
    lanes = [
        LaneRow(queue, "LOW", 4, 1, 2, age_s, rate_per_s, None)
        for queue, age_s, rate_per_s in (("a", 7.0, 0.5), ("b", 9.0, None))
    ]
    flow = [FlowRow("HIGH", 3, 1, 1, 0, 1)]
    state = Overview(*(0, lanes, [], [], [], []), admission=AdmissionRow({}, {}, flow))

    high, low = view_priorities(state)

    assert (high.priority, high.flow, high.done) == ("HIGH", flow[0], 0)
    assert (low.priority, low.flow, low.done) == ("LOW", None, 30)
    assert (low.waiting, low.delayed, low.running, low.oldest_s) == (8, 2, 4, 9.0)


async def test_a_page_that_has_just_started_knows_since_when(opened, app):
    store = wiring.open_fleet(app.settings)
    try:
        now_ms = (await store.sync(question("x"))).now_ms
        state = circuit_text(Open(3, 1, now_ms + 60_000, since_ms=now_ms - 3_723_000))
        change = [Proposal(circuit_cell("mailer"), b"", state)]
        view = await store.sync(question("x")._replace(proposals=change))
    finally:
        await store.close()
    assert view.accepted == [True]

    async with opened() as client:
        text = await _shown(client, "Degraded")
    async with opened() as client:
        again = await _shown(client, "Degraded")

    def since(page: str) -> list[str]:
        return re.findall(r'class="since">since <time>([\d:]+)</time>', page)

    assert len(since(text)) == 2
    assert len(set(since(text))) == 1
    assert since(again) == since(text)
