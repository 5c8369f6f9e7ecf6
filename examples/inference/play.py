"""Plays an hour of two real services through the stack, faster than it was.

    python -m examples.inference.play --speedup 60 --slots 20 --processes 2

Needs ``SHIFTER_LOG`` and ``SHIFTER_STATE``. Starts the workers itself, defers every
request at its moment, waits until all have ended, and says what became of them:
numbers on standard output, ``report.json`` and ``report.png`` in the folder ``--out``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from examples.inference import fleet
from examples.inference.app import app, complete, converse
from examples.inference.notes import Note, NoteReader
from examples.inference.report import Played, make_report
from examples.inference.trace import IN_TIME_S, Arrival, read_trace
from shifter import OutcomeUnknownError, Shed, ShifterError
from shifter.api.job import BoundJob

_HEAD_START_S = 0.5
_LOOK_S = 0.25
_QUIET_S = 5.0
_PATIENCE_S = 60.0
_ENDED = {"done", "dead", "expired", "cancelled", "discarded"}


class Sent:
    """What became of the calls to ``defer``."""

    def __init__(self) -> None:
        self.accepted: dict[str, str] = {}
        self.refused: Counter[str] = Counter()

    async def defer(
        self, job: BoundJob[Any, Any], arrival: Arrival, arrived_at: float
    ) -> None:
        """Hand over one request and note the answer."""
        try:
            answer = await job.defer(
                arrived_at=arrived_at,
                context_tokens=arrival.context_tokens,
                generated_tokens=arrival.generated_tokens,
            )
        except OutcomeUnknownError as error:
            self.refused["unknown"] += 1
            self.accepted[error.job_id] = arrival.job
            return
        if isinstance(answer, Shed):
            self.refused[answer.reason.value] += 1
        else:
            self.accepted[answer.job_id] = arrival.job


class Run(NamedTuple):
    """One run's parts."""

    arrivals: Sequence[Arrival]
    plan: fleet.FleetPlan
    reader: NoteReader
    sent: Sent
    notes: list[Note]
    progress: Progress


