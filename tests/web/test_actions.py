"""What operators do on the page: who may, from where, and what is kept of it."""

from __future__ import annotations

import logging
import re

import pytest

from shifter.ops.overrides import read_fleet
from shifter.web import Access
from tests.web.conftest import HOME, OPERATE, READ

pytestmark = pytest.mark.usefixtures("lanes")
REASON = {"reason": "the alarm was false", "for": "30m"}
FORMS = [
    ("/dependencies/mailer", {"to": "open", **REASON}),
    ("/settings/quality", {"to": "REDUCED", **REASON}),
    ("/settings/window", {"to": "closed", "queue": "mail", **REASON}),
    ("/dead-letters/mail/replay", {"filter": "", "until_ms": "9", **REASON}),
    ("/dead-letters/mail/discard", {"filter": "", "until_ms": "9", **REASON}),
    ("/runs/any/resume", REASON),
    ("/jobs/018f0000-0000-7000-8000-000000000000/cancel", REASON),
    ("/workers/w1/drain", REASON),
    ("/cron/digest", {"to": "run", **REASON}),
    (
        "/dependencies/mailer/endpoints",
        {"to": "drained", "endpoint": "10.0.0.1:8080", **REASON},
    ),
]
SAME = {"origin": HOME, "sec-fetch-site": "same-origin"}


async def _post(client, path, fields, headers=SAME, *, csrf=True):
    page = (await client.get("/settings")).text
    found = re.search(r'name="csrf" value="(\w+)"', page)
    token = found[1] if found and csrf else ""
    return await client.post(path, data={"csrf": token, **fields}, headers=headers)


@pytest.mark.parametrize(("path", "fields"), FORMS)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site", "origin": HOME},
        {"sec-fetch-site": "same-site", "origin": HOME},
        {"sec-fetch-site": "none"},
        {},
    ],
    ids=str,
)
async def test_no_other_site_can_make_a_browser_act(opened, path, fields, headers):
    async with opened() as client:
        answer = await _post(client, path, fields, headers)

    assert answer.status_code == 403


@pytest.mark.parametrize(("path", "fields"), FORMS)
async def test_a_form_without_this_browsers_token_is_refused(opened, path, fields):
    async with opened() as client:
        without = await _post(client, path, fields, csrf=False)
        wrong = await _post(client, path, {**fields, "csrf": "0" * 64})
        page = (await client.get("/settings")).text
        token = re.search(r'name="csrf" value="(\w+)"', page)[1]
        client.cookies.clear()  # as of a site that knows the token but has no cookie
        stolen = await client.post(path, data={"csrf": token, **fields}, headers=SAME)

    assert [a.status_code for a in (without, wrong, stolen)] == [403, 403, 403]


@pytest.mark.parametrize(("path", "fields"), FORMS)
async def test_a_reader_may_change_nothing(opened, app, path, fields):
    access = Access(operate_token=OPERATE, read_token=READ)
    async with opened(access) as client:
        client.headers["authorization"] = f"Bearer {READ}"
        answer = await _post(client, path, fields)
        shown = await client.get("/settings")

    assert answer.status_code == 403
    assert "may change nothing" in answer.text
    assert "<button" not in shown.text
    fleet = await read_fleet(app.settings)
    assert (fleet.quality.by_hand, fleet.windows, fleet.circuits) == (None, [], [])
    assert fleet.endpoints == []


@pytest.mark.parametrize(
    ("path", "fields"), [form for form in FORMS if "resume" not in form[0]]
)
async def test_an_action_without_a_reason_is_refused(opened, path, fields):
    async with opened() as client:
        answer = await _post(client, path, {**fields, "reason": "  "})

    assert answer.status_code == 400
    assert "say why" in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused(opened, method):
    async with opened() as client:
        assert (await client.request(method, "/settings")).status_code == 405


async def test_a_form_of_a_megabyte_is_refused(opened):
    async with opened() as client:
        answer = await _post(client, *_with(FORMS[0], reason="x" * 1_000_000))

    assert answer.status_code == 413


