"""Which adapter serves which scheme of a URL.

A new adapter is a folder under `shifter.adapters` and an entry here: a function that
imports the class which opens its parts, so that a program imports only the vendor
libraries that its URLs need. The schemes that a URL may have at all are listed in
`shifter.config.endpoint`, which reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from shifter.config import Secret, Settings
from shifter.errors import ConfigError
from shifter.model.advice import Finding
from shifter.model.lane import Priority
from shifter.ports import (
    AtomicLog,
    ClaimStore,
    Clock,
    DelayMover,
    FleetStore,
    LaneFeed,
    LaneLog,
    LogAdmin,
    PresenceStore,
)

if TYPE_CHECKING:
    from shifter.work.worker import Name

T = TypeVar("T")


class LogMember(Protocol):
    """What the feeds and the mover of one worker process have in common."""

    @property
    def name(self) -> Name | None:
        """The name of the process in its consumer groups; ``None`` without one."""

    def open_feed(self, priority: Priority, topics: Iterable[str]) -> LaneFeed:
        """The lanes of one priority."""

    def open_mover(self) -> DelayMover:
        """What moves delayed records that the log does not move by itself."""


class LogAdapter(Protocol):
    """Opens the parts of one kind of log.

    Raises:
        ConfigError: From any method: the URL or a property of it is wrong.
    """

    @property
    def is_embedded(self) -> bool:
        """Whether the log is a file of this machine.

        Such a log needs no spool before it, makes its topics by itself, has no
        partitions to choose and delays records without topics for it.
        """

    def import_parts(self) -> None:
        """Import what background threads use, in the calling thread."""

    def import_member(self) -> None:
        """Import what `open_log` and `open_member` use."""

    def open_log(self, settings: Settings) -> LaneLog:
        """Where records become durable."""

    def open_atomic_log(self, settings: Settings, name: str) -> AtomicLog:
        """Where the records of the sender of a name become durable together."""

    def open_admin(self, settings: Settings) -> LogAdmin:
        """Looks after the topics."""

    def open_member(self, settings: Settings, log: LaneLog) -> LogMember:
        """The consuming side of one worker process, beside its open log."""

    def is_up(self, settings: Settings) -> bool:
        """Whether the log answers; may block for a second or two."""

    def check_transport(self, settings: Settings) -> list[Finding]:
        """Whether the connection to the log is safe; empty for an embedded log."""

    def path(self, settings: Settings) -> Path | None:
        """The file of an embedded log; ``None`` for any other."""


class StateAdapter(Protocol):
    """Opens the parts of one kind of shared state.

    ``beside`` is an open log: a state in the same file shares its transactions.

    Raises:
        ConfigError: From any method: the URL is wrong.
    """

    def import_parts(self) -> None:
        """Import what background threads use, in the calling thread."""

    def open_claims(
        self, settings: Settings, beside: LaneLog | None, *, with_waiting: bool = False
    ) -> ClaimStore:
        """Claims, which decide that a job takes effect once.

        Args:
            settings: Name the state store.
            beside: An open log.
            with_waiting: Whether `ClaimStore.status` also looks into the log, which is
                in the same file, for jobs that wait there.
        """

    def open_presence(
        self, settings: Settings, beside: LaneLog | None
    ) -> PresenceStore:
        """Reports of live workers."""

    def open_fleet(self, settings: Settings) -> FleetStore:
        """The fleet's shared decisions."""

    async def check_server(self, settings: Settings, clock: Clock) -> list[Finding]:
        """Whether the store answers, and is set up to keep what it is given.

        Raises:
            StoreError: It does not answer, or refuses this client.
        """


def _kafka() -> LogAdapter:
    from shifter.adapters.kafka.opening import KafkaLogs  # noqa: PLC0415

    return KafkaLogs()


def _sqlite_logs() -> LogAdapter:
    from shifter.adapters.sqlite.opening import SqliteLogs  # noqa: PLC0415

    return SqliteLogs()


def _sqlite_states() -> StateAdapter:
    from shifter.adapters.sqlite.opening import SqliteStates  # noqa: PLC0415

    return SqliteStates()


def _redis() -> StateAdapter:
    from shifter.adapters.redis.opening import RedisStates  # noqa: PLC0415

    return RedisStates()


_LOGS: Final[Mapping[str, Callable[[], LogAdapter]]] = MappingProxyType(
    {"kafka": _kafka, "sqlite": _sqlite_logs}
)
_STATES: Final[Mapping[str, Callable[[], StateAdapter]]] = MappingProxyType(
    {
        "redis": _redis,
        "rediss": _redis,
        "redis+sentinel": _redis,
        "redis+cluster": _redis,
        "rediss+sentinel": _redis,
        "rediss+cluster": _redis,
        "unix": _redis,
        "sqlite": _sqlite_states,
    }
)


def log_adapter(settings: Settings) -> LogAdapter:
    """The adapter of the log that the settings name.

    Raises:
        ConfigError: No log is configured, or it is ``memory://``.
    """
    return _found(_LOGS, "log", settings.log_url, "kafka://host:port")


def state_adapter(settings: Settings) -> StateAdapter:
    """The adapter of the shared state that the settings name.

    Raises:
        ConfigError: No state store is configured, or it is ``memory://``.
    """
    want = "redis://host:port/0"
    return _found(_STATES, "state", settings.state_url, want)


def _found(
    entries: Mapping[str, Callable[[], T]], field: str, url: Secret | None, want: str
) -> T:
    if url is None:
        raise ConfigError(field, None, f"set SHIFTER_{field.upper()} to {want}")
    scheme = url.reveal().partition(":")[0]
    if scheme == "memory":
        # A URL is opened anew by each part of a process, and by each process: nothing
        # that one of them wrote into its own memory would reach another.
        raise ConfigError(
            field,
            "memory://",
            "memory is shared within one process only, and only `shifter.testing` "
            f"opens it; set SHIFTER_{field.upper()} to {want} or sqlite:///path",
        )
    return entries[scheme]()
