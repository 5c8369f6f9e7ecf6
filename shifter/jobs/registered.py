"""A registered job, as the packages below `shifter.api` see it, and one run of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from shifter.model.job import JobSpec
from shifter.policy.protection.dependency import Dependency
from shifter.wire.payload import PayloadCodec


class RegisteredJob(Protocol):
    """What a submission and a worker need of a job; `shifter.Job` is one."""

    @property
    def spec(self) -> JobSpec:
        """The options that were declared."""

    @property
    def function(self) -> Callable[..., Any]:
        """The handler."""

    @property
    def codec(self) -> PayloadCodec:
        """Checks, writes and reads the arguments."""

    @property
    def context_parameter(self) -> str | None:
        """Name of the handler's ``Context`` parameter."""

    @property
    def cheaper(self) -> Callable[..., Any] | None:
        """The fallback, if the job has one."""

    @property
    def dependency(self) -> Dependency | None:
        """The dependency that the handler calls, if it was declared."""


@dataclass(slots=True)
class Call:
    """A run of a handler in a `shifter.testing.TestApp`; failed ones count too.

    Attributes:
        arguments: What the handler was called with, by name, without its `Context`.
        job_id: The job's id.
        attempt: Attempt number, 1-based.
        at: When it started, in the test's time.
        error: What ended it, signals and planned failures included; ``None`` while it
            runs and where it succeeded.
    """

    arguments: Mapping[str, Any]
    job_id: str
    attempt: int
    at: datetime
    error: BaseException | None = None