async def test_a_circuit_is_opened_and_left_to_the_fleet_again(opened, app, caplog):
    async with opened() as client:
        with caplog.at_level(logging.WARNING, logger="shifter"):
            answer = await _post(client, *FORMS[0])
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            "/dependencies/mailer",
        )
        page = (await client.get("/dependencies/mailer")).text
        [row] = (await read_fleet(app.settings)).circuits
        await _post(client, "/dependencies/mailer", {"to": "auto"})
        after = await client.get("/dependencies/mailer")

    assert (row.by_hand.to, row.by_hand.reason) == ("open", "the alarm was false")
    assert 1_700 < row.by_hand.left_s <= 1_800
    assert "open by hand" in page
    assert "the alarm was false" in page
    assert "by hand" not in after.text
    assert (await read_fleet(app.settings)).circuits == []
    [line, _] = [r for r in caplog.records if "operator.acted" in r.getMessage()]
    facts = line.shifter
    assert facts["action"] == "circuit open mailer for 30m"
    assert facts["is_recorded"] is True
    assert (facts["by"], facts["reason"]) == (row.by_hand.owner, "the alarm was false")


async def test_quality_and_windows_are_set_and_shown(opened, app):
    async with opened() as client:
        for path, fields in FORMS[1:3]:
            assert (await _post(client, path, fields)).status_code == 303
        page = (await client.get("/settings")).text
        first = (await client.get("/")).text

    fleet = await read_fleet(app.settings)
    assert fleet.quality.quality == "REDUCED"
    assert [(row.scope, row.is_open) for row in fleet.windows] == [
        ("queue/mail", False)
    ]
    assert 'data-mode="degraded"' in first
    assert page.count("the alarm was false") == 2


async def test_the_windows_of_one_priority_are_closed(opened, app):
    fields = {"to": "closed", "queue": "mail", "priority": "LOW", **REASON}
    async with opened() as client:
        answer = await _post(client, "/settings/window", fields)

    assert answer.status_code == 303
    [row] = (await read_fleet(app.settings)).windows
    assert (row.scope, row.is_open) == ("lane/mail/low", False)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/dependencies/mailer", {"to": "ajar", **REASON}),
        ("/dependencies/No_Name", {"to": "open", **REASON}),
        ("/settings/quality", {"to": "SUPER", **REASON}),
        ("/settings/quality", {"to": "FULL", "reason": "x", "for": "soon"}),
        ("/settings/window", {"to": "open", **REASON}),
        (
            "/settings/window",
            {"to": "open", "queue": "mail", "priority": "x", **REASON},
        ),
        (
            "/dead-letters/mail/replay",
            {"filter": "error ==", "until_ms": "x", **REASON},
        ),
    ],
)
async def test_a_wrong_value_is_400_and_changes_nothing(opened, app, path, fields):
    async with opened() as client:
        answer = await _post(client, path, fields)

    assert answer.status_code == 400
    fleet = await read_fleet(app.settings)
    assert (fleet.quality.by_hand, fleet.windows, fleet.circuits) == (None, [], [])


async def test_a_bearer_token_acts_without_a_form(opened, app):
    async with opened(Access(operate_token=OPERATE)) as client:
        headers = {"authorization": f"Bearer {OPERATE}"}
        answer = await client.post(*FORMS[1][:1], data=FORMS[1][1], headers=headers)

    assert answer.status_code == 303
    assert (await read_fleet(app.settings)).quality.quality == "REDUCED"


async def test_a_job_that_waits_is_cancelled(opened, app):
    with app:
        job_id = app.find_job("send").defer_sync(number=7).job_id
    async with opened() as client:
        found = await client.get("/jobs", params={"id": job_id.upper()})
        answer = await _post(client, f"/jobs/{job_id}/cancel", REASON)
        page = (await client.get(found.headers["location"])).text

    assert answer.status_code == 303
    assert "cancelled" in page
    assert "the alarm was false" in page.partition("What happened")[2]
    assert (await app.status(job_id)).state.value == "cancelled"


@pytest.mark.parametrize("text", ["x", "<script>", "../../etc", "%00"])
async def test_a_strange_id_finds_no_job(opened, text):
    async with opened() as client:
        found = await client.get("/jobs", params={"id": text})
        shown = await client.get("/jobs/x")

    assert (found.status_code, shown.status_code) == (200, 404)
    assert "<script>" not in found.text.partition("<main")[2]


def _with(form, **fields):
    return form[0], {**form[1], **fields}
