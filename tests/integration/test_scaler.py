"""The external scaler over gRPC, asked as KEDA asks."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest

from shifter import Shifter
from shifter.config import Settings
from shifter.errors import StoreUnavailableError
from shifter.grpc.scaler import serve_scaler
from shifter.ops import scale_reader
from shifter.ops.scale_reader import ScaleReader
from shifter.ops.status import LaneRow, Overview
from shifter.testing.clock import FakeClock
from tests.acceptance.keda import Keda

PATIENCE_S = 30


class Fleet:
    """What the readings find: jobs that are due in each queue, or an error."""

    def __init__(self) -> None:
        self.due, self.error = {"mail": 0, "reports": 0}, None

    async def read(self, _sources):
        if self.error is not None:
            raise self.error
        rows = [
            LaneRow(queue, "HIGH", due, 0, 0, None, 0.0, None, due=due)
            for queue, due in self.due.items()
        ]
        return Overview(1, rows, [], [], [], [])

    @contextlib.asynccontextmanager
    async def opened(self, *_):
        yield SimpleNamespace(fleet=None)


class Served:
    """A scaler and its clock."""

    def __init__(self, fleet, clock, channel) -> None:
        self.fleet, self.clock, self.channel = fleet, clock, channel

    def keda(self, **metadata):
        return Keda(self.channel, **metadata)


def app_of(*groups, **settings) -> Shifter:
    app = Shifter("shop", settings=Settings(namespace="shop", **settings))
    for name in groups:
        app.worker_group(name, queues=[name], ceiling=9)
    return app


@contextlib.asynccontextmanager
async def serving(monkeypatch, *groups, **settings):
    fleet, clock, stopping = Fleet(), FakeClock(), asyncio.Event()
    monkeypatch.setattr(scale_reader, "read_for_scaling", fleet.read)
    monkeypatch.setattr(scale_reader, "open_sources", fleet.opened)
    ports: asyncio.Queue[int] = asyncio.Queue()
    reader = ScaleReader(app_of(*groups, **settings), clock, is_asked_only=False)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        group.create_task(
            serve_scaler(
                reader,
                "127.0.0.1:0",
                serving=ports.put_nowait,
                until=stopping,
            )
        )
        address = f"127.0.0.1:{await ports.get()}"
        async with grpc.aio.insecure_channel(address) as channel:
            yield Served(fleet, clock, channel)
        stopping.set()


@pytest.fixture
async def served(monkeypatch):
    async with serving(monkeypatch, "mail", "reports") as served:
        yield served


async def test_an_idle_group_is_not_active(served):
    keda = served.keda(group="mail")

    assert await keda.is_active() is False
    assert await keda.replicas() == 0


async def test_the_metric_divided_by_its_target_is_the_number_of_workers(served):
    served.fleet.due["mail"] = 5
    await served.clock.elapse(10)
    keda, spec = served.keda(group="mail"), await served.keda(group="mail").spec()

    assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == (
        "shifter-mail",
        1,
        1.0,
    )
    value = await keda.metric()
    assert (value.metricName, value.metricValue, value.metricValueFloat) == (
        "shifter-mail",
        1,
        1.0,
    )
    assert await keda.is_active() is True
    assert await served.keda(group="reports").is_active() is False


async def test_a_stream_tells_each_change(served):
    stream = served.keda(group="mail").stream()
    assert (await stream.read()).result is False

    served.fleet.due["mail"] = 5
    await served.clock.elapse(10)
    assert (await stream.read()).result is True
    stream.cancel()


async def test_the_only_group_needs_no_name(monkeypatch):
    async with serving(monkeypatch, "mail") as served:
        assert await served.keda().is_active() is False


@pytest.mark.parametrize("metadata", [{}, {"group": "mial"}])
async def test_a_group_that_is_not_there_is_an_error(served, metadata):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.keda(**metadata).is_active()

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "mail" in caught.value.details()


async def test_while_the_store_is_away_the_last_number_is_given_with_its_age(served):
    served.fleet.due["mail"] = 5
    await served.clock.elapse(10)
    served.fleet.error = StoreUnavailableError("redis://h", "fleet.sync", "refused")
    await served.clock.elapse(30)
    keda = served.keda(group="mail")
    call = keda._call("unary_unary", "IsActive", "IsActiveResponse")(keda.about)

    assert (await call).result is True
    trailing = dict(await call.trailing_metadata())
    assert 30 <= float(trailing["shifter-age-s"]) <= 40


async def test_a_number_that_is_too_old_is_an_error_and_no_number(served):
    await served.clock.elapse(10)
    served.fleet.error = StoreUnavailableError("redis://h", "fleet.sync", "refused")
    await served.clock.elapse(90)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.keda(group="mail").metric()

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "redis://h" in caught.value.details()


async def test_then_the_fallback_is_given(monkeypatch):
    async with serving(monkeypatch, "mail", scale_fallback="ceiling") as served:
        served.fleet.error = StoreUnavailableError("redis://h", "x", "refused")
        await served.clock.elapse(90)

        assert await served.keda(group="mail").replicas() == 9


async def test_a_message_that_cannot_be_read_is_an_error(served):
    call = served.channel.unary_unary("/externalscaler.ExternalScaler/IsActive")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\x0a\xff")

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


SCALER = "externalscaler.ExternalScaler"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


async def health(served, service: str = "") -> bytes:
    """The bytes of a ``HealthCheckResponse``, as a kubelet asks for it."""
    ask = served.channel.unary_unary("/grpc.health.v1.Health/Check")
    name = service.encode()
    question = b"\x0a" + bytes([len(name)]) + name if name else b""
    return await ask(question, wait_for_ready=True)


async def test_a_probe_finds_the_server_and_the_scaler_serving(served):
    await served.clock.elapse(10)

    assert await health(served) == SERVING
    assert await health(served, SCALER) == SERVING


async def test_a_scaler_without_a_number_serves_not_but_the_server_does(served):
    await served.clock.elapse(10)
    served.fleet.error = StoreUnavailableError("redis://h", "fleet.sync", "refused")
    await served.clock.elapse(90)

    assert await health(served, SCALER) == NOT_SERVING
    assert await health(served) == SERVING

    served.fleet.error = None
    await served.clock.elapse(10)
    assert await health(served, SCALER) == SERVING


async def test_the_health_of_another_service_is_not_found(served):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health(served, "shop.Orders")

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert SCALER in caught.value.details()


async def test_a_method_that_is_not_there_is_unimplemented(served):
    call = served.channel.unary_stream(
        "/externalscaler.ExternalScaler/StreamMetricSpec"
    )

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"").read()

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_address_that_is_taken_is_an_error():
    with contextlib.closing(await _listening()) as held:
        port = held.sockets[0].getsockname()[1]
        reader = ScaleReader(app_of("mail"), FakeClock(), is_asked_only=False)
        with pytest.raises(OSError, match=str(port)):
            await serve_scaler(
                reader,
                f"127.0.0.1:{port}",
                serving=lambda _: None,
                until=asyncio.Event(),
            )


async def _listening():
    async def drop(_reader, writer):
        writer.close()

    return await asyncio.start_server(drop, "127.0.0.1", 0)
