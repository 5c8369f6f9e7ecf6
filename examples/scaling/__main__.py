"""A spike of jobs, and worker processes that are started and stopped for it.

    python -m examples.scaling [SECONDS] [--out build/scaling]

Jobs come for three times so many seconds: a few, many, and a few again. A controller
starts and stops real worker processes on an embedded file, by the numbers that
``shifter scaler`` serves; a process is started some seconds after it was asked for.
The play ends once all jobs are done and one worker is left. It draws the offered load,
the workers and the waits, writes ``play.json`` and ``play.png``, and ends with 1 if a
job was lost or done twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from examples.inference.notes import Note, NoteReader
from examples.scaling.app import SERVICE_S, app, resize
from examples.scaling.controller import TARGET, Controller, Plan, controlled, shifter
from shifter.adapters.system import SystemClock
from shifter.ops.scale_reader import ScaleReader
from shifter.ops.sparkline import sparkline

SLOTS: Final = 2
START_UP_S: Final = 2.0
CALM_PER_S, SPIKE_PER_S = 4, 30
_WIDTH: Final = 60
_END_S: Final = 160.0
_LOOK_S: Final = 0.2
_SETTINGS: Final = {
    "SHIFTER_NAMESPACE": "scaling",
    "SHIFTER_SCALE_FLOOR": "1",
    "SHIFTER_SCALE_CEILING": "6",
    "SHIFTER_SCALE_TARGET": "5s",
    "SHIFTER_SCALE_STABILISATION": "5s",
    "SHIFTER_SCALE_START_UP": f"{START_UP_S:g}s",
}


class Play:
    """One play.

    Args:
        phase_s: Seconds of each of its three phases.
        folder: For the file of the log, and for notes.
    """

    def __init__(self, phase_s: float, folder: Path) -> None:
        self._phase_s = phase_s
        url = f"sqlite://{folder}/scaling.db"
        stores = {"SHIFTER_LOG": url, "SHIFTER_STATE": url, "SHIFTER_SPOOL": "off"}
        environment = _SETTINGS | stores | {"SCALING_RUN": str(folder)}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
        self._plan = Plan(SLOTS, START_UP_S, kept | environment, folder)
        # The app of this process reads its settings from here, with its first use.
        os.environ.clear()
        os.environ.update(self._plan.environment)
        self._reader = ScaleReader(app, SystemClock(), is_asked_only=False)
        self._controller = Controller(self._plan, self._desired)
        self._notes, self._done = NoteReader(folder), list[Note]()
        self._submitted: list[tuple[float, str]] = []
        self._seconds: list[dict[str, Any]] = []

    async def run(self) -> dict[str, Any]:
        """Play; returns the report."""
        made = await shifter(
            self._plan, self._plan.folder / "topics.log", "topics", "apply", TARGET
        )
        if await made.wait():
            raise RuntimeError("the topics could not be made")
        async with app, asyncio.TaskGroup() as group:
            reading = group.create_task(self._reader.run())
            async with controlled(self._controller):
                looking = group.create_task(self._look())
                async with asyncio.timeout(3 * self._phase_s + _END_S):
                    await self._offer()
                    await self._until_over()
                looking.cancel()
            reading.cancel()
        return self._report()

    def _desired(self) -> int | None:
        groups = self._reader.answer().groups
        return groups[0].desired if groups else None

    async def _offer(self) -> None:
        """Submit jobs at their moments, once the first worker is there."""
        while not self._live:  # noqa: ASYNC110  # the reader looks at the fleet
            await asyncio.sleep(_LOOK_S)
        for per_s in (CALM_PER_S, SPIKE_PER_S, CALM_PER_S):
            began = time.monotonic()
            for number in range(round(per_s * self._phase_s)):
                due_at = began + number / per_s
                await asyncio.sleep(max(0.0, due_at - time.monotonic()))
                job = await resize.defer(arrived_at=due_at)
                self._submitted.append((due_at, job.job_id))

    @property
    def _live(self) -> int:
        groups = self._reader.answer().groups
        return groups[0].current if groups else 0

    async def _until_over(self) -> None:
        while len(self._done) < len(self._submitted) or self._controller.asked > 1:  # noqa: ASYNC110  # files and processes are looked at
            await asyncio.sleep(_LOOK_S)

    async def _look(self) -> None:
        """One line a second: what came, how many workers there are, what waits."""
        while True:
            self._done += self._notes.read()
            now = time.monotonic()
            waits = [n.started_at - n.arrived_at for n in self._done]
            lately = [
                wait
                for wait, note in zip(waits, self._done, strict=True)
                if note.started_at > now - 1
            ]
            self._seconds.append(
                {
                    "offered": sum(at > now - 1 for at, _ in self._submitted),
                    "asked": self._controller.asked,
                    "workers": self._controller.workers,
                    "waiting": len(self._submitted) - len(self._done),
                    "wait_s": round(max(lately, default=0.0), 2),
                }
            )
            await asyncio.sleep(1)

    def _report(self) -> dict[str, Any]:
        done = [note.job_id for note in self._done]
        waits = sorted(n.started_at - n.arrived_at for n in self._done)
        return {
            "jobs": len(self._submitted),
            "lost": len({job for _, job in self._submitted} - set(done)),
            "doubled": len(done) - len(set(done)),
            "most_workers": max(one["workers"] for one in self._seconds),
            "last_workers": self._controller.asked,
            "longest_wait_s": round(waits[-1], 2),
            "seconds": self._seconds,
        }


def show(report: dict[str, Any]) -> str:
    """The play as lines of characters, one column a second or more."""
    seconds = report["seconds"]
    step = -(-len(seconds) // _WIDTH)
    lines = []
    for name, unit in (("offered", "jobs/s"), ("workers", ""), ("wait_s", "s")):
        parts = [seconds[at : at + step] for at in range(0, len(seconds), step)]
        values = [max(one[name] for one in part) for part in parts]
        most = max(1, *values)
        marks = sparkline([round(100 * v / most) for v in values], _WIDTH, most=100)
        lines.append(f"{name:>8} {marks:<{_WIDTH}} at most {max(values):g} {unit}")
    counts = "{jobs} jobs, {lost} lost, {doubled} doubled; 1 to {most_workers} workers"
    return "\n".join([*lines, counts.format(**report)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.scaling", description=__doc__.split("\n")[0]
    )
    parser.add_argument("seconds", type=float, nargs="?", default=15.0)
    parser.add_argument("--out", type=Path, default=Path("build/scaling"))
    options = parser.parse_args(arguments)
    if not 1 <= options.seconds <= 600:
        parser.error("SECONDS must be from 1 to 600")
    needs = CALM_PER_S * SERVICE_S / SLOTS, SPIKE_PER_S * SERVICE_S / SLOTS
    sys.stderr.write("the jobs need {:.1f}, then {:.1f} workers\n".format(*needs))
    # SIGTERM is taken like Ctrl-C, so that the workers are stopped on both
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(Play(options.seconds, Path(folder)).run())
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "play.json").write_text(json.dumps(report, indent=1) + "\n")
    from examples.scaling.plot import draw_play  # noqa: PLC0415  # 0.5 s

    draw_play(report, options.out / "play.png")
    sys.stdout.write(show(report) + "\n")
    return 1 if report["lost"] or report["doubled"] else 0


if __name__ == "__main__":
    sys.exit(main())
