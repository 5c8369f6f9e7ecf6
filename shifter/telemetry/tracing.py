"""Traces: the spans of submissions and of attempts, by the API of OpenTelemetry alone.

A span is begun only where it is recorded: where the process has set a tracer provider,
or the app was given one, and only within traces that are sampled. Names, kinds and
attributes are those of the semantic conventions for messaging; attributes of this
package begin with ``shifter.``.

A job may run days after its submission, so its spans belong to traces of their own that
link to the submission. `Tracing` can make the submission their parent instead.

A tracer, a sampler and a span processor are the user's code: their errors are logged
once, and stop no job.

Source: OpenTelemetry semantic conventions 1.44, messaging spans.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from shifter.model.lane import parse_lane
from shifter.telemetry.log import Event, Log
from shifter.telemetry.trace_context import api
from shifter.wire.failure import ErrorFacts

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, Tracer, TracerProvider


class Operation(NamedTuple):
    """What a span is about.

    Attributes:
        name: First word of the span's name.
        type: Its type in the semantic conventions.
        kind: The kind of the span.
    """

    name: str
    type: str
    kind: str


SEND: Final = Operation("send", "send", "PRODUCER")
PROCESS: Final = Operation("process", "process", "CONSUMER")
REPLAY: Final = Operation("replay", "send", "PRODUCER")

SCOPE: Final = "shifter"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
_NAMES_ONE: Final = "OTEL_PYTHON_TRACER_PROVIDER" in os.environ
"""Whether the environment names the provider, which the API makes on its first use."""

MS_NS: Final = 1_000_000
"""Nanoseconds of a millisecond."""
_S_NS: Final = 1_000_000_000

Attributes: TypeAlias = "Mapping[str, str | int | float]"


class Tracing(NamedTuple):
    """How an app traces its jobs.

    Attributes:
        provider: What makes its tracers; ``None`` for the process's own, once one is
            set.
        is_parent: Whether the span of a submission is the parent of the spans of its
            attempts. By default they link to it and begin traces of their own.
    """

    provider: TracerProvider | None = None
    is_parent: bool = False


class Timing(NamedTuple):
    """When something began, by the clock readings that its metric is made of.

    Attributes:
        epoch_ms: Wall clock.
        monotonic: Monotonic seconds at the same instant.
    """

    epoch_ms: int
    monotonic: float

    @property
    def start_ns(self) -> int:
        """The start of its span, epoch nanoseconds."""
        return self.epoch_ms * MS_NS

    def end_ns(self, now: float) -> int:
        """The end of its span, so that the span lasts as long as its metric says.

        Args:
            now: Monotonic seconds.
        """
        return self.start_ns + round((now - self.monotonic) * _S_NS)


class SpanShape(NamedTuple):
    """What spans have in common.

    Attributes:
        name: Of the spans.
        kind: Their kind.
        attributes: Those that are the same.
    """

    name: str
    kind: SpanKind
    attributes: Attributes


class _Attributes(Mapping[str, str | int | float]):
    """Attributes that are put together once somebody looks.

    A sampler that drops by the trace alone does not, and most spans are dropped.
    """

    __slots__ = ("_found", "_own", "_shared")

    def __init__(self, shared: Attributes, own: Callable[[], Attributes]) -> None:
        self._shared, self._own = shared, own
        self._found: dict[str, str | int | float] | None = None

    def _all(self) -> dict[str, str | int | float]:
        if self._found is None:
            self._found = {**self._shared, **self._own()}
        return self._found

    def __getitem__(self, name: str) -> str | int | float:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def copy(self) -> dict[str, str | int | float]:
        """A dictionary of them."""
        return self._all().copy()


class Spans:
    """Begins and ends the spans of one process. Safe to share between threads.

    Args:
        tracing: How the app traces.
        system: The kind of the log, such as ``kafka``.
        fixed: Attributes of all spans.

    Attributes:
        tracing: The same one.
        system: The same one.
    """

    def __init__(
        self,
        tracing: Tracing,
        *,
        system: str,
        fixed: Attributes | None = None,
    ) -> None:
        self.tracing, self.system = tracing, system
        self._fixed = {"messaging.system": system, **({} if fixed is None else fixed)}
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None
        self._shapes: dict[tuple[str, str, str], SpanShape] = {}
        self._lock, self._has_failed = threading.Lock(), False

    def tracer(self) -> Tracer | None:
        """What begins spans; ``None`` where none would be recorded.

        A process may set its provider at any time, so this is asked again for each
        call or batch; without one it is one look into a table.
        """
        provider = self.tracing.provider
        if provider is None:
            if (trace := api()) is None:
                return None
            # The API's own function reads the environment each time, 0.7 us.
            provider = getattr(trace, "_TRACER_PROVIDER", None)
            if provider is None:
                if hasattr(trace, "_TRACER_PROVIDER") and not _NAMES_ONE:
                    return None
                provider = trace.get_tracer_provider()
        return self._tracer if provider is self._provider else self._made(provider)

    def _made(self, provider: TracerProvider) -> Tracer | None:
        trace, tracer = api(), None
        # The API's own providers record nothing.
        if not isinstance(
            provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
        ):
            try:
                tracer = provider.get_tracer(SCOPE, schema_url=SCHEMA_URL)
            except Exception as error:  # noqa: BLE001  # the user's code
                self.failed(error)
        with self._lock:
            self._provider, self._tracer = provider, tracer
        return tracer

    def shape(self, operation: Operation, topic: str, job: str = "") -> SpanShape:
        """What all spans of an operation with a job in a lane have in common.

        Args:
            operation: What the spans are about.
            topic: Of the lane, or of the dead letters.
            job: The name of a registered job type; empty without one.
        """
        key = operation.name, topic, job
        if (shape := self._shapes.get(key)) is not None:
            return shape
        attributes: dict[str, str | int | float] = {
            **self._fixed,
            "messaging.operation.name": operation.name,
            "messaging.operation.type": operation.type,
            "messaging.destination.name": topic,
        }
        if (lane := parse_lane(topic)) is not None:
            attributes["shifter.queue"] = lane.queue
            attributes["shifter.priority"] = lane.priority.value
        if job:
            attributes["shifter.job"] = job
        kind = api().SpanKind[operation.kind]
        shape = SpanShape(f"{operation.name} {topic}", kind, attributes)
        self._shapes[key] = shape
        return shape

    def begin(
        self,
        shape: SpanShape,
        attributes: Callable[[], Attributes],
        start_ns: int,
        *,
        context: Context | None = None,
        links: Sequence[Link] = (),
    ) -> Span | None:
        """Begin a span; ``None`` if that fails, or none is recorded.

        Args:
            shape: Of `shape`.
            attributes: Makes its own; samplers see them.
            start_ns: Epoch nanoseconds.
            context: The parent; by default the current context.
            links: To other spans.
        """
        if (tracer := self.tracer()) is None:
            return None
        found = _Attributes(shape.attributes, attributes)
        try:
            return tracer.start_span(
                shape.name, context, shape.kind, found, links, start_ns
            )
        except Exception as error:  # noqa: BLE001  # the user's code
            self.failed(error)
            return None

    def end(
        self,
        span: Span,
        end_ns: int,
        attributes: Attributes,
        error: ErrorFacts | None = None,
    ) -> None:
        """End a span.

        Args:
            span: Begun here.
            end_ns: Epoch nanoseconds.
            attributes: Those known at the end.
            error: Why it failed; ``None`` if it did not.
        """
        try:
            if span.is_recording():
                span.set_attributes(attributes)
                if error is not None:
                    _set_error(span, error, end_ns)
            span.end(end_ns)
        except Exception as failure:  # noqa: BLE001  # the user's code
            self.failed(failure)

    def failed(self, error: Exception) -> None:
        """Log that tracing failed: once a process, since it may fail for every job."""
        if not self._has_failed:
            self._has_failed = True
            Log().warning(Event.SPAN_FAILED, error=repr(error))


class _Untraced(Spans):
    """Spans of a process that is not traced."""

    def tracer(self) -> None:
        """Return none."""


UNTRACED: Final = _Untraced(Tracing(), system="none")


def error_facts(kind: str, message: str = "") -> ErrorFacts:
    """The facts of a failure that is no exception.

    Args:
        kind: Its reason, in one word.
        message: One line.
    """
    return ErrorFacts(type=kind, message=message, stack="", fingerprint="")


def add_event(span: Span, event: Event, facts: Mapping[str, str | int]) -> None:
    """Add an event of this package to a span, which may be the user's.

    Args:
        span: Any.
        event: Its name on the span begins with ``shifter.``.
        facts: Its attributes; so do their names.
    """
    with contextlib.suppress(Exception):
        if span.is_recording():
            attributes = {f"shifter.{name}": value for name, value in facts.items()}
            span.add_event(f"shifter.{event.value}", attributes)


def note_current(event: Event, facts: Mapping[str, str | int]) -> None:
    """Add an event to the current span, if one is recorded; see `add_event`."""
    if (trace := api()) is not None:
        with contextlib.suppress(Exception):
            add_event(trace.get_current_span(), event, facts)


def flush(tracing: Tracing, *, timeout_s: float) -> None:
    """Send what is recorded, before the process ends; waits no longer than this.

    The API has no such call, so nothing happens with a provider that has none either.
    """
    if (trace := api()) is None:
        return
    provider: Any = tracing.provider or trace.get_tracer_provider()
    if (send := getattr(provider, "force_flush", None)) is None:
        return

    def run() -> None:
        with contextlib.suppress(Exception):
            send(int(timeout_s * 1_000))

    # An exporter may wait longer than it was asked to.
    thread = threading.Thread(target=run, name="shifter-traces", daemon=True)
    thread.start()
    thread.join(timeout_s)


def _set_error(span: Span, error: ErrorFacts, at_ns: int) -> None:
    trace = api()
    span.set_attribute("error.type", error.type)
    text = f"{error.type}: {error.message}" if error.message else error.type
    span.set_status(trace.Status(trace.StatusCode.ERROR, text))
    if error.fingerprint:
        exception = {
            "exception.type": error.type,
            "exception.message": error.message,
            "exception.stacktrace": error.stack,
        }
        span.add_event("exception", exception, at_ns)
