"""The middleware as a client sees it: httpx against an ASGI service."""

from __future__ import annotations

import asyncio
import itertools
import json

import httpx
import pytest

from shifter import Context, DeadLetter, Priority, Shifter
from shifter.asgi import AdmissionMiddleware, calling
from shifter.config import Settings
from shifter.errors import DeadlineExceededError
from shifter.jobs.request_scope import ambient, within
from shifter.model.time import read_timeout, write_timeout
from shifter.policy.admission.input import DependencyNeeds
from shifter.policy.admission.lane_outlook import LaneFacts
from shifter.produce.admission import Views
from shifter.testing import TestApp

NAMES = (f"web-{n}" for n in itertools.count())


class Slow:
    """A service whose answers wait for a gate; says what it saw."""

    def __init__(self) -> None:
        self.gate, self.seen = asyncio.Event(), []
        self.gate.set()

    async def __call__(self, scope, receive, send) -> None:
        self.seen.append((scope["path"], ambient()))
        if not scope["path"].endswith("z"):
            await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})


class World:
    """An app with one job, a service with few slots, a client."""

    def __init__(self, **options) -> None:
        name = next(NAMES)
        self.app = Shifter(name, settings=Settings(namespace=name, concurrency=4))
        self.service, self.outcome = Slow(), None

        @self.app.job(deadline="60s")
        async def make_report(ctx: Context, pages: int) -> dict[str, int]:
            if self.outcome is not None:
                raise self.outcome
            return {"pages": pages}

        self.job = make_report
        self.middleware = AdmissionMiddleware(
            self.service, self.app, jobs={"POST /reports": make_report}, **options
        )
        transport = httpx.ASGITransport(self.middleware)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://web")

    def lanes(self, waiting: int, rate_per_s: float, **needs) -> None:
        class Fixed:
            def facts(self, lane):
                return LaneFacts(waiting, rate_per_s)

            def deferred(self, lane): ...

        self.app.admission.views = Views(Fixed(), lambda *_: DependencyNeeds(**needs))

    async def report(self, pages: object = 3, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post("/reports", json={"pages": pages}, headers=named)


async def test_a_request_is_served_and_sees_its_deadline():
    world = World()
    async with TestApp(world.app) as test:
        answer = await world.client.get("/page", headers={"shifter-timeout": "1500m"})
        now_ms = test.clock.epoch_ms()

    assert (answer.status_code, answer.text) == (200, "served")
    assert world.service.seen[0][1].deadline_ms == now_ms + 1_500


async def test_over_the_limit_a_request_is_refused_with_a_time_and_health_is_not():
    world = World()
    async with TestApp(world.app):
        world.service.gate.clear()
        async with asyncio.TaskGroup() as group:
            first = [group.create_task(world.client.get("/page")) for _ in range(3)]
            async with asyncio.timeout(20):
                while world.app.admission.inflight < 3:
                    await asyncio.sleep(0)
            refused = await world.client.get("/page")
            health = await world.client.get("/healthz")
            world.service.gate.set()
        assert world.app.admission.inflight == 0

    assert [task.result().status_code for task in first] == [200, 200, 200]
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["reason"] == "limit_reached"
    assert health.status_code == 200


async def test_a_known_user_gets_the_error_of_too_many_requests():
    world = World(user=lambda request: request.headers.get("x-user"))
    async with TestApp(world.app):
        world.lanes(0, 1.0, has_room=False)
        known = await world.client.get("/page", headers={"x-user": "ann"})
        unknown = await world.client.get("/page")

    assert (known.status_code, unknown.status_code) == (429, 503)


async def test_all_requests_of_a_user_have_one_height():
    world = World(user=lambda request: request.headers["x-user"])
    async with TestApp(world.app):
        for user in ("ann", "ann", "bob"):
            await world.client.get("/page", headers={"x-user": user})

    ann, again, bob = (seen.draw for _, seen in world.service.seen)
    assert ann == again != bob


async def test_a_job_that_can_run_is_answered_at_once():
    world = World()
    async with TestApp(world.app):
        answer = await world.report(3)

    assert (answer.status_code, answer.json()) == (200, {"pages": 3})


async def test_a_deferred_job_has_a_place_to_look_that_ends_at_its_result():
    world = World(result=lambda job_id: f"/results/{job_id}")
    async with TestApp(world.app) as test:
        answer = await world.report(3, Prefer="respond-async, wait=5")
        place = answer.headers["location"]
        waiting = await world.client.get(place)
        await test.drain()
        done = await world.client.get(place)

    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert place == f"/jobs/{answer.json()['job_id']}"
    assert (waiting.status_code, waiting.json()["state"]) == (200, "waiting")
    assert "retry-after" in waiting.headers
    assert done.status_code == 303
    assert done.headers["location"] == f"/results/{answer.json()['job_id']}"


async def test_a_job_that_ended_without_a_result_is_gone():
    world = World()
    world.outcome = DeadLetter("no such report")
    async with TestApp(world.app) as test:
        place = (await world.report(3, Prefer="respond-async")).headers["location"]
        await test.drain()
        gone = await world.client.get(place)

    assert (gone.status_code, gone.json()["state"]) == (410, "dead")


@pytest.mark.parametrize("job_id", ["7", "..%2f..", "x" * 400])
async def test_a_place_that_is_none_is_not_found(job_id):
    world = World()
    async with TestApp(world.app):
        answer = await world.client.get(f"/jobs/{job_id}")

    assert answer.status_code in (404, 200)
    assert answer.status_code == 404 or answer.text == "served"


async def test_under_load_a_job_is_deferred_with_its_expected_start():
    world = World()
    async with TestApp(world.app):
        world.lanes(50, 10.0, has_room=False)
        answer = await world.report(3)

    assert answer.status_code == 202
    assert answer.json()["eta_s"] == 5.0
    assert answer.json()["reason"] == "limit_reached"


async def test_a_job_its_lane_cannot_finish_in_time_is_refused():
    world = World()
    async with TestApp(world.app):
        world.lanes(500, 10.0, has_room=False)
        late = await world.report(3)
        patient = await world.report(3, shifter_timeout="1S")

    assert late.status_code == 503
    assert 15 <= int(late.headers["retry-after"]) <= 23
    assert int(patient.headers["retry-after"]) >= 74


async def test_a_fallback_is_a_200_that_reports_it():
    world = World()

    @world.job.fallback
    async def cheap(pages: int) -> dict[str, int]:
        return {"pages": 0}

    async with TestApp(world.app):
        world.lanes(500, 10.0, has_room=False)
        answer = await world.report(3)

    assert (answer.status_code, answer.json()) == (200, {"pages": 0})
    assert answer.headers["shifter-quality"] == "REDUCED"


async def test_the_same_key_takes_effect_once():
    world = World()
    async with TestApp(world.app) as test:
        first = await world.report(3, Idempotency_Key='"order-7"')
        second = await world.report(3, Idempotency_Key='"order-7"')
        await test.drain()

    assert (first.status_code, second.status_code) == (202, 202)
    assert len(world.job.calls) == 1


async def test_a_deadline_that_is_over_is_a_504():
    world = World()
    async with TestApp(world.app):
        answer = await world.report(3, shifter_timeout="0m")
        page = await world.client.get("/page", headers={"grpc-timeout": "0S"})

    assert (answer.status_code, page.status_code) == (504, 504)
    assert world.service.seen == []


async def test_a_caller_may_lower_its_priority_and_raise_it_only_where_trusted():
    asked = {"priority": "u=0, i"}
    plain, trusting = World(), World(trusts_priority=True)
    found = {}
    for name, world in (("plain", plain), ("trusting", trusting)):
        async with TestApp(world.app):
            await world.client.get("/page", headers=asked)
            await world.client.get("/page", headers={"priority": "i, u=7"})
            found[name] = {row.priority for row in world.app.admission.report()}

    assert found == {
        "plain": {Priority.NORMAL, Priority.LOW},
        "trusting": {Priority.HIGH, Priority.LOW},
    }


async def test_headers_of_a_caller_are_passed_on_to_the_next_service():
    world, told = World(trusts_priority=True), []

    async def service(scope, receive, send) -> None:
        told.append(calling(world.app))
        await world.service(scope, receive, send)

    front = AdmissionMiddleware(service, world.app, trusts_priority=True)
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(front), base_url="http://web"
    )
    said = {"shifter-timeout": "2S", "priority": "u=7", "shifter-height": "31"}
    async with TestApp(world.app):
        await client.get("/page", headers=said)
        outside = calling(world.app)
        late = pytest.raises(
            DeadlineExceededError, match="deadline of call 'over HTTP'"
        )
        with within(deadline_ms=1), late:
            calling(world.app)

    assert told == [
        {"shifter-timeout": "2000m", "priority": "u=5", "shifter-height": "31"}
    ]
    assert outside == {}