async def play(arrivals: Sequence[Arrival], plan: fleet.FleetPlan) -> dict[str, Any]:
    """Play arrivals through workers of their own.

    Returns:
        The report; see `make_report`.

    Raises:
        fleet.FleetError: The workers did not start, or ended on the way.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    for old in plan.folder.glob("worker*"):
        old.unlink()
    columns = TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn()
    progress = Progress(*columns, console=Console(stderr=True))
    run = Run(arrivals, plan, NoteReader(plan.folder), Sent(), [], progress)
    async with app, fleet.running(plan) as workers:
        await fleet.warm(plan, run.reader)
        with progress:
            began_at = await _watched(_offer(run), workers)
            states = await _watched(_drain(run), workers)
    run.notes.extend(run.reader.read())
    return make_report(
        Played(
            arrivals,
            plan.speedup,
            began_at,
            run.sent.accepted,
            run.sent.refused,
            [note for note in run.notes if note.job != "warm_up"],
            states,
        )
    )


async def _watched(work: Any, workers: asyncio.subprocess.Process) -> Any:
    """Do it while the workers live."""
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work)
        living = group.create_task(workers.wait())
        await asyncio.wait((working, living), return_when=asyncio.FIRST_COMPLETED)
        living.cancel()
        if not working.done():
            working.cancel()
            raise fleet.FleetError(f"the workers ended with {workers.returncode}")
    return working.result()


async def _offer(run: Run) -> float:
    """Defer each request at its moment; returns when the trace began."""
    speedup, bar = run.plan.speedup, run.progress
    deadline_s = IN_TIME_S["complete"] / speedup
    jobs: dict[str, BoundJob[Any, Any]] = {
        "converse": converse,
        "complete": complete.options(deadline=deadline_s),
    }
    offered = bar.add_task("offered", total=len(run.arrivals))
    began_at = time.monotonic() + _HEAD_START_S
    async with asyncio.TaskGroup() as group:
        for number, arrival in enumerate(run.arrivals):
            arrived_at = began_at + arrival.at_s / speedup
            left_s = arrived_at - time.monotonic()
            if left_s > 0:
                bar.update(offered, completed=number)
                await asyncio.sleep(left_s)
            call = run.sent.defer(jobs[arrival.job], arrival, arrived_at)
            group.create_task(call)
    bar.update(offered, completed=len(run.arrivals))
    return began_at


async def _drain(run: Run) -> dict[str, str]:
    """Wait until every accepted job has ended; returns states of those not done."""
    bar = run.progress.add_task("done", total=len(run.sent.accepted))
    left, quiet_since = set(run.sent.accepted), time.monotonic()
    until = quiet_since + IN_TIME_S["complete"] / run.plan.speedup + _PATIENCE_S
    states: dict[str, str] = {}
    while left and time.monotonic() < until:
        new = run.reader.read()
        run.notes.extend(new)
        left -= {note.job_id for note in new if note.outcome == "done"}
        run.progress.update(bar, completed=len(run.sent.accepted) - len(left))
        if new:
            quiet_since = time.monotonic()
        elif time.monotonic() > quiet_since + _QUIET_S:
            states = await _states(left)
            if all(state in _ENDED for state in states.values()):
                break
            quiet_since = time.monotonic()
        await asyncio.sleep(_LOOK_S)
    return states


async def _states(job_ids: set[str]) -> dict[str, str]:
    states: dict[str, str] = {}
    for job_id in job_ids:
        status = await app.status(job_id)
        states[job_id] = "no state" if status is None else status.state.value
    return states


def _show(report: dict[str, Any]) -> None:
    table = Table("priority", "offered", "done", "in time", "wait p50", "p99", "max")
    for priority, row in report["priorities"].items():
        waits = [f"{row['wait_s'][q] or 0:.2f} s" for q in ("p50", "p99", "max")]
        ratio = f"{row['in_time_ratio']:.2%} in {row['in_time_s']:g} s"
        counts = str(row["offered"]), str(row["outcomes"]["done"])
        table.add_row(priority, *counts, ratio, *waits)
    console = Console(width=100)
    console.print(table)
    peaks = report["peak_to_trough"]
    console.print(
        f"accepted {report['accepted']}  done {report['done']}  "
        f"lost {report['lost']}  doubled {report['doubled']}  "
        f"peak/trough offered {peaks['offered']}, executed {peaks['executed']}"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.inference.play", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--speedup", type=float, default=60.0)
    parser.add_argument("--slots", type=int, default=20, help="of all processes")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="only the first so many")
    parser.add_argument("--out", type=Path, default=Path("build/inference"))
    parser.add_argument("--json", action="store_true", help="print the report")
    options = parser.parse_args(arguments)
    if options.speedup <= 0 or options.processes < 1:
        parser.error("--speedup and --processes must be above zero")
    if options.slots < 1 or options.slots % options.processes:
        parser.error("--slots must be a multiple of --processes")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns 0 if no job was lost or done twice."""
    options = _options(arguments)
    out = options.out.resolve()
    plan = fleet.FleetPlan(options.processes, options.slots, options.speedup, out)
    # SIGTERM is taken like Ctrl-C, so that the workers are stopped on both
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        report = asyncio.run(play(read_trace(options.minutes), plan))
    except (fleet.FleetError, ShifterError) as error:
        sys.stderr.write(f"play: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    report = {"processes": plan.processes, "slots": plan.slots, **report}
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    from examples.inference.plot import draw  # noqa: PLC0415  # matplotlib: 0.5 s

    draw(report, out / "report.png")
    if options.json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        _show(report)
    sys.stderr.write(f"written: {out}/report.json, {out}/report.png\n")
    return 1 if report["lost"] or report["doubled"] or report["refused"] else 0


if __name__ == "__main__":
    sys.exit(main())
