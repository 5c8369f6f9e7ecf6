"""Numbers lost digits on their way into a job, and out of a dead letter.

The command line, the HTTP door and `dlt edit` read JSON into plain values first, so that
12345678901234567.89 became 12345678901234568 although the handler takes a `Decimal`; `dlt
show` and `dlt export` showed the wrong number. Right: text is read by the handler's
types, and a number is shown as it stands in the record.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from shifter import Shifter
from shifter.asgi import AdmissionMiddleware
from shifter.config import Settings
from shifter.errors import DecodeError, PayloadError
from shifter.ports import Record
from shifter.testing import TestApp
from shifter.wire.dead_letter import dead_letter_headers
from shifter.wire.headers import build_headers
from tests.unit.cli.conftest import world  # noqa: F401  # a fixture
from tests.unit.deadletter.letters import envelope, info, job_id

AMOUNT = "12345678901234567.89"
LARGE = 123_456_789_012_345_678_901_234_567_890
DLT = "shop.mail.dlt"

BANK = """
from __future__ import annotations
from decimal import Decimal
from shifter import Shifter

app = Shifter("shop")

@app.job(queue="mail")
async def pay(
    amount: Decimal, parts: list[Decimal] = [], count: int = 0, note: str = ""
) -> None: ...
"""

_numbers = itertools.count()


@pytest.fixture
def bank(tmp_path, monkeypatch):
    name = f"bank_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(BANK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return f"{name}:app"


def app_of(name: str) -> Shifter:
    return Shifter(name, settings=Settings(namespace=name))


def client_of(service: AdmissionMiddleware) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(service)
    return httpx.AsyncClient(transport=transport, base_url="http://web")


TEXT = f'{{"amount": {AMOUNT}, "parts": [{AMOUNT}, 1e400], "count": {LARGE}}}'
TYPED = {
    "amount": Decimal(AMOUNT),
    "parts": [Decimal(AMOUNT), Decimal("1e400")],
    "count": LARGE,
}


def given(raw: bytes) -> dict[str, object]:
    """What a handler of `pay` gets of a payload."""
    app = app_of("shop")

    @app.job
    async def pay(
        amount: Decimal, parts: list[Decimal], count: int, note: str = ""
    ) -> None: ...

    found = pay.codec.decode(raw, "application/json")
    return {name: found[name] for name in TYPED}


def test_the_command_line_keeps_all_digits(world, bank):  # noqa: F811
    world.run("topics", "apply", bank)

    ended = world.run("submit", bank, "pay", "--json", TEXT)

    assert ended.code == 0, ended.err
    [record] = world.log.entries("shop.mail.normal")
    assert given(record.value) == TYPED


@pytest.mark.parametrize("prefer", ["", "respond-async"])
async def test_the_http_door_keeps_all_digits(prefer):
    app, runs = app_of("digits"), []

    @app.job
    async def pay(amount: Decimal, parts: list[Decimal], count: int) -> None:
        runs.append({"amount": amount, "parts": parts, "count": count})

    service = AdmissionMiddleware(None, app, jobs={"POST /pay": pay})
    async with client_of(service) as client, TestApp(app) as test:
        headers = {"prefer": prefer}
        answer = await client.post("/pay", content=TEXT, headers=headers)
        await test.drain()

    assert answer.status_code in (200, 202, 204), answer.text
    assert runs == [TYPED]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        *((b"[1]", 400), (b"{", 400), (b"\xff", 400), (b"1e400", 400)),
        *((b'{"amount": ' + b"[" * 1_000, 400), (b'{"amount": "x"}', 422)),
        *((b'{"amount": 1, "amont": 2}', 422), (b"{}", 422), (b"", 422)),
    ],
)
async def test_a_body_that_does_not_fit_is_refused_with_the_reason(body, status):
    app = app_of("digits")

    @app.job
    async def pay(amount: Decimal) -> None: ...

    service = AdmissionMiddleware(None, app, jobs={"POST /pay": pay})
    async with client_of(service) as client, TestApp(app):
        answer = await client.post("/pay", content=body)

    assert answer.status_code == status
    assert answer.json()["detail"]


def test_a_service_reads_json_by_the_handlers_types():
    app = app_of("digits")

    @app.job
    async def pay(amount: Decimal, at: datetime, note: str = "none") -> None: ...

    raw = f'{{"at": "2026-01-02T00:00:00Z", "amount": {AMOUNT}}}'.encode()

    found = pay.options(delay="1s").read_json(raw)

    # What is left out is left to the handler's own default.
    at = datetime(2026, 1, 2, tzinfo=UTC)
    assert found == {"amount": Decimal(AMOUNT), "at": at}
    with pytest.raises(DecodeError):
        pay.read_json(b"[]")
    with pytest.raises(PayloadError, match="did you mean 'amount'"):
        pay.read_json(b'{"amont": 1}')


@pytest.fixture
def dead(world):  # noqa: F811
    """One dead letter of `pay` that another language wrote."""
    world.log.create_lanes(DLT, "shop.mail.normal", "shop.mail.low")
    job = envelope(0, type="pay", queue="mail", priority="NORMAL")
    own = build_headers(job, content_type="application/json")
    headers = dead_letter_headers(info(0), own)
    world.log.append([Record(DLT, TEXT.encode(), headers, b"k")], 10**6)
    return world


def test_an_edit_keeps_all_digits(dead, bank):
    edit = ("dlt", "edit", bank, "mail", job_id(0), "--reason", "typo", "--yes")

    wrong = dead.run(*edit, "--payload", "[1]")
    ended = dead.run(*edit, "--payload", TEXT)

    assert (wrong.code, ended.code) == (2, 0), ended.err
    assert given(dead.log.entries(DLT)[1].value) == TYPED


def test_a_number_is_shown_as_it_stands_in_the_record(dead):
    shown = dead.run("dlt", "show", "mail", "0/0").out
    as_json = dead.run("dlt", "show", "mail", "0/0", "--json").out
    lines = dead.run("dlt", "export", "mail").out
    table = dead.run("dlt", "export", "mail", "--format", "csv").out

    for text in (shown, as_json, lines, table):
        assert AMOUNT in text
        assert str(LARGE) in text
        assert "1e400" in text
    assert json.loads(as_json)["payload"]["amount"] == float(AMOUNT)
    [_, row] = csv.reader(io.StringIO(table))
    assert AMOUNT in row[13]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_what_is_exported_comes_back_as_it_was(dead, tmp_path, kind):
    file = tmp_path / "letters"
    options = ("--format", kind, "--out", file)
    assert dead.run("dlt", "export", "mail", *options).code == 0

    ended = dead.run("dlt", "import", "mail", file, "--reason", "back", "--yes")

    assert ended.code == 0, ended.err
    first, second = dead.log.entries(DLT)
    assert (first.value, first.headers) == (second.value, second.headers)


@pytest.mark.parametrize(
    ("filter_", "is_found"),
    [
        (f"payload.amount == {AMOUNT}", True),
        ("payload.amount == 12345678901234567.88", False),
        ("payload.amount > 12345678901234567.88", True),
        (f"payload.count == {LARGE}", True),
        (f"payload.count == {LARGE + 1}", False),
        ("payload.parts[1] > 10", True),
    ],
)
def test_a_filter_tells_numbers_apart_by_all_digits(dead, filter_, is_found):
    found = dead.run("dlt", "list", "mail", "--filter", filter_, "--json").json

    assert [group["count"] for group in found] == [1] * is_found


async def test_a_record_by_the_published_schema_keeps_all_digits():
    app, runs = app_of("digits"), []

    @app.job
    async def pay(amount: Decimal, count: int) -> None:
        runs.append((amount, count))

    async with TestApp(app) as test:
        head = [
            ("shifter", json.dumps({"v": 1, "id": job_id(1), "type": "pay"}).encode())
        ]
        value = f'{{"amount": {AMOUNT}, "count": {LARGE}}}'.encode()
        test._backend.log.append([Record("digits.default.normal", value, head)], 10**6)
        await test.drain()
        [call] = pay.calls

    assert runs == [(Decimal(AMOUNT), LARGE)]
    assert call.arguments == {"amount": Decimal(AMOUNT), "count": LARGE}
