"""Looks up the endpoints of a name, in threads of its own.

A resolver may take seconds, or never answer, and a thread that waits for it cannot be
stopped. So no call ever waits for a look-up but the first, at most one look-up of a
name is under way, and the threads of all names are bounded. The last good answer is
used until there is a better one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

from shifter.balance.resolver import Resolve, addresses_of, resolve
from shifter.errors import ConfigError
from shifter.model.endpoint import Dns, Endpoint
from shifter.runtime.forking import renew_in_child
from shifter.telemetry import Event, Log

_MOST_THREADS: Final = 16
"""Look-ups of different names at the same time, in a process."""

_FIRST_RETRY_S: Final = 1.0
"""A look-up that failed is repeated after so long, then after twice as long, and so on
up to the usual interval. Source: RFC 2308 bounds how long a name that does not exist is
remembered; a second is the least time that resolvers use."""


class LookupThreads:
    """Threads for look-ups, a bounded number. Safe to share between threads.

    Args:
        most: Threads at the same time, >= 1.
    """

    def __init__(self, most: int = _MOST_THREADS) -> None:
        self._most = most
        self._places = threading.BoundedSemaphore(most)
        renew_in_child(self._after_fork)

    def start(self, name: str, work: Callable[[], None]) -> bool:
        """Run a function in a thread; ``False`` if all threads are busy."""
        places = self._places
        if not places.acquire(blocking=False):
            return False

        def run() -> None:
            try:
                work()
            finally:
                places.release()

        threading.Thread(target=run, name=f"shifter-dns-{name}", daemon=True).start()
        return True

    def _after_fork(self) -> None:
        self._places = threading.BoundedSemaphore(self._most)  # all stayed behind


_THREADS: Final = LookupThreads()


class DnsLookup:
    """The endpoints of a name. Safe to share between threads.

    Args:
        dns: The name.
        resolver: Asks the system for addresses.
        threads: Where look-ups run; by default the threads of the process.
        log: Notes when look-ups begin to fail, and when they succeed again.

    Attributes:
        first: Set when the first look-up has ended.
        failures: Look-ups that failed, or found no endpoint.
    """

    def __init__(
        self,
        dns: Dns,
        resolver: Resolve = resolve,
        threads: LookupThreads = _THREADS,
        log: Log | None = None,
    ) -> None:
        self._dns, self._resolve, self._threads = dns, resolver, threads
        self._log = Log() if log is None else log
        self._known: tuple[Endpoint, ...] = ()
        self._next_at = self._found_at = 0.0
        self._is_busy = False
        self._in_a_row = 0
        self.first = threading.Event()
        self.failures = 0
        renew_in_child(self._after_fork)

    def at(self, now: float) -> tuple[Endpoint, ...]:
        """The endpoints as of the last look-up that found some; begins one if due.

        Args:
            now: Monotonic seconds.
        """
        if now >= self._next_at and not self._is_busy:
            self._is_busy = True
            self._next_at = now + self._dns.refresh_s
            if not self._threads.start(self._dns.name, lambda: self._look(now)):
                self._is_busy, self._next_at = False, now + _FIRST_RETRY_S
        return self._known

    def age_s(self, now: float) -> float | None:
        """Seconds since the look-up that found the endpoints; ``None`` without any.

        Args:
            now: Monotonic seconds.
        """
        return max(0.0, now - self._found_at) if self._known else None

    def _look(self, now: float) -> None:
        try:
            found, why = tuple(self._find()), "it has no address"
        except Exception as error:  # noqa: BLE001  # the last endpoints hold
            found, why = (), f"{type(error).__name__}: {error}"
        try:
            if found:
                self._succeeded(found, now)
            else:
                self._failed(why, now)
        finally:
            self._is_busy = False
            self.first.set()

    def _find(self) -> Iterable[Endpoint]:
        if needs_client(self._dns):
            from shifter.balance.srv import find  # noqa: PLC0415  # an optional package

            return find(self._dns, self._resolve)
        named = self._dns.named
        found = addresses_of(self._resolve(named.host, named.port))
        return map(self._dns.endpoint, sorted(found))

    def _succeeded(self, found: tuple[Endpoint, ...], now: float) -> None:
        was_failing, self._in_a_row = self._in_a_row > 0, 0
        self._known, self._found_at = found, now
        if was_failing:
            self._log.warning(Event.ENDPOINTS_FOUND, name=self._dns.name)

    def _failed(self, why: str, now: float) -> None:
        self.failures += 1
        wait_s = _FIRST_RETRY_S * 2.0 ** min(self._in_a_row, 20)
        self._next_at = now + min(wait_s, self._dns.refresh_s)
        self._in_a_row += 1
        if self._in_a_row == 1:
            name, age_s = self._dns.name, self.age_s(now)
            self._log.warning(Event.LOOKUP_FAILED, name=name, why=why, age_s=age_s)

    def _after_fork(self) -> None:
        self._is_busy = False  # its thread stayed with the parent
        if not self._known:
            self.first = threading.Event()
            self._next_at = 0.0


def needs_client(dns: Dns) -> bool:
    """Whether the system's resolver is not enough."""
    return dns.kind == "srv" or dns.nameserver is not None


def check_client(endpoints: object) -> None:
    """Check that what a look-up needs is installed.

    Args:
        endpoints: What ``app.dependency(endpoints=...)`` was given.

    Raises:
        ConfigError: The extra ``dns`` is missing.
    """
    if not isinstance(endpoints, Dns) or not needs_client(endpoints):
        return
    try:
        import dns  # noqa: F401, PLC0415  # an optional package
    except ImportError:
        want = "install 'shifter-queue[dns]' for SRV records and name servers"
        raise ConfigError("endpoints", endpoints.name, want) from None
