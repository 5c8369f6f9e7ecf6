"""Checks a deployment: versions, log, topics and state store, each finding with a fix.

What only a vendor's client can tell is checked by its adapter, by way of
`shifter.wiring`. A check that is not permitted to look (a missing right, an old
server) is a warning, never a failure of the command.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable
from typing import Final

from shifter import wiring
from shifter.api.app import Shifter
from shifter.config import Settings
from shifter.errors import ConfigError, ShifterError, StoreError
from shifter.model.advice import FAIL, OK, WARN, Finding
from shifter.model.claim import ClaimRequest, ClaimUpdate, Granted, JobState
from shifter.ops.waiting import answered
from shifter.ports import Clock, LogAdmin
from shifter.wiring.registry import log_adapter, state_adapter

_PYTHON: Final = (3, 11)
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
    for name, check in (("log", _examine_log), ("state", _examine_state)):
        try:
            found += await check(settings, clock, until)
        except ShifterError as error:
            detail, fix = explain(error)
            found.append(Finding(name, FAIL, detail, fix))
    return found


async def examine_topics(app: Shifter, target: str) -> list[Finding]:
    """Check the topics of an app on its own log; arguments as of `check_topics`.

    Raises:
        StoreError: The log does not answer.
    """
    admin = wiring.open_admin(app.settings)
    try:
        return await check_topics(app, admin, target)
    finally:
        await admin.close()


def failed_checks(findings: Iterable[Finding]) -> set[str]:
    """Names of the checks that failed."""
    return {finding.name for finding in findings if finding.status == FAIL}


async def check_log(settings: Settings, admin: LogAdmin) -> list[Finding]:
    """Whether the log answers, and whether the connection to it is safe.

    Raises:
        StoreError: The log does not answer, or refuses this client.
    """
    answers = Finding("log", OK, await admin.ping())
    return [answers, *log_adapter(settings).check_transport(settings)]


async def check_topics(app: Shifter, admin: LogAdmin, target: str) -> list[Finding]:
    """Whether the topics of an app exist and are as it needs them.

    Args:
        app: The app.
        admin: Admin of the app's log.
        target: The app's ``MODULE:APP``, for the fix.
    """
    specs = wiring.topic_specs(app.settings, app.queues)
    try:
        changes = await admin.diff(specs)
    except ShifterError as error:
        fix = "grant DESCRIBE and DESCRIBE_CONFIGS on the topics"
        return [Finding("topics", WARN, f"not known: {error}", fix)]
    if not changes:
        return [Finding("topics", OK, f"{len(specs)} topics are as they should be")]
    return [
        Finding(
            "topics",
            FAIL if change.action == "create" else WARN,
            f"{change.topic}: {change.detail}",
            _TOPIC_FIX.get(change.action, f"shifter topics apply {target}"),
        )
        for change in changes
    ]


async def check_state(settings: Settings, clock: Clock) -> list[Finding]:
    """Whether the state store answers, keeps what it is given, and has the right time.

    Raises:
        ConfigError: No state store is configured, or its URL is wrong.
        StoreError: The state store does not answer, or refuses this client.
    """
    server = await state_adapter(settings).check_server(settings, clock)
    return [*server, await _can_write(settings)]


async def _examine_log(settings: Settings, clock: Clock, until: float) -> list[Finding]:
    if settings.log_url is None:
        raise ConfigError("log", None, "set SHIFTER_LOG to kafka://host:9092")
    admin = wiring.open_admin(settings)
    try:
        await answered(admin.ping, clock, until)
        return await check_log(settings, admin)
    finally:
        await admin.close()


async def _examine_state(
    settings: Settings, clock: Clock, until: float
) -> list[Finding]:
    claims = wiring.open_claims(settings)
    try:
        await answered(claims.ping, clock, until)
    finally:
        await claims.close()
    return await check_state(settings, clock)


async def _can_write(settings: Settings) -> Finding:
    """Whether a claim is granted: a replica and a full server answer a ping as well."""
    claims = wiring.open_claims(settings)
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
    finally:
        await claims.close()
    return Finding("state.write", OK, "a claim is taken")
