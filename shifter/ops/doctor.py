"""Health of a deployment: versions, log, topics and state store, each with a fix.

The facts of a vendor's client are checked by its adapter, by way of
`shifter.wiring`. A check that is not permitted to look (a missing right, an old
server) is a warning, never a failure of the command.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from shifter import wiring
from shifter.api.app import Shifter
from shifter.config import Settings
from shifter.errors import ConfigError, ShifterError, StoreError, StoreUnavailableError
from shifter.model.advice import FAIL, OK, WARN, Finding
from shifter.model.claim import ClaimRequest, ClaimUpdate, Granted, JobState
from shifter.model.lane import events_topic
from shifter.ports import ClaimStore, Clock, LogAdmin
from shifter.wiring.registry import log_adapter, state_adapter

_PYTHON: Final = (3, 11)
# Between two pings of a store that is away: short beside the seconds of a start.
_PAUSE_S: Final = 0.5
_TOPIC_FIX: Final = {
    "warn": "change it by hand: shifter never narrows a topic",
    "note": "ask the owner of the brokers to change it, or lower retention",
}
_WRITE_FIXES: Final = {
    "READONLY": "point SHIFTER_STATE at the primary",
    "OOM": "raise maxmemory, or remove what else the server holds",
    "MISCONF": "make room on the server's disk: it refuses writes that it cannot save",
    "NOREPLICAS": "start the replicas that min-replicas-to-write asks for",
    "no space": "make room on the disk",
}
"""Part of an error's text, and what to do about it."""


def check_versions() -> list[Finding]:
    """Python, the Kafka client and SQLite of this process."""
    python = platform.python_version()
    is_old = sys.version_info[:2] < _PYTHON
    found = (
        Finding("python", FAIL, python, "use Python 3.11 or newer")
        if is_old
        else Finding("python", OK, python)
    )
    return [found, *wiring.check_clients()]


async def examine(
    settings: Settings,
    clock: Clock,
    *,
    wait_s: float,
    explain: Callable[[ShifterError], tuple[str, str]],
) -> list[Finding]:
    """Check the versions, the log and the state store.

    Args:
        settings: Name the log and the state store.
        clock: Paces the waiting, and is compared with the store's clock.
        wait_s: How long to wait until log and state store answer.
        explain: Detail and fix of an error that ends the check of the log or the store.
    """
    until = clock.monotonic() + wait_s
    found = check_versions()
    for name, check in (("log", _check_log), ("state", check_state)):
        try:
            found += await check(settings, clock, until)
        except ShifterError as error:
            detail, fix = explain(error)
            found.append(Finding(name, FAIL, detail, fix))
    return found


async def check_topics(app: Shifter, target: str) -> list[Finding]:
    """Whether the topics of an app exist on its log and are as it needs them.

    Args:
        app: The app.
        target: The app's ``MODULE:APP``, for the fix.
    """
    specs = wiring.topic_specs(app.settings, app.queues)
    admin = wiring.open_admin(app.settings)
    try:
        changes = await admin.diff(specs)
    except ShifterError as error:
        fix = "grant DESCRIBE and DESCRIBE_CONFIGS on the topics"
        return [Finding("topics", WARN, f"not known: {error}", fix)]
    finally:
        await admin.close()
    if not changes:
        return [Finding("topics", OK, f"{len(specs)} topics are as they should be")]
    # Jobs run without the topic of events, also after an update that brings it.
    optional = events_topic(app.settings.namespace)
    return [
        Finding(
            "topics",
            FAIL if change.action == "create" and change.topic != optional else WARN,
            f"{change.topic}: {change.detail}",
            _TOPIC_FIX.get(change.action, f"shifter topics apply {target}"),
        )
        for change in changes
    ]


async def check_state(settings: Settings, clock: Clock, until: float) -> list[Finding]:
    """Whether the state store answers, keeps what it is given, and has the right time.

    Args:
        settings: Name the state store.
        clock: Paces the waiting, and is compared with the store's clock.
        until: Monotonic time until which to wait for an answer.

    Raises:
        ConfigError: No state store is configured, or its URL is wrong.
        StoreError: The state store does not answer, or refuses this client.
    """
    claims = wiring.open_claims(settings)
    try:
        await _answered(claims.ping, clock, until)
        server = await state_adapter(settings).check_server(settings, clock)
        return [*server, await _can_write(claims)]
    finally:
        await claims.close()


def failed_checks(findings: Iterable[Finding]) -> set[str]:
    """Names of the checks that failed."""
    return {finding.name for finding in findings if finding.status == FAIL}


async def until_up(
    settings: Settings,
    admin: LogAdmin,
    clock: Clock,
    *,
    wait_s: float,
    warn: Callable[[str], None],
) -> None:
    """Return when both answer; go on without the state store if only that is away.

    Args:
        settings: Name the state store.
        admin: Admin of the log.
        clock: Paces the waiting.
        wait_s: How long to wait for both together.
        warn: Called when it goes on without the state store, with the reason.

    Raises:
        StoreUnavailableError: The log did not answer in that time; its last error.
        StoreRefusedError: One of them refuses this client, which waiting never mends.
    """
    until = clock.monotonic() + wait_s
    await _answered(admin.ping, clock, until)
    claims = wiring.open_claims(settings)
    try:
        await _answered(claims.ping, clock, until)
    except StoreUnavailableError as error:
        # A worker can run without it: each job declares what happens then (`claims=`).
        warn(f"starting without the state store: {error}")
    finally:
        await claims.close()


async def _check_log(settings: Settings, clock: Clock, until: float) -> list[Finding]:
    if settings.log_url is None:
        raise ConfigError("log", None, "set SHIFTER_LOG to kafka://host:9092")
    admin = wiring.open_admin(settings)
    try:
        answer = await _answered(admin.ping, clock, until)
    finally:
        await admin.close()
    return [
        Finding("log", OK, answer),
        *log_adapter(settings).check_transport(settings),
    ]


async def _can_write(claims: ClaimStore) -> Finding:
    """Whether a claim is granted: a replica and a full server answer a ping as well."""
    name = f"-doctor-{wiring.new_worker_id()}"
    try:
        request = ClaimRequest(name, name, 1, 1)
        [answer] = await claims.claim([request], owner="doctor", lease_ms=1)
        if isinstance(answer, Granted):
            waiting = JobState.WAITING
            await claims.finish([ClaimUpdate(name, answer.fence, waiting, 1, 1, 1_000)])
    except StoreError as error:
        fixes = (fix for code, fix in _WRITE_FIXES.items() if code in str(error))
        fix = next(fixes, "let this user write to the keys shifter:* of the store")
        return Finding("state.write", FAIL, str(error), fix)
    return Finding("state.write", OK, "a claim is taken")


async def _answered(
    ping: Callable[[], Awaitable[str]], clock: Clock, until: float
) -> str:
    """The answer to a ping, which is repeated while the store is away.

    Args:
        ping: Asks the store.
        clock: Paces the asking.
        until: Monotonic time at which to give up; at least one try is made.

    Returns:
        The store's own description.

    Raises:
        StoreUnavailableError, StoreRefusedError: The error of the last try.
    """
    while True:
        try:
            return await ping()
        except StoreUnavailableError:
            if clock.monotonic() + _PAUSE_S > until:
                raise
        await clock.sleep(_PAUSE_S)
