"""Health checks: how the servers of a dependency are asked whether they are well."""

from __future__ import annotations

from dataclasses import dataclass, field

from shifter.errors import ConfigError
from shifter.model.time import Duration, duration_ms

_LEAST_EVERY_MS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How often endpoints are checked, and how many checks decide.

    Use `HttpCheck`, `TcpCheck` or `GrpcCheck`.

    Attributes:
        every: From one check of an endpoint to the next, 100 ms at least; each time up
            to a tenth more or less.
        timeout: A check that takes longer has failed; at most ``every``.
        healthy: Checks in a row that must succeed before an endpoint that was ill is
            called again, 1-100.
        unhealthy: Checks in a row that must fail before an endpoint is ejected, 1-100.

    Raises:
        ConfigError: A value is out of its range.
    """

    every: Duration = "10s"
    timeout: Duration = "1s"
    healthy: int = 2
    unhealthy: int = 3

    def __post_init__(self) -> None:
        every_ms = duration_ms("every", self.every, minimum_ms=_LEAST_EVERY_MS)
        if duration_ms("timeout", self.timeout, minimum_ms=1) > every_ms:
            raise ConfigError("timeout", self.timeout, f"use at most {self.every}")
        for name in ("healthy", "unhealthy"):
            count: object = getattr(self, name)
            is_whole = isinstance(count, int) and not isinstance(count, bool)
            if not is_whole or not 1 <= getattr(self, name) <= 100:
                raise ConfigError(name, count, "use a whole number from 1 to 100")

    @property
    def every_s(self) -> float:
        """Seconds from one check to the next."""
        return duration_ms("every", self.every) / 1_000

    @property
    def timeout_s(self) -> float:
        """Seconds after which a check has failed."""
        return duration_ms("timeout", self.timeout) / 1_000


@dataclass(frozen=True, slots=True)
class HttpCheck(HealthCheck):
    """A GET request; a status of 200 to 299 is a success.

    The endpoint's own path comes first. Certificates of ``https`` endpoints are
    verified.

    Attributes:
        path: Begins with a slash; may have a query.

    Raises:
        ConfigError: The path is wrong, or a value is out of its range.
    """

    path: str = field(default="/healthz")

    def __post_init__(self) -> None:
        HealthCheck.__post_init__(self)
        path: object = self.path
        is_text = isinstance(path, str) and self.path.startswith("/")
        if not is_text or not self.path.isascii() or not _is_plain(self.path):
            want = "use a path such as '/healthz', in ASCII and without blanks"
            raise ConfigError("path", path, want)


@dataclass(frozen=True, slots=True)
class TcpCheck(HealthCheck):
    """A connection; a server that accepts it is well."""


@dataclass(frozen=True, slots=True)
class GrpcCheck(HealthCheck):
    """``grpc.health.v1.Health/Check``; ``SERVING`` is a success.

    Needs ``pip install 'shifter-queue[grpc]'``.

    Attributes:
        service: The service that is asked about; empty for the whole server.

    Raises:
        ConfigError: gRPC is not installed, or a value is out of its range.
    """

    service: str = ""

    def __post_init__(self) -> None:
        HealthCheck.__post_init__(self)
        try:
            import grpc  # noqa: F401, PLC0415  # an extra
        except ImportError:
            want = "install it: pip install 'shifter-queue[grpc]'"
            raise ConfigError("health", "GrpcCheck", want) from None


def check_health(found: object, *, has_endpoints: bool) -> None:
    """Check what ``app.dependency(health=...)`` was given.

    Args:
        found: What was given.
        has_endpoints: Whether the dependency has endpoints.

    Raises:
        ConfigError: It is no health check, or there are no endpoints to be checked.
    """
    if not isinstance(found, HttpCheck | TcpCheck | GrpcCheck):
        raise ConfigError("health", found, "use HttpCheck, TcpCheck or GrpcCheck")
    if not has_endpoints:
        raise ConfigError("health", found, "give the dependency endpoints=[...] too")


def _is_plain(text: str) -> bool:
    return text.isprintable() and " " not in text
