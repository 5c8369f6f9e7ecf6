"""Answers as HTTP: 200, 202 with a status resource, or a problem with Retry-After."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from shifter.model.answer import Deferred, Degraded, Ran, Submitted
from shifter.model.reason import PASSING, Reason

Send = Callable[[Mapping[str, Any]], Awaitable[None]]

RESULT_HEADER: Final = "shifter-result"
_RESERVED: Final = "/:?#[]@!$&'()*+,;=%"
_PROBLEM: Final = "application/problem+json"
_WORDS: Final[Mapping[Reason, tuple[int, str]]] = {
    Reason.EXPIRED: (504, "the deadline of the request is over"),
    Reason.BUDGET_EXHAUSTED: (429, "too many retries"),
    Reason.TOO_LARGE: (413, "the request is too large to be kept"),
}


class Response(NamedTuple):
    """One whole response.

    Attributes:
        status: The status code.
        body: The value that is sent as JSON.
        headers: Headers other than length and type.
        content_type: The type of the body.
    """

    status: int
    body: object
    headers: Mapping[str, str] = {}  # never written
    content_type: str = "application/json"

    def below(self, root_path: str) -> Response:
        """The response with its ``Location`` below the prefix of a mounted service."""
        if "location" not in self.headers:
            return self
        location = place(root_path, self.headers["location"])
        return self._replace(headers={**self.headers, "location": location})

    async def send(self, send: Send) -> None:
        """Send the response."""
        raw, headers = b"", dict(self.headers)
        if self.status != 204:
            raw = msgspec.json.encode(self.body)
            length = str(len(raw))
            headers |= {"content-type": self.content_type, "content-length": length}
        pairs = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
        start = {"type": "http.response.start", "status": self.status, "headers": pairs}
        await send(start)
        await send({"type": "http.response.body", "body": raw})


def place(root_path: str, path: str) -> str:
    """The path under which clients find a path of the service; a URL stays as it is.

    >>> place("/v1", "/jobs/7"), place("/v1", "https://cdn.example/7")
    ('/v1/jobs/7', 'https://cdn.example/7')
    """
    # Two slashes begin a URL without a scheme, which names another host.
    is_own = path.startswith("/") and not path.startswith("//")
    if is_own and not path.startswith(f"{root_path}/"):
        path = quote(root_path, safe="/") + path
    return quote(path, safe=_RESERVED)


def problem(
    status: int, title: str, *, headers: Mapping[str, str] | None = None, **facts: Any
) -> Response:
    """A problem as of RFC 9457."""
    body = {"title": title, "status": status, **facts}
    return Response(status, body, headers or {}, _PROBLEM)


def of_answer(answer: Submitted[Any], *, status_path: str, is_known: bool) -> Response:
    """An answer of ``submit`` or ``defer``.

    Args:
        answer: The answer.
        status_path: Path of the status resources.
        is_known: Whether the caller is known: a known one is refused with 429
            instead of 503.
    """
    if isinstance(answer, Ran):
        return of_value(answer.value, {})
    if isinstance(answer, Degraded):
        return of_value(answer.value, {"shifter-quality": answer.quality.value})
    if isinstance(answer, Deferred):
        status = f"{status_path}/{answer.job_id}"
        body = {
            "job_id": answer.job_id,
            "status": status,
            "reason": answer.reason.value,
            "eta_s": answer.eta_s,
        }
        return Response(202, body, {"location": status})
    return refusal(answer.reason, answer.retry_after_s, is_known=is_known)


def of_value(value: object, marks: Mapping[str, str]) -> Response:
    """The result of a job: 200, or 204 with a header where it is no JSON.

    The job has taken effect, so a value that is no JSON is no error: the client would
    send the request again.

    Args:
        value: A value that msgspec can write, or a model of pydantic.
        marks: Headers of the response.
    """
    try:
        raw = msgspec.json.encode(value, enc_hook=_of_model)
    except Exception:  # noqa: BLE001  # a hook of the value's own, too
        return Response(204, None, {**marks, RESULT_HEADER: "not-json"})
    return Response(200, msgspec.Raw(raw), marks)


def _of_model(value: Any) -> object:
    """A model of pydantic, by the names that it has outside, as FastAPI does."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(type(value).__name__)
    found: object = dump(mode="json", by_alias=True)
    return found


def refusal(reason: Reason, retry_after_s: float | None, *, is_known: bool) -> Response:
    """A refusal: 503, or 429 for a known caller, with ``Retry-After``."""
    usual = (429, "too many requests") if is_known else (503, "overloaded")
    status, title = _WORDS.get(reason, usual)
    # Reasons that pass by themselves are no fault of the caller, known or not.
    if reason in PASSING:
        status = 503
    headers = {}
    if retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(retry_after_s))
    return problem(status, title, headers=headers, reason=reason.value)
