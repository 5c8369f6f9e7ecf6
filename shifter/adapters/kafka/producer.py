"""The lifecycle of one producer, with the thread that polls it.

That thread alone serves delivery reports. After a fatal error of the client, every
record that it still holds is answered `Unknown`, the producer is dead, and its keeper
makes a new one. librdkafka drops the queue of a producer that is garbage-collected: a
producer that nothing refers to is therefore kept until its queue is empty, and the end
of the interpreter waits for it for a few seconds.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import threading
import warnings
from collections.abc import Callable, Generator
from typing import Final

# `list_topics` imports it, in the thread of the producer: see `import_adapters`.
import confluent_kafka.admin  # noqa: F401
from confluent_kafka import KafkaException, Producer

from shifter.adapters.inbox import Inboxes
from shifter.adapters.kafka.config import Property
from shifter.adapters.kafka.errors import (
    LastError,
    describe,
    kafka_error,
    make_client,
    unheard,
)
from shifter.model.reason import Reason
from shifter.ports import Clock, Refused
from shifter.runtime.forking import renew_in_child

_POLL_S: Final = 0.1
# While a sender polls, the thread only checks whether the sender has ended.
_PARKED_S: Final = 0.05
_WARM_UP_S: Final = 1.0
# The first acknowledgement of a fresh idempotent producer takes 0.51 s (measured).
_WARM_AFTER_S: Final = 0.6
_PURGE_S: Final = 2.0
_REMAKE_S: Final = 1.0
_EXIT_S: Final = 5.0
_CLOSED: Final = "the log is closed"
_BROKE: Final = "the client broke and starts again shortly"
# The first thing an idempotent producer asks for is a number of its own; one that may
# write to no topic gets none, and dies.
_KEPT_OUT: Final = "CLUSTER_AUTHORIZATION_FAILED"


class LiveProducer:
    """A live producer.

    Attributes:
        producer: librdkafka's.
        produce: Its method, from any thread: topic, value, key, partition (-1: any),
            delivery callback, the same again, timestamp (0: now), headers. With
            keywords it takes half as long again.
        pid: The process it lives in; a fork's child must not use it.
        inboxes: The inboxes of callers that wait for delivery reports.
        last: The last error that the client reported.
        is_dead: Whether the producer takes no more records.
        failure: Why it is dead; ``None`` while it is alive.
    """

    def __init__(self, config: dict[str, Property], clock: Clock) -> None:
        self.last = LastError()
        self.producer = make_client(
            Producer, {**config, "logger": unheard()}, self.last
        )
        self.produce: Callable[..., None] = self.producer.produce
        self.pid = os.getpid()
        self.is_dead = False
        self.failure: str | None = None
        self._threads_waiting: set[threading.Event] = set()
        self._clock, self._made_at = clock, clock.monotonic()
        self.inboxes = Inboxes(clock)
        self._is_closing = False
        self._on_retired: Callable[[], object] | None = None
        self._fault: Exception | None = None
        self._senders: set[object] = set()
        self._resume = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="shifter-kafka-producer", daemon=True
        )
        self._thread.start()

    @contextlib.contextmanager
    def signalling(self, event: threading.Event) -> Generator[None]:
        """Also set ``event`` when this producer dies, while the block runs."""
        self._threads_waiting.add(event)
        try:
            yield
        finally:
            self._threads_waiting.discard(event)

    def refusal(self, text: str) -> Refused:
        """The answer for a record that this client did not take.

        A client that the cluster never let in needs an operator, so that the answer is
        final; after any other failure a new client may take the record.
        """
        reason = Reason.REFUSED_BY_LOG if self.last.is_kept_out else Reason.LOG_AWAY
        return Refused(reason, self.last.beside(text))

    def closed_answer(self) -> Refused:
        """The answer for a record that comes once the producer is dead."""
        if self._fault is None:
            return Refused(Reason.CLOSED, self.failure or _CLOSED)
        return self.refusal(self.failure or _BROKE)

    @property
    def is_warm(self) -> bool:
        """Whether the first records no longer wait for the client to set itself up."""
        return self._clock.monotonic() >= self._made_at + _WARM_AFTER_S

    @contextlib.contextmanager
    def sending(self) -> Generator[None]:
        """Leave polling to the caller, who calls `serve` while it sends a batch.

        Two threads that both need the interpreter for every record take turns at it;
        one alone sends a batch nearly twice as fast.
        """
        self._senders.add(me := object())
        try:
            yield
        finally:
            self._senders.discard(me)
            if not self._senders:
                self._resume.set()

    def serve(self, wait_s: float = 0.0) -> None:
        """Serve delivery reports on the caller's thread.

        Blocks until there is a report, for at most ``wait_s``.
        """
        try:
            self.producer.poll(wait_s)
        except (KafkaException, SystemError) as exc:
            # After a fatal error librdkafka raises from poll, or lets a delivery
            # callback fail with SystemError; either way reports are lost.
            self._fault = exc
        self.inboxes.wake()

    def close(self, timeout_s: float) -> int:
        """Wait for all reports, then give up on the rest; returns how many those are.

        Blocks for at most about the timeout. In a fork's child it does nothing.
        """
        if self.pid != os.getpid():
            return 0
        until, tick = self._clock.monotonic() + timeout_s, threading.Event()
        while len(self.producer) and self._thread.is_alive():
            left_s = until - self._clock.monotonic()
            if left_s <= 0:
                break
            tick.wait(min(left_s, 0.01))
        unanswered = len(self.producer)
        self.is_dead = self._is_closing = True
        self._thread.join(_PURGE_S + _POLL_S)
        return unanswered

    def retire(self, on_end: Callable[[], object]) -> None:
        """End by itself once all reports are in; does not block."""
        self._on_retired = on_end

    def keep_for_ever(self) -> None:
        """Keep the handle for ever: a fork's child cannot end the parent's threads."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.producer))

    def _run(self) -> None:
        # The first acknowledgement of a fresh idempotent producer takes half a second;
        # asking for metadata first brings it down to milliseconds.
        with contextlib.suppress(KafkaException):
            self.producer.list_topics(timeout=_WARM_UP_S)
        while not self._is_closing and self._fault is None:
            if self._senders:
                self._resume.clear()
                self._resume.wait(_PARKED_S)
            self.serve(0.0 if self._senders else _POLL_S)
            if self._on_retired is not None and not len(self.producer):
                break
        self._end()
        if self._on_retired is not None:
            self._on_retired()

    def _end(self) -> None:
        detail = "the log was closed before the cluster answered"
        if self._fault is not None:
            error = kafka_error(self._fault)
            detail = str(self._fault) if error is None else describe(error)
            # Before any record was acknowledged this was the first number it asked
            # for, and no record leaves without one.
            if error is not None and error.name() == _KEPT_OUT:
                self.last(error)
                self.last.is_kept_out = not self.last.is_let_in
        self.failure, self.is_dead = detail, True
        self.inboxes.wake()
        self.inboxes.abandon(detail)
        for event in list(self._threads_waiting):
            event.set()
        until = self._clock.monotonic() + _PURGE_S
        with contextlib.suppress(KafkaException, SystemError):
            self.producer.purge()
        while len(self.producer) and self._clock.monotonic() < until:
            with contextlib.suppress(KafkaException, SystemError):
                self.producer.poll(_POLL_S)


