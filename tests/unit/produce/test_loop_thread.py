"""A thread with an event loop of its own: it stops, whenever it is asked to."""

from __future__ import annotations

import threading

import pytest

from shifter.produce.loop_thread import LoopThread


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
    thread = LoopThread(service.main, name="test-loop")
    thread.start()
    assert service.began.wait(5)

    thread.stop(5)

    assert service.ended.is_set()


@pytest.mark.parametrize("turn", range(20))
def test_stop_right_after_start_ends_the_coroutine(turn):
    service = Service()
    thread = LoopThread(service.main, name=f"test-loop-{turn}")
    thread.start()

    thread.stop(5)

    assert service.ended.is_set()


def test_stop_may_be_asked_for_twice():
    service = Service()
    thread = LoopThread(service.main, name="test-loop")
    thread.start()

    thread.stop(5)
    thread.stop(5)

    assert service.ended.is_set()


def test_stop_before_start_returns_at_once():
    service = Service()

    LoopThread(service.main, name="test-loop").stop(5)

    assert not service.began.is_set()
