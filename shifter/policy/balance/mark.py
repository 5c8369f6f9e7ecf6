"""Reasons for which an endpoint gets no calls that are not this process's own calls.

The fleet ejected it, its health checks failed, or an operator drained it. A process
keeps at most one mark of each kind for an endpoint. Each has an end; a mark may also be
taken away before.

Marks of the fleet and of health checks are ejections, so they are bounded as the own
ones are (`shifter.policy.balance.ejection`): at most a share of the endpoints is
ejected at once, and one is always left. A drained endpoint gets no calls, whatever
share is drained, unless all are.

A health check that succeeds takes only the mark of health checks away. An endpoint that
was ejected because of its calls stays ejected until its time is over: a server may
answer its health checks and fail its calls. Source: Envoy's outlier detection with
``successful_active_health_check_uneject_host: false``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class MarkKind(StrEnum):
    """Who found that an endpoint should get no calls.

    Attributes:
        DRAIN: An operator.
        FLEET: Enough processes of the fleet, by their calls.
        CHECKS: Health checks.
    """

    DRAIN = "drain"
    FLEET = "fleet"
    CHECKS = "checks"


class Mark(NamedTuple):
    """One such reason.

    Attributes:
        until: Monotonic seconds; infinite for one that is only taken away.
        why: The reason, for people.
        times: Of an ejection by the fleet: how often it was ejected, >= 1.
        began: When it began here, monotonic seconds.
    """

    until: float
    why: str
    times: int = 1
    began: float = 0.0
