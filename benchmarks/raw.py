"""The raw clients that shifter is measured against.

Each is what a careful engineer would write by hand with the settings of this package:
idempotent producer, linger 0 where a caller waits, large fetch queue, batched Redis
scripts. None of them retries, delays, orders keys or keeps dead letters.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import Any

import msgspec
import redis.asyncio
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

VALUE = msgspec.json.encode({"number": 1, "text": "x" * 90})
HEADER = [("shifter", b"x" * 170)]
PRODUCER = {
    "enable.idempotence": True,
    "acks": "all",
    "compression.type": "lz4",
    "linger.ms": 0,
    "queue.buffering.max.messages": 500_000,
}
CONSUMER = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "queued.min.messages": 10_000,
    "fetch.queue.backoff.ms": 10,
    "check.crcs": True,
}


def make_topic(bootstrap: str, name: str, partitions: int = 6) -> None:
    """Create a topic and wait until it can be written."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(30)


def raw_produce(bootstrap: str, topic: str, count: int) -> float:
    """Records a second of ``produce`` with a delivery callback each."""
    producer = Producer({"bootstrap.servers": bootstrap, **PRODUCER, "linger.ms": 5})
    producer.list_topics(timeout=10)
    acked = 0

    def on_delivery(error: Any, _: Any) -> None:
        nonlocal acked
        if error is None:
            acked += 1

    started = time.perf_counter()
    for index in range(count):
        producer.produce(topic, VALUE, headers=HEADER, on_delivery=on_delivery)
        if index % 100 == 0:
            producer.poll(0)
    producer.flush(60)
    passed = time.perf_counter() - started
    assert acked == count
    return count / passed


async def bare_bridge(bootstrap: str, topic: str, count: int, awaiting: int) -> float:
    """Awaited messages a second: one future each, a poll thread, linger 0."""
    producer = Producer({"bootstrap.servers": bootstrap, **PRODUCER})
    producer.list_topics(timeout=10)
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def poll() -> None:
        while not stop.is_set():
            producer.poll(0.1)

    thread = threading.Thread(target=poll)
    thread.start()

    def send() -> asyncio.Future[None]:
        future: asyncio.Future[None] = loop.create_future()

        def on_delivery(error: Any, _: Any) -> None:
            loop.call_soon_threadsafe(future.set_result, error)

        producer.produce(topic, VALUE, headers=HEADER, on_delivery=on_delivery)
        return future

    async def caller() -> None:
        for _ in range(count // awaiting):
            await send()

    await caller_warm(send)
    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(awaiting)))
    passed = time.perf_counter() - started
    stop.set()
    thread.join()
    return count // awaiting * awaiting / passed


async def caller_warm(send: Any) -> None:
    """First messages pay for connections."""
    for _ in range(20):
        await send()


def fill(bootstrap: str, topic: str, records: list[tuple[bytes, list[Any]]]) -> None:
    """Put records (value, headers) on a topic."""
    producer = Producer({"bootstrap.servers": bootstrap, **PRODUCER, "linger.ms": 5})
    for value, headers in records:
        while True:
            try:
                producer.produce(topic, value, headers=headers)
                break
            except BufferError:
                producer.poll(0.05)
    assert producer.flush(60) == 0


_CLAIM = """
local t = redis.call('TIME')
local out = {}
for i = 1, #KEYS do
  if redis.call('SET', KEYS[i], 'r:' .. ARGV[1] .. ':' .. t[1], 'NX', 'PX', 60000) then
    out[i] = 1
  else
    out[i] = 0
  end
end
return out
"""
_DONE = """
for i = 1, #KEYS do redis.call('SET', KEYS[i], 'd:' .. ARGV[1], 'PX', 300000) end
return #KEYS
"""


class _Envelope(msgspec.Struct):
    id: str
    type: str
    attempt: int = 1


async def bare_loop(bootstrap: str, state_url: str, topic: str, count: int) -> float:
    """Jobs a second of a hand-written drain with claims.

    Consume, decode header and payload, one task and one timeout a job, two Redis
    scripts a batch of 1,000, one commit a batch.
    """
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"bare-{topic}", **CONSUMER}
    )
    consumer.subscribe([topic])
    client = redis.asyncio.from_url(state_url)
    claim, done = client.register_script(_CLAIM), client.register_script(_DONE)
    envelope = msgspec.json.Decoder(_Envelope)
    payload = msgspec.json.Decoder()
    queue: deque[list[Any]] = deque()
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def consume() -> None:
        while not stop.is_set():
            if len(queue) > 8:
                time.sleep(0.001)
                continue
            first = consumer.poll(0.1)
            if first is None:
                continue
            batch = [first, *consumer.consume(999, 0)]
            queue.append([(m.headers(), m.value()) for m in batch if not m.error()])
            loop.call_soon_threadsafe(ready.set)
            consumer.commit(asynchronous=True)

    async def handler(number: int, text: str) -> None:
        return None

    async def run(arguments: dict[str, Any]) -> None:
        async with asyncio.timeout(30):
            await handler(**arguments)

    thread = threading.Thread(target=consume)
    thread.start()
    finished, started = 0, 0.0
    while finished < count:
        while not queue:
            ready.clear()
            await ready.wait()
        batch = queue.popleft()
        started = started or time.perf_counter()
        jobs = [
            (envelope.decode(headers[0][1]), payload.decode(value))
            for headers, value in batch
        ]
        keys = [f"bare:{{{topic}}}:{job.id}" for job, _ in jobs]
        granted = await claim(keys=keys, args=["worker"])
        async with asyncio.TaskGroup() as group:
            for (_, arguments), may_run in zip(jobs, granted, strict=True):
                if may_run:
                    group.create_task(run(arguments))
        await done(keys=keys, args=["worker"])
        finished += len(jobs)
    passed = time.perf_counter() - started
    stop.set()
    thread.join()
    consumer.close()
    await client.aclose()
    return finished / passed
