"""`cancel` said cancelled, and the job ran: its id was spelled in another way.

An id in upper case, without hyphens, in braces or as a URN named another claim than the
job's own; a `uuid.UUID` was a `TypeError` on Redis; and an id that no job can have was
cancelled all the same. Right is: an id is kept in one spelling, every way in which the
product takes one brings it into that spelling, and what is no UUID is refused.
"""

from __future__ import annotations

import uuid

import httpx
import pytest
import uuid_utils

from shifter import ConfigError, JobState, Shifter
from shifter.asgi import AdmissionMiddleware
from shifter.config import Settings
from shifter.config.endpoint import Secret
from shifter.deadletter.filter import compile_filter
from shifter.deadletter.letter import Letter
from shifter.errors import DecodeError, FilterError
from shifter.model.job import canonical_id
from shifter.testing import TestApp
from shifter.wire.dead_letter import dead_letter_headers
from shifter.wire.envelope import decode_envelope
from tests.acceptance.fleet import Fleet
from tests.unit.deadletter.letters import NOW, delivery, info

ID = "0192f3c4-abcd-7000-8000-00000000000f"
SPELLINGS = [
    ID,
    ID.upper(),
    ID.replace("-", ""),
    ID.replace("-", "").upper(),
    f"{{{ID}}}",
    f"urn:uuid:{ID}",
    f"URN:UUID:{ID.upper()}",
    uuid.UUID(ID),
    uuid_utils.UUID(ID),
]
IMPOSSIBLE = [
    *("", "nonsense", ID[:-1], ID + "0", f" {ID}", f"{ID}\n", f"{{{ID}", "0" * 31),
    *("0x" + "0" * 30, "+" + "0" * 31, "0_" * 16, "\u0660" * 32, ID.replace("-", "_")),
    *(ID[:-2] + "-0", 7, None, b"x" * 16, 1.5, [ID]),
]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
def test_every_spelling_is_one_id(spelling):
    assert canonical_id(spelling) == ID


@pytest.mark.parametrize("value", IMPOSSIBLE, ids=repr)
def test_what_is_no_uuid_is_no_id(value):
    assert canonical_id(value) is None


@pytest.mark.parametrize("named", SPELLINGS, ids=str)
async def test_a_job_is_cancelled_by_any_spelling_of_its_id(named):
    app, runs = Shifter("spell"), []

    @app.job
    async def work() -> None:
        runs.append(1)

    async with TestApp(app) as test:
        await work.options(job_id=ID.upper()).defer()
        status = await app.cancel(named)
        await test.drain()

        assert (status.job_id, status.state) == (ID, JobState.CANCELLED)
        assert runs == []
        found = await app.status(named)
        assert found is not None
        assert found.state is JobState.CANCELLED


@pytest.mark.redis
@pytest.mark.parametrize("named", SPELLINGS, ids=str)
async def test_redis_is_asked_for_the_one_spelling(redis_url, namespace, named):
    state = Settings(namespace=namespace, state_url=Secret.of_url(redis_url))
    app = Shifter(namespace, settings=state)

    assert (await app.cancel(named)).job_id == ID
    found = await app.status(ID)
    assert found is not None
    assert found.state is JobState.CANCELLED


@pytest.mark.parametrize("value", IMPOSSIBLE, ids=repr)
async def test_an_id_that_cannot_be_is_refused_and_not_cancelled(value):
    app = Shifter("spell")

    @app.job
    async def work() -> None:
        """Nothing."""

    async with TestApp(app):
        with pytest.raises(ConfigError, match="use a UUID"):
            await app.cancel(value)
        with pytest.raises(ConfigError, match="use a UUID"):
            await app.status(value)
        if value is not None:
            with pytest.raises(ConfigError, match="use a UUID"):
                work.options(job_id=value)


@pytest.mark.parametrize("named", SPELLINGS[:7], ids=str)
async def test_the_status_resource_finds_a_job_by_any_spelling(named):
    app = Shifter("spell")

    @app.job
    async def work() -> None:
        """Nothing."""

    async def service(scope, receive, send):
        """Never called."""

    async with TestApp(app) as test:
        await work.options(job_id=ID).defer()
        await test.drain()
        web = httpx.ASGITransport(AdmissionMiddleware(service, app, jobs={}))
        async with httpx.AsyncClient(transport=web, base_url="http://web") as client:
            answer = await client.get(f"/jobs/{named}")

    assert answer.json() == {"job_id": ID, "state": "done"}


def test_an_envelope_keeps_the_one_spelling_or_is_refused():
    for spelling in SPELLINGS[:4]:
        raw = f'{{"v":1,"type":"t","id":"{spelling}","replay_of":"{spelling}"}}'
        envelope = decode_envelope(raw.encode())
        assert (envelope.id, envelope.replay_of) == (ID, ID)
    for spelling in (f"{{{ID[1:-1]}}}", "urn:uuid:" + "0" * 27, "0" * 33):
        raw = f'{{"v":1,"type":"t","id":"{spelling}"}}'
        with pytest.raises(DecodeError):
            decode_envelope(raw.encode())


def test_a_filter_finds_a_letter_by_any_spelling_and_refuses_what_is_no_id():
    headers = dead_letter_headers(info(job_id=ID.upper()), [])
    found = Letter(delivery(found=headers), now_ms=NOW)
    for spelling in SPELLINGS[:7]:
        assert compile_filter(f'id == "{spelling}"')(found)
        assert not compile_filter(f'id != "{spelling}"')(found)
        assert compile_filter(f'id in ("{uuid.UUID(int=1)}", "{spelling}")')(found)
    assert compile_filter('id startswith "0192F3C4"')(found)
    assert compile_filter("exists id")(found)
    for text in ('id != "nonsense"', 'id in ("nonsense")', f'id == "{ID[:-1]}"'):
        with pytest.raises(FilterError, match="no job's id"):
            compile_filter(text)


def test_the_command_line_cancels_by_any_spelling(namespace, tmp_path):
    url = f"sqlite://{tmp_path / 'log.db'}"
    fleet = Fleet(url, url, namespace, tmp_path)
    for named in (ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}"):
        shown = fleet.json("job", "cancel", named, "--namespace", namespace)
        assert (shown["job_id"], shown["state"]) == (ID, "cancelled")
        shown = fleet.json("job", "show", named, "--namespace", namespace)
        assert shown["job_id"] == ID

    for named in ("0" * 31, "0_" * 16):
        refused = fleet.run(
            "job", "cancel", named, "--namespace", namespace, check=False
        )
        assert refused.returncode == 2
