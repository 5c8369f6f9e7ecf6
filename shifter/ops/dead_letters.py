"""Dead letters and runs over them as plain values, for a terminal and for a page."""

from __future__ import annotations

from typing import Any

import msgspec

from shifter.deadletter.dialect import read_facts
from shifter.deadletter.journal import Run
from shifter.deadletter.letter import read_job, replays_of
from shifter.ops.payload import readable, text_or_hex
from shifter.ports import Delivery
from shifter.wire.dead_letter import read_dead_letter


def run_facts(run: Run) -> dict[str, Any]:
    """A run as JSON values."""
    begun = run.begun
    return {
        "run": begun.run,
        "action": begun.action,
        "source": begun.source,
        "state": run.state,
        "why": run.why,
        "counts": run.counts,
        "by": begun.by,
        "reason": begun.reason,
        "filter": begun.filter,
        "file": begun.file,
        "limit": begun.limit,
        "begun_ms": begun.at_ms,
        "last_ms": run.at_ms,
    }


def letter_facts(delivery: Delivery) -> dict[str, Any]:
    """One dead letter with everything in it, as JSON values."""
    payload, encoding = readable(delivery.value or b"")
    story = read_facts(delivery.headers, delivery.appended_ms)
    read = read_job(delivery.headers)
    return {
        "topic": delivery.topic,
        "partition": delivery.partition,
        "offset": delivery.offset,
        "appended_ms": delivery.appended_ms,
        "key": None if delivery.key is None else text_or_hex(delivery.key),
        "dead_letter": msgspec.to_builtins(read_dead_letter(delivery.headers)),
        "story": msgspec.to_builtins(story),
        "replay_of": None if read is None else read.envelope.replay_of,
        "replays": replays_of(delivery.headers),
        "headers": [
            {"name": name, "value": None if raw is None else text_or_hex(raw)}
            for name, raw in delivery.headers
        ],
        "payload_encoding": encoding,
        "payload": payload,
    }
