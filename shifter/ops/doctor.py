"""Looks a deployment over, for ``shifter doctor``: each finding comes with its fix.

Beside `shifter.wiring` the only module that may open adapters. A check that is refused
a look (a missing right, an old server) is a warning, never a failure of the doctor.
"""

from __future__ import annotations

import platform
import re
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Final, NamedTuple

from shifter import wiring
from shifter.adapters.redis.url import parse_redis_url
from shifter.api.app import Shifter
from shifter.config import Settings
from shifter.config.endpoint import check_kafka, servers
from shifter.errors import ConfigError, ShifterError, StoreError
from shifter.model.claim import ClaimRequest, ClaimUpdate, Granted
from shifter.model.state import JobState
from shifter.ports import Clock, LogAdmin

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"

_MAX_SKEW_MS: Final = 1_000
_STATE_TIMEOUT_S: Final = 2.0
_PYTHON: Final = (3, 11)
# Below 2.15 librdkafka leaks a header list with each full queue and carries old
# OpenSSL and curl; the floor is a security floor.
_CONFLUENT: Final = (2, 15)
# First releases of each line without the Lua and use-after-free holes of 2025 and 2026
# (CVE-2025-49844, CVE-2026-23479).
_REDIS_FLOORS: Final = {(7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2, (8, 6): 3}
# First releases without the WAL-reset bug (SQLite 3.7.0 to 3.51.2).
_SQLITE_FIXED: Final = {(3, 44): 6, (3, 50): 7, (3, 51): 3}
_TOPIC_FIX: Final = {
    "warn": "mend it by hand: shifter never narrows a topic",
    "note": "ask the owner of the brokers to change it, or lower retention",
}
_LOOPBACK: Final = re.compile(r"(?:localhost|127\.[0-9.]+|\[::1\])(?::[0-9]+)?\Z")


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        name: What was looked at; a stable word.
        status: ``ok``, ``warn`` or ``fail``.
        detail: What was found.
        fix: What to do about it; empty when nothing.
    """

    name: str
    status: str
    detail: str
    fix: str = ""


def check_versions() -> list[Finding]:
    """Python, the Kafka client and SQLite of this process."""
    python = platform.python_version()
    is_old = sys.version_info[:2] < _PYTHON
    found = [
        Finding("python", FAIL, python, "use Python 3.11 or newer")
        if is_old
        else Finding("python", OK, python)
    ]
    return [*found, _confluent(), _sqlite()]


async def check_log(settings: Settings, admin: LogAdmin) -> list[Finding]:
    """Whether the log answers, and whether the way to it is safe.

    Raises:
        StoreError: It does not answer, or lets nobody in.
    """
    return [Finding("log", OK, await admin.ping()), *_transport(settings)]


async def check_topics(app: Shifter, admin: LogAdmin, target: str) -> list[Finding]:
    """Whether the topics of an app are there and as they should be.

    Args:
        app: The app.
        admin: Of its log.
        target: Its ``MODULE:APP``, for the fix.
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
    """Whether the state store answers, keeps what it is given, and tells the time.

    Raises:
        StoreError: It does not answer, or lets nobody in.
    """
    from shifter.adapters.redis.health import (  # noqa: PLC0415
        lets_anybody_in,
        read_health,
    )

    if settings.state_url is None:
        raise ConfigError("state", None, "set SHIFTER_STATE to redis://host:port/0")
    if wiring.is_sqlite(settings.state_url):
        claims = wiring.open_claims(settings)
        try:
            found = Finding("state", OK, await claims.ping())
        finally:
            await claims.close()
        return [found, await _can_write(settings)]
    url, asked_ms = settings.state_url.reveal(), clock.epoch_ms()
    health = await read_health(url, timeout_s=_STATE_TIMEOUT_S)
    # Its clock stood at that value some time between question and answer.
    now_ms = (asked_ms + clock.epoch_ms()) // 2
    is_open = await lets_anybody_in(url, timeout_s=_STATE_TIMEOUT_S)
    return [
        Finding("state", OK, f"{health.address}, version {health.version}"),
        _redis_version(health.version),
        _redis_access(settings, is_open=is_open),
        *_redis_transport(settings),
        _redis_role(health.role),
        await _can_write(settings),
        _redis_eviction(health.eviction, health.max_memory_bytes),
        _redis_persistence(health.persistence),
        _clock(health.epoch_ms - now_ms),
    ]


async def _can_write(settings: Settings) -> Finding:
    """Whether a claim is taken: a replica and a full server answer all the same."""
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


_WRITE_FIXES: Final = {
    "READONLY": "point SHIFTER_STATE at the primary",
    "OOM": "raise maxmemory, or remove what else the server holds",
    "MISCONF": "make room on the server's disk: it refuses writes that it cannot save",
    "NOREPLICAS": "start the replicas that min-replicas-to-write asks for",
    "no space": "make room on the disk",
}


def _redis_version(text: str) -> Finding:
    major, minor, patch = (*_numbers(text), 0, 0, 0)[:3]
    line = (major, minor)
    floor = _REDIS_FLOORS.get(line)
    newest = max(_REDIS_FLOORS)
    if line > newest or (floor is not None and patch >= floor):
        return Finding("state.version", OK, text)
    least = ".".join(map(str, (*line, floor))) if floor is not None else "8.6.3"
    detail = f"{text} has known holes in scripting (CVE-2025-49844 and others)"
    return Finding("state.version", WARN, detail, f"use {least} or newer")


def _redis_access(settings: Settings, *, is_open: bool) -> Finding:
    if not is_open:
        return Finding("state.access", OK, "it asks for a password")
    detail = "it asks for no password: any client can open circuits and end claims"
    fix = "set requirepass, or a user, and put it into SHIFTER_STATE"
    if not _is_remote(settings):
        detail += "; it is on this machine"
    return Finding("state.access", WARN, detail, fix)


def _redis_transport(settings: Settings) -> list[Finding]:
    """Whether the way to the server is safe; a socket, and this machine, are."""
    url = "" if settings.state_url is None else settings.state_url.reveal()
    parsed = parse_redis_url(url)
    if parsed.is_tls:
        weak = [
            f"{name}={parsed.options[name]}"
            for name, value in (
                ("ssl_cert_reqs", "none"),
                ("ssl_check_hostname", False),
            )
            if parsed.options.get(name) == value
        ]
        if not weak:
            return [Finding("state.transport", OK, "tls")]
        return [_unverified("state.transport", ", ".join(weak))]
    if not _is_remote(settings):
        return [Finding("state.transport", OK, "this machine")]
    detail = "plain: claims and the password cross the network in the clear"
    return [Finding("state.transport", WARN, detail, "use rediss://")]


def _unverified(name: str, how: str) -> Finding:
    detail = f"{how}: the server's certificate is not verified, anybody may be it"
    return Finding(name, WARN, detail, f"remove {how}, and name the authority")


def _is_remote(settings: Settings) -> bool:
    url = "" if settings.state_url is None else settings.state_url.reveal()
    parsed = parse_redis_url(url)
    return not all(_LOOPBACK.match(host) or host == "::1" for host, _ in parsed.servers)


def _redis_role(role: str) -> Finding:
    if role == "master":
        return Finding("state.role", OK, role)
    return Finding("state.role", FAIL, role, "point SHIFTER_STATE at the primary")


def _redis_eviction(policy: str, limit_bytes: int) -> Finding:
    if policy == "noeviction":
        return Finding("state.eviction", OK, policy)
    fix = "CONFIG SET maxmemory-policy noeviction"
    detail = f"{policy}: claims may vanish, and their jobs run twice"
    if limit_bytes == 0:
        return Finding("state.eviction", WARN, f"{detail}, once maxmemory is set", fix)
    return Finding("state.eviction", FAIL, detail, fix)


def _redis_persistence(kind: str) -> Finding:
    if kind in ("aof", "rdb"):
        return Finding("state.persistence", OK, kind)
    detail = "not known" if kind == "?" else "none: a restart forgets every claim"
    return Finding("state.persistence", WARN, detail, "CONFIG SET appendonly yes")


def _clock(skew_ms: int) -> Finding:
    if abs(skew_ms) <= _MAX_SKEW_MS:
        return Finding("clock", OK, f"{skew_ms} ms from the state store's")
    detail = f"the state store's clock is {skew_ms} ms ahead of ours"
    fix = "synchronise both by NTP: due times and deadlines go by these clocks"
    return Finding("clock", WARN, detail, fix)


def _transport(settings: Settings) -> list[Finding]:
    url = settings.log_url
    if url is None or not url.reveal().startswith("kafka://"):
        return []
    properties = {
        name: secret.reveal().lower()
        for name, secret in check_kafka("log", url.reveal(), settings.kafka).items()
    }
    protocol = properties.get("security.protocol", "plaintext")
    hosts = servers(url).split(",")
    is_near = all(_LOOPBACK.match(host) for host in hosts)
    found: list[Finding] = []
    if not protocol.endswith("ssl") and not is_near:
        detail = f"{protocol}: payloads and credentials cross the network in the clear"
        found.append(
            Finding("log.transport", WARN, detail, "security_protocol=SASL_SSL")
        )
    if protocol.endswith("ssl"):
        # librdkafka checks names by default; "none" switches that off.
        weak = [
            f"{name.replace('.', '_')}={properties[name]}"
            for name, values in _UNVERIFIED.items()
            if properties.get(name) in values
        ]
        said = {settings.origin(f"kafka.{name}") for name in _UNVERIFIED}
        files = sorted(origin for origin in said if origin.startswith("file "))
        how = ", ".join(weak) + "".join(f" ({name})" for name in files)
        found += [_unverified("log.transport", how)] if weak else []
    return found or [Finding("log.transport", OK, protocol)]


_OFF: Final = ("false", "0", "f", "no")
_UNVERIFIED: Final = {
    "enable.ssl.certificate.verification": _OFF,
    "ssl.endpoint.identification.algorithm": ("none", ""),
    "https.endpoint.identification.algorithm": ("none", ""),
}


def _confluent() -> Finding:
    try:
        found = version("confluent-kafka")
    except PackageNotFoundError:
        found = "not installed"
    if _numbers(found)[:2] >= _CONFLUENT:
        return Finding("kafka_client", OK, f"confluent-kafka {found}")
    floor = ".".join(map(str, _CONFLUENT))
    fix = f"pip install 'confluent-kafka>={floor}'"
    return Finding("kafka_client", FAIL, f"confluent-kafka {found}", fix)


def _sqlite() -> Finding:
    found = sqlite3.sqlite_version
    line = sqlite3.sqlite_version_info[:2]
    fixed = _SQLITE_FIXED.get(line)
    is_sound = line > max(_SQLITE_FIXED) or (
        fixed is not None and sqlite3.sqlite_version_info[2] >= fixed
    )
    if is_sound:
        return Finding("sqlite", OK, found)
    # Our lock around writes and checkpoints keeps the bug out; another program that
    # opens the file does not take it.
    detail = f"{found} has the WAL-reset bug, which shifter locks out of its files"
    fix = "use SQLite 3.51.3 or newer; until then other tools only read these files"
    return Finding("sqlite", WARN, detail, fix)


def _numbers(text: str) -> tuple[int, ...]:
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
