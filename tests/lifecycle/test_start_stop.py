"""Whatever starts can be stopped at any time, and leaves nothing behind.

Each service is started and stopped fifty times in turn, fifty times with ten at once,
and fifty times stopped before its start has finished. Threads, descriptors, sockets and
tasks are then what they were after a first start and stop, which may fill pools and
caches that live as long as the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shifter.config import Secret, Settings
from shifter.wiring import open_admin, topic_specs
from tests.lifecycle.census import census, fill_pool, settled
from tests.lifecycle.services import ALONE, ONE_AT_A_TIME, STORES, Service

TIMES = 50
AT_ONCE = 10

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def folder(monkeypatch) -> Iterator[Path]:
    """Short, since sockets are made in it, and nobody else's."""
    folder = Path(tempfile.mkdtemp(prefix="sh"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(
    params=[
        "file",
        pytest.param("servers", marks=[pytest.mark.kafka, pytest.mark.redis]),
    ]
)
async def settings(request, namespace, folder) -> Settings:
    """Of a log and a state store, with the topics of one queue."""
    if request.param == "file":
        log = state = f"sqlite://{folder / 'log.db'}"
    else:
        log = request.getfixturevalue("kafka").url
        state = request.getfixturevalue("redis_url")
    settings = Settings(
        namespace=namespace,
        log_url=Secret.of_url(log),
        state_url=Secret.of_url(state),
        spool=str(folder / "spool.db"),
    )
    admin = open_admin(settings)
    await admin.apply(topic_specs(settings, ["default"]))
    await admin.close()
    return settings


async def in_turn(make) -> None:
    for _ in range(TIMES):
        service = make()
        await service.start()
        await service.stop()


async def at_once(make) -> None:
    async def one() -> None:
        service = make()
        await service.start()
        await service.stop()

    for _ in range(TIMES // AT_ONCE):
        await asyncio.gather(*(one() for _ in range(AT_ONCE)))


async def before_it_has_started(make) -> None:
    for number in range(TIMES):
        service = make()
        start = asyncio.get_running_loop().create_task(service.start())
        for _ in range(number % 7):
            await asyncio.sleep(0)
        await service.stop()
        # It may be refused by what is closed by now, and must not hang.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(start, 30)
        await service.stop()


async def with_a_cancelled_start(make) -> None:
    for number in range(TIMES):
        service = make()
        start = asyncio.get_running_loop().create_task(service.start())
        for _ in range(number % 7):
            await asyncio.sleep(0)
        start.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await start
        await service.stop()


ORDERS = [in_turn, at_once, before_it_has_started, with_a_cancelled_start]


async def left_behind(make, order) -> dict[str, object]:
    """What is there after all starts and stops, and was not after the first two."""
    await fill_pool()
    for _ in range(2):
        service: Service = make()
        await service.start()
        await service.stop()
    # What ends on threads of a client is over when nothing changes any more.
    before = census()
    for _ in range(20):
        await asyncio.sleep(0.1)
        if before == (before := census()):
            break

    await order(make)

    return (await settled(before)).beyond(before)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", STORES)
async def test_service_of_a_store_leaves_nothing_behind(settings, name, order):
    left = await left_behind(lambda: STORES[name](settings), order)

    assert left == {}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ALONE)
async def test_service_without_a_store_leaves_nothing_behind(
    folder, namespace, name, order
):
    settings = Settings(namespace=namespace)

    left = await left_behind(lambda: ALONE[name](settings), order)

    assert left == {}


@pytest.mark.parametrize("name", ONE_AT_A_TIME)
async def test_test_app_leaves_nothing_behind(folder, namespace, name):
    settings = Settings(namespace=namespace)

    left = await left_behind(lambda: ONE_AT_A_TIME[name](settings), in_turn)

    assert left == {}
