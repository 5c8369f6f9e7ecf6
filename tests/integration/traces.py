"""A tracer provider of a test, whose spans stay in memory."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import Link, SpanContext

from shifter.telemetry import Tracing


class Noting(Sampler):
    """Notes what a sampler sees: the attributes and links at the start of a span."""

    def __init__(self, inner: Sampler) -> None:
        self.inner, self.seen = inner, dict[str, dict]()

    def should_sample(self, context, trace_id, name, *more, **named):
        _, attributes, *_ = more
        self.seen[name] = dict(attributes or {})
        return self.inner.should_sample(context, trace_id, name, *more, **named)

    def get_description(self) -> str:
        return "noting"


class Traces:
    """A provider and the spans that ended, in order."""

    def __init__(
        self, sampler: Sampler = ALWAYS_ON, *, is_parent: bool = False
    ) -> None:
        self._exporter, self.sampler = InMemorySpanExporter(), Noting(sampler)
        self.provider = TracerProvider(sampler=self.sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(self.provider, is_parent)
        self.own = self.provider.get_tracer("shop")

    def named(self, name: str, job: str | None = None) -> list[ReadableSpan]:
        """Spans whose name begins so, of one type of job where it is given."""
        return [
            span
            for span in self._exporter.get_finished_spans()
            if span.name.startswith(name)
            and job in (None, span.attributes.get("shifter.job"))
        ]

    def one(self, name: str, job: str | None = None) -> ReadableSpan:
        """The only such span."""
        (span,) = self.named(name, job)
        return span


def ids(context: SpanContext | None) -> tuple[int, int]:
    assert context is not None
    return context.trace_id, context.span_id


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    return [ids(link.context) for link in span.links if isinstance(link, Link)]
