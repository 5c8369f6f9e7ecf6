"""Cron jobs on the page: when each fires, and an action for each."""

from __future__ import annotations

import re

import pytest

from shifter import wiring
from shifter.errors import StoreUnavailableError
from shifter.ops.crons import read_crons
from shifter.ports import WorkerReport
from shifter.web import crons as module
from tests.web.conftest import HOME

pytestmark = pytest.mark.usefixtures("lanes")
SAME = {"origin": HOME, "sec-fetch-site": "same-origin"}


@pytest.fixture
async def worker(app):
    """A live worker with a cron job, and one whose name is hostile."""
    schedules = {"digest": "0 3 * * *", "<b>/x": "<i>"}
    report = WorkerReport(*("w1", "h", 7, 1, 2, 16, {}, {}), crons=schedules)
    presence = wiring.open_presence(app.settings)
    await presence.report(report, keep_ms=60_000)
    yield
    await presence.close()


async def _act(client, name, **fields):
    page = (await client.get("/cron")).text
    token = re.search(r'name="csrf" value="(\w+)"', page)[1]
    fields = {"csrf": token, "reason": "a drill", **fields}
    return await client.post(f"/cron/{name}", data=fields, headers=SAME)


@pytest.mark.usefixtures("worker")
async def test_a_cron_job_is_paused_and_resumed(opened, app):
    async with opened() as client:
        answers = [await _act(client, "digest", to="pause", **{"for": "3d"})]
        page = (await client.get("/cron")).text
        paused = {row.name: row.paused for row in await read_crons(app.settings)}
        answers.append(await _act(client, "digest", to="resume"))

    assert [answer.headers["location"] for answer in answers] == ["/cron", "/cron"]
    assert paused["digest"].reason == "a drill"
    assert paused["<b>/x"] is None
    assert "a drill" in page
    assert "&lt;b&gt;/x" in page
    assert not re.search(r"<[bi]>", page)
    rows = await read_crons(app.settings)
    assert [row.paused for row in rows] == [None, None]


@pytest.mark.usefixtures("worker")
async def test_an_unknown_cron_job_is_404_and_a_wrong_value_400(opened):
    async with opened() as client:
        unknown = await _act(client, "dijest", to="pause")
        wrong = [await _act(client, "digest", to="stop")]
        wrong.append(await _act(client, "digest", to="pause", **{"for": "soon"}))

    assert unknown.status_code == 404
    assert "digest" in unknown.text
    assert [answer.status_code for answer in wrong] == [400, 400]


async def test_the_page_shows_what_the_app_declares_while_the_store_is_away(
    opened, app, monkeypatch
):
    @app.job(cron="0 4 * * *")
    async def tidy() -> None: ...

    async def read(settings, declared):
        raise StoreUnavailableError("redis", "fleet.sync", "gone")

    monkeypatch.setattr(module, "read_crons", read)

    async with opened() as client:
        page = (await client.get("/cron")).text

    assert "The state store does not answer" in page
    assert "gone" in page
    assert "0 4 * * *" in page
    assert "<button" not in page
