"""What each path answers, and what the page shows without JavaScript."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path
from urllib.parse import urljoin

import pytest

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.cli.entry import run
from shifter.ports import WorkerReport
from shifter.web import Access
from tests.web.conftest import HOME, OPERATE

pytestmark = pytest.mark.usefixtures("lanes")


async def test_healthz_answers_200_without_reading_anything(opened):
    access = Access(operate_token=OPERATE)
    async with opened(access, peer="10.0.0.7") as client:
        answer = await client.get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert "set-cookie" not in answer.headers


async def test_scale_has_the_numbers_of_the_command(opened, app):
    async with opened() as client:
        answer = await client.get("/scale")

    assert (answer.status_code, answer.headers["content-type"]) == (
        200,
        "application/json",
    )
    [group] = answer.json()["groups"]
    assert (group["name"], group["current"]) == ("default", 0)
    assert "set-cookie" not in answer.headers


async def test_scale_needs_a_token_where_one_is_set(opened):
    async with opened(Access(operate_token=OPERATE), peer="10.0.0.7") as client:
        refused = await client.get("/scale")
        bearer = {"authorization": f"Bearer {OPERATE}"}
        given = await client.get("/scale", headers=bearer)

    assert refused.status_code in (303, 401)
    assert given.status_code == 200


async def test_status_has_the_fields_and_values_of_the_command(opened, app, capsys):
    url = app.settings.log_url.reveal()
    async with opened() as client:
        answer = await client.get("/api/status")

    assert await _command("--log", url, "--namespace", "shop", "status", "--json") == 0
    shown, expected = answer.json(), json.loads(capsys.readouterr().out)
    assert answer.headers["content-type"] == "application/json"
    assert shown.pop("as_of_ms") <= expected.pop("as_of_ms")
    assert shown == expected
    assert len(shown["lanes"]) == 4


async def test_the_first_page_shows_lanes_and_answers_without_javascript(opened, app):
    with app:
        app.find_job("send").defer_sync(number=7)
    async with opened() as client:
        await client.get("/api/status")
        text = (await client.get("/")).text

    assert "Are users safe?" in text
    assert "Is deferred work safe?" in text
    assert "When will it be done?" in text
    assert 'data-mode="shifting"' in text
    assert "Kept, but nobody works" in text
    assert '<noscript><meta http-equiv="refresh"' in text


async def test_a_page_names_no_other_host_and_holds_no_inline_code(opened):
    async with opened() as client:
        text = (await client.get("/")).text
        paths = _Links(text, "/").found
        assert {(await client.get(path)).status_code for path in paths} == {200}

    assert len(paths) > 5
    assert all(path.startswith("/") and not path.startswith("//") for path in paths)
    assert re.search(r"<style|style=|\son\w+=|<script(?![^>]*\ssrc=)", text) is None


async def test_metrics_are_those_of_the_process(opened):
    async with opened() as client:
        answer = await client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "shifter_build_info" in answer.text


async def test_all_lanes_are_found_by_a_part_of_their_name(opened):
    async with opened() as client:
        await client.get("/api/status")
        some = (await client.get("/lanes", params={"match": "mail/low"})).text
        none = (await client.get("/lanes", params={"match": "x/low"})).text

    assert "1 lanes, page 1 of 1" in some
    assert "No lane has this name" in none


async def test_a_worker_is_shown_with_its_slots_and_when_it_was_seen(opened, app):
    now = SystemClock().epoch_ms()
    report = WorkerReport(
        "w1", "<b>host</b>", 42, now - 90_000, now - 3_000, 16, {}, {}
    )
    presence = wiring.open_presence(app.settings)
    try:
        await presence.report(report, keep_ms=60_000)
        async with opened() as client:
            await client.get("/api/status")
            text = (await client.get("/")).text
    finally:
        await presence.close()

    row = text.partition("&lt;b&gt;host&lt;/b&gt; 42")[2].partition("</tr>")[0]
    assert '<td class="n">16</td><td class="n">1m3' in row
    assert re.search(r"\b[3-9]\.\ds ago", row)


@pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 40, "²"])
async def test_a_strange_page_number_shows_a_page(opened, page):
    async with opened() as client:
        answer = await client.get("/lanes", params={"page": page})

    assert answer.status_code == 200


async def test_the_page_lives_and_says_so_when_the_log_is_away(opened, app, tmp_path):
    file = Path(app.settings.log_url.reveal().removeprefix("sqlite://"))
    async with opened() as client:
        await client.get("/api/status")
        for each in tmp_path.glob("page.db*"):
            each.unlink()
        file.mkdir()
    async with opened() as client:
        status = await client.get("/api/status")
        text = (await client.get("/")).text

    assert status.status_code == 503
    assert status.json()["error"]["kind"] == "unavailable"
    assert "The log does not answer" in text


async def test_a_path_that_does_not_exist_is_a_page_with_404(opened):
    async with opened() as client:
        answer = await client.get("/<script>alert(1)</script>")

    assert answer.status_code == 404
    assert "<script>alert" not in answer.text


async def test_the_page_works_below_the_path_of_a_service(app):
    import httpx
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from shifter.web import asgi

    page = asgi(app)
    service = Starlette(routes=[Mount("/shifter", page)])
    transport = httpx.ASGITransport(service, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url=HOME) as client:
        try:
            text = (await client.get("/shifter/")).text
            paths = _Links(text, "/shifter/").found
            codes = {(await client.get(path)).status_code for path in paths}
        finally:
            await page.close()

    assert codes == {200}
    assert {path[:9] for path in paths} == {"/shifter/"}


class _Links(html.parser.HTMLParser):
    """Every path that a page loads or links to."""

    def __init__(self, text: str, place: str) -> None:
        super().__init__()
        self._place = place
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src", "action") and not value.startswith("#"):
                self.found.add(urljoin(self._place, value))


async def _command(*tokens: str) -> int:
    import asyncio

    return await asyncio.to_thread(run, list(tokens))
