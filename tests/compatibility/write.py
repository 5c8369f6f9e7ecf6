"""Writes what an older version leaves behind: run it with that version's tree.

``PYTHONPATH=OLD_TREE python tests/compatibility/write.py FOLDER sqlite`` (or ``servers``)
works an app until jobs of every state exist, and writes into the folder: a SQLite log and state with the
file of the fleet's state beside it, a dump of every Redis key, the records and commits
of Kafka, and what the commands of that version printed about all of them.

The commands and the public API are all that it uses, so that any version can run it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from redis import Redis

from stack.kafka import KafkaCluster
from stack.redis import RedisServer

TARGET = "jobs:app"
NAMESPACE = "stored"
HERE = Path(__file__).parent
PRIORITIES = ("critical", "high", "normal", "low")
_PATIENCE_S = 90.0


class Writer:
    """One app on one log and one state, by way of the commands."""

    def __init__(self, log: str, state: str, folder: Path) -> None:
        self.effects = folder / "effects"
        self.effects.touch()
        self.jobs: dict[str, str] = {}
        # The version under test comes first, then this folder for the app.
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(HERE)]),
            "SHIFTER_LOG": log,
            "SHIFTER_STATE": state,
            "SHIFTER_NAMESPACE": NAMESPACE,
            "SHIFTER_PARTITIONS": "2",
            "EFFECTS": str(self.effects),
            "OUTAGE": "1",
        }

    def run(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        """Run a command to its end; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "shifter.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode not in codes:
            raise SystemExit(f"{arguments}: {done.returncode}\n{done.stderr}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        return json.loads(self.run(*arguments, "--json", codes=(0, 1)))

    def submit(self, label: str, job: str, number: int, **options: Any) -> None:
        """Submit a job and remember its id under a label."""
        import jobs  # its app reads the environment on first use

        chosen = getattr(jobs, job).options(**options)
        self.jobs[label] = chosen.defer_sync(number).job_id

    @contextlib.contextmanager
    def worker(self) -> Iterator[None]:
        """A worker that is killed at the end, as by a loss of power."""
        process = subprocess.Popen(
            [sys.executable, "-m", "shifter.cli", "work", TARGET],
            env=self.environment,
        )
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def state(self, label: str) -> str | None:
        """The state of a job, by its label; ``None`` before its first start."""
        return self.states([label])[label]["state"]

    def states(self, labels: Iterable[str]) -> dict[str, dict[str, str | None]]:
        """Ids and states of jobs, by their labels."""
        import jobs

        async def ask() -> dict[str, dict[str, str | None]]:
            found = {}
            for label in labels:
                status = await jobs.app.status(self.jobs[label])
                state = None if status is None else status.state.value
                found[label] = {"id": self.jobs[label], "state": state}
            return found

        return asyncio.run(ask())

    def wait(self, is_true: Callable[[], bool]) -> None:
        """Wait for a condition."""
        until = time.monotonic() + _PATIENCE_S
        while not is_true():
            if time.monotonic() > until:
                raise SystemExit("a state did not come about")
            time.sleep(0.2)


def write(writer: Writer, before_kill: Callable[[], None]) -> dict[str, Any]:
    """Bring about every state; returns what the commands print about it."""
    from shifter import Priority

    os.environ.update(writer.environment)
    sys.path.insert(0, str(HERE))
    writer.run("topics", "apply", TARGET)
    writer.submit("done", "note", 1)
    writer.submit("done by key", "note", 2, idempotency_key="order-2")
    for number in range(20, 25):
        writer.submit(f"dead {number}", "hopeless", number)
    for number in range(30, 36):
        writer.submit(f"refused {number}", "send", number)
    writer.submit("retried", "flaky", 40)
    with writer.worker():
        writer.wait(lambda: "tick" in writer.effects.read_text())
        writer.wait(lambda: writer.state("done") == "done")
        writer.wait(lambda: writer.state("dead 24") == "dead")
        writer.wait(lambda: writer.state("retried") == "waiting")
        writer.run(
            "dlt", "discard", "mail", "--limit", "1", "--reason", "tried", "--yes"
        )
        live = ("--full-speed", "--yes", "--limit", "1")
        writer.run("dlt", "replay", "mail", *live, "--filter", "payload.number == 21")
        payload = ("--payload", '{"number": 122}', "--reason", "a typo", "--yes")
        writer.run("dlt", "edit", TARGET, "mail", writer.jobs["dead 22"], *payload)
        time.sleep(3)
        writer.submit("running", "hang", 50)
        writer.wait(lambda: "hang-began" in writer.effects.read_text())
        printed = set_by_hand(writer)
        before_kill()
    for priority in Priority:
        writer.submit(f"waiting {priority}", "note", 60, priority=priority)
    writer.submit("waiting by key", "note", 61, idempotency_key="order-61")
    for number in range(70, 73):
        writer.submit(f"keyed {number}", "step", number, key="customer-7")
    writer.submit("delayed", "note", 80, delay="40s")
    writer.submit("cancelled", "note", 90)
    asyncio.run(cancel(writer))
    return printed | {
        "jobs": writer.states(writer.jobs),
        "effects": writer.effects.read_text().splitlines(),
        "letters": writer.json("dlt", "list", "mail"),
        "runs": writer.json("dlt", "runs"),
        "status": writer.json("status"),
    }


def set_by_hand(writer: Writer) -> dict[str, Any]:
    """Override circuit, windows and quality for a minute; what the fleet decides."""
    by_hand = ("--for", "1m", "--reason", "an audit")
    writer.run("circuit", "open", "bank", *by_hand)
    writer.run("window", "close-now", "mail", *by_hand)
    writer.run("window", "open-now", "--job", "note", *by_hand)
    writer.run("quality", "set", "REDUCED", *by_hand)
    return {
        "written_ms": int(time.time() * 1_000),
        "circuits": writer.json("circuit", "list"),
        "budgets": writer.json("budget", "list"),
        "windows": writer.json("window", "list"),
        "quality": writer.json("quality", "show"),
    }


async def cancel(writer: Writer) -> None:
    """Cancel the job that was submitted for it."""
    import jobs

    await jobs.app.cancel(writer.jobs["cancelled"])


def write_sqlite(folder: Path) -> None:
    """On one file."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "log.db"
        fleet = Path(f"{path}.fleet")
        url = f"sqlite://{path}"
        writer = Writer(url, url, Path(scratch))

        def copy_fleet() -> None:
            copy_database(fleet, folder / "log.db.fleet")

        printed = write(writer, copy_fleet)
        copy_database(path, folder / "log.db")
    (folder / "sqlite.json").write_text(json.dumps(printed) + "\n")


def copy_database(source: Path, target: Path) -> None:
    """Copy a database, what lies beside it in its journal included."""
    target.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


def write_servers(folder: Path) -> None:
    """On Kafka and Redis."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        KafkaCluster() as kafka,
        RedisServer() as redis,
        contextlib.closing(Redis.from_url(redis.url)) as client,
    ):
        kafka.warm()
        writer = Writer(kafka.url, redis.url, Path(scratch))
        keys: dict[str, str] = {}

        def dump_keys() -> None:
            for key in client.scan_iter("*"):
                value = client.dump(key)
                if value is not None:
                    keys[key.decode()] = base64.b64encode(value).decode()

        printed = write(writer, dump_keys)
        fleet = {key: value for key, value in keys.items() if ":claim:" not in key}
        dump_keys()
        stored = {"redis": keys | fleet, **dump_kafka(kafka.client())}
        printed |= stored
    (folder / "servers.json").write_text(json.dumps(printed) + "\n")


