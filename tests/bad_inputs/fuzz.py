"""Random and damaged records, by hand and through a live worker; seeded.

    python -m tests.bad_inputs.fuzz decode --count 1000000 --seed 1
    python -m tests.bad_inputs.fuzz work --count 100000 --seed 1 [--log kafka]

The same seed makes the same records. What must hold: nothing but the stated errors comes
of reading; each record that reads as refused becomes one dead letter with that reason and
its bytes, no other does; every good job between them runs once, and nothing is left.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from shifter.model.reason import Reason
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import JSON, MSGPACK, Headers
from shifter.work.item import Item
from stack.kafka import KafkaCluster
from stack.redis import RedisServer
from tests.bad_inputs.catalogue import GOOD, OURS, ROWS, TOO_LARGE, with_id
from tests.bad_inputs.damage import damaged, golden
from tests.bad_inputs.decode import decode
from tests.bad_inputs.live import Input, Live, opened

Progress = Callable[[int], None]

_SMALL_BYTES = 4_096
_LARGE_SHARE = 0.002
_SPAN_MS = 3_600_000
_LEAST_S, _SLOWEST_PER_S = 60, 300
_SHOWN_EVERY = 10_000
_BASES = [
    *((row.headers, row.value) for row in ROWS if row.end is not TOO_LARGE),
]
_SMALL = [base for base in _BASES if len(str(base)) < _SMALL_BYTES]
_GOLDEN = golden()


class Found(Exception):
    """A record that ends as none may; its seed and number make it again."""


def records(seed: int) -> Iterator[tuple[str, Headers, bytes | None]]:
    """Records without end, each with a job id of its own."""
    rng = random.Random(seed)
    while True:
        job_id = str(uuid.UUID(int=rng.getrandbits(128)))
        headers, value = _base(rng, job_id)
        kind = rng.random()
        if kind < 0.05:
            headers = [(name, rng.randbytes(rng.randrange(60))) for name, _ in headers]
            value = rng.randbytes(rng.randrange(200))
        else:
            headers = [(name, damaged(content, rng)) for name, content in headers]
            value = damaged(value, rng)
        if kind > 0.9:
            headers.append(rng.choice(rng.choice(_GOLDEN)[0]))
        if 0.85 < kind < 0.9:
            headers.append(("content-type", rng.choice((JSON, MSGPACK, "")).encode()))
        yield job_id, headers, value


def decode_many(count: int, seed: int, progress: Progress) -> collections.Counter[str]:
    """Read so many records; how often each end came.

    Raises:
        Found: Anything but a job or a stated refusal came of one.
    """
    ends: collections.Counter[str] = collections.Counter()
    source, now_ms = records(seed), time.time_ns() // 1_000_000
    for number in range(count):
        _, headers, value = next(source)
        try:
            entry = decode(headers, value, now_ms)
        except Exception as error:
            raise Found(f"seed {seed}, record {number}: {error!r}") from error
        refusal = entry.refusal
        if refusal is not None and not _is_short(refusal.detail):
            raise Found(f"seed {seed}, record {number}: {refusal.detail!r}")
        ends["job" if refusal is None else refusal.reason] += 1
        progress(number + 1)
    return ends


def work_off(live: Live, count: int, seed: int) -> collections.Counter[str]:
    """Feed so many records to a live worker; how often each end came.

    Left out are those that are delayed or expired, and all but the first of those
    that claim to be one job.

    Raises:
        Found: A record ended otherwise than it reads, or something is left.
    """
    now_ms = time.time_ns() // 1_000_000
    wanted: dict[str, tuple[str, Headers, bytes | None]] = {}
    known: set[str] = set()
    for job_id, headers, value in records(seed):
        if len(wanted) == count:
            break
        entry = decode(headers, value, now_ms)
        if isinstance(entry, Item):
            if entry.identity in known or _is_timed(entry.envelope, now_ms):
                continue
            known.add(entry.identity)
        end = "job" if entry.refusal is None else entry.refusal.reason
        wanted[job_id] = (end, headers, value)
    live.feed([Input(name, *rest) for name, (_, *rest) in wanted.items()])
    live.work(_LEAST_S + count / _SLOWEST_PER_S)
    _check_all(live)
    return collections.Counter(
        _check(live, name, end, value) for name, (end, _, value) in wanted.items()
    )


def _is_short(detail: str) -> bool:
    return detail.isprintable() and 0 < len(detail) <= 300


def _is_timed(envelope: EnvelopeV1, now_ms: int) -> bool:
    """Whether the end depends on when it is read."""
    is_due = (envelope.due_ms or 0) <= now_ms
    deadline_ms = envelope.deadline_ms
    return not is_due or (deadline_ms is not None and deadline_ms < now_ms + _SPAN_MS)


def _check_all(live: Live) -> None:
    if live.code != 0 or "Traceback" in live.said or "process.ended" in live.said:
        raise Found(f"the worker ended with {live.code}: {live.said[-2_000:]}")
    if left := live.waiting():
        raise Found(f"{left} records are left")
    for job_id in live.good:
        life = live.life(job_id)
        if len(life.runs) != 1 or life.letters:
            raise Found(f"a good job ended as {life}")


def _check(live: Live, name: str, end: str, value: bytes | None) -> str:
    life = live.life(name)
    reasons = [letter.info.reason for letter in life.letters]
    if end == "job":
        if reasons:
            raise Found(f"{name} reads as a job and has {reasons}")
        return end
    if reasons != [end]:
        raise Found(f"{name} reads as {end} and has {reasons}: {life}")
    if life.letters[0].record.value != (value or b""):
        raise Found(f"{name}: its dead letter has other bytes")
    return end


def _base(rng: random.Random, job_id: str) -> tuple[Headers, bytes | None]:
    """A record to be damaged: mostly small ones, for speed."""
    kind = rng.random()
    if kind < 0.3:
        return with_id(OURS, job_id), GOOD
    if kind < 0.7:
        headers, value = rng.choice(_GOLDEN)
        return [
            (name, content if name != "shifter" else _own(content, job_id))
            for name, content in headers
        ], (value if kind < 0.5 else GOOD)
    few = _SMALL if rng.random() > _LARGE_SHARE else _BASES
    headers, value = rng.choice(few)
    return with_id([h for h in headers if "\udcff" not in h[0]], job_id), value


def _own(raw: bytes | None, job_id: str) -> bytes | None:
    """A golden envelope for the handler, with an id of its own."""
    with contextlib.suppress(ValueError, TypeError):
        envelope = json.loads(raw or b"")
        own = {**envelope, "id": job_id, "type": "handler"}
        for field in ("queue", "priority", "due_ms", "deadline_ms", "idempotency_key"):
            own.pop(field, None)
        return json.dumps(own).encode()
    return raw


def _show(number: int) -> None:
    if number % _SHOWN_EVERY == 0:
        print(f"\r{number}", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _lane(log: str) -> Iterator[Live]:
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        url = state = f"sqlite://{folder}/fleet.db"
        if log == "kafka":
            kafka, redis = KafkaCluster().start(), RedisServer().start()
            stack.callback(kafka.stop)
            stack.callback(redis.stop)
            kafka.warm()
            url, state = kafka.url, redis.url
        lanes = opened(url, state, "fuzz", Path(folder))
        try:
            yield next(lanes)
        finally:
            list(lanes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("decode", "work"))
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", choices=("kafka", "sqlite"), default="kafka")
    asked = parser.parse_args()
    began = time.monotonic()
    if asked.what == "decode":
        ends = decode_many(asked.count, asked.seed, _show)
        where = "decode"
    else:
        with _lane(asked.log) as live:
            ends = work_off(live, asked.count, asked.seed)
            where = f"work on {asked.log}, {len(live.good)} good jobs between"
    took_s = time.monotonic() - began
    print(f"\r{where}: {asked.count} records, seed {asked.seed}, {took_s:.0f} s")
    for end, count in ends.most_common():
        print(f"  {end.value if isinstance(end, Reason) else end}: {count}")
    print("  crashes: 0, stuck: 0")


if __name__ == "__main__":
    main()
