"""`Context`: what a handler may ask about the attempt it runs, and the job's logger.

A log line is not worth a failed attempt. A field that has the name of one of the job's
own is written under another name, and what cannot be written is written as its text.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from shifter.errors import ConfigError, DeadlineExceededError, JobCancelledError
from shifter.jobs.request_scope import current_trace_id
from shifter.model.answer import Quality
from shifter.model.time import EpochMs

if TYPE_CHECKING:
    from shifter.model.endpoint import Endpoint
    from shifter.policy.protection.dependency import Dependency
    from shifter.ports import Clock


class Context:
    """One attempt of a job, as its handler sees it.

    A handler parameter annotated ``Context`` receives it; it is not part of the
    payload.

    Attributes:
        job_id: The job's id, a UUID as text.
        job_type: The job type's name.
        attempt: 1-based, counts the first.
        fence: Grows with every grant; hand it to a resource that can refuse an older
            one. 0 when the claim store was away (``claims="proceed"``).
        key: Ordering key, if any.
        idempotency_key: The user's key, or the job id.
        limit_ms: When this attempt's time is up, epoch milliseconds.
        traceparent: W3C trace context of the submitter, if any.
        quality: How good an answer has to be now: less than ``FULL`` while the fleet
            has no room for the best one.
        dependency: What the job ``uses=``; ``None`` for nothing.
    """

    __slots__ = (
        "_clock",
        "_endpoint",
        "_log",
        "attempt",
        "cancelled",
        "dependency",
        "fence",
        "idempotency_key",
        "job_id",
        "job_type",
        "key",
        "limit_ms",
        "quality",
        "traceparent",
    )

    def __init__(  # noqa: PLR0913  # made in two places, by keyword
        self,
        *,
        job_id: str,
        job_type: str,
        attempt: int,
        fence: int,
        limit_ms: EpochMs,
        clock: Clock,
        key: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        quality: Quality = Quality.FULL,
        dependency: Dependency | None = None,
    ) -> None:
        self.job_id, self.job_type, self.attempt = job_id, job_type, attempt
        self.fence, self.key, self.traceparent = fence, key, traceparent
        self.idempotency_key = job_id if idempotency_key is None else idempotency_key
        self.cancelled, self.quality = False, quality
        self.limit_ms, self._clock = limit_ms, clock
        self.dependency = dependency
        self._endpoint: Endpoint | None = None
        self._log: Any = None

    @property
    def remaining_s(self) -> float:
        """Seconds this attempt has left: timeout or deadline, the nearer; >= 0."""
        return max(0.0, (self.limit_ms - self._clock.epoch_ms()) / 1_000)

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint of the job's dependency that this attempt calls.

        It is chosen at the first use and stays the same; how the attempt ends is
        evidence about it.

        Raises:
            ConfigError: The job ``uses=`` no dependency with endpoints.
            NoEndpointError: No endpoint is known.
        """
        if self._endpoint is None:
            if self.dependency is None:
                want = "declare the job with uses=, a dependency with endpoints"
                raise ConfigError("uses", None, want)
            self._endpoint = self.dependency.choose_endpoint()
        return self._endpoint

    def checkpoint(self) -> None:
        """Return while going on makes sense; call it between the steps of long work.

        Raises:
            JobCancelledError: The job was cancelled.
            DeadlineExceededError: The attempt's time is up.
        """
        if self.cancelled:
            raise JobCancelledError(self.job_id)
        late_ms = self._clock.epoch_ms() - self.limit_ms
        if late_ms >= 0:
            raise DeadlineExceededError(self.job_id, late_ms / 1_000)

    @property
    def log(self) -> Any:
        """A structlog logger whose lines have the job's id, type, attempt and trace id.

        A call never fails the job: see `shifter.jobs.context.JobLog`.
        """
        if self._log is None:
            fields = identify(self.job_id, self.job_type, self.attempt)
            self._log = JobLog.of_job(**fields)
        return self._log


