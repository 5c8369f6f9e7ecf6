"""What can go wrong, and the signals a handler may raise.

The type of an error names the cause and whether to retry; the attributes and the text
carry the facts. Expected outcomes are values (`shifter.model`), so an exception means
bad input, a refused guarantee or a store that is not reached. Signals (`Retry`,
`Discard`, `DeadLetter`, `Throttled`) are no subclasses of `ShifterError`: a handler
answers with them.
"""

from __future__ import annotations

_NEAR_CHARS = 24


class ShifterError(Exception):
    """Root of every error of this package."""


class ConfigError(ShifterError):
    """A setting, name or declaration is wrong; nothing was started.

    Attributes:
        field: The setting, flag or name at fault.
        value: The given value as text; the caller masks secrets.
        want: What is allowed, and the nearest right name where there is one.
    """

    def __init__(self, field: str, value: object, want: str) -> None:
        self.field, self.value, self.want = field, value, want
        super().__init__(f"{field} is {value!r}; {want}")


class UnknownSourceError(ConfigError):
    """There is no dead-letter topic of this name.

    Attributes:
        value: The queue or topic that was asked for.
        namespace: Namespace of the queues.
    """

    def __init__(self, field: str, value: object, want: str, *, namespace: str) -> None:
        self.namespace = namespace
        super().__init__(field, value, want)


class UnknownNameError(ConfigError):
    """There is no worker, cron job or lane of this name; ``want`` lists what there is.

    Attributes:
        field: What was asked for: ``worker``, ``cron job`` or ``lane``.
        value: The name that was asked for.
    """


class AlreadyAskedError(ShifterError):
    """Another operator has asked for the same, and it is not done yet.

    Attributes:
        what: What was asked for, such as ``a run of digest``.
        owner: Who asked for it.
    """

    def __init__(self, what: str, *, owner: str) -> None:
        self.what, self.owner = what, owner
        super().__init__(f"{what} was asked for by {owner} and is not done yet")


class NotTakenError(ShifterError):
    """No worker has done what was asked for in time.

    Attributes:
        what: What was asked for, such as ``a run of digest``.
        waited_s: How long it was waited for.
        detail: What happens if a worker does it after all.
    """

    def __init__(self, what: str, *, waited_s: float, detail: str) -> None:
        self.what, self.waited_s, self.detail = what, waited_s, detail
        super().__init__(f"no worker took {what} within {waited_s:g} s; {detail}")


class PayloadError(ShifterError):
    """The arguments of a call do not fit the job's signature; nothing was sent.

    Attributes:
        job: The job type's name.
        detail: Which argument, and what was expected.
    """

    def __init__(self, job: str, detail: str) -> None:
        self.job, self.detail = job, detail
        super().__init__(f"payload of job {job!r}: {detail}")


class WireError(ShifterError):
    """A record does not follow the published contract."""


class DecodeError(WireError):
    """A record cannot be read; it is never retried.

    Attributes:
        reason: A `Reason` value as text, e.g. ``undecodable_payload``.
        detail: What was found, bounded in length, safe to log.
        is_misfit: Whether the record is well-formed, but has fields or choices that
            this version of the app lacks: another version may read it.
    """

    def __init__(self, reason: str, detail: str, *, is_misfit: bool = False) -> None:
        self.reason, self.detail, self.is_misfit = reason, detail, is_misfit
        super().__init__(f"{reason}: {detail}")


class UnsupportedVersionError(WireError):
    """The envelope is of a version that this program does not support."""

    def __init__(self, found: int, supported: int) -> None:
        self.found, self.supported = found, supported
        super().__init__(f"envelope version {found}; this program reads {supported}")


class OutcomeUnknownError(ShifterError):
    """The log did not answer in time: the job may or may not be written.

    Submitting again with the same ``job_id`` or idempotency key is safe: the claim
    store makes both copies one effect.

    Attributes:
        job_id: The id the job has, if it was written.
        waited_s: How long the call waited, in seconds.
        detail: The last message of the log's client, e.g. an authentication error.
    """

    def __init__(self, job_id: str, waited_s: float, detail: str) -> None:
        self.job_id, self.waited_s, self.detail = job_id, waited_s, detail
        super().__init__(
            f"job {job_id!r} may or may not be written after {waited_s:.1f} s: {detail}"
        )


class DeadlineExceededError(ShifterError):
    """The deadline of a job, or of a request, passed while it was served.

    Attributes:
        job_id: The job, or the call that was not made.
        late_by_s: Seconds since then, >= 0.
        what: ``job``, or ``call``.
    """

    def __init__(self, job_id: str, late_by_s: float, *, what: str = "job") -> None:
        self.job_id, self.late_by_s, self.what = job_id, late_by_s, what
        super().__init__(f"deadline of {what} {job_id!r} passed {late_by_s:.3f} s ago")