def dump_kafka(client: dict[str, str]) -> dict[str, Any]:
    """Records by topic and partition, and commits by group."""
    admin = AdminClient(client)
    found = admin.list_topics(timeout=40).topics
    topics = {
        name: sorted(topic.partitions)
        for name, topic in found.items()
        if not name.startswith("__")
    }
    consumer = Consumer(
        {**client, "group.id": "dump", "isolation.level": "read_committed"}
    )
    records: dict[str, Any] = {}
    ends: dict[str, list[int]] = {}
    for name, partitions in sorted(topics.items()):
        places = [TopicPartition(name, number, 0) for number in partitions]
        marks = [consumer.get_watermark_offsets(place) for place in places]
        ends[name] = [end for _, end in marks]
        if not any(ends[name]):
            continue
        consumer.assign(places)
        empty = 0
        kept = []
        while empty < 4:
            message = consumer.poll(0.5)
            if message is None or message.error() is not None:
                empty += 1
            else:
                kept.append(as_json(message))
        records[name] = kept
    ids = {
        name: str(described.result().topic_id)
        for name, described in admin.describe_topics(
            TopicCollection(list(topics))
        ).items()
    }
    commits = {}
    groups = [f"{NAMESPACE}.workers.{priority}" for priority in PRIORITIES]
    for group in [*groups, f"{NAMESPACE}.delay"]:
        asked = ConsumerGroupTopicPartitions(group)
        answer = admin.list_consumer_group_offsets([asked])[group].result()
        commits[group] = [
            [place.topic, place.partition, place.offset, place.metadata]
            for place in answer.topic_partitions
        ]
    consumer.close()
    return {"records": records, "ends": ends, "ids": ids, "commits": commits}


def as_json(message: Any) -> dict[str, Any]:
    """A record as it was read."""

    def text(raw: bytes | None) -> str | None:
        return None if raw is None else base64.b64encode(raw).decode()

    return {
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp_ms": message.timestamp()[1],
        "key": text(message.key()),
        "value": text(message.value()),
        "headers": [[name, text(value)] for name, value in message.headers() or []],
    }


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    {"sqlite": write_sqlite, "servers": write_servers}[sys.argv[2]](target)
    shutil.rmtree(HERE / "__pycache__", ignore_errors=True)
