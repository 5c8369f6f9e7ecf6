"""Active health: what the checks of one endpoint decide, and when the next is due.

An endpoint is ill after some failed checks in a row, and well again after some that
succeed. Source: Envoy's health checking (``unhealthy_threshold``,
``healthy_threshold``, jittered intervals).
"""

from __future__ import annotations

from typing import Final

from shifter.model.health_check import HealthCheck

_JITTER: Final = 0.1
"""Part of the interval by which a check is earlier or later: checks must not meet."""

_CONFIRM_S: Final = 1.0
"""Longest interval of a process that confirms what another one found."""


class CheckState:
    """The health checks of one endpoint in one process. Belongs to one thread.

    Attributes:
        is_healthy: Whether it passed its checks, as far as they decided.
        in_a_row: Checks in a row that ended as the last one did.
    """

    __slots__ = ("_last_ok", "in_a_row", "is_healthy")

    def __init__(self) -> None:
        self.is_healthy, self.in_a_row, self._last_ok = True, 0, True

    def note(self, check: HealthCheck, *, ok: bool) -> bool:
        """Note how a check ended.

        Args:
            check: How many decide.
            ok: Whether it succeeded.

        Returns:
            Whether the endpoint became ill or well by it.
        """
        self.in_a_row = self.in_a_row + 1 if ok is self._last_ok else 1
        self._last_ok = ok
        needed = check.healthy if ok else check.unhealthy
        if ok is self.is_healthy or self.in_a_row < needed:
            return False
        self.is_healthy = ok
        return True


def interval_s(check: HealthCheck, u: float, *, confirms: bool = False) -> float:
    """Seconds to the next check of an endpoint.

    Args:
        check: How often endpoints are checked.
        u: A random number from [0, 1).
        confirms: Whether another process waits for the result.

    >>> from shifter.model.health_check import TcpCheck
    >>> interval_s(TcpCheck(every="10s"), 0.0), interval_s(TcpCheck(), 0.5)
    (9.0, 10.0)
    """
    every_s = min(check.every_s, _CONFIRM_S) if confirms else check.every_s
    return every_s * (1 - _JITTER + 2 * _JITTER * u)
