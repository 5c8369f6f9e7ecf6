"""Dead letters on the page: hostile ones shown harmlessly, and runs over them."""

from __future__ import annotations

import asyncio
import html.parser
import re
import time

import msgspec
import pytest

from shifter import wiring
from shifter.deadletter.journal import Journal, letter_specs
from shifter.model.lane import dead_letter_topic
from shifter.ports import Appended, Record, TopicSpec
from shifter.web import Access
from shifter.wire.dead_letter import dead_letter_headers
from shifter.wire.headers import build_headers
from tests.unit.deadletter.letters import envelope, info
from tests.web.conftest import OPERATE, READ
from tests.web.test_actions import _post

pytestmark = pytest.mark.usefixtures("lanes")
DLT = dead_letter_topic("shop", "mail")
SCRIPT = '<script>alert(1)</script><img src=x onerror="alert(2)">'
ANSI, RTL = "\x1b[31mred\x1b[0m", "\u202egnp.exe"
SECRET = "card 4111-1111"


@pytest.fixture
async def put(app):
    """Appends dead letters with these payloads."""
    admin = wiring.open_admin(app.settings)
    await admin.apply(
        [
            TopicSpec(DLT, 1, 86_400_000, 2_000_000),
            *letter_specs("shop", [DLT], 2_000_000),
        ]
    )
    log = wiring.open_log(app.settings)

    def putting(*values: bytes, key: bytes = b"k", **changes: object) -> None:
        first = putting.count
        putting.count += len(values)
        records = [
            Record(DLT, value, _headers(first + place, **changes), key)
            for place, value in enumerate(values)
        ]
        assert {*log.append_sync(records, timeout_s=20)} == {Appended()}

    putting.count = 0
    yield putting
    await asyncio.to_thread(log.close, timeout_s=10)
    await admin.close()


def _headers(number: int, **changes: object):
    original = build_headers(
        envelope(number), content_type="application/json", extra=[]
    )
    return dead_letter_headers(info(number, **changes), original)


async def _first_letter(client) -> str:
    page = (await client.get("/dead-letters/mail/letters")).text
    path = re.search(r'href="(/dead-letters/mail/at/\d+/\d+)"', page)[1]
    return (await client.get(path)).text


@pytest.mark.parametrize("text", [SCRIPT, ANSI, RTL, "\u2028 \x00 \ud7ff"])
async def test_a_hostile_payload_is_shown_as_text(opened, put, text):
    put(msgspec.json.encode({"text": text}), key=text.encode())
    async with opened() as client:
        page = await _first_letter(client)

    _is_harmless(page)
    assert 'id="payload"' in page


@pytest.mark.parametrize("text", [SCRIPT, ANSI, RTL])
async def test_hostile_failures_are_shown_as_text_on_every_page(opened, put, text):
    put(b"{}", error_type=text, error_message=text, error_stack=text, worker=text)
    async with opened() as client:
        pages = [await _first_letter(client)]
        pages += [
            (await client.get(f"/dead-letters/mail{path}")).text
            for path in ("", "/letters", "/replay", "/discard")
        ]

    for page in pages:
        _is_harmless(page)


@pytest.mark.parametrize("value", [b"\xff\x00\xfe", b"[" * 5_000, b'"\\ud800"', b""])
async def test_a_payload_that_is_no_json_is_shown(opened, put, value):
    put(value)
    async with opened() as client:
        assert 'id="payload"' in await _first_letter(client)


async def test_of_a_megabyte_only_the_beginning_is_shown(opened, put):
    put(msgspec.json.encode({"text": "x" * 1_000_000}))
    async with opened() as client:
        page = await _first_letter(client)

    assert "more characters are not shown" in page
    assert len(page) < 50_000


async def test_a_reader_sees_no_payload_no_key_and_no_header(opened, put):
    put(msgspec.json.encode({"text": SECRET}), key=SECRET.encode())
    async with opened(Access(operate_token=OPERATE, read_token=READ)) as client:
        client.headers["authorization"] = f"Bearer {READ}"
        masked = await _first_letter(client)
        client.headers["authorization"] = f"Bearer {OPERATE}"
        shown = await _first_letter(client)

    assert SECRET not in masked
    assert "Hidden" in masked
    assert SECRET in shown


async def test_the_apps_function_decides_what_of_a_payload_is_shown(opened, put):
    put(msgspec.json.encode({"card": SECRET, "n": 7}))
    seen = []

    def redact(job, payload):
        seen.append((job, payload["card"]))
        return {**payload, "card": "…"}

    async with opened(redact=redact) as client:
        page = await _first_letter(client)

    assert seen == [("send", SECRET)]
    assert SECRET not in page
    assert "&#34;n&#34;: 7" in page


