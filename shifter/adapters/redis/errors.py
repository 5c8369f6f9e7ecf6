"""Errors of the client and the server, as the two store errors of the ports.

*Refused* is what a person must mend (a credential, a right, a full or read-only
server) and every answer that is not known; what passes by itself is *unavailable*.
The text is the server's first words, cut short: server and client put neither passwords
nor values in it, and what a pipeline adds (the command with its keys) and Sentinel's
client (itself) is taken off.
"""

from __future__ import annotations

import re
from typing import Final

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    ClusterError,
    ConnectionError as RedisConnectionError,
    DataError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError as RedisTimeoutError,
)

from shifter.errors import StoreError, StoreRefusedError, StoreUnavailableError

_MAX_DETAIL: Final = 200
_REFUSING: Final = (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)
_PASSING: Final = (
    RedisConnectionError,
    RedisTimeoutError,
    ClusterError,
    RedisClusterException,
    NoScriptError,
    OSError,
    TimeoutError,
)
# Inside a script an old server buries the code in the text of a plain error, and the
# client hides the error of each sentinel in "no master found".
_REFUSED_CODE: Final = re.compile(
    r"\b(NOAUTH|WRONGPASS|NOPERM|OOM|READONLY|MISCONF|DENIED|WRONGTYPE)\b"
    r"|\b[Uu]nknown (Redis )?command\b"
    r"|AuthenticationError\(|\bThe user executing the script can't\b"
)
_PASSING_CODE: Final = re.compile(
    r"\b(LOADING|BUSY|UNKILLABLE|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|NOREPLICAS)\b"
)
# Python says so in the text of a plain connection error; no second try mends it.
_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"
_PIPELINE: Final = re.compile(
    r"Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL
)
_CLIENT: Final = re.compile(r"<redis\..*?> - ", re.DOTALL)

CAUGHT: Final = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What a call may raise that `store_error` can judge."""


def store_error(error: BaseException, *, store: str, op: str) -> StoreError | None:
    """The store error for this one; ``None`` if this one should pass unchanged.

    Args:
        error: One of `CAUGHT`.
        store: The store with its address, without credentials.
        op: What was asked of it.
    """
    detail = _detail(error)
    speaks = isinstance(error, ResponseError | MasterNotFoundError)
    if isinstance(error, _REFUSING) or _UNTRUSTED in detail:
        return StoreRefusedError(store, op, detail)
    if speaks and _REFUSED_CODE.search(detail):
        return StoreRefusedError(store, op, detail)
    if isinstance(error, _PASSING) or (speaks and _PASSING_CODE.search(detail)):
        return StoreUnavailableError(store, op, detail)
    # A script that stumbles met what others wrote under our keys; whatever else the
    # server may say, only an argument of ours is our own fault.
    return (
        None if isinstance(error, DataError) else StoreRefusedError(store, op, detail)
    )


def _detail(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    words = _CLIENT.sub("", _PIPELINE.sub("", str(error))) or type(error).__name__
    code = getattr(error, "status_code", None)
    if isinstance(code, str) and code.isupper() and not words.startswith(code):
        words = f"{code} {words}"
    words = " ".join(words.split())
    return words[:_MAX_DETAIL]