@pytest.mark.parametrize(("trusts", "height"), [(True, 0.31), (False, None)])
async def test_a_height_counts_only_where_callers_are_trusted(trusts, height):
    world = World(trusts_priority=trusts)
    async with TestApp(world.app):
        await world.client.get("/page", headers={"shifter-height": "31"})

    assert world.service.seen[0][1].draw == height


@pytest.mark.parametrize("height", ["100", "-1", "3.1", "high", "031"])
async def test_a_height_that_is_none_is_left_out_and_counted(height):
    world = World(trusts_priority=True)
    async with TestApp(world.app):
        await world.client.get("/page", headers={"shifter-height": height})

    assert world.service.seen[0][1].draw is None
    assert world.middleware.ignored == {"shifter-height": 1}


async def test_a_function_may_classify_by_route():
    world = World(classify=lambda request: Priority.CRITICAL)
    async with TestApp(world.app):
        await world.client.get("/pay")
        [row] = world.app.admission.report()

    assert row.priority is Priority.CRITICAL


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", "u=9"),
        ("priority", "CRITICAL"),
        ("shifter-timeout", "soon"),
        ("shifter-timeout", "999999999H"),
        ("shifter-timeout", "-1S"),
        ("shifter-timeout", "99999999H"),
        ("shifter-timeout", "9" * 600),
        ("priority", "u=0"),
    ],
)
async def test_absurd_headers_are_left_out_or_cut_and_counted(name, value):
    world = World()
    async with TestApp(world.app):
        answer = await world.client.post(
            "/reports", json={"pages": 1}, headers={name: value}
        )

    assert answer.status_code == 200
    assert world.middleware.ignored == {name: 1}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"[1]", 400),
        (b'{"pages": "many"}', 422),
        (b"[" * 100_000, 400),
        (json.dumps({"pages": 1, "more": "x" * 1_000_000}).encode(), 413),
    ],
)
async def test_a_body_that_is_no_call_is_a_problem(body, status):
    world = World()
    async with TestApp(world.app):
        answer = await world.client.post("/reports", content=body)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_what_is_no_http_passes():
    world, seen = World(), []

    async def service(scope, receive, send) -> None:
        seen.append(scope["type"])

    await AdmissionMiddleware(service, world.app)({"type": "lifespan"}, None, None)

    assert seen == ["lifespan"]


@pytest.mark.parametrize(
    ("text", "ms"),
    [("1H", 3_600_000), ("2M", 120_000), ("999u", 0), ("99999999n", 99), ("", None)],
)
def test_timeouts_are_read_as_grpc_writes_them(text, ms):
    assert read_timeout(text) == ms


@pytest.mark.parametrize("ms", [0, 1, 99_999_999, 100_000_000, 31_000_000_000])
def test_a_written_timeout_is_never_longer_than_what_is_left(ms):
    text = write_timeout(ms)

    assert len(text) <= 9
    assert ms - 1_000 < read_timeout(text) <= ms


def test_an_absurd_timeout_is_cut_to_a_year():
    assert read_timeout("99999999H") == 366 * 86_400_000
