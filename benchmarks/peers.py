"""Other frameworks draining the same no-op job, each as its documentation says."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
import time
import uuid
from typing import Any


async def faststream_drain(bootstrap: str, topic: str, count: int) -> float:
    """Jobs a second of FastStream on confluent-kafka, acknowledged by hand."""
    from faststream import AckPolicy
    from faststream.confluent import KafkaBroker, KafkaMessage

    broker = KafkaBroker(bootstrap, logger=None, log_level=logging.CRITICAL)
    finished, started = 0, 0.0
    over = asyncio.Event()

    @broker.subscriber(
        topic,
        group_id=f"faststream-{uuid.uuid4().hex[:8]}",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.MANUAL,
    )
    async def handle(body: dict[str, Any], message: KafkaMessage) -> None:
        nonlocal finished, started
        started = started or time.perf_counter()
        await message.ack()
        finished += 1
        if finished == count:
            over.set()

    await broker.start()
    await asyncio.wait_for(over.wait(), 120)
    passed = time.perf_counter() - started
    await broker.stop()
    return count / passed


def dramatiq_drain(state_url: str, count: int) -> float:
    """Jobs a second of Dramatiq on Redis, eight threads, its defaults otherwise."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=state_url, namespace=f"dramatiq-{uuid.uuid4().hex[:8]}")
    dramatiq.set_broker(broker)

    @dramatiq.actor(broker=broker, queue_name="bench")
    def handle(number: int, text: str) -> None:
        return None

    for index in range(count):
        handle.send(index, "x" * 90)
    worker = dramatiq.Worker(broker, worker_threads=8)
    started = time.perf_counter()
    worker.start()
    broker.join("bench")
    worker.join()
    passed = time.perf_counter() - started
    worker.stop()
    broker.close()
    return count / passed


def huey(count: int) -> tuple[float, float]:
    """Jobs a second into and out of huey on SQLite, synced; one worker thread."""
    from huey import SqliteHuey
    from huey.consumer import Consumer

    logging.getLogger("huey").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        queue = SqliteHuey("bench", filename=f"{folder}/huey.db", fsync=True)
        over, left = threading.Event(), [count]

        @queue.task()
        def handle(number: int, text: str) -> None:
            left[0] -= 1
            if not left[0]:
                over.set()

        started = time.perf_counter()
        for index in range(count):
            handle(index, "x" * 90)
        rate_in = count / (time.perf_counter() - started)
        consumer = Consumer(queue, periodic=False)
        started = time.perf_counter()
        consumer.start()
        over.wait(120)
        rate_out = count / (time.perf_counter() - started)
        consumer.stop()
    return rate_in, rate_out
