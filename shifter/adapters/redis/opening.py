"""Opens a shared state in Redis, from the settings: this folder's registry entry."""

from __future__ import annotations

from typing import Final

from shifter.adapters.redis.claims import RedisClaimStore
from shifter.adapters.redis.client import RedisClient, open_redis
from shifter.adapters.redis.doctor import check_server
from shifter.adapters.redis.fleet import RedisFleetStore, RedisPresenceStore
from shifter.config import Settings
from shifter.errors import ConfigError
from shifter.model.advice import Finding
from shifter.ports import ClaimStore, Clock, FleetStore, LaneLog, PresenceStore

_TIMEOUT_S: Final = 1.0
"""Of presence and fleet calls, for which no job waits."""


class RedisStates:
    """`shifter.wiring.registry.StateAdapter` for every scheme of Redis."""

    def import_parts(self) -> None:
        """Do nothing: the import of this module has imported its parts."""

    def open_claims(
        self,
        settings: Settings,
        beside: LaneLog | None,  # noqa: ARG002  # no log shares Redis' transactions
        *,
        with_waiting: bool = False,  # noqa: ARG002  # no log is in Redis
    ) -> ClaimStore:
        """Claims; a call may take as long as the setting ``claim_timeout``."""
        client = _client(settings, settings.claim_timeout_ms / 1_000)
        return RedisClaimStore(client, settings.namespace)

    def open_presence(
        self,
        settings: Settings,
        beside: LaneLog | None,  # noqa: ARG002  # no log shares Redis' transactions
    ) -> PresenceStore:
        """Reports of live workers."""
        return RedisPresenceStore(_client(settings), settings.namespace)

    def open_fleet(self, settings: Settings) -> FleetStore:
        """The fleet's shared decisions."""
        return RedisFleetStore(_client(settings), settings.namespace)

    async def check_server(self, settings: Settings, clock: Clock) -> list[Finding]:
        """Whether Redis answers, refuses strangers and keeps what it is given."""
        return await check_server(_url(settings), clock)


def _url(settings: Settings) -> str:
    if settings.state_url is None:
        raise ConfigError("state", None, "set SHIFTER_STATE to redis://host:port/0")
    return settings.state_url.reveal()


def _client(settings: Settings, timeout_s: float = _TIMEOUT_S) -> RedisClient:
    return open_redis(_url(settings), timeout_s=timeout_s)