class JobCancelledError(ShifterError):
    """The job was cancelled while its handler ran.

    Attributes:
        job_id: The job's id.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id!r} was cancelled")


class FilterError(ShifterError):
    """A filter cannot be understood.

    Attributes:
        text: The filter.
        at: The index of the character at fault, 0-based.
        what: What was found there.
        want: What is allowed.
    """

    def __init__(self, text: str, at: int, what: str, want: str) -> None:
        self.text, self.at, self.what, self.want = text, at, what, want
        super().__init__(f"filter, character {at + 1}: {what}; {want}")

    @property
    def shown(self) -> str:
        """The filter around the place, which is marked.

        >>> FilterError("a == ?", 5, "", "").shown
        'a == >>>?'
        """
        before = self.text[max(0, self.at - _NEAR_CHARS) : self.at]
        cut = "…" if self.at > _NEAR_CHARS else ""
        return f"{cut}{before}>>>{self.text[self.at : self.at + _NEAR_CHARS]}"


class HeldElsewhereError(ShifterError):
    """Another run works on the topic.

    Attributes:
        source: The topic.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        super().__init__(f"another run works on {source!r} now")


class RejectedError(ShifterError):
    """A dependency must not be called now; nothing was done.

    If a handler lets this error pass, its job waits and no attempt is charged.

    Attributes:
        dependency: Its name.
        retry_in_s: Seconds after which a retry makes sense.
        why: What rejects the call; ``{name}`` stands for the dependency.
    """

    why = "{name} takes no calls; retry"

    def __init__(self, dependency: str, retry_in_s: float) -> None:
        self.dependency, self.retry_in_s = dependency, retry_in_s
        why = self.why.replace("{name}", repr(dependency))
        super().__init__(f"{why} in {retry_in_s:.1f} s")


class CircuitOpenError(RejectedError):
    """The circuit of the dependency is open."""

    why = "circuit {name} is open; next probe"


class NoEndpointError(RejectedError):
    """No endpoint of the dependency is known."""

    why = "no endpoint of {name} is known; retry"


class BudgetExhaustedError(RejectedError):
    """The call would be a retry, and the retry budget of the dependency is used up."""

    why = "retry budget of {name} is exhausted; retry"


class LimitReachedError(RejectedError):
    """As many calls are active as the concurrency limit of the dependency allows."""

    why = "concurrency limit of {name} is reached; retry"


class RateLimitedError(RejectedError):
    """The rate limit of the dependency allows no further call now."""

    why = "rate limit of {name} is reached; retry"


class StoreError(ShifterError):
    """The log or the state store refused or did not answer."""


class StoreUnavailableError(StoreError):
    """A store did not answer; the same call may be tried again.

    Attributes:
        store: ``kafka``, ``redis`` …, with the address that was tried.
        op: The operation.
        detail: The client's message, without secrets.
    """

    def __init__(self, store: str, op: str, detail: str) -> None:
        self.store, self.op, self.detail = store, op, detail
        super().__init__(f"{store} did not answer {op}: {detail}")


class StoreRefusedError(StoreError):
    """A store refused: a right, topic or feature is missing; retrying will not help.

    Attributes:
        store: ``kafka``, ``redis`` …, with the address that was tried.
        op: The operation that it refused.
        detail: The client's message, or what is missing; without secrets.
    """

    def __init__(self, store: str, op: str, detail: str) -> None:
        self.store, self.op, self.detail = store, op, detail
        super().__init__(f"{store} refused {op}: {detail}")


class Retry(Exception):
    """Signal: this attempt failed, try again (charged as an attempt).

    Args:
        after: Duration before the next attempt (``"30s"``, seconds, ``timedelta``);
            ``None`` lets the job's backoff decide.

    Attributes:
        after: As it was given.
    """

    def __init__(self, after: object = None) -> None:
        self.after = after
        super().__init__(f"retry after {after!r}")


class Throttled(Exception):
    """Signal: the dependency asked to wait; not charged as an attempt.

    Args:
        after: Duration before the job is tried again.

    Attributes:
        after: As it was given.
    """

    def __init__(self, after: object) -> None:
        self.after = after
        super().__init__(f"throttled for {after!r}")


class Discard(Exception):
    """Signal: the job has no value any more; it ends ``discarded``.

    Attributes:
        reason: Why, for the log.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class DeadLetter(Exception):
    """Signal: the job cannot succeed; it goes to the dead-letter topic now.

    Attributes:
        reason: Why; it is written into the dead letter.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)
