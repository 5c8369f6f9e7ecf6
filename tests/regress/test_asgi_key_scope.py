"""Whose an ``Idempotency-Key`` is, and what it was used with.

A key counted for all callers of a job: one user's request with another user's key
suppressed the other's job, and a key that was used again with another body was
answered as if that had been accepted. Right is a key for each user and route, a 422 for
another body, and a warning where no user is known.
"""

from __future__ import annotations

import itertools

import httpx
import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Mount

from shifter import Shifter
from shifter.adapters.memory.state import MemoryClaimStore
from shifter.asgi import AdmissionMiddleware
from shifter.asgi.job_route import NO_USER, OTHER_BODY, UNCHECKED
from shifter.config import Settings
from shifter.config.endpoint import Secret
from shifter.errors import StoreUnavailableError
from shifter.testing import TestApp

NAMES = (f"keys-{n}" for n in itertools.count())


def known(request) -> str | None:
    return request.headers.get("x-user")


class World:
    def __init__(self, *, user=known, settings=None, **options) -> None:
        settings = settings or Settings(namespace=next(NAMES))
        self.app = Shifter(settings.namespace, settings=settings)
        self.done: list[int] = []

        @self.app.job(**options)
        async def pay(amount: int, note: str = "") -> None:
            self.done.append(amount)

        async def service(scope, receive, send) -> None:
            raise AssertionError(scope)

        self.front = AdmissionMiddleware(
            service, self.app, jobs={"POST /pay": pay, "POST /repay": pay}, user=user
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.front), base_url="http://web"
        )

    async def pay(
        self,
        amount: int,
        *,
        user: str | None = "ann",
        key: str = "k",
        path: str = "/pay",
        content: str | None = None,
    ) -> httpx.Response:
        headers = {"idempotency-key": key}
        if user is not None:
            headers["x-user"] = user
        body = f'{{"amount": {amount}}}' if content is None else content
        return await self.client.post(path, content=body, headers=headers)


async def test_key_of_one_user_suppresses_no_job_of_another():
    world = World()
    async with TestApp(world.app) as test:
        answers = [
            await world.pay(1, user="ann"),
            await world.pay(2, user="bob"),
            await world.pay(1, user="ann"),
            await world.pay(3, user=None),
            await world.pay(4, user=""),
        ]
        await test.drain()

    assert [answer.status_code for answer in answers] == [202] * 5
    assert sorted(world.done) == [1, 2, 3, 4]


async def test_key_of_one_route_suppresses_no_job_of_another():
    world = World()
    async with TestApp(world.app) as test:
        await world.pay(1, path="/pay")
        await world.pay(2, path="/repay")
        await test.drain()

    assert sorted(world.done) == [1, 2]


async def test_users_and_keys_that_read_alike_together_are_apart():
    world = World()
    async with TestApp(world.app) as test:
        await world.pay(1, user="ann:k", key="k")
        await world.pay(2, user="ann", key="k:k")
        await test.drain()

    assert sorted(world.done) == [1, 2]


async def test_same_key_with_another_body_is_a_422_and_runs_nothing():
    world = World()
    async with TestApp(world.app) as test:
        first = await world.pay(1)
        other = await world.pay(2)
        same = await world.pay(1)
        await test.drain()
        again = await world.pay(2)
        await test.drain()

    assert [first.status_code, same.status_code] == [202, 202]
    assert [other.status_code, again.status_code] == [422, 422]
    assert other.headers["content-type"] == "application/problem+json"
    assert "Idempotency-Key" in other.json()["title"]
    assert world.done == [1]
    assert world.front.keys == {OTHER_BODY: 2}


async def test_same_body_in_other_words_is_the_same():
    world = World()
    async with TestApp(world.app) as test:
        first = await world.pay(1, content='{"amount": 1, "note": "a"}')
        same = await world.pay(1, content='{"note":"a",\n "amount":1}')
        await test.drain()

    assert (first.status_code, same.status_code) == (202, 202)
    assert world.done == [1]


