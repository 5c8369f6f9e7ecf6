"""A registered job, as the packages below `shifter.api` see it."""

from __future__ import annotations

from collections.abc import Callable
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
