"""Endpoints on the page: shown, drained and restored."""

from __future__ import annotations

import logging
import re

import pytest

from shifter.ops.overrides import read_fleet
from tests.web.conftest import HOME

pytestmark = pytest.mark.usefixtures("lanes")
PATH = "/dependencies/mailer/endpoints"
SAME = {"origin": HOME, "sec-fetch-site": "same-origin"}
DRAIN = {
    "to": "drained",
    "endpoint": "10.0.0.1:8080",
    "reason": "disk <b>",
    "for": "9m",
}


async def _post(client, fields):
    page = (await client.get("/settings")).text
    token = re.search(r'name="csrf" value="(\w+)"', page)[1]
    return await client.post(PATH, data={"csrf": token, **fields}, headers=SAME)


async def test_an_endpoint_is_drained_and_restored_on_its_page(opened, app, caplog):
    async with opened() as client:
        with caplog.at_level(logging.WARNING, logger="shifter"):
            answer = await _post(client, DRAIN)
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            "/dependencies/mailer",
        )
        page = (await client.get("/dependencies/mailer")).text
        first = (await client.get("/")).text
        [row] = (await read_fleet(app.settings)).endpoints
        await _post(client, {**DRAIN, "to": "restored"})
        after = (await client.get("/dependencies/mailer")).text

    assert (row.endpoint, row.state, row.by) == (
        "http://10.0.0.1:8080",
        "drained",
        "operator",
    )
    assert 'data-endpoint="http://10.0.0.1:8080"' in page
    assert "drained" in page
    assert "disk &lt;b&gt;" in page
    assert "disk &lt;b&gt;" in first
    assert "10.0.0.1" not in after
    assert (await read_fleet(app.settings)).endpoints == []
    lines = [r for r in caplog.records if "operator.acted" in r.getMessage()]
    action = lines[0].shifter["action"]
    assert action == "endpoint drained mailer http://10.0.0.1:8080 for 9m"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"to": "closed"}, 400),
        ({"endpoint": ""}, 400),
        ({"endpoint": "no port"}, 400),
        ({"for": "soon"}, 400),
        ({"reason": ""}, 400),
    ],
)
async def test_a_wrong_form_changes_nothing(opened, app, change, code):
    async with opened() as client:
        answer = await _post(client, {**DRAIN, **change})
    assert answer.status_code == code
    assert (await read_fleet(app.settings)).endpoints == []
