"""What a job route answers after the job took effect, and with a key it cannot read.

A handler that returned a model of pydantic took effect and was then answered 500, which
makes a client send the request again. An ``Idempotency-Key`` that could not be read was
left out, so that the job took effect once for each time it was sent. Right is an answer
of success for a job that ran, whatever it returned, and 400 for such a key.
"""

from __future__ import annotations

import dataclasses
import itertools
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pydantic
import pytest

from shifter import Shifter
from shifter.asgi import AdmissionMiddleware
from shifter.config import Settings
from shifter.policy.admission.input import DependencyNeeds
from shifter.produce.admission import Views
from shifter.testing import TestApp

NAMES = (f"results-{n}" for n in itertools.count())


class Item(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)

    name: str
    price: Decimal
    made_at: datetime = pydantic.Field(alias="madeAt")


ITEM = Item(name="tea", price=Decimal("2.50"), madeAt=datetime(2026, 1, 2, tzinfo=UTC))
WRITTEN = {"name": "tea", "price": "2.50", "madeAt": "2026-01-02T00:00:00Z"}


class Root(pydantic.RootModel[list[int]]):
    pass


@pydantic.dataclasses.dataclass
class Validated:
    n: int


@dataclasses.dataclass
class Holder:
    item: object


class Broken(pydantic.BaseModel):
    n: int

    def model_dump(self, **_):
        raise RuntimeError("not now")


def endless() -> list:
    found: list = []
    found.append(found)
    return found


class World:
    def __init__(self, result: object) -> None:
        name = next(NAMES)
        self.app = Shifter(name, settings=Settings(namespace=name))
        self.runs = 0

        @self.app.job
        async def make() -> object:
            self.runs += 1
            return result

        @make.fallback
        async def cheap() -> object:
            return result

        async def service(scope, receive, send) -> None:
            raise AssertionError(scope)

        self.job = make
        self.front = AdmissionMiddleware(service, self.app, jobs={"POST /make": make})
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.front), base_url="http://web"
        )


@pytest.mark.parametrize(
    ("result", "body"),
    [
        (ITEM, WRITTEN),
        ([ITEM, {"of": ITEM}], [WRITTEN, {"of": WRITTEN}]),
        (Root([1, 2]), [1, 2]),
        (Validated(3), {"n": 3}),
        (Holder(ITEM), {"item": WRITTEN}),
        (None, None),
    ],
)
async def test_result_of_a_job_may_be_a_model_of_pydantic(result, body):
    world = World(result)
    async with TestApp(world.app):
        answer = await world.client.post("/make")

    assert (answer.status_code, answer.json()) == (200, body)
    assert world.runs == 1


@pytest.mark.parametrize(
    "result",
    [object(), {(1, 2): "x"}, endless(), "\ud800", Broken(n=1), [object]],
)
async def test_job_that_ran_is_a_success_although_its_result_is_no_json(result, caplog):
    world = World(result)
    async with TestApp(world.app):
        answers = [await world.client.post("/make") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert answers[0].headers["shifter-result"] == "not-json"
    assert "content-length" not in answers[0].headers
    assert answers[0].content == b""
    assert world.front.left_out == {"make": 2}
    assert caplog.text.count("job.result_left_out") == 1


async def test_fallback_whose_result_is_no_json_reports_its_quality_all_the_same():
    world = World(object())
    async with TestApp(world.app):
        world.app.admission.views = Views(
            None, lambda *_: DependencyNeeds(is_open=True)
        )
        answer = await world.client.post("/make")

    assert answer.status_code == 204
    assert answer.headers["shifter-quality"] == "REDUCED"
    assert world.runs == 0


BAD_KEYS = [
    [b'"two" keys'],
    [b"two keys"],
    [b"k" * 256],
    [b"k" * 600],
    [b""],
    [b'""'],
    [b'"open'],
    [b'open"'],
    [b'a"b'],
    [b'"a";n=1'],
    [b'"a\\"b"'],
    [b"tab\tkey"],
    [b"nul\0key"],
    ["größe".encode()],
    [b"one", b"two"],
    [b"one", b'"two"', b"one"],
]


@pytest.mark.parametrize("keys", BAD_KEYS)
async def test_key_that_cannot_be_read_is_a_400_and_the_job_does_not_run(keys):
    world = World(7)
    headers = [(b"idempotency-key", key) for key in keys]
    async with TestApp(world.app):
        answer = await world.client.post("/make", headers=headers)

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Idempotency-Key" in answer.json()["title"]
    assert world.runs == 0


@pytest.mark.parametrize(
    "keys", [[b"order-7"], [b'"order-7"'], [b"order-7", b"order-7"], [b"k" * 255]]
)
async def test_key_that_can_be_read_defers_the_job(keys):
    world = World(7)
    headers = [(b"Idempotency-Key", key) for key in keys]
    async with TestApp(world.app):
        answer = await world.client.post("/make", headers=headers)

    assert answer.status_code == 202


async def test_key_of_a_request_that_is_no_job_is_of_no_interest():
    world, seen = World(7), []

    async def service(scope, receive, send) -> None:
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    front = AdmissionMiddleware(service, world.app)
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(front), base_url="http://web"
    )
    async with TestApp(world.app):
        await client.get("/page", headers={"idempotency-key": '"two" keys'})

    assert seen == ["/page"]