class ProducerKeeper:
    """Makes the producer on first use, and a new one after a fork or a fatal error.

    Attributes:
        current: The producer in use; it may be dead, or belong to the parent process.
            `fresh` checks that.
    """

    def __init__(self, config: dict[str, Property], clock: Clock) -> None:
        self.current: LiveProducer | None = None
        self._config, self._clock = config, clock
        self._lock = threading.Lock()
        self._is_closed = False
        self._made_at = -_REMAKE_S
        atexit.register(self.close_at_exit)
        renew_in_child(self._after_fork)

    def fresh(self) -> LiveProducer | Refused:
        """A producer that may be used in this process.

        Raises:
            ConfigError: librdkafka refuses a property.
        """
        with self._lock:
            current = self.current
            if self._is_closed:
                return Refused(Reason.CLOSED, _CLOSED)
            now = self._clock.monotonic()
            if current is not None:
                if not current.is_dead and current.pid == os.getpid():
                    return current
                if now < self._made_at + _REMAKE_S:
                    # Otherwise a client that fails at its start would be made again
                    # for each record.
                    return current.refusal(_BROKE)
            self._made_at = now
            self.current = LiveProducer(self._config, self._clock)
            return self.current

    def close(self, timeout_s: float) -> int:
        """Close for good; returns how many records had no answer yet."""
        with self._lock:
            self._is_closed = True
            current, self.current = self.current, None
        atexit.unregister(self.close_at_exit)
        return 0 if current is None else current.close(timeout_s)

    def retire(self) -> None:
        """Deliver the records of a log that nothing refers to; does not block."""
        if self.current is None:
            atexit.unregister(self.close_at_exit)
        else:
            self.current.retire(lambda: atexit.unregister(self.close_at_exit))

    def close_at_exit(self) -> None:
        """Flush a log that was never closed, and warn of records without an answer."""
        lost = self.close(_EXIT_S)
        if lost:
            text = f"{lost} records had no answer from Kafka when their log went away"
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        if self.current is not None:
            self.current.keep_for_ever()
            self.current = None
