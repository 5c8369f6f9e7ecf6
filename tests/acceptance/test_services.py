"""The example services, asked by httpx, curl and grpcio over real sockets."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import httpx
import msgspec
import pytest

from tests.acceptance.fleet import Fleet
from tests.acceptance.services import REPORTS, rpc, web

pytestmark = pytest.mark.timeout(240)
SLOTS = {"SHIFTER_CONCURRENCY": "4"}  # three of them for NORMAL
PATIENCE_S = 60.0


@pytest.fixture
def fleet(tmp_path, namespace):
    log = f"sqlite://{tmp_path / 'fleet.db'}"
    fleet = Fleet(log, log, namespace, tmp_path)
    fleet.environment |= {
        "SHIFTER_NAMESPACE": namespace,
        "REPORTS": str(tmp_path / "reports"),
    }
    fleet.run("topics", "apply", REPORTS)
    try:
        yield fleet
    finally:
        fleet.close()


def made(fleet: Fleet) -> list[str]:
    return sorted(path.stem for path in (fleet.folder / "reports").glob("*.txt"))


@pytest.fixture
def service(fleet):
    return web(fleet, **SLOTS)


@pytest.fixture
def client(service):
    url = f"http://127.0.0.1:{service.port}"
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as found:
        yield found


@pytest.fixture
def held(service, client):
    """Sends requests that keep their slots until the test is over."""
    with ThreadPoolExecutor(4) as others:
        yield lambda *request, **more: others.submit(client.request, *request, **more)
        service.process.kill()


@pytest.fixture
def full(fleet, client, held):
    """A client of a service in which no ordinary request finds a slot."""
    fill(
        fleet,
        lambda: client.get("/orders/2"),
        lambda: held("GET", "/orders/1?seconds=600"),
        slots=3,
    )
    return client


def fill(
    fleet: Fleet,
    ask: Callable[[], httpx.Response],
    hold: Callable[[], Future],
    *,
    slots: int,
) -> httpx.Response:
    """Hold slots until who asks finds none; what it is told then.

    Asking takes a slot too: what would hold one may come just then, be refused, and has
    to be sent again.
    """
    sent: list[Future] = []
    told: list[httpx.Response] = []

    def is_full() -> bool:
        sent[:] = [one for one in sent if not one.done()]
        sent.extend(hold() for _ in range(slots - len(sent)))
        told[:] = [ask()]
        return told[0].json().get("reason") == "limit_reached"

    fleet.until(is_full)
    return told[0]


def ask(client, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/reports", json={"order": "7", "pages": 2}, headers=named)


def test_a_report_is_made_at_once_while_there_is_a_slot(client, fleet):
    answer = ask(client)

    assert (answer.status_code, answer.json()) == (200, {"order": "7", "pages": 2})
    assert len(made(fleet)) == 1


def test_a_report_for_later_is_found_where_its_status_points(client, fleet):
    accepted = ask(client, prefer="respond-async")
    place = accepted.headers["location"]
    waiting = client.get(place)
    fleet.work(target=REPORTS)
    fleet.until(lambda: client.get(place).status_code == 303)
    done = client.get(place, follow_redirects=True)

    assert accepted.status_code == 202
    assert accepted.headers["preference-applied"] == "respond-async"
    assert (waiting.status_code, waiting.json()["state"]) == (200, "waiting")
    assert (done.status_code, done.text) == (200, "order 7: 2 pages\n")
    assert str(done.url).endswith(f"/reports/{accepted.json()['job_id']}")


def test_a_report_that_was_cancelled_is_gone(client, fleet):
    place = ask(client, prefer="respond-async").headers["location"]
    fleet.run("job", "cancel", place.rpartition("/")[2])

    gone = client.get(place)

    assert (gone.status_code, gone.json()["state"]) == (410, "cancelled")


def test_one_key_makes_one_report_however_often_it_is_sent(client, fleet):
    answers = [ask(client, idempotency_key='"order-7"') for _ in range(3)]
    fleet.run("work", REPORTS, "--burst")

    assert [answer.status_code for answer in answers] == [202] * 3
    assert len(made(fleet)) == 1


def test_a_full_service_refuses_defers_and_stays_healthy(fleet, full, held):
    stranger = full.get("/orders/3")
    known = full.get("/orders/3", headers={"x-user": "ann"})
    # A slot is kept for HIGH; the next one finds none, and has a lane.
    long = {"order": "8", "pages": 500}
    later = fill(
        fleet,
        lambda: ask(full),
        lambda: held("POST", "/reports", json=long),
        slots=1,
    )
    healthy = full.get("/healthz")

    assert (stranger.status_code, known.status_code) == (503, 429)
    assert stranger.headers["content-type"] == "application/problem+json"
    assert int(stranger.headers["retry-after"]) >= 1
    assert stranger.json()["reason"] in {"limit_reached", "overloaded"}
    assert later.status_code == 202
    assert healthy.status_code == 200


def test_a_deadline_from_outside_is_kept_and_an_absurd_one_is_bounded(client):
    kept = client.get("/orders/1", headers={"shifter-timeout": "1500m"})
    late = client.get("/orders/1", headers={"shifter-timeout": "0m"})
    forged = client.get("/orders/1", headers={"shifter-timeout": "soon"})
    absurd = client.get("/orders/1", headers={"shifter-timeout": "99999999H"})

    now_ms, year_ms = time.time() * 1_000, 366 * 86_400_000
    assert now_ms - 5_000 < kept.json()["deadline_ms"] <= now_ms + 1_500
    assert late.status_code == 504
    assert forged.json()["deadline_ms"] is None
    assert absurd.json()["deadline_ms"] <= now_ms + year_ms


def test_at_a_lower_quality_the_answer_is_cheaper_and_mended(client, fleet):
    fleet.run("quality", "set", "minimal", "--reason", "a spike", "--for", "5m")
    fleet.until(lambda: "shifter-quality" in ask(client).headers)
    before = len(made(fleet))
    cheaper = ask(client)
    fleet.run("work", REPORTS, "--burst")

    assert cheaper.headers["shifter-quality"] == "MINIMAL"
    assert cheaper.json() == {"order": "7", "pages": 2, "summary": True}
    assert len(made(fleet)) >= before + 1


def test_curl_follows_the_answers_of_a_service(full):
    def curl(*arguments: str) -> str:
        command = ["curl", "--silent", "--show-error", "--max-time", "30", *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout

    place = f"{full.base_url}/reports"
    body = json.dumps({"order": "9"})
    later = curl("-i", "-H", "prefer: respond-async", "-d", body, place)
    broken = curl("-w", "%{http_code}", "-d", "{", place)
    wrong = curl("-w", "%{http_code}", "-d", '{"pages": "many"}', place)
    refused = curl("-i", f"{full.base_url}/orders/1")

    assert later.startswith("HTTP/1.1 202")
    assert "\nlocation: /jobs/" in later
    assert broken.endswith("400")
    assert wrong.endswith("422")
    assert refused.startswith("HTTP/1.1 503")
    assert "\nretry-after: " in refused


class Asking:
    """A client of the gRPC example."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def __call__(self, method: str, asked: dict, **options):
        encode, decode = msgspec.json.encode, msgspec.json.decode
        call = self._channel.unary_unary(f"/shop.Shop/{method}", encode, decode)
        return call(asked, **{"timeout": PATIENCE_S, **options})

    async def hold(self) -> list[grpc.aio.UnaryStreamCall]:
        """Streams that keep all slots of NORMAL; each has begun."""
        encode, decode = msgspec.json.encode, msgspec.json.decode
        call, held = (
            self._channel.unary_stream("/shop.Shop/Track", encode, decode),
            [],
        )
        async with asyncio.timeout(PATIENCE_S):
            while len(held) < 3:
                stream = call({"seconds": 600})
                try:
                    await stream.read()
                except grpc.aio.AioRpcError:
                    continue  # who was there before has not left yet
                held.append(stream)
        return held

    async def health(self) -> bytes:
        method = "/grpc.health.v1.Health/Check"
        return await self._channel.unary_unary(method)(b"", timeout=PATIENCE_S)

    async def error(self, method: str, asked: dict, **options) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self(method, asked, **options)
        return caught.value

    async def until_free(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    await self("Quote", {})
                except grpc.aio.AioRpcError:
                    continue
                return


@asynccontextmanager
async def asking(port: int):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Asking(channel)


@pytest.fixture
def shop(fleet):
    return rpc(fleet, **SLOTS).port


async def test_a_call_takes_deadline_priority_and_height_down_the_tree(fleet, shop):
    front = rpc(fleet, "--behind", f"127.0.0.1:{shop}", **SLOTS)
    said = (("shifter-priority", "HIGH"), ("shifter-height", "31"))
    async with asking(front.port) as ask:
        found = await ask("Quote", {"seconds": 0.2}, metadata=said)

    first, second = found["told"]
    assert found["price"] == 42
    assert first["priority"] == second["priority"] == "HIGH"
    assert first["draw"] == second["draw"] == 0.31
    # gRPC rounds up what it sends.
    assert 0 < second["left_ms"] <= first["left_ms"] * 1.02
    assert first["left_ms"] < PATIENCE_S * 1_000


async def test_a_late_call_and_one_given_up_free_their_slots(shop):
    async with asking(shop) as ask:
        for _ in range(4):
            late = await ask.error("Quote", {"seconds": 600}, timeout=0.2)
            await ask.until_free()
            assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        for _ in range(2):
            streams = await ask.hold()
            for stream in streams:
                stream.cancel()

        assert [await s.code() for s in streams] == [grpc.StatusCode.CANCELLED] * 3
        await ask.until_free()


async def test_a_full_server_reports_when_to_come_back_and_stays_healthy(shop):
    async with asking(shop) as ask:
        streams = await ask.hold()
        refused = await ask.error("Quote", {})
        healthy = await ask.health()
        urgent = await ask("Quote", {}, metadata=(("shifter-priority", "CRITICAL"),))
        for stream in streams:
            stream.cancel()

    told = dict(refused.trailing_metadata())
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(told["grpc-retry-pushback-ms"]) >= 1_000
    assert healthy == b"\x08\x01"
    assert urgent["price"] == 42


async def test_an_order_is_a_job_and_has_its_callers_deadline(fleet, shop):
    async with asking(shop) as ask:
        ran = await ask("Order", {"order": "7", "pages": 1})
        late = await ask.error("Order", {"order": "8", "pages": 60}, timeout=0.3)
        await ask.until_free()

    assert ran == {"report": {"order": "7", "pages": 1}}
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(made(fleet)) == 1
