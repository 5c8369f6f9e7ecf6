"""Nothing of a record is imported, looked up or evaluated: it ends as a dead letter."""

from __future__ import annotations

import json
import pickle
import subprocess

import pytest
from confluent_kafka import Producer

from tests.secure.shell import TARGET

pytestmark = [
    pytest.mark.secure,
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.timeout(240),
]

NAMES = [
    "os.system",
    "os:system",
    "subprocess.call",
    "builtins.eval",
    "shifter.api.app",
    "shifter.api.app.Shifter",
    "tests.acceptance.jobs.note",
    "tests.acceptance.jobs:os.system",
    "__import__",
    "__class__",
    "note.__globals__",
    "note()",
    "{note}",
    "../note",
    "NOTE",
]


class Bomb:
    """Unpickled, it runs a command."""

    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return subprocess.call, (self.command,)


def envelope(number: int, job_type: str, **more: object) -> bytes:
    job_id = f"018f0000-0000-7000-8000-{number:012d}"
    return json.dumps({"v": 1, "id": job_id, "type": job_type, **more}).encode()


def test_a_record_cannot_name_code(shell):
    shell.ok("topics", "apply", TARGET)
    marker = shell.folder / "ran"
    command = ["/bin/touch", str(marker)]
    argument = json.dumps({"number": f"__import__('os').system('touch {marker}')"})
    bomb = pickle.dumps(Bomb(command))
    records = [
        (envelope(n, name, command=command), json.dumps(command).encode(), "json")
        for n, name in enumerate(NAMES)
    ]
    payloads = [
        (envelope(100, "note"), bomb, "json"),
        (envelope(101, "note"), bomb, "msgpack"),
        (envelope(102, "note"), bomb, "x-python-pickle"),
        (envelope(103, "note"), argument.encode(), "json"),
        (envelope(104, "note"), b'{"number": {"py/object": "os.system"}}', "json"),
        (envelope(105, "note"), b"!!python/object/apply:os.system [id]", "x-yaml"),
    ]
    envelopes = [(bomb, b'{"number": 1}', "json"), (b"__import__('os')", b"{}", "json")]
    producer = Producer(shell.world.kafka.client("shop"))
    for head, payload, kind in (*records, *payloads, *envelopes):
        headers = [("shifter", head), ("content-type", f"application/{kind}".encode())]
        topic = f"{shell.namespace}.default.normal"
        producer.produce(topic, payload, headers=headers)
    assert producer.flush(20) == 0

    shell.ok("work", TARGET, "--burst", SHIFTER_DEPLOY_GRACE="0s")

    found: dict[str, int] = {}
    for letter in shell.letters():
        reason = letter["reason"]
        found[reason] = found.get(reason, 0) + letter["count"]
    assert found == {
        "unknown_job": len(records),
        "undecodable_payload": len(payloads),
        "undecodable_envelope": len(envelopes),
    }
    assert shell.effects() == []
    assert not marker.exists()
