"""Every part of shifter that is started and stopped, behind one shape for the tests.

A service is made anew for each start. ``start`` returns when it runs, ``stop`` when it
has ended; both may be called in any order, and at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any, Final, Protocol

from shifter import Shifter, wiring
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.errors import StoreError
from shifter.fleet.replica import FleetReplica
from shifter.fleet.sync import FleetSync
from shifter.model.fleet import FleetReport
from shifter.model.lane import Priority
from shifter.ports import Record
from shifter.produce.observer import ServiceObserver
from shifter.runtime.threads import BackgroundLoop, in_thread
from shifter.supervise.probes import ProbeServer
from shifter.supervise.supervisor import ProcessHealth
from shifter.telemetry import Tracing
from shifter.testing import TestApp
from shifter.wiring.registry import log_adapter
from shifter.wiring.service import lane_watch, open_publisher
from shifter.work.executor import Decoding

_NAMES = itertools.count()
_CLOSE_S: Final = 40.0


class Service(Protocol):
    """What the tests start and stop."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def lane(settings: Settings, priority: Priority = Priority.NORMAL) -> str:
    """A lane whose topic the tests have made."""
    return f"{settings.namespace}.default.{priority.value.lower()}"


class _Opened:
    """Something that is open once it is made; used once, then closed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.opened: Any = None
        self.is_stopped = False

    def open(self) -> Any:
        raise NotImplementedError

    async def use(self) -> None:
        """Something that makes it connect."""

    async def start(self) -> None:
        self.opened = self.open()
        # A caller does not use what it has closed.
        if not self.is_stopped:
            with contextlib.suppress(StoreError):
                await self.use()

    async def stop(self) -> None:
        self.is_stopped = True
        if self.opened is not None:
            await self.opened.close()


class Claims(_Opened):
    def open(self) -> Any:
        return wiring.open_claims(self.settings)

    async def use(self) -> None:
        await self.opened.status("job-1")


class Presence(_Opened):
    def open(self) -> Any:
        return wiring.open_presence(self.settings)

    async def use(self) -> None:
        await self.opened.workers()


class Fleet(_Opened):
    def open(self) -> Any:
        return wiring.open_fleet(self.settings)

    async def use(self) -> None:
        process = f"p{next(_NAMES)}"
        await self.opened.sync(
            FleetReport(process, 0.5, b"", is_alarmed=False, keep_ms=10, version=0)
        )


class Admin(_Opened):
    def open(self) -> Any:
        return wiring.open_admin(self.settings)

    async def use(self) -> None:
        await self.opened.topics()


class Log(_Opened):
    def open(self) -> Any:
        return wiring.open_log(self.settings)

    async def use(self) -> None:
        record = Record(lane(self.settings), b"{}", ())
        answers = await self.opened.append([record], timeout_s=40)
        assert len(answers) == 1

    async def stop(self) -> None:
        self.is_stopped = True
        if self.opened is not None:
            await in_thread(self.opened.close, timeout_s=_CLOSE_S)


class PublisherOfService(Log):
    """With the spool, where there is one, and its forwarder."""

    def open(self) -> Any:
        return open_publisher(self.settings, ServiceObserver(), Tracing())

    async def use(self) -> None:
        record = Record(lane(self.settings), b"{}", ())
        await self.opened._log.append([record], timeout_s=40)


class AtomicLog(_Opened):
    def open(self) -> Any:
        return wiring.open_atomic_log(self.settings, f"sender{next(_NAMES)}")

    async def use(self) -> None:
        await self.opened.open()


class Feed:
    """A member of a group, with the log that it writes successors to."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log: Any = None
        self._feed: Any = None
        self._member: Any = None

    async def start(self) -> None:
        self._log = wiring.open_log(self._settings)
        topics = [lane(self._settings)]
        self._member = log_adapter(self._settings).open_member(
            self._settings, self._log
        )
        self._feed = self._member.open_feed(Priority.NORMAL, topics)
        await self._feed.open()

    async def stop(self) -> None:
        if self._feed is not None:
            await self._feed.close(timeout_s=_CLOSE_S)
        if self._member is not None and self._member.name is not None:
            self._member.name.release()
        if self._log is not None:
            await in_thread(self._log.close, timeout_s=_CLOSE_S)