async def test_a_function_that_fails_hides_the_payload(opened, put):
    put(msgspec.json.encode({"text": SECRET}))
    async with opened(redact=lambda job, payload: payload["none"]) as client:
        page = await _first_letter(client)

    assert SECRET not in page
    assert "redact function failed" in page


async def test_a_dry_run_counts_and_its_run_replays_exactly_that(opened, put, app):
    put(b'{"number": 1}', b'{"number": 2}')
    async with opened() as client:
        groups = (await client.get("/dead-letters/mail")).text
        act = re.search(r'href="(/dead-letters/mail/replay\?filter=[^"]+)"', groups)[1]
        dry = (await client.get(act)).text
        put(b'{"number": 3}')  # arrives after the dry run, so it stays
        run = await _begin(client, "/dead-letters/mail/replay", dry)
        page = await _until_done(client, run)
        left = (await client.get("/dead-letters/mail/letters")).text
        runs = (await client.get("/runs")).text

    assert "<strong>2</strong> of 2 selected" in dry
    assert "2 go to shop.mail.low" in dry
    assert "<rect" in dry
    assert "2 sent" in page
    assert "1 of 1 are shown" in left
    assert "healed" in runs
    [found] = (await _history(app)).values()
    assert (found.begun.reason, found.state) == ("healed", "done")
    assert found.counts == {"sent": 2}


async def test_a_selection_is_discarded_and_the_rest_stays(opened, put):
    put(*(b'{"number": %d}' % number for number in range(5)))
    async with opened() as client:
        listed = (await client.get("/dead-letters/mail/letters")).text
        places = re.findall(r'name="at" value="(\d+/\d+)"', listed)[:2]
        path = "/dead-letters/mail/discard"
        dry = (await client.get(path, params={"at": places})).text
        page = await _until_done(client, await _begin(client, path, dry))
        left = (await client.get("/dead-letters/mail/letters")).text

    assert "2 discarded" in page
    assert "3 of 3 are shown" in left


async def test_a_run_that_was_stopped_is_resumed(opened, put, app):
    put(*(b'{"number": %d}' % number for number in range(3)))

    def die(progress):
        raise RuntimeError("as if the process were killed")

    async with app.dead_letters("mail") as letters:
        with pytest.raises(RuntimeError, match="killed"):
            await letters.discard(reason="first", by="ann", on_progress=die)
    [run] = (await _history(app)).values()
    assert run.state != "done"
    async with opened() as client:
        path = f"/runs/{run.begun.run}"
        assert "Resume" in (await client.get(path)).text
        answer = await _post(client, f"{path}/resume", {"reason": "go on"})
        page = await _until_done(client, path)

    assert answer.headers["location"] == path
    assert "ann" in page


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/dead-letters/none", 404),
        ("/dead-letters/mail/at/0/99", 404),
        ("/dead-letters/mail/letters?filter=error+%3D%3D", 400),
        ("/dead-letters/mail/replay?filter=nothing+%3D%3D+1", 400),
        ("/dead-letters/mail/replay?at=x", 400),
        ("/dead-letters/mail/edit", 404),
        ("/dead-letters/shop.mail.low/replay", 200),
        ("/runs/none", 404),
    ],
)
async def test_what_does_not_exist_is_no_fault_of_the_page(opened, put, path, status):
    async with opened() as client:
        answer = await client.get(path)

    assert answer.status_code == status


async def test_lanes_are_no_dead_letters_so_no_run_begins_on_them(opened, put, app):
    async with opened() as client:
        fields = {"filter": "", "until_ms": "99999999999999", "reason": "x"}
        answer = await _post(client, "/dead-letters/shop.mail.low/discard", fields)
        page = (await client.get(answer.headers["location"])).text

    assert "it holds no dead letters" in page
    assert await _history(app) == {}


async def _begin(client, path, dry) -> str:
    fields = {
        name: re.search(rf'name="{name}" value="([^"]*)"', dry)[1]
        for name in ("filter", "until_ms")
    }
    fields["filter"] = fields["filter"].replace("&#34;", '"')
    answer = await _post(client, path, {**fields, "reason": "healed"})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def _until_done(client, path) -> str:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        page = (await client.get(path)).text
        if re.search(r'id="state"><span class="pill good">done', page):
            return page
        await asyncio.sleep(0.05)
    raise AssertionError(page)


async def _history(app):
    async with wiring.opened_admin(app.settings) as admin:
        return (await Journal(admin, "shop").load()).runs


class _Elements(html.parser.HTMLParser):
    """Every element of a page, and the names of its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.attributes = set[str](), set[str]()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)


def _is_harmless(page: str) -> None:
    body = page.partition("<main")[2]
    found = _Elements(body)
    assert not {"script", "img", "style", "iframe"} & found.tags
    assert not [name for name in found.attributes if name.startswith("on")]
    assert not {"\x1b", "\u202e", "\u2028", "\x00"} & set(body)
