"""Looks the addresses of a name up, in a thread of its own.

A resolver may take seconds, or never answer, and a thread that waits for it cannot be
stopped: so no call ever waits for a look-up but the first, and at most one look-up is
under way.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from shifter.model.endpoint import Dns, Endpoint
from shifter.runtime.forking import renew_in_child

Resolve: TypeAlias = Callable[[str, int], list[tuple[Any, ...]]]
"""`socket.getaddrinfo`, or what stands in for it."""


def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    """Ask the resolver of the system."""
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


class DnsLookup:
    """The addresses of a name. Safe to share between threads.

    Args:
        dns: The name.
        resolver: Asks for its addresses.

    Attributes:
        first: Set when the first look-up has ended.
        failures: Look-ups that failed, or found no address.
    """

    def __init__(self, dns: Dns, resolver: Resolve = resolve) -> None:
        self._dns, self._resolve = dns, resolver
        self._known: tuple[Endpoint, ...] = ()
        self._next_at = 0.0
        self._is_busy = False
        self.first = threading.Event()
        self.failures = 0
        renew_in_child(self._after_fork)

    def at(self, now: float) -> tuple[Endpoint, ...]:
        """The addresses as of the last look-up that found some; begins one if due.

        Args:
            now: Monotonic seconds.
        """
        if now >= self._next_at and not self._is_busy:
            self._next_at, self._is_busy = now + self._dns.refresh_s, True
            name = f"shifter-dns-{self._dns.name}"
            threading.Thread(target=self._look, name=name, daemon=True).start()
        return self._known

    def _look(self) -> None:
        try:
            named = Endpoint(self._dns.name)
            found = self._resolve(named.host, named.port)
            addresses = {str(entry[4][0]): None for entry in found}
            endpoints = tuple(map(self._dns.endpoint, sorted(addresses)))
            self._known = endpoints or self._known
            self.failures += not endpoints
        except Exception:  # noqa: BLE001  # the last addresses hold
            self.failures += 1
        finally:
            self._is_busy = False
            self.first.set()

    def _after_fork(self) -> None:
        self._is_busy = False  # its thread stayed with the parent
        if not self._known:
            self.first = threading.Event()
            self._next_at = 0.0