class _Task:
    """What runs until it is cancelled."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self.run())
        await asyncio.sleep(0)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


class Mover(_Task):
    async def run(self) -> None:
        log = wiring.open_log(self.settings)
        try:
            member = log_adapter(self.settings).open_member(self.settings, log)
            try:
                await member.open_mover().run()
            finally:
                if member.name is not None:
                    member.name.release()
        finally:
            await asyncio.shield(in_thread(log.close, timeout_s=_CLOSE_S))


class Sync(_Task):
    async def run(self) -> None:
        clock, store = SystemClock(), wiring.open_fleet(self.settings)
        replica = FleetReplica((), clock, process=f"p{next(_NAMES)}")
        sync = FleetSync(replica, store, clock, every_s=0.01)
        try:
            await sync.run()
        finally:
            await asyncio.shield(sync.close())


class Probes(_Task):
    async def run(self) -> None:
        endpoint = ProbeServer(ProcessHealth(1, SystemClock()), version="0")
        async with endpoint.serving("127.0.0.1", 0):
            await asyncio.Event().wait()


class LoopInThread:
    def __init__(self, settings: Settings) -> None:
        self._thread = BackgroundLoop(self._main, name="shifter-test")

    async def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        await in_thread(self._thread.stop, _CLOSE_S)

    async def _main(self, stopped: asyncio.Event) -> None:
        await stopped.wait()


class Lanes:
    """The watch of lanes."""

    def __init__(self, settings: Settings) -> None:
        watch: Any = lane_watch(settings, lambda: ["default"])
        self._thread = BackgroundLoop(watch.run, name="shifter-test")

    async def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        await in_thread(self._thread.stop, _CLOSE_S)


class App:
    """All of a service: publisher, admission, watches of lanes and dependencies."""

    def __init__(self, settings: Settings) -> None:
        self._app = Shifter(settings.namespace, settings=settings)
        bank = self._app.dependency("bank")
        self._is_stopped = False

        @self._app.job(uses=bank)
        async def pay() -> None: ...

        self._pay = pay

    async def start(self) -> None:
        await self._app.__aenter__()
        # A first use after the close would open the app again, as documented.
        if not self._is_stopped:
            self._app.admission  # noqa: B018  # its first use starts the watches

    async def stop(self) -> None:
        self._is_stopped = True
        await self._app.__aexit__(None, None, None)


class AppInMemory:
    def __init__(self, settings: Settings) -> None:
        app = Shifter(settings.namespace, settings=settings)

        @app.job
        async def pay() -> None: ...

        self._pay, self._test = pay, TestApp(app)
        self._is_open = False

    async def start(self) -> None:
        await self._test.__aenter__()
        self._is_open = True
        await self._pay.defer()
        await self._test.drain()

    async def stop(self) -> None:
        if self._is_open:
            await self._test.__aexit__(None, None, None)


class Decoder:
    """The threads that decode large records."""

    def __init__(self, settings: Settings) -> None:
        self._decoding = Decoding()

    async def start(self) -> None:
        await self._decoding.run(lambda value, kind: {}, b"{}", "application/json")

    async def stop(self) -> None:
        self._decoding.close()


STORES: Final[dict[str, Callable[[Settings], Service]]] = {
    "claims": Claims,
    "presence": Presence,
    "fleet": Fleet,
    "admin": Admin,
    "log": Log,
    "publisher": PublisherOfService,
    "atomic log": AtomicLog,
    "feed": Feed,
    "mover": Mover,
    "fleet sync": Sync,
    "lane watch": Lanes,
    "app": App,
}
"""Those that a log and a state store serve."""

ALONE: Final[dict[str, Callable[[Settings], Service]]] = {
    "probes": Probes,
    "loop in a thread": LoopInThread,
    "decoder": Decoder,
}
"""Those that need neither."""

ONE_AT_A_TIME: Final[dict[str, Callable[[Settings], Service]]] = {
    "app in memory": AppInMemory,
}
"""A `TestApp` has the clock of its event loop to itself while it is open."""
