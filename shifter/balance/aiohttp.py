"""A middleware for aiohttp that sends each request to an endpoint of a dependency.

::

    session = aiohttp.ClientSession(
        "http://render",
        middlewares=[BalancedMiddleware(render, timeout="2s", retries=2)],
    )

A session has one dependency: all its requests go there, whatever host they name, and
redirects too. What is sent again, and when, is as in `shifter.balance.http`. A request
has one payload that is in memory, or none, to be sent again. Cookies are kept by the
host of the endpoint. With the extra: ``pip install 'shifter-queue[aiohttp]'``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Final, Unpack

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from aiohttp.payload import BytesPayload
from yarl import URL

from shifter.balance.http_rules import (
    RequestRules,
    ThrottledAnswer,
    asks_for_pause,
    is_failed,
    pause_s,
)
from shifter.balance.options import HasEndpoints, TryOptions
from shifter.model.endpoint import Endpoint

__all__ = ["BalancedMiddleware"]

_NEVER_LEFT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)

_REPEATED: Final = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)
"""Errors after which aiohttp itself sends a request once more, unless there was no
connection at all."""


class _FailedAnswerError(aiohttp.ClientResponseError):
    """An answer that is a failure of its endpoint.

    Attributes:
        answer: The answer.
    """

    def __init__(self, answer: ClientResponse) -> None:
        super().__init__(
            answer.request_info,
            answer.history,
            status=answer.status,
            message=answer.reason or "",
            headers=answer.headers,
        )
        self.answer = answer


class _Sending:
    """One request, and the answers of the endpoints that it was sent to.

    Attributes:
        answers: The answers so far; all but the one that is returned are closed.
    """

    def __init__(
        self, request: ClientRequest, handler: ClientHandlerType, rules: RequestRules
    ) -> None:
        self._request, self._handler, self._rules = request, handler, rules
        self._tries = 0
        self.answers: list[ClientResponse] = []

    async def fetch(self, endpoint: Endpoint) -> ClientResponse:
        """Send the request to one endpoint.

        Raises:
            ThrottledAnswer: The answer asks for a pause.
            aiohttp.ClientResponseError: It is a failure of the endpoint.
        """
        answer = await self._handler(self._to(endpoint))
        self.answers.append(answer)
        after = answer.headers.get("retry-after")
        if asks_for_pause(answer.status, after):
            asked_s = pause_s(after, answer.headers.get("date"))
            raise ThrottledAnswer(answer, asked_s)
        if is_failed(answer.status):
            raise _FailedAnswerError(answer)
        return answer

    def _to(self, endpoint: Endpoint) -> ClientRequest:
        """The request as this endpoint gets it.

        A copy, since a hedged request is under way twice.
        """
        sent = copy.copy(self._request)
        sent.url = URL(f"{endpoint.url}{sent.url.raw_path_qs}", encoded=True)
        sent.headers = sent.headers.copy()
        sent.headers["Host"] = _authority(sent.url, endpoint.server_name)
        sent.headers.update(self._rules.told(sent.headers, self._tries))
        self._tries += 1
        if endpoint.server_name is not None and sent.server_hostname is None:
            sent.server_hostname = endpoint.server_name
        return sent


class BalancedMiddleware:
    """A middleware for ``aiohttp.ClientSession``; see this module.

    A try is cancelled when its time is up, which raises ``aiohttp.ServerTimeoutError``
    if it was the last one. It ends when the head of the answer is there; the body has
    aiohttp's timeout.

    Args:
        dependency: Its endpoints are called.
        **options: ``key``, ``tells`` and `TryOptions`, as of
            `shifter.balance.http.BalancedTransport`, and ``hedge``.

    Raises:
        ConfigError: An option is wrong.
    """

    def __init__(
        self,
        dependency: HasEndpoints,
        *,
        key: Callable[[ClientRequest], str | None] | None = None,
        tells: bool = True,
        **options: Unpack[TryOptions],
    ) -> None:
        self._dependency = dependency
        self._rules = RequestRules(key, options, tells=tells, never_left=_never_left)

    async def __call__(
        self, request: ClientRequest, handler: ClientHandlerType
    ) -> ClientResponse:
        """Send a request to one endpoint after the other until one answers."""
        rules, sending = self._rules, _Sending(request, handler, self._rules)
        can_resend = not request.body or isinstance(request.body, BytesPayload)
        options = rules.of(request.method, request.headers, can_resend=can_resend)
        returned: ClientResponse | None = None
        try:
            returned = await self._dependency.run(
                sending.fetch, key=rules.key(request), **options
            )
        except (ThrottledAnswer, _FailedAnswerError) as error:
            returned = error.answer
        except aiohttp.ClientError as error:
            if isinstance(error, _REPEATED) and not _never_left(error):
                raise aiohttp.ClientConnectionError(str(error)) from error
            raise
        except TimeoutError as error:
            raise aiohttp.ServerTimeoutError(str(error)) from error
        finally:
            for answer in sending.answers:
                if answer is not returned:
                    answer.close()
        assert returned is not None  # noqa: S101  # every other way out raises
        return returned


def _authority(url: URL, server_name: str | None) -> str:
    """Host and port as the server has them."""
    if server_name is None:
        return url.host_port_subcomponent or ""
    return server_name if url.is_default_port() else f"{server_name}:{url.port}"


def _never_left(error: BaseException) -> bool:
    """Whether a request cannot have reached its endpoint."""
    return isinstance(error, _NEVER_LEFT)
