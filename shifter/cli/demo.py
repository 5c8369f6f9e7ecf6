"""``shifter demo``: ten minutes of a real overload in one, with nothing installed."""

from __future__ import annotations

import asyncio
import json as json_text
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from rich.console import Console

from shifter.adapters.system import SystemClock
from shifter.cli.output import is_terminal, note, write_json, write_line, write_table
from shifter.cli.problem import Exit, ProblemError, innermost, usage
from shifter.cli.progress import ProgressDisplay, Reading
from shifter.cli.session import InSession
from shifter.demo.deployment import DeploymentError, Servers
from shifter.demo.outcome import COLUMNS, Outcome, cells, verdict
from shifter.demo.plot import draw
from shifter.demo.run import Plan, Show, parse_script, play
from shifter.demo.watch import Frame
from shifter.ports import Clock


def demo(  # noqa: PLR0913  # one parameter an option
    *,
    speed: float = 10.0,
    seconds: float = 60.0,
    out: Path = Path("shifter-demo"),
    headless: bool = False,
    json: bool = False,
    script: str = "",
    session: InSession,
) -> int:
    """Play a recorded overload and watch it being shifted in time.

    Ten minutes of a real overload are played in one, against a small backend, with
    nothing installed. With --log and --state it plays there, in a namespace of its own
    whose topics stay. It ends with 0 when every accepted job has ended, and with 3 when
    some still wait.

    Example: shifter demo --speed 10 --script 5:break,8:heal

    Args:
        speed: How much faster than the recording, 0.1 to 100.
        seconds: How long jobs are offered, up to the end of the ten minutes.
        out: Folder for the plot and the numbers.
        headless: Show progress on standard error instead of the live view.
        json: Print one JSON object at the end; implies --headless.
        script: What to do when, as SECOND:ACTION,…; actions: break, heal, poison, kill,
            quit.
        session: This command line.
    """
    if not 0.1 <= speed <= 100:
        raise usage("--speed is out of range", f"it is {speed:g}", "use 0.1 to 100")
    if not 1 <= seconds <= 3_600:
        raise usage("--seconds is out of range", f"it is {seconds:g}", "use 1 to 3600")
    servers = Servers(session.flag("log"), session.flag("state"))
    plan = Plan(speed, seconds, parse_script(script), servers)
    _make_folder(out)
    is_watched = not (headless or json) and is_terminal(sys.stdout)
    outcome = _play(plan, _show(is_watched=is_watched and is_terminal(sys.stdin)))
    plot = _save(outcome, out)
    _print(outcome, plot, as_json=json)
    if outcome.tally.is_interrupted:
        return Exit.INTERRUPTED
    if outcome.lost or outcome.duplicates:
        return Exit.FAILURE
    return Exit.PARTIAL if outcome.waiting else Exit.OK


class HeadlessShow:
    """Shows the progress of a play on standard error, without the live view.

    Args:
        out: Where to draw.
        clock: Paces the drawing.
    """

    def __init__(self, out: TextIO, clock: Clock) -> None:
        self._out, self._clock = out, clock

    async def run(
        self,
        frame: Callable[[], Frame],
        press: Callable[[str], None],  # noqa: ARG002  # there are no keys here
    ) -> None:
        """Draw until cancelled."""
        display = ProgressDisplay(self._clock, self._out, self._write)
        await display.follow(lambda: _reading(frame()))

    def _write(self, reading: Reading) -> None:
        line = f"{reading.what} {reading.done:.0f} s: {reading.numbers}\n"
        self._out.write(line)
        self._out.flush()


def _reading(frame: Frame) -> Reading:
    offered = sum(row.offered for row in frame.rows)
    executed = sum(row.executed for row in frame.rows)
    waiting = sum(row.waiting for row in frame.rows)
    numbers = f"{offered} offered, {executed} executed, {waiting} waiting"
    return Reading(frame.phase.value, frame.elapsed_s, frame.length_s, numbers)


def _play(plan: Plan, show: Show) -> Outcome:
    try:
        return asyncio.run(play(plan, show))
    except* DeploymentError as group:
        raise ProblemError(
            "demo",
            "the demo cannot go on",
            str(innermost(group)),
            "try again; if it comes back, look with: shifter doctor",
            Exit.UNAVAILABLE,
        ) from None
    except* asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _show(*, is_watched: bool) -> Show:
    if not is_watched:
        return HeadlessShow(sys.stderr, SystemClock())
    from shifter.demo.view import LiveView  # noqa: PLC0415  # a terminal's modules

    return LiveView(Console(), SystemClock())


def _save(outcome: Outcome, out: Path) -> Path:
    plot = (out / "demo.svg").resolve()
    plot.write_text(draw(outcome), encoding="utf-8")
    numbers = json_text.dumps(outcome.as_json(), indent=1)
    (out / "demo.json").write_text(f"{numbers}\n", encoding="utf-8")
    return plot


def _print(outcome: Outcome, plot: Path, *, as_json: bool) -> None:
    if as_json:
        write_json({**outcome.as_json(), "plot": str(plot)})
        return
    write_table(COLUMNS, cells(outcome), empty="")
    write_line()
    write_line(verdict(outcome))
    note(f"written: {plot} and demo.json beside it")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or str(error)
        fix = "choose another folder with --out"
        what = f"the folder {str(out)!r} cannot be made"
        raise ProblemError("output", what, why, fix, Exit.CANNOT_CREATE) from None