async def test_key_of_a_body_that_does_not_fit_is_free_for_the_right_one():
    world = World()
    async with TestApp(world.app) as test:
        unfit = await world.pay(1, content='{"amount": "one"}')
        fit = await world.pay(1)
        await test.drain()

    assert (unfit.status_code, fit.status_code) == (422, 202)
    assert world.done == [1]


async def test_key_may_be_used_again_with_another_body_when_it_is_forgotten():
    world = World(dedup_window="1h")
    async with TestApp(world.app) as test:
        await world.pay(1)
        await test.drain()
        await test.drain("2h")
        later = await world.pay(2)
        await test.drain()

    assert later.status_code == 202
    assert world.done == [1, 2]


async def test_keys_go_on_while_the_state_store_is_away(monkeypatch, caplog):
    async def away(*_, **__):
        raise StoreUnavailableError("memory", "claim.note", "away")

    world = World()
    async with TestApp(world.app) as test:
        with monkeypatch.context() as patch:
            patch.setattr(MemoryClaimStore, "note", away)
            answers = [await world.pay(1) for _ in range(2)]
        await test.drain()

    assert [answer.status_code for answer in answers] == [202, 202]
    assert world.done == [1]
    assert world.front.keys == {UNCHECKED: 2}
    assert caplog.text.count("job.key_doubted") == 1


async def test_key_without_a_user_is_warned_of_once_and_counted(caplog):
    world = World()
    async with TestApp(world.app):
        for number in range(3):
            await world.pay(number, user=None, key=f"k{number}")

    assert world.front.keys == {NO_USER: 3}
    assert caplog.text.count("job.key_doubted") == 1


def test_job_routes_without_a_way_to_know_users_are_warned_of(caplog):
    World(user=None)

    assert "config.doubted" in caplog.text
    assert "Idempotency-Key" in caplog.text


def test_middleware_that_identifies_its_users_or_has_no_jobs_warns_of_nothing(caplog):
    world = World()
    AdmissionMiddleware(world.front, world.app)

    assert caplog.text == ""


@pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("redis", marks=pytest.mark.redis)]
)
async def test_another_body_is_seen_by_another_process(
    kind, namespace, tmp_path, request
):
    """Each middleware has an app of its own, as each process of a service has."""
    url = Secret.of_url(f"sqlite://{tmp_path / 'log.db'}")
    state = url
    if kind == "redis":
        state = Secret.of_url(request.getfixturevalue("redis_url"))
    codes = []
    for amount in (1, 2, 1):
        settings = Settings(namespace=namespace, log_url=url, state_url=state)
        world = World(settings=settings)
        async with world.app:
            codes.append((await world.pay(amount)).status_code)

    assert codes == [202, 422, 202]


class ByToken(AuthenticationBackend):
    """Whoever has a token is the one whom it names."""

    async def authenticate(self, conn):
        name = conn.headers.get("authorization")
        if name is None:
            return None
        return AuthCredentials(), SimpleUser(name)


async def test_user_whom_a_middleware_in_front_has_authenticated_is_seen():
    world = World(user=lambda request: request.scope["user"].display_name or None)
    front = AuthenticationMiddleware(world.front, backend=ByToken())
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(front), base_url="http://web"
    )
    async with TestApp(world.app) as test:
        for amount, name in enumerate(["ann", "bob", "ann"]):
            await client.post(
                "/pay",
                json={"amount": amount % 2},
                headers={"authorization": name, "idempotency-key": "k"},
            )
        await test.drain()

    assert sorted(world.done) == [0, 1]


async def test_key_of_one_mount_suppresses_no_job_of_another():
    world = World()
    service = Starlette(routes=[Mount("/{tenant}", app=world.front)])
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(service), base_url="http://web"
    )
    headers = {"idempotency-key": "k", "x-user": "ann"}
    async with TestApp(world.app) as test:
        for amount, tenant in enumerate(["acme", "umbrella"]):
            place, body = f"/{tenant}/pay", {"amount": amount}
            answer = await client.post(place, json=body, headers=headers)
            assert answer.status_code == 202
        await test.drain()

    assert sorted(world.done) == [0, 1]
