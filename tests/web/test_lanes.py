"""A look into a lane on the page: who may see payloads, and what they see."""

from __future__ import annotations

import pytest

from shifter import wiring
from shifter.model.lane import Priority
from shifter.ports import Appended, Record
from shifter.web import Access
from tests.web.conftest import OPERATE, READ

pytestmark = pytest.mark.usefixtures("lanes")
TOPIC = "shop.mail.low"


@pytest.fixture
def filled(app):
    """A job of the app, one with a hostile payload, and a delayed one."""
    app.jobs["send"].options(priority=Priority.LOW).defer_sync(number=7_654_321)
    records = [
        Record(TOPIC, b'"<script>x</script>"', [("shifter", b"{")], b"<b>key</b>"),
        Record(TOPIC, b"x" * 1_000_000, []),
        Record(TOPIC, b'{"number": 9}', [], None, 4_000_000_000_000),
    ]
    log = wiring.open_log(app.settings)
    answers = log.append_sync(records, timeout_s=20)
    log.close(timeout_s=20)
    assert answers == [Appended()] * 3
    return app


@pytest.mark.usefixtures("filled")
async def test_an_operator_sees_the_first_jobs_of_a_lane_harmlessly(opened):
    async with opened() as client:
        page = (await client.get("/lanes/mail/low")).text
        first = (await client.get("/lanes")).text

    assert "7654321" in page
    assert "&lt;script&gt;x" in page
    assert "<script>x" not in page
    assert "&lt;b&gt;key&lt;/b&gt;" in page
    assert "delayed" in page
    assert len(page) < 100_000
    assert 'href="lanes/mail/low"' in first


@pytest.mark.usefixtures("filled")
async def test_a_reader_sees_no_payload_and_no_key(opened):
    access = Access(operate_token=OPERATE, read_token=READ)
    async with opened(access) as client:
        client.headers["authorization"] = f"Bearer {READ}"
        page = (await client.get("/lanes/mail/low")).text

    assert "send" in page
    assert "7654321" not in page
    assert "key&lt;" not in page
    assert "Payloads and keys are hidden" in page


@pytest.mark.usefixtures("filled")
async def test_the_hook_of_the_app_changes_what_is_seen(opened):
    def redact(job, payload):
        assert job != "send"
        return "***"

    async with opened(redact=redact) as client:
        page = (await client.get("/lanes/mail/low")).text

    assert "7654321" not in page
    assert "redact function failed" in page
    assert "***" in page


async def test_an_unknown_lane_is_404_with_the_lanes_there_are(opened):
    async with opened() as client:
        answer = await client.get("/lanes/male/low")

    assert answer.status_code == 404
    assert "mail/low" in answer.text


@pytest.mark.usefixtures("filled")
async def test_the_first_page_counts_delayed_jobs_by_tier(opened):
    async with opened() as client:
        found = (await client.get("/api/status")).json()["delay_tiers"]
        page = (await client.get("/")).text

    assert [(row["tier_s"], row["delayed"]) for row in found] == [(None, 1)]
    assert "Delay tiers" in page
