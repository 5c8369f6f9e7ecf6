"""One run from the first process to the last: start, play, drain, account, end.

Keys of the terminal, a script and signals act on it while it goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from shifter.adapters.system import SystemClock
from shifter.demo.app import DemoApp, build
from shifter.demo.backend import Answer, Command, ask
from shifter.demo.deployment import (
    PROCESSES,
    Deployment,
    DeploymentError,
    Servers,
    open_deployment,
)
from shifter.demo.load import LENGTH_S, LoadGenerator, read_trace
from shifter.demo.outcome import Outcome, settle
from shifter.demo.watch import Frame, Phase, Watcher, open_watcher
from shifter.errors import ConfigError, StoreError
from shifter.model.advice import nearest
from shifter.model.lane import Priority
from shifter.ports import Clock

KEYS: Final = {"b": "break", "h": "heal", "p": "poison", "k": "kill", "q": "quit"}
"""Key to action."""

_WANT: Final = "use SECOND:ACTION, such as '5:break,8:heal'"
_TURN_S: Final = 0.05
# A loaded machine starts two Python processes in a few seconds; 20 s mean a fault.
_READY_S: Final = 20.0
# The recording ends with two quiet minutes, so a sound run drains in seconds.
_DRAIN_S: Final = 30.0
# Workers commit settled records every half second; the rest is for a loaded machine.
_SETTLE_S: Final = 3.0
# The first arrival must not be late already when the play begins.
_HEAD_START_S: Final = 0.2


class Cue(NamedTuple):
    """One entry of a script.

    Attributes:
        at_s: Seconds after the beginning of the play, >= 0.
        action: A value of `KEYS`.
    """

    at_s: float
    action: str


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


class Plan(NamedTuple):
    """A run to play.

    Attributes:
        speed: Trace seconds a second, > 0.
        seconds: How long jobs are offered, > 0; at most to the end of the recording.
        script: Actions and their seconds.
        servers: URLs to play on; by default a file of the run's own.
    """

    speed: float
    seconds: float
    script: Sequence[Cue] = ()
    servers: Servers = Servers()

    @property
    def length_s(self) -> float:
        """How long jobs are offered."""
        return min(self.seconds, LENGTH_S / self.speed)


class Show(Protocol):
    """Shows a run while it goes on."""

    async def run(
        self, frame: Callable[[], Frame], press: Callable[[str], None]
    ) -> None:
        """Show frames until cancelled, and pass on the actions of pressed keys."""


class Ending:
    """Whether a run is to be cut short.

    Attributes:
        ending: Set when the play is to end.
        leaving: Set when jobs that still wait are not waited for.
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


async def play(plan: Plan, show: Show) -> Outcome:
    """Play, and account for every job.

    The first SIGINT or SIGTERM ends the play and the waiting; a second one ends
    everything at once.

    Raises:
        DeploymentError: A part did not start, or ended by itself.
        StoreError: The log does not answer.
        asyncio.CancelledError: It was ended at once.
    """
    clock, ending = SystemClock(), Ending()
    pressed: asyncio.Queue[str] = asyncio.Queue()
    async with (
        open_deployment(plan.servers) as deployment,
        open_watcher(deployment.settings, deployment.socket, clock) as watcher,
        asyncio.TaskGroup() as group,
    ):
        _on_signals(deployment, ending)
        frame = functools.partial(watcher.frame, plan.length_s, plan.speed)
        showing = group.create_task(show.run(frame, pressed.put_nowait))
        await deployment.start(plan.speed)
        jobs = build(deployment.settings)
        async with jobs.app:
            run = _Run(plan, deployment, watcher, jobs, ending, clock)
            outcome = await run.through(pressed)
        showing.cancel()
    return outcome


def _on_signals(deployment: Deployment, ending: Ending) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def on_signal() -> None:
        if ending.is_interrupted and task is not None:
            deployment.kill()
            task.cancel()
        ending.interrupt()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)


