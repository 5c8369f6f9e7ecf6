"""One channel for each endpoint that is called; channels of others are closed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Final, Generic, TypeVar

import grpc

from shifter.model.endpoint import Endpoint

C = TypeVar("C")

_MOST_BACKOFF_MS: Final = 5_000
"""A channel tries to connect again after so long at most; by default after two minutes,
and until then a healed endpoint would seem ill."""


def target_of(endpoint: Endpoint) -> str:
    """Where a channel to an endpoint connects to.

    >>> target_of(Endpoint("[::1]:8080")), target_of(Endpoint("https://a.test"))
    ('[::1]:8080', 'a.test:443')
    """
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"


def channel_options(endpoint: Endpoint) -> list[tuple[str, Any]]:
    """Options of a channel: reconnection, and the name that the server has."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_reconnect_backoff_ms", _MOST_BACKOFF_MS),
        (
            "grpc.enable_retries",
            0,
        ),  # they would come on top of those on other endpoints
    ]
    if endpoint.server_name is not None:
        options.append(("grpc.default_authority", endpoint.server_name))
        options.append(("grpc.ssl_target_name_override", endpoint.server_name))
    return options


def connected(api: Any, endpoint: Endpoint) -> Any:
    """A channel to an endpoint, with TLS if its URL begins with ``https``.

    Args:
        api: ``grpc`` or ``grpc.aio``.
        endpoint: The endpoint.
    """
    target, options = target_of(endpoint), channel_options(endpoint)
    if endpoint.url.startswith("https:"):
        credentials = grpc.ssl_channel_credentials()
        return api.secure_channel(target, credentials, options=options)
    return api.insecure_channel(target, options=options)


class ChannelPool(Generic[C]):
    """Channels by endpoint. Safe to share between threads.

    Args:
        connect: Makes the channel of an endpoint.
        urls: The endpoints that there are.
    """

    def __init__(
        self, connect: Callable[[Endpoint], C], urls: Callable[[], Collection[str]]
    ) -> None:
        self._connect, self._urls = connect, urls
        self._channels: dict[str, C] = {}
        self._calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def begin(self, endpoint: Endpoint) -> tuple[C, list[C]]:
        """Begin a call.

        Returns:
            The channel of the endpoint, and channels to be closed: their endpoints are
            gone, and they have no calls.
        """
        url, stale = endpoint.url, list[C]()
        if url not in self._channels:
            known = self._urls()
            with self._lock:
                gone = [one for one in self._channels if one not in known]
                idle = [one for one in gone if not self._calls[one]]
                stale = [self._channels.pop(one) for one in idle]
        with self._lock:
            self._calls[url] += 1
            channel = self._channels.get(url)
            if channel is None:
                channel = self._channels[url] = self._connect(endpoint)
        return channel, stale

    def end(self, endpoint: Endpoint) -> None:
        """End a call."""
        with self._lock:
            self._calls[endpoint.url] -= 1

    def take_all(self) -> list[C]:
        """All channels, which are to be closed."""
        with self._lock:
            taken, self._channels = list(self._channels.values()), {}
        return taken
