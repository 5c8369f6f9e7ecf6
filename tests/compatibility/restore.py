"""Puts back what an older version left behind, on a file or on real servers."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from confluent_kafka import (
    Consumer,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from redis import Redis

NAMESPACE = "stored"
STORED = Path(__file__).parent / "stored"
_KEEP_MS = 3_600_000


def printed(kind: str) -> dict[str, Any]:
    """What the commands of the older version printed; ``sqlite`` or ``servers``."""
    return json.loads(gzip.decompress((STORED / f"{kind}.json.gz").read_bytes()))


def restore_files(folder: Path) -> Path:
    """Put the log and the fleet's file into a folder; returns the log.

    Claims are kept for a time after the last write to them, and that time has passed:
    it begins anew.
    """
    for name in ("log.db", "log.db.fleet"):
        raw = gzip.decompress((STORED / f"{name}.gz").read_bytes())
        (folder / name).write_bytes(raw)
        (folder / name).chmod(0o600)
    log = folder / "log.db"
    passed_ms = int(time.time() * 1_000) - printed("sqlite")["written_ms"]
    with contextlib.closing(sqlite3.connect(log)) as connection, connection:
        connection.execute("UPDATE claim SET until_ms = until_ms + ?", (passed_ms,))
    return log


def restore_keys(client: Redis) -> None:
    """Put the keys back; their time to live begins anew."""
    for key in list(client.scan_iter(f"shifter:{{{NAMESPACE}:*")):
        client.delete(key)
    for name, dumped in printed("servers")["redis"].items():
        client.restore(name, _KEEP_MS, base64.b64decode(dumped), replace=True)


def restore_records(properties: dict[str, str]) -> None:
    """Produce the records again, at the offsets they had, and commit as it was.

    The topics must exist. Their ids are new, so that the old ids are replaced where
    the journal and the commits name them.
    """
    stored = printed("servers")
    admin = AdminClient(properties)
    described = admin.describe_topics(TopicCollection(list(stored["ids"])))
    ids = {
        stored["ids"][name].encode(): str(found.result().topic_id).encode()
        for name, found in described.items()
    }
    for topic, records in stored["records"].items():
        by_part = groupby(
            sorted(records, key=lambda record: (record["partition"], record["offset"])),
            key=lambda record: record["partition"],
        )
        for part, found in by_part:
            runs = _runs(list(found), stored["ends"][topic][part])
            _produce(properties, topic, part, runs, ids)
    for group, places in stored["commits"].items():
        consumer = Consumer({**properties, "group.id": group})
        commits = []
        for topic, part, offset, metadata in places:
            text = _replaced((metadata or "").encode(), ids).decode()
            commits.append(TopicPartition(topic, part, offset, text))
        if commits:
            consumer.commit(offsets=commits, asynchronous=False)
        consumer.close()


def _produce(
    properties: dict[str, str],
    topic: str,
    part: int,
    runs: Iterable[list[dict[str, Any]]],
    ids: dict[bytes, bytes],
) -> None:
    """Records of one part, in one transaction up to each gap that a commit left."""
    for run in runs:
        is_committed = run[-1]["ends_transaction"]
        more = {"transactional.id": f"restore-{topic}-{part}"} if is_committed else {}
        producer = Producer({**properties, **more})
        if is_committed:
            producer.init_transactions(30)
            producer.begin_transaction()
        for record in run:
            producer.produce(
                topic,
                _replaced(_bytes(record["value"]), ids),
                _bytes(record["key"]),
                part,
                headers=[(name, _bytes(value)) for name, value in record["headers"]],
            )
        if is_committed:
            producer.commit_transaction(30)
        assert producer.flush(30) == 0


def _runs(records: list[dict[str, Any]], end: int) -> Iterator[list[dict[str, Any]]]:
    """Records up to each gap; also one before ``end``, the part's next offset.

    Without the last gap the part would end before offsets that a commit counts as
    done, and the whole text of such a commit would be ignored. The ends were read
    before the records, so a record may lie behind its part's end.
    """
    run: list[dict[str, Any]] = []
    end = max(end, records[-1]["offset"] + 1)
    offsets = [*(record["offset"] for record in records[1:]), end]
    for record, after in zip(records, offsets, strict=True):
        step = after - record["offset"]
        assert step in (1, 2), "a gap that one transaction does not leave"
        run.append({**record, "ends_transaction": step == 2})
        if step == 2 or after == end:
            yield run
            run = []


def _replaced(raw: bytes | None, ids: dict[bytes, bytes]) -> bytes | None:
    for old, new in ids.items():
        raw = raw and raw.replace(old, new)
    return raw


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
