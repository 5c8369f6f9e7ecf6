"""One call of a gRPC service: its metadata, and the slot it takes."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import grpc

from shifter.fleet.calls import CALLER
from shifter.grpc.metadata import CallerMetadata, pushback
from shifter.jobs import request_scope
from shifter.model.reason import Reason
from shifter.model.time import MAX_DURATION_MS
from shifter.policy.admission.input import Decision, Verdict
from shifter.produce.admission import Admission
from shifter.produce.options import CallPlan

_CODES: Final = {Reason.EXPIRED: grpc.StatusCode.DEADLINE_EXCEEDED}


class GrpcRefusal(NamedTuple):
    """The status of a call that is refused.

    Attributes:
        code: Its status.
        details: The reason.
        trailing: Metadata with the time of the next attempt.
    """

    code: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str], ...]


class GrpcCall:
    """A call from its arrival to its end; frees its slot at the end of the block.

    The block runs in the context that gRPC's servers make for each call; the deadline
    and the other facts of the call are set there.

    Args:
        admission: Decides.
        plan: The call as the decision sees it.
        caller: The metadata that the caller sent.
        arrived_at: Monotonic seconds.
    """

    def __init__(
        self,
        admission: Admission,
        plan: CallPlan,
        caller: CallerMetadata,
        arrived_at: float,
    ) -> None:
        self._admission, self._caller, self._arrived_at = admission, caller, arrived_at
        self._plan = plan._replace(is_retry=caller.is_retry)
        self._decision: Decision | None = None
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def decide(self, context: Any) -> GrpcRefusal | None:
        """Take a slot, or return the refusal.

        Args:
            context: Of either kind of server.
        """
        left_s, deadline_ms = context.time_remaining(), None
        # A synchronous server reports a huge value for a call without a deadline.
        if left_s is not None and left_s * 1_000 < MAX_DURATION_MS:
            left_ms = max(0, int(left_s * 1_000))
            self._plan = self._plan._replace(deadline_ms=left_ms)
            deadline_ms = self._admission.clock.epoch_ms() + left_ms
        request_scope.begin(
            deadline_ms,
            draw=self._caller.draw,
            arrived_at=self._arrived_at,
            priority=self._plan.priority,
            is_retry=self._caller.is_retry,
        )
        decision = self._admission.decide(self._plan, can_run=True, can_wait=False)
        if decision.verdict is Verdict.RUN:
            self._decision = decision
            serving = self._admission.views.serving(self._plan.priority)
            self._ending.enter_context(serving)
            _cut_with(context)
            return None
        code = _CODES.get(decision.reason, grpc.StatusCode.RESOURCE_EXHAUSTED)
        trailing = pushback(decision.retry_after_s)
        return GrpcRefusal(code, decision.reason.value, (trailing,))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._decision is not None:
            self._admission.let_go(self._decision)
        self._ending.__exit__(kind, error, trace)


def _cut_with(context: Any) -> None:
    """Cut the calls of the handler when gRPC ends the call; its thread may go on.

    On an event loop the end of the handler's task does so, or `PlainCall`.
    """
    caller = CALLER.get()
    if caller is not None and hasattr(context, "add_callback"):
        context.add_callback(caller.cut)
