"""One run from the first process to the last: start, play, drain, account, end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.demo.app import DemoApp, build
from shifter.demo.controls import Controls, Cue, Ending
from shifter.demo.frame import Frame, Phase, Scene
from shifter.demo.outcome import Cut, Outcome, settle
from shifter.demo.player import Player
from shifter.demo.stage import PROCESSES, Servers, Stage, StageError, open_stage
from shifter.demo.tally import Tally
from shifter.demo.trace import LENGTH_S, read_trace
from shifter.demo.watch import Watcher, open_watcher
from shifter.errors import StoreError
from shifter.model.lane import Priority
from shifter.ports import Clock

_TURN_S: Final = 0.05
_READY_S: Final = 20.0
_DRAIN_S: Final = 30.0
_SETTLE_S: Final = 3.0
_HEAD_START_S: Final = 0.2


class Plan(NamedTuple):
    """What is to be played.

    Attributes:
        speed: Trace seconds a second, > 0.
        seconds: How long jobs are offered, > 0; at most to the end of the recording.
        script: What is done at which second.
        servers: Where; by default on a file of its own.
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


async def play(plan: Plan, show: Show) -> Outcome:
    """Play, and account for every job.

    The first SIGINT or SIGTERM ends the play and the waiting; a second one ends
    everything at once.

    Raises:
        StageError: A part did not start, or ended by itself.
        StoreError: The log does not answer.
        asyncio.CancelledError: It was ended at once.
    """
    clock, tally, ending = SystemClock(), Tally(), Ending()
    scene = Scene(tally, clock, plan.length_s, plan.speed)
    asked: asyncio.Queue[str] = asyncio.Queue()
    async with open_stage(plan.servers) as stage, asyncio.TaskGroup() as group:
        _on_signals(stage, ending)
        showing = group.create_task(show.run(scene.frame, asked.put_nowait))
        await stage.start(plan.speed)
        jobs = build(stage.settings)
        async with open_watcher(stage.settings, stage.socket, tally, clock) as watcher:
            scene.watcher = watcher
            async with jobs.app:
                run = _Run(plan, stage, scene, watcher, ending, clock)
                outcome = await run.through(jobs, asked)
        showing.cancel()
    return outcome


def _on_signals(stage: Stage, ending: Ending) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def on_signal() -> None:
        if ending.is_interrupted and task is not None:
            stage.kill()
            task.cancel()
        ending.interrupt()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)


class _Run:
    """The middle of `play`, step by step."""

    def __init__(
        self,
        plan: Plan,
        stage: Stage,
        scene: Scene,
        watcher: Watcher,
        ending: Ending,
        clock: Clock,
    ) -> None:
        self._plan, self._stage, self._scene = plan, stage, scene
        self._watcher, self._ending, self._clock = watcher, ending, clock
        self._tally = watcher.tally

    async def through(self, jobs: DemoApp, asked: asyncio.Queue[str]) -> Outcome:
        player = Player(jobs, self._tally, self._clock, speed=self._plan.speed)
        controls = Controls(
            self._stage.socket, player, self._watcher, self._ending, self._clock
        )
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._watcher.run())
            obeying = group.create_task(_obey(controls, asked))
            await self._until_ready()
            self._tally.begin(self._clock.monotonic() + _HEAD_START_S)
            script = group.create_task(controls.follow(self._plan.script))
            played_s = await self._play(group, player)
            script.cancel()
            drained_s = await self._drain()
            self._scene.phase = Phase.ENDING
            await self._stage.stop_workers()
            obeying.cancel()
            looking.cancel()
        return await self._account(jobs.app, played_s, drained_s)

    async def _until_ready(self) -> None:
        """Wait until both workers have reported, or until the run is cut short."""
        until = self._clock.monotonic() + _READY_S
        while len(self._watcher.seen.workers) < PROCESSES:
            if self._ending.ending.is_set():
                return
            if self._clock.monotonic() > until:
                raise StageError(f"the workers are not ready after {_READY_S:.0f} s")
            await self._turn()

    async def _play(self, group: asyncio.TaskGroup, player: Player) -> float:
        self._scene.phase = Phase.PLAYING
        playing = group.create_task(
            player.play(
                read_trace(),
                length_s=self._plan.length_s,
                ending=self._ending.ending,
            )
        )
        while not playing.done():
            await self._turn()
        return max(0.0, self._clock.monotonic() - self._tally.began_at)

    async def _drain(self) -> float:
        """Wait until nothing is left or it takes too long; return the seconds."""
        self._scene.phase = Phase.DRAINING
        began_at = self._clock.monotonic()
        until = began_at + _DRAIN_S
        while self._tally.unfinished() and not self._is_over(until):
            await self._turn()
        # Carried out is not yet settled: the log learns of it a moment later.
        until = min(until, self._clock.monotonic() + _SETTLE_S)
        while not (await self._is_settled() or self._is_over(until)):
            await self._turn()
        return self._clock.monotonic() - began_at

    async def _is_settled(self) -> bool:
        with contextlib.suppress(StoreError):
            return not any((await self._watcher.left()).values())
        return False

    def _is_over(self, until: float) -> bool:
        return self._ending.leaving.is_set() or self._clock.monotonic() > until

    async def _turn(self) -> None:
        self._stage.check()
        await self._clock.sleep(_TURN_S)

    async def _account(
        self, app: Shifter, played_s: float, drained_s: float
    ) -> Outcome:
        await self._watcher.look()
        look = self._watcher.seen.backend
        if look is None:
            raise StageError("the backend does not answer any more")
        left = await self._watcher.left()
        if len(self._tally.unfinished()) > sum(left.values()):
            await _ask_states(app, self._tally, left)
        return settle(
            self._tally,
            look,
            left,
            Cut(played_s, drained_s, self._ending.is_interrupted),
            speed=self._plan.speed,
        )


async def _ask_states(app: Shifter, tally: Tally, left: dict[Priority, int]) -> None:
    """What the state store knows of jobs that neither log nor backend accounts for.

    They may have expired, or wait where the log cannot count them.
    """
    waiting: Counter[Priority] = Counter()
    for job_id in tally.unfinished():
        status = await app.status(job_id)
        if status is not None and status.state.is_terminal:
            tally.ended_otherwise.add(job_id)
        elif status is not None:
            waiting[tally.accepted[job_id]] += 1
    for priority, count in waiting.items():
        left[priority] = max(left.get(priority, 0), count)


async def _obey(controls: Controls, asked: asyncio.Queue[str]) -> None:
    while True:
        await controls.do(await asked.get())
