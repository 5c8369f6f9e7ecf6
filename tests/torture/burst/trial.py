"""``python -m tests.torture.burst.trial``: plays the burst and judges its history."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from examples.inference.history import Decided, inversions
from shifter.config.load import load_settings
from shifter.model.lane import Priority
from shifter.wiring import open_claims
from tests.acceptance.fleet import ROOT, Fleet
from tests.torture.burst.jobs import SLOTS
from tests.torture.harness.checkers import (
    Violation,
    c7_after_deadline,
    c8_before_due,
)
from tests.torture.harness.event import Event, read_histories
from tests.torture.harness.evidence import Evidence
from tests.torture.harness.scenario import SCENARIOS

TARGET: Final = "tests.torture.burst.jobs:app"
WORKERS: Final = 2
MEMORY_MIB: Final = 200
RECOVERY_S: Final = 5.0
PROMPT_S: Final = 1.0
"""An answer that took longer is none of a service that is well."""
_DRAIN_S: Final = 60.0
_MIB: Final = 1 << 20


class Report(NamedTuple):
    """What a burst came to.

    Attributes:
        answers: In the burst, by priority and answer with its reason.
        kept_ratio: Shares that were run or deferred in the burst, most urgent first.
        recovery_s: From the end of the burst to the last request that was refused or,
            above LOW, not run at once.
        memory_mib: The most that each process held.
        violations: Of C1, C7, C8 and C13.
    """

    answers: dict[str, dict[str, int]]
    kept_ratio: list[float]
    recovery_s: float
    memory_mib: dict[str, float]
    violations: list[str]


def play(fleet: Fleet, seconds: float) -> Report:
    """Play it, on a fleet that has nothing yet."""
    folder = fleet.folder / "history"
    folder.mkdir()
    fleet.environment |= {"BURST": str(folder), "SHIFTER_CONCURRENCY": str(SLOTS)}
    fleet.run("topics", "apply", TARGET)
    sizes = "--processes", str(WORKERS), "--concurrency", str(SLOTS // WORKERS)
    supervisor = fleet.work(*sizes, target=TARGET)
    fleet.until(lambda: len(fleet.children(supervisor)) == WORKERS)
    service = subprocess.Popen(
        [sys.executable, "-m", "tests.torture.burst.service", str(seconds)],
        env=fleet.environment,
        cwd=ROOT,
    )
    fleet.workers.append(service)
    memory: dict[str, float] = {}
    while service.poll() is None:
        _sample(memory, "service", service.pid)
        for number, pid in enumerate(fleet.children(supervisor)):
            _sample(memory, f"worker {number}", pid)
        time.sleep(0.2)
    assert service.returncode == 0
    fleet.until(lambda: _is_drained(fleet), timeout_s=_DRAIN_S)
    return judge(fleet, read_histories(folder), memory)


def judge(fleet: Fleet, events: list[Event], memory: dict[str, float]) -> Report:
    """What the history says."""
    evidence = Evidence(events, SCENARIOS["calm"], "")
    begin, end = (
        next(e.t for e in evidence.by["phase"] if e.kind == kind)
        for kind in ("burst", "after")
    )
    answers: dict[str, Counter[str]] = {p.value: Counter() for p in Priority}
    for job, asked in evidence.invoked.items():
        if begin <= asked.t < end:
            answers[asked.kind][evidence.answers[job].reason] += 1
    found = [
        *c7_after_deadline(evidence),
        *c8_before_due(evidence),
        *_inversions(evidence),
        *_lost(fleet, evidence),
    ]
    return Report(
        {kind: dict(counted.most_common()) for kind, counted in answers.items()},
        [_kept(answers[priority.value]) for priority in Priority],
        recovery_s(evidence, end),
        {name: round(most, 1) for name, most in memory.items()},
        [f"{v.checker} {v.text} {v.job}".strip() for v in found],
    )


def _kept(answers: Counter[str]) -> float:
    shed = sum(n for text, n in answers.items() if text.startswith("shed"))
    return round(1 - shed / max(1, answers.total()), 3)


def recovery_s(evidence: Evidence, end: float) -> float:
    """From the end of the burst to the last request that was not answered well.

    LOW may be deferred at any time: some slots are kept for what cannot wait.
    """
    last = end
    for job, asked in evidence.invoked.items():
        answer = evidence.answers[job]
        is_run = answer.reason == "ran: accepted" and answer.t - asked.t < PROMPT_S
        is_low = asked.kind == Priority.LOW.value and answer.outcome == "ok"
        if asked.t >= end and not (asked.due_ms or is_run or is_low):
            last = max(last, asked.t)
    return last - end


def _inversions(evidence: Evidence) -> Iterator[Violation]:
    """C13: no class is shed while a lower one is let in, CRITICAL only where all is full.

    What may not start yet can only be deferred, however many slots are free.
    """
    decided = [
        Decided(int(e.facts["window"]), int(e.facts["rank"]), e.kind, e.reason)
        for e in evidence.by["decide"]
    ]
    for _ in range(inversions(decided)):
        yield Violation("C13", "a class was shed while a lower one was let in")
    for event in evidence.by["decide"]:
        is_critical = event.facts["rank"] == Priority.CRITICAL.rank
        has_room = event.facts["free"] > 0 and not event.facts["delay_ms"]
        if is_critical and event.kind == "shed" and has_room:
            yield Violation("C13", f"CRITICAL was shed with {event.facts['free']} free")


def _lost(fleet: Fleet, evidence: Evidence) -> Iterator[Violation]:
    """C1: what was accepted was started once, or ended as expired."""
    waiting = {}
    for job, answer in evidence.accepted.items():
        runs = len(evidence.runs.get(job, ()))
        if runs > 1:
            yield Violation("C3", f"was started {runs} times", job)
        if not runs:
            waiting[answer.identity] = job
    for job_id, state in asyncio.run(_states(fleet, list(waiting))).items():
        if state != "expired":
            yield Violation("C1", f"was accepted, and is {state}", waiting[job_id])


async def _states(fleet: Fleet, job_ids: list[str]) -> dict[str, str]:
    settings = load_settings(fleet.namespace, environ=fleet.environment)
    claims = open_claims(settings)
    try:
        found = {job_id: await claims.status(job_id) for job_id in job_ids}
    finally:
        await claims.close()
    return {
        job_id: "lost" if status is None else status.state.value
        for job_id, status in found.items()
    }


def _is_drained(fleet: Fleet) -> bool:
    lanes = fleet.json("status", "--namespace", fleet.namespace)["lanes"]
    return not any(row["waiting"] + row["delayed"] + row["running"] for row in lanes)


def _sample(memory: dict[str, float], name: str, pid: int) -> None:
    with contextlib.suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        mib = pages * os.sysconf("SC_PAGE_SIZE") / _MIB
        memory[name] = max(mib, memory.get(name, 0.0))


def main() -> None:
    """Play it on a file, and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.burst.trial")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = f"sqlite://{folder}/fleet.db"
        fleet = Fleet(log, log, "burst", Path(folder))
        try:
            report: dict[str, Any] = play(fleet, options.seconds)._asdict()
        finally:
            fleet.close()
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
