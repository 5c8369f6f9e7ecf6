"""Actions on a run, by a key or by a script at given seconds."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from typing import Final, NamedTuple

from shifter.demo.player import Player
from shifter.demo.watch import Watcher
from shifter.demo.wire import Told, ask
from shifter.errors import ConfigError
from shifter.model.advice import nearest
from shifter.ports import Clock

KEYS: Final = {"b": "break", "h": "heal", "p": "poison", "k": "kill", "q": "quit"}
"""Key to action."""

_WANT: Final = "use SECOND:ACTION, such as '5:break,8:heal'"


class Cue(NamedTuple):
    """One line of a script.

    Attributes:
        at_s: Seconds after the beginning of the play, >= 0.
        action: A value of `KEYS`.
    """

    at_s: float
    action: str


class Ending:
    """How far a run is to be cut short.

    Attributes:
        ending: Set when the play is to end.
        leaving: Set when what still waits is not waited for.
        is_interrupted: Whether that came from outside (Ctrl-C).
    """

    def __init__(self) -> None:
        self.is_interrupted = False
        self.ending, self.leaving = asyncio.Event(), asyncio.Event()

    def quit(self) -> None:
        """End the play; the second time, do not wait for what is left."""
        if self.ending.is_set():
            self.leaving.set()
        self.ending.set()

    def interrupt(self) -> None:
        """End the play and do not wait for what is left."""
        self.is_interrupted = True
        self.ending.set()
        self.leaving.set()


class Controls:
    """Carries out actions.

    Args:
        socket: The backend's.
        player: Offers poison jobs.
        watcher: Knows the workers.
        ending: Cut short by ``quit``.
        clock: Dates the events.
    """

    def __init__(
        self,
        socket: str,
        player: Player,
        watcher: Watcher,
        ending: Ending,
        clock: Clock,
    ) -> None:
        self._socket, self._player, self._watcher = socket, player, watcher
        self._ending, self._clock = ending, clock
        self._tally = watcher.tally

    async def do(self, action: str) -> None:
        """Carry out one of the actions."""
        match action:
            case "break":
                await ask(self._socket, Told("break"))
                self._note("backend broken: what ran was cut off")
            case "heal":
                await ask(self._socket, Told("heal"))
                self._note("backend healed")
            case "poison":
                await self._player.poison()
                self._note("4 poison jobs offered, one of each priority")
            case "kill":
                self._kill_worker()
            case _:
                self._ending.quit()

    async def follow(self, script: Sequence[Cue]) -> None:
        """Carry out a script, until its end or until the play's."""
        for cue in sorted(script):
            left_s = self._tally.began_at + cue.at_s - self._clock.monotonic()
            await self._clock.sleep(max(0.0, left_s))
            await self.do(cue.action)

    def _kill_worker(self) -> None:
        workers = self._watcher.seen.workers
        if not workers:
            self._note("no worker to kill")
            return
        # The one that lived longest, as far as process ids tell.
        os.kill(workers[0], signal.SIGKILL)
        self._note(f"worker {workers[0]} killed (kill -9)")

    def _note(self, text: str) -> None:
        self._tally.note(text, self._clock.monotonic())


def parse_script(text: str) -> list[Cue]:
    """A script as given on the command line.

    Raises:
        ConfigError: It cannot be read.

    >>> parse_script("8:heal, 5:break")
    [Cue(at_s=8.0, action='heal'), Cue(at_s=5.0, action='break')]
    """
    return [_cue(part.strip()) for part in text.split(",") if part.strip()]


def _cue(part: str) -> Cue:
    second, colon, action = part.partition(":")
    if not colon or not second.replace(".", "", 1).isdecimal():
        raise ConfigError("--script", part, _WANT)
    if action not in KEYS.values():
        raise ConfigError("--script", action, nearest(action, KEYS.values(), "actions"))
    return Cue(float(second), action)
