"""`shifter top`: reads the state, keys and the size of the terminal, and draws.

The terminal shows a screen of its own, without a cursor, in a mode that gives each key
at once. All three outlive the process, so they are put back on every way out: at the
end, on an exception, on a signal that ends the process, and while it is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final, NoReturn

from rich.console import Console
from rich.live import Live
from rich.text import Text

from shifter.adapters.system import SystemClock
from shifter.cli.output import is_terminal
from shifter.cli.problem import usage
from shifter.cli.session import InSession, need_log
from shifter.cli.top.keyboard import Keyboard
from shifter.cli.top.screen import Size, lines_for
from shifter.cli.top.state import Action, Choices
from shifter.cli.top.table import Line, Look
from shifter.config import Settings
from shifter.ops.reading import Reader
from shifter.ports import Clock

_STYLES: Final = {
    Look.PLAIN: "",
    Look.TITLE: "bold",
    Look.FAINT: "dim",
    Look.KEY: "bold cyan",
    Look.GOOD: "green",
    Look.WARNING: "yellow",
    Look.BAD: "bold red",
    Look.UNKNOWN: "magenta",
}
_REDRAW_S: Final = 1.0
"""The age of the data is drawn anew so often."""
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that end the process once the terminal is as it was."""


def top(*, session: InSession) -> None:
    """Show lanes, dependencies and workers on the whole terminal, with keys.

    At the top are the answers to three questions: are users safe, is deferred work
    safe, and when will it be done? Keys sort and filter lanes and pause the picture;
    press ? for all of them. While the log or the state store is away, the last state
    stays, with its age.

    Example: shifter top

    Args:
        session: This command line.
    """
    settings = need_log(session.settings())
    _need_terminal()
    ended_by = asyncio.run(_Top(settings, SystemClock()).run())
    if ended_by is not None:
        # As if the signal had ended the process at once; its parent may ask.
        signal.signal(ended_by, signal.SIG_DFL)
        signal.raise_signal(ended_by)


def _need_terminal() -> None:
    for name, stream in (("input", sys.stdin), ("output", sys.stdout)):
        if not is_terminal(stream):
            raise _unusable(f"standard {name} is not a terminal")
    if os.environ.get("TERM", "dumb") == "dumb":
        raise _unusable("the terminal cannot move its cursor (TERM)")


def _unusable(why: str) -> Exception:
    fix = "use: shifter status --watch"
    return usage("top needs a terminal of its own", why, fix)


class _Top:
    """One run of the verb.

    Args:
        settings: Name the log and the state store.
        clock: Paces reading and drawing.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock, self._namespace = clock, settings.namespace
        self._changed = asyncio.Event()
        self._choices = Choices()
        self._reader = Reader(settings, clock)
        self._is_on = asyncio.Event()
        self._is_on.set()
        self._keyboard = Keyboard(sys.stdin.fileno())
        self._console = Console()
        self._live = _live(self._console)
        self._screen = contextlib.ExitStack()
        self._keys: list[str] = []
        self._ended_by: signal.Signals | None = None
        self._is_ended = False

    async def run(self) -> signal.Signals | None:
        """Draw until the operator or a signal ends it; returns that signal."""
        async with asyncio.TaskGroup() as group:
            with self._signals(), self._screen:
                self._show()
                reading = group.create_task(self._read())
                ticking = group.create_task(self._tick())
                try:
                    await self._draw_until_end()
                finally:
                    reading.cancel()
                    ticking.cancel()
        return self._ended_by

    async def _draw_until_end(self) -> None:
        while not self._is_ended:
            self._changed.clear()
            self._draw()
            await self._changed.wait()
            keys, self._keys = self._keys, []
            for key in keys:
                self._press(key)

    async def _read(self) -> NoReturn:
        """Read until cancelled, but nothing while the picture is paused."""
        try:
            while True:
                await self._is_on.wait()
                async with contextlib.aclosing(self._reader.readings()) as readings:
                    async for _ in readings:
                        self._changed.set()
                        if not self._is_on.is_set():
                            break
        finally:
            await self._reader.close()

    async def _tick(self) -> NoReturn:
        while True:
            await self._clock.sleep(_REDRAW_S)
            self._changed.set()

    def _draw(self) -> None:
        size = Size(*self._console.size)
        reading = self._choices.shown(self._reader.reading)
        age_s = reading.age_s(self._clock.monotonic())
        lines = lines_for(self._namespace, reading, self._choices, size, age_s)
        self._live.update(_text(lines), refresh=True)

    def _press(self, key: str) -> None:
        action = self._choices.press(key)
        if action is Action.QUIT:
            self._is_ended = True
        elif action is Action.PAUSE and self._choices.is_paused:
            self._is_on.clear()
        elif action is Action.PAUSE:
            self._is_on.set()

    def _read_keys(self) -> None:
        keys = self._keyboard.read()
        if keys is None:
            # The terminal is gone, so no person can see or end this program.
            self._end(signal.SIGHUP)
        else:
            self._keys += keys
            self._changed.set()

    def _end(self, number: signal.Signals) -> None:
        self._ended_by, self._is_ended = number, True
        self._changed.set()

    def _stop(self) -> None:
        """Give the terminal back while the shell has this process stopped."""
        self._screen.close()
        signal.raise_signal(signal.SIGSTOP)
        self._show()
        self._changed.set()

    def _show(self) -> None:
        """Take the terminal, until `_screen` is closed. Nothing else writes to it."""
        loop, descriptor = asyncio.get_running_loop(), self._keyboard.descriptor
        self._live = _live(self._console)
        nowhere = Path(os.devnull).open("w")  # noqa: SIM115  # the stack closes it
        self._screen.enter_context(nowhere)
        self._screen.enter_context(contextlib.redirect_stderr(nowhere))
        self._screen.enter_context(self._keyboard.listening())
        self._screen.enter_context(self._live)
        loop.add_reader(descriptor, self._read_keys)
        self._screen.callback(loop.remove_reader, descriptor)

    @contextlib.contextmanager
    def _signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
        loop.add_signal_handler(signal.SIGTSTP, self._stop)
        try:
            yield
        finally:
            for number in (*_ENDING, signal.SIGWINCH, signal.SIGTSTP):
                loop.remove_signal_handler(number)


def _live(console: Console) -> Live:
    return Live(
        console=console,
        screen=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _text(lines: list[Line]) -> Text:
    """The lines for rich, without markup: a queue named [red] is a name."""
    text = Text(no_wrap=True, overflow="crop", end="")
    for number, line in enumerate(lines):
        if number:
            text.append("\n")
        for span in line:
            text.append(span.text, _STYLES[span.look])
    return text