def identify(job_id: str, job: str, attempt: int) -> dict[str, object]:
    """The fields that each log line of a handler has.

    Args:
        job_id: The job's id.
        job: The job type's name.
        attempt: 1-based.

    Returns:
        These, and ``trace_id`` of the current span, else of the job, if there is one.
    """
    fields: dict[str, object] = {"job_id": job_id, "job": job, "attempt": attempt}
    trace_id = current_trace_id()
    return fields if trace_id is None else {**fields, "trace_id": trace_id}


_RESERVED: Final = frozenset(
    {"event", "level", "timestamp", "job_id", "job", "attempt"}
)
_BINDING: Final = frozenset({"bind", "unbind", "try_unbind", "new"})
_MAX_CHARS: Final = 2_000


class JobLog:
    """Has every method of the structlog logger that it wraps.

    A field named ``event``, ``level``, ``timestamp``, ``job_id``, ``job`` or
    ``attempt`` gets an underscore behind its name.

    Args:
        logger: Bound to the job.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    @classmethod
    def of_job(cls, **fields: object) -> JobLog:
        """A log whose lines have these fields."""
        import structlog  # noqa: PLC0415  # costs 0.14 s, only where it is used

        return cls(structlog.get_logger("shifter.job").bind(**fields))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._logger, name)
        if not callable(found):
            return found
        if name in _BINDING:
            return lambda *args, **fields: JobLog(found(*args, **_renamed(fields)))
        if inspect.iscoroutinefunction(found):
            return lambda *args, **fields: _write_async(found, args, fields)
        return lambda *args, **fields: _write(found, args, fields)


def _passing() -> tuple[type[BaseException], ...]:
    """What ends the handler from outside, and may come in the middle of a log call."""
    import asyncio  # noqa: PLC0415  # `import shifter` does without

    return asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit


def _write(
    method: Callable[..., Any], args: tuple[Any, ...], fields: dict[str, Any]
) -> Any:
    try:
        return method(*args, **_renamed(fields, args))
    except _passing():
        raise
    except BaseException as error:  # noqa: BLE001  # of a processor, or of a value
        with contextlib.suppress(Exception):
            return method(*_texts(args), **_as_texts(fields, args, error))
    return None


async def _write_async(
    method: Callable[..., Any], args: tuple[Any, ...], fields: dict[str, Any]
) -> Any:
    try:
        return await method(*args, **_renamed(fields, args))
    except _passing():
        raise
    except BaseException as error:  # noqa: BLE001
        with contextlib.suppress(Exception):
            return await method(*_texts(args), **_as_texts(fields, args, error))
    return None


def _renamed(fields: Mapping[str, Any], args: tuple[Any, ...] = ()) -> dict[str, Any]:
    """The fields without names of the job's own; a lone ``event`` is the event."""
    if _RESERVED.isdisjoint(fields):
        return dict(fields)
    renamed = {}
    for name, value in fields.items():
        new = name
        while new in _RESERVED or (new != name and new in fields):
            if name == "event" and not args:
                break
            new += "_"
        renamed[new] = value
    return renamed


def _texts(args: tuple[Any, ...]) -> list[Any]:
    """The event without what is put into it, behind a level where there is one."""
    level = [args[0]] if args and isinstance(args[0], int) else []
    return [*level, *(_text(event) for event in args[len(level) : len(level) + 1])]


def _as_texts(
    fields: Mapping[str, Any], args: tuple[Any, ...], error: BaseException
) -> dict[str, str]:
    texts = {name: _text(value) for name, value in _renamed(fields, args).items()}
    return {**texts, "log_error": type(error).__name__}


def _text(value: object) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
        return text[:_MAX_CHARS]
    except _passing():
        raise
    except BaseException as error:  # noqa: BLE001  # user code
        return f"<{type(value).__name__}: its repr raised {type(error).__name__}>"