class _Run:
    """The middle of `play`, step by step, and the actions on it."""

    def __init__(
        self,
        plan: Plan,
        deployment: Deployment,
        watcher: Watcher,
        jobs: DemoApp,
        ending: Ending,
        clock: Clock,
    ) -> None:
        self._plan, self._deployment, self._watcher = plan, deployment, watcher
        self._app, self._ending, self._clock = jobs.app, ending, clock
        self._tally = watcher.tally
        self._load = LoadGenerator(jobs, self._tally, clock, speed=plan.speed)

    async def through(self, pressed: asyncio.Queue[str]) -> Outcome:
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._watcher.run())
            obeying = group.create_task(self._obey(pressed))
            await self._until_ready()
            self._tally.began_at = self._clock.monotonic() + _HEAD_START_S
            script = group.create_task(self._follow_script())
            await self._play(group)
            script.cancel()
            await self._drain()
            self._watcher.phase = Phase.ENDING
            await self._deployment.stop_workers()
            obeying.cancel()
            looking.cancel()
        return await self._account()

    async def _until_ready(self) -> None:
        """Wait until both workers have reported, or until the run is cut short."""
        until = self._clock.monotonic() + _READY_S
        while len(self._watcher.workers) < PROCESSES:
            if self._ending.ending.is_set():
                return
            if self._clock.monotonic() > until:
                why = f"the workers are not ready after {_READY_S:.0f} s"
                raise DeploymentError(why)
            await self._turn()

    async def _play(self, group: asyncio.TaskGroup) -> None:
        self._watcher.phase = Phase.PLAYING
        length_s, ending = self._plan.length_s, self._ending.ending
        playing = group.create_task(
            self._load.play(read_trace(), length_s=length_s, ending=ending)
        )
        while not playing.done():
            await self._turn()
        elapsed_s = self._clock.monotonic() - self._tally.began_at
        self._tally.played_s = max(0.0, elapsed_s)

    async def _drain(self) -> None:
        """Wait until nothing is left, or until it takes too long."""
        self._watcher.phase = Phase.DRAINING
        began_at = self._clock.monotonic()
        until = began_at + _DRAIN_S
        while self._tally.unfinished() and not self._is_over(until):
            await self._turn()
        # The log settles a job a moment after the backend carried it out.
        until = min(until, self._clock.monotonic() + _SETTLE_S)
        while not (await self._is_settled() or self._is_over(until)):
            await self._turn()
        self._tally.drained_s = self._clock.monotonic() - began_at

    async def _is_settled(self) -> bool:
        with contextlib.suppress(StoreError):
            return not any((await self._watcher.left()).values())
        return False

    def _is_over(self, until: float) -> bool:
        return self._ending.leaving.is_set() or self._clock.monotonic() > until

    async def _turn(self) -> None:
        self._deployment.check()
        await self._clock.sleep(_TURN_S)

    async def _account(self) -> Outcome:
        await self._watcher.look()
        state = self._watcher.backend
        if state is None:
            raise DeploymentError("the backend does not answer any more")
        left = await self._watcher.left()
        if len(self._tally.unfinished()) > sum(left.values()):
            await self._ask_states(left)
        self._tally.is_interrupted = self._ending.is_interrupted
        return settle(self._tally, state, left, speed=self._plan.speed)

    async def _ask_states(self, left: dict[Priority, int]) -> None:
        """Ask the state store for jobs that neither log nor backend accounts for.

        They may have expired, or wait where the log cannot count them.
        """
        waiting: Counter[Priority] = Counter()
        for job_id in self._tally.unfinished():
            status = await self._app.status(job_id)
            if status is not None and status.state.is_terminal:
                self._tally.ended_otherwise.add(job_id)
            elif status is not None:
                waiting[self._tally.accepted[job_id]] += 1
        for priority, count in waiting.items():
            left[priority] = max(left.get(priority, 0), count)

    async def _obey(self, pressed: asyncio.Queue[str]) -> None:
        while True:
            await self._do(await pressed.get())

    async def _follow_script(self) -> None:
        for cue in sorted(self._plan.script):
            left_s = self._tally.began_at + cue.at_s - self._clock.monotonic()
            await self._clock.sleep(max(0.0, left_s))
            await self._do(cue.action)

    async def _do(self, action: str) -> None:
        """Carry out one of the actions of `KEYS`."""
        match action:
            case "break":
                await ask(self._deployment.socket, Command("break"), Answer)
                self._watcher.note("backend broken: what ran was cut off")
            case "heal":
                await ask(self._deployment.socket, Command("heal"), Answer)
                self._watcher.note("backend healed")
            case "poison":
                await self._load.poison()
                self._watcher.note("4 poison jobs offered, one of each priority")
            case "kill" if self._watcher.workers:
                # The lowest process id: usually the worker that has run longest.
                pid = self._watcher.workers[0]
                os.kill(pid, signal.SIGKILL)
                self._watcher.note(f"worker {pid} killed (kill -9)")
            case "kill":
                self._watcher.note("no worker to kill")
            case _:
                self._ending.quit()
