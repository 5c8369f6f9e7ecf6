"""What still runs when a service is closed, or when it could not be opened.

Wrong was: a call to a dependency that ended after its app was closed, and that changed
the circuit, raised ``RuntimeError: Event loop is closed`` in the caller's code; a record
that was appended beside the close of a log in a file raised, and those queued behind it
were never answered; the watch of lanes opened one more client of Kafka each second while
the state store could not be opened. Right is: late calls end as they would have, each
record has its answer, and what was opened is closed when the rest cannot be.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from shifter import Shifter, wiring
from shifter.adapters.sqlite.log import _Blocked
from shifter.config import Secret, Settings
from shifter.errors import ConfigError
from shifter.fleet.calls import ActiveCall, verdict_of
from shifter.ports import Record, Refused
from shifter.runtime.threads import BackgroundLoop
from shifter.wiring.service import lane_watch


@pytest.fixture
def settings(namespace, tmp_path):
    url = Secret.of_url(f"sqlite://{tmp_path / 'log.db'}")
    return Settings(namespace=namespace, log_url=url, state_url=url)


async def test_calls_that_end_after_the_close_raise_nothing(settings):
    app = Shifter(settings.namespace, settings=settings)
    bank = app.dependency("bank")
    async with app:
        async with bank:
            pass
        watch = app._guard
        while watch.replica.urgent is None:
            await asyncio.sleep(0.01)
    protection = watch.replica.protections["bank"]
    ended = 0

    while isinstance(begun := watch.caller.begin("bank"), ActiveCall):
        watch.caller.end(begun, verdict_of(TimeoutError("late"), protection.dependency))
        ended += 1

    assert ended > 0
    assert not protection.breaker.is_calm


async def test_each_record_appended_beside_a_close_is_answered(settings):
    log = wiring.open_log(settings)
    record = Record(f"{settings.namespace}.default.normal", b"{}", ())
    submit, closer = log.database.submit, None

    def close_before(*args):
        nonlocal closer
        log.database.submit = submit
        log._line.append(second)
        closer = threading.Thread(target=log.close, kwargs={"timeout_s": 5})
        closer.start()
        closer.join(10)
        submit(*args)

    second = _Blocked([record])
    log.database.submit = close_before
    answers = await log.append([record], timeout_s=5)

    assert [type(one) for one in answers] == [Refused]
    assert [type(one) for one in second.future.result(0)] == [Refused]


async def test_what_was_opened_is_closed_when_the_state_cannot_be(
    settings, monkeypatch
):
    opened, closed = [], []

    class Admin:
        async def close(self):
            closed.append(self)

    def open_admin(settings):
        opened.append(Admin())
        return opened[-1]

    def refused(settings):
        raise ConfigError("state", "x", "set it")

    monkeypatch.setattr(wiring, "open_admin", open_admin)
    monkeypatch.setattr(wiring, "open_presence", refused)
    watch = lane_watch(settings, lambda: ["default"])
    assert watch is not None
    watch._every_s = 0.01

    loop = BackgroundLoop(watch.run, name="test-loop")
    loop.start()
    while len(opened) < 3:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(loop.stop, 5)

    assert closed == opened
