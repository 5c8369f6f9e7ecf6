"""What is drawn: the burst's progress and the live overview."""

from __future__ import annotations

import asyncio
import io
import logging

import pytest
from rich.console import Console

from shifter.cli.live import render, watch_live
from shifter.cli.progress import BurstProgress
from shifter.ops.status import (
    DeadLetterRow,
    LaneRow,
    Overview,
)
from shifter.ports import LaneDepth


class Terminal(io.StringIO):
    """Somebody watches."""

    def isatty(self) -> bool:
        return True


def depths(*left: tuple[int, int | None]) -> list[LaneDepth]:
    return [LaneDepth(f"t{n}", *pair, None) for n, pair in enumerate(left)]


def test_progress_counts_what_was_done_of_all_that_was_seen(world):
    seen = depths((8, 2), (0, None))
    progress = BurstProgress(seen, world.clock, io.StringIO())

    assert progress.counted() == (0, 10)
    seen[0] = seen[0]._replace(waiting=3)
    assert progress.counted() == (5, 10)
    # More arrives while the burst runs.
    seen[1] = seen[1]._replace(waiting=20)
    assert progress.counted() == (0, 25)
    seen.clear()
    assert progress.counted() == (25, 25)


async def drawn(progress: BurstProgress, clock, seconds: float, steps: int) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(progress.run())
        for _ in range(steps):
            await asyncio.sleep(0)
            clock.advance(seconds)
            await asyncio.sleep(0)
        task.cancel()


async def test_a_terminal_sees_a_bar(world, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    seen = depths((30, 0))
    progress = BurstProgress(seen, world.clock, out)
    progress.counted()
    seen[0] = seen[0]._replace(waiting=10)

    await drawn(progress, world.clock, 0.25, 3)

    assert "20/30" in out.getvalue()
    assert "67%" in out.getvalue()


async def test_without_a_terminal_there_is_a_log_line_every_five_seconds(world, caplog):
    out = io.StringIO()
    progress = BurstProgress(depths((7, 3)), world.clock, out)

    with caplog.at_level(logging.INFO, logger="shifter"):
        await drawn(progress, world.clock, 2.5, 4)

    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["burst.progressed done=0 waiting=7 delayed=3"] * 2
    assert out.getvalue() == ""


def an_overview() -> Overview:
    lane = LaneRow("[red]x\x1b[2J", "LOW", 3, None, 1, 90.0, 2.0, 1.5)
    return Overview(0, [lane], [DeadLetterRow("mail", 4)], [], [], [])


@pytest.mark.parametrize("width", [20, 80, 200])
def test_the_live_view_shows_names_as_they_are(width):
    out = Terminal()

    Console(file=out, width=width, color_system=None).print(render(an_overview()))

    text = out.getvalue()
    assert "\x1b[2J" not in text
    assert max(map(len, text.splitlines())) <= width
    if width == 200:
        assert "[red]x\\x1b[2J" in text
        assert "1m30s" in text


async def test_the_live_view_shows_the_newest_overview(monkeypatch):
    out = Terminal()
    monkeypatch.setattr("shifter.cli.live.Console", lambda: Console(file=out, width=80))

    async def overviews():
        yield an_overview()
        yield Overview(0, [], [DeadLetterRow("later", 7)], [], [], [])

    await watch_live(overviews())

    assert "later" in out.getvalue().rpartition("[red]x")[2]
