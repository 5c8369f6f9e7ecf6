"""Looks up addresses without letting one name's silence stop the others.

``getaddrinfo`` blocks for as long as the system's resolver waits, half a minute where a
name's server is silent, and cannot be cut short. So each lookup has a thread of its
own, never one of asyncio's few, which the log's file and handlers use as well. Their
number is bounded, in all and for each domain; a second request for a name that is being
looked up waits for the same answer. A literal address needs no lookup.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Final, TypeAlias

Lookup: TypeAlias = Callable[[str], list[str]]
"""From a host's name to its addresses; blocks, and raises `OSError`."""

_MOST: Final = 64
_PER_DOMAIN: Final = 4
_BUSY_S: Final = 5.0
# Suffixes under which anyone may register names, such as co.uk and com.au.
_SHARED_SUFFIX: Final = re.compile(r"\.[a-z]{2,3}\.[a-z]{2}\Z")
# What says that nothing was learnt of the name.
_OURS: Final = frozenset({socket.EAI_MEMORY, socket.EAI_SYSTEM})
_DOMAINS_THAT_SAY_SO: Final = 3


class LaterError(Exception):
    """Nothing was sent, for want of something on this side: no attempt of the job.

    Attributes:
        after_s: Seconds after which to try again, > 0.
    """

    def __init__(self, why: str, after_s: float) -> None:
        self.after_s = after_s
        super().__init__(why)


class Resolver:
    """Looks up names in threads of its own. Owned by one event loop.

    Args:
        lookup: Called in a thread; the system's resolver unless given.
        most: Lookups at once, >= 1.
        per_domain: Lookups at once of one domain's names, >= 1.
    """

    def __init__(
        self,
        lookup: Lookup | None = None,
        *,
        most: int = _MOST,
        per_domain: int = _PER_DOMAIN,
    ) -> None:
        self._lookup = system_lookup if lookup is None else lookup
        self._most, self._per_domain = most, per_domain
        self._running: dict[str, asyncio.Future[list[str]]] = {}
        # Kept while a lookup of the domain runs, or is waited for.
        self._room: weakref.WeakValueDictionary[str, asyncio.Semaphore] = (
            weakref.WeakValueDictionary()
        )
        self._failing: set[str] = set()

    async def __call__(self, host: str, port: int) -> list[str]:
        """All addresses of a host, in the system's order of preference.

        Waits for as long as the caller lets it.

        Raises:
            LaterError: Too many lookups run, or no name at all can be looked up.
            OSError: The name cannot be resolved.
        """
        del port
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        running = self._running.get(host) or await self._started(host)
        try:
            # A caller that gives up leaves the lookup to the others that wait for it.
            return list(await asyncio.shield(running))
        except OSError as error:
            if self._is_ours(domain_of(host), error):
                raise LaterError(f"no name is resolved: {error}", _BUSY_S) from error
            raise

    async def _started(self, host: str) -> asyncio.Future[list[str]]:
        domain = domain_of(host)
        room = self._room.get(domain) or asyncio.Semaphore(self._per_domain)
        self._room[domain] = room
        await room.acquire()
        running = self._running.get(host)
        if running is None and len(self._running) < self._most:
            return self._start(host, room)
        room.release()
        if running is None:
            raise LaterError(f"{self._most} names are being looked up", _BUSY_S)
        return running

    def _start(self, host: str, room: asyncio.Semaphore) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        running: asyncio.Future[list[str]] = loop.create_future()
        # Seen here, since all who waited may have given up.
        running.add_done_callback(lambda ended: ended.exception())
        self._running[host] = running

        def ended(found: list[str] | OSError) -> None:
            del self._running[host]
            room.release()
            self._note(host, found)
            if isinstance(found, OSError):
                running.set_exception(found)
            else:
                running.set_result(found)

        def ask() -> None:
            found = self._asked(host)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(ended, found)

        try:
            threading.Thread(target=ask, name="resolve", daemon=True).start()
        except RuntimeError as error:  # no more threads
            ended(OSError(socket.EAI_MEMORY, str(error)))
        return running

    def _asked(self, host: str) -> list[str] | OSError:
        try:
            return self._lookup(host)
        except OSError as error:
            return error
        except Exception as error:  # noqa: BLE001  # a name that cannot be encoded
            return OSError(socket.EAI_NONAME, str(error))

    def _note(self, host: str, found: list[str] | OSError) -> None:
        if not isinstance(found, OSError):
            self._failing.clear()
        elif len(self._failing) < _DOMAINS_THAT_SAY_SO:
            self._failing.add(domain_of(host))

    def _is_ours(self, domain: str, error: OSError) -> bool:
        """Whether the failure is this machine's and not the name's."""
        if error.errno == socket.EAI_AGAIN:
            # One domain's servers, or all: several domains without a success tell.
            return len(self._failing | {domain}) >= _DOMAINS_THAT_SAY_SO
        return error.errno in _OURS


def system_lookup(host: str) -> list[str]:
    """All addresses the system knows; blocks.

    Raises:
        OSError: The name cannot be resolved.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def domain_of(host: str) -> str:
    """The part of a name that one owner registers, as far as its form tells.

    >>> domain_of("a.b.example.com"), domain_of("a.shop.co.uk"), domain_of("kafka")
    ('example.com', 'shop.co.uk', 'kafka')
    """
    name = host.lower().rstrip(".")
    labels = 3 if _SHARED_SUFFIX.search(name) else 2
    return ".".join(name.split(".")[-labels:])
