"""Event loops on threads of their own: each ends, whenever it is asked to."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from shifter.runtime.threads import BackgroundLoop


class Service:
    """A coroutine that notes when it runs and ends."""

    def __init__(self):
        self.began, self.ended = threading.Event(), threading.Event()

    async def main(self, stopped):
        self.began.set()
        await stopped.wait()
        self.ended.set()


def test_stop_ends_a_coroutine_that_runs():
    service = Service()
    thread = BackgroundLoop(service.main, name="test-loop")
    thread.start()
    assert service.began.wait(30)

    thread.stop(30)

    assert service.ended.is_set()


@pytest.mark.parametrize("turn", range(20))
def test_stop_right_after_start_ends_the_coroutine(turn):
    service = Service()
    thread = BackgroundLoop(service.main, name=f"test-loop-{turn}")
    thread.start()

    thread.stop(30)

    assert service.ended.is_set()


def test_stop_may_be_asked_for_twice():
    service = Service()
    thread = BackgroundLoop(service.main, name="test-loop")
    thread.start()

    thread.stop(30)
    thread.stop(30)

    assert service.ended.is_set()


def test_stop_before_start_returns_at_once():
    service = Service()

    BackgroundLoop(service.main, name="test-loop").stop(30)

    assert not service.began.is_set()


def test_several_coroutines_run_on_one_thread():
    services, threads = [Service(), Service()], set()

    async def main(service, stopped):
        threads.add(threading.get_ident())
        await service.main(stopped)

    loop = BackgroundLoop(*(partial(main, one) for one in services), name="test-loop")
    loop.start()
    assert all(service.began.wait(30) for service in services)

    loop.stop(30)

    assert all(service.ended.is_set() for service in services)
    assert len(threads) == 1


def test_an_error_of_one_coroutine_is_reported_and_the_others_go_on(monkeypatch):
    reported, service = [], Service()
    monkeypatch.setattr(threading, "excepthook", reported.append)

    async def failing(stopped):
        raise LookupError("lost")

    loop = BackgroundLoop(failing, service.main, name="test-loop")
    loop.start()
    assert service.began.wait(30)
    is_on = not service.ended.is_set()

    loop.stop(30)

    assert is_on
    assert service.ended.is_set()
    assert [str(told.exc_value) for told in reported] == ["lost"]
    assert reported[0].thread.name == "test-loop"
