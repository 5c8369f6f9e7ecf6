"""What the labels of metrics mean, for the catalogue."""

from __future__ import annotations

from typing import Final

LABELS: Final = {
    "answer": "of a decision `ran`, `deferred`, `degraded`, `shed`, or `error` where "
    "the call raised; of a claim `granted`, `busy`, `finished`, `handed_over` or "
    "`cancelled`",
    "by": "`circuit`, `limit`, `budget` or `rate`",
    "dependency": "the name of a dependency",
    "group": "the name of a worker group",
    "job": "the name of a job type, `http` or `grpc` for a request that is no job",
    "kind": "the class of the exception that most failed calls raised; `SlowCall`, "
    "`unknown` or `other`",
    "outcome": "of a job `done`, `dead`, `expired`, `cancelled` or `discarded`; of an "
    "append `appended`, `spooled`, `refused` or `unknown`; of a call `success`, "
    "`failure`, `throttled` or `ignored`; of a commit `success` or `failure`; of an "
    "event `written` or `lost`",
    "part": "of a pace `allowed`, `needed`, `spread`, `usual` or `urgent`",
    "priority": "`CRITICAL`, `HIGH`, `NORMAL` or `LOW`",
    "quality": "`FULL`, `REDUCED` or `MINIMAL`",
    "queue": "the name of a queue",
    "reason": "a value of `shifter.Reason`; `unknown` where the log did not answer; of "
    "a retry `failed`, `retry_asked` or `throttled`",
    "scope": "`fleet`, or `process` for the circuit of one process",
    "state": "of a circuit `closed`, `half_open` or `open`; of an endpoint `open`, "
    "`starting`, `paused`, `ejected` or `drained`",
    "topic": "the name of a topic of the log",
    "version": "the version of shifter",
}
"""What the values of each label are, in Markdown."""
